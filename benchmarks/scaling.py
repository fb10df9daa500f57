"""Growth of cost: seconds per epoch and peak memory against the number of training images.

The main job with narrow networks: adversarial training, detector and evaluation included. Each size is a process of its
own; sizes are interleaved over the rounds and medians are printed. Training time should grow linearly with the images,
memory not at all (images are read from a prepared store by the batch), and evaluation little.
Run with ``python benchmarks/scaling.py [--images 2000 8000 32000] [--rounds 3]``; writes ``benchmarks/scaling.json``.
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


def child(images: str, n: int, seed: int, place: str) -> None:
    """One process: the main job with narrow networks for two epochs; the first warms up, the second is timed."""
    from securegan.configuration.compose import compose_checked
    from securegan.experiment import Experiment

    narrow = [f"model.{part}_width=16" for part in ("generator", "discriminator", "class")]
    at_once = [f"defense.adversarial_training.{part}_epochs=0" for part in ("warmup", "ramp")]
    few = ["metrics.generated=200", "metrics.epoch_attack_images=64", "attack.steps=5"]
    own = ["data=folder", f"data.path={images}", f"data.max_images={n}", f"seed={seed}", f"cache_dir={place}/cache"]
    (config,) = compose_checked([*own, *narrow, *at_once, *few, "trainer.max_epochs=2", "logger=none"])
    with Experiment.start(Path(place) / f"run-{n}-{seed}", config) as experiment:
        experiment.fit()
    first, second = (row["seconds"] for row in experiment.folder.rows)
    found: dict[str, float] = {name: second[name] - first[name] for name in ("train", "evaluate")}
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps({"train_images": experiment.data.split_size("train"), **found, "peak_mib": peak}))


def main() -> None:
    """Interleaved rounds over the sizes; prints a table and writes the results."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, nargs="+", default=[2000, 8000, 32000])
    parser.add_argument("--rounds", type=int, default=3)
    chosen = parser.parse_args()
    start = time.monotonic()
    runs: dict[int, list[dict[str, float]]] = {n: [] for n in chosen.images}
    with tempfile.TemporaryDirectory() as place:
        images = Path(place) / "images"
        make_images(images, max(chosen.images))
        for seed in range(chosen.rounds):
            for n in chosen.images:
                arguments = [sys.executable, __file__, CHILD, str(images), str(n), str(seed), place]
                done = subprocess.run(arguments, stdout=subprocess.PIPE, text=True, check=True)
                runs[n].append(json.loads(done.stdout.splitlines()[-1]))
    rows = []
    for n, found in runs.items():
        values = {name: [run[name] for run in found] for name in ("train", "evaluate", "peak_mib")}
        train, evaluate, peak = (statistics.median(values[name]) for name in ("train", "evaluate", "peak_mib"))
        trained = found[0]["train_images"]
        rows.append(
            {
                "setting": {"images": n, "train_images": trained},
                "metrics": {
                    "train/seconds_per_epoch": values["train"],
                    "evaluate/seconds_per_epoch": values["evaluate"],
                    "peak_mib": values["peak_mib"],
                },
                "n": trained,
                "seeds": list(range(chosen.rounds)),
            }
        )
        print(
            f"{trained:6d} training images: {train:6.2f} s to train an epoch ({train / trained * 1e3:.2f} ms an "
            f"image), {evaluate:5.2f} s to evaluate it, peak {peak:.0f} MiB"
        )
    about = environment()
    results = {
        "command": " ".join(["python benchmarks/scaling.py", *sys.argv[1:]]),
        "seconds": round(time.monotonic() - start),
        "rows": rows,
    }
    write_json(Path(__file__).with_suffix(".json"), {**about, **results})


if __name__ == "__main__":
    if CHILD in sys.argv:
        child(sys.argv[2], int(sys.argv[3]), int(sys.argv[4]), sys.argv[5])
    else:
        main()
