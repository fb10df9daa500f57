"""Growth of cost: seconds per epoch and peak memory against the number of training images.

Each size is a process of its own; sizes are interleaved over the rounds and medians are printed. Time should grow
linearly with the images, and memory not at all: images are read from a prepared store by the batch.
Run with ``python benchmarks/scaling.py [--images 2000 4000 8000] [--rounds 3]``; writes ``benchmarks/scaling.json``.
"""

import argparse
import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from securegan.runs.atomic import write_json
from securegan.runs.folder import environment

CHILD = "--child"


def make_images(folder: Path, n: int) -> None:
    """``n`` small colour images of two classes: noise of two tints, so that every file differs."""
    import numpy as np
    from PIL import Image

    rng = np.random.default_rng(0)
    for number in range(n):
        place = folder / ("ab"[number % 2])
        place.mkdir(parents=True, exist_ok=True)
        pixels = rng.integers(0, 128, (32, 32, 3), dtype=np.uint8) + np.uint8(127 * (number % 2))
        Image.fromarray(pixels).save(place / f"{number:06d}.png", compress_level=1)


def child(images: str, n: int, cache: str) -> None:
    """One process: prepare, train one epoch as warm-up and time the second."""
    import pytorch_lightning as pl

    from securegan.data.folder import Folder
    from securegan.models.gan.lightning_model import GAN

    data = Folder(Path(cache), 0, path=images, max_images=n)
    data.prepare_data()
    gan = GAN(data.spec, 0, generator_width=16, discriminator_width=16)
    seconds = []

    class Clock(pl.Callback):
        def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
            self.start = time.monotonic()

        def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
            seconds.append(time.monotonic() - self.start)

    trainer = pl.Trainer(
        accelerator="cpu", max_epochs=2, callbacks=[Clock()], logger=False, enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False, use_distributed_sampler=False, limit_val_batches=0,
    )  # fmt: skip
    trainer.fit(gan, datamodule=data)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps({"train_images": data.split_size("train"), "seconds": seconds[1], "peak_mib": peak}))


def main() -> None:
    """Interleaved rounds over the sizes; prints a table and writes the results."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, nargs="+", default=[2000, 4000, 8000])
    parser.add_argument("--rounds", type=int, default=3)
    chosen = parser.parse_args()
    start = time.monotonic()
    runs: dict[int, list[dict[str, Any]]] = {n: [] for n in chosen.images}
    with tempfile.TemporaryDirectory() as place:
        images = Path(place) / "images"
        make_images(images, max(chosen.images))
        for _ in range(chosen.rounds):
            for n in chosen.images:
                arguments = [sys.executable, __file__, CHILD, str(images), str(n), str(Path(place) / "cache")]
                done = subprocess.run(arguments, capture_output=True, text=True, check=True)
                runs[n].append(json.loads(done.stdout.splitlines()[-1]))
    rows = []
    for n, found in runs.items():
        seconds, peak = [run["seconds"] for run in found], [run["peak_mib"] for run in found]
        trained = found[0]["train_images"]
        rows.append(
            {
                "setting": {"images": n, "train_images": trained},
                "metrics": {"train/seconds_per_epoch": seconds, "train/peak_mib": peak},
                "n": trained,
                "seeds": [0],
            }
        )
        each = statistics.median(seconds) / trained * 1e3
        print(
            f"{trained:6d} training images: {statistics.median(seconds):6.2f} s an epoch, {each:.3f} ms an image, "
            f"peak {statistics.median(peak):.0f} MiB"
        )
    about = environment()
    results = {"command": "python benchmarks/scaling.py", "seconds": round(time.monotonic() - start), "rows": rows}
    write_json(Path(__file__).with_suffix(".json"), {**about, **results})


if __name__ == "__main__":
    if CHILD in sys.argv:
        child(sys.argv[2], int(sys.argv[3]), sys.argv[4])
    else:
        main()
