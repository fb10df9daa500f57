"""What signing, logging and encryption add to sampling: a release of colour images of 256x256 pixels, by stage.

A GAN of a given width with weights as they are drawn (how long a forward takes does not hang on them) is released
three times a round: plain (sampled, encoded, written, flushed), signed and logged, and sealed too, each file for one
X25519 key. The pipeline is the one of ``securegan release``; plain, it has a signer and a log that do nothing.
``added`` is the processor's time for signing, sealing and logging, and for writing twice as many files, beyond plain's
and by that of sampling; it is steady on a busy machine. ``added_wall`` is the wall time beyond plain's by that of
sampling, with the noise of all the rest in it. ``seconds/...`` and ``work/...`` are each stage's wall and processor
time. The first round warms up and does not count.

Run with ``python benchmarks/release.py [--images 32] [--rounds 3] [--size 256] [--widths 16 64]``; writes
``benchmarks/release.json``.
"""

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import nullcontext, redirect_stderr
from io import StringIO
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch

from securegan.configuration.allowlist import build
from securegan.configuration.compose import compose_checked
from securegan.data.batch import DataSpec
from securegan.models.base import GenerativeModule
from securegan.release import pipeline
from securegan.release.keys import ReleaseKeys
from securegan.release.release import Order, Released, Source, release
from securegan.runs.atomic import write_json
from securegan.runs.folder import environment
from securegan.security.keys.ring import KeyRing

ADDED = ("work sign", "work encrypt", "work log", "work write", "work flush")
KINDS = {"plain": (), "signed": (), "sealed": ("reader",)}


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--images", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--widths", type=int, nargs="+", default=[16, 64])
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args(argv)
    torch.set_num_threads(arguments.threads)
    start, rows = time.monotonic(), []
    for width in arguments.widths:
        module = a_module(arguments.size, width)
        with tempfile.TemporaryDirectory() as place:
            ring = KeyRing.open(Path(place) / "keys")
            ring.new("release", "ed25519")
            ring.new("reader", "x25519")
            rounds = [
                {kind: once(kind, module, ring, Path(place), arguments.images) for kind in KINDS}
                for _ in range(arguments.rounds + 1)
            ][1:]
        rows += [row(kind, width, rounds) for kind in KINDS]
    for each in rows:
        told = {key: round(statistics.median(values), 3) for key, values in each["metrics"].items()}
        sys.stdout.write(f"{each['setting']}: {told}\n")
    about = environment()
    write_json(
        Path(__file__).with_suffix(".json"),
        {
            "command": f"python benchmarks/release.py --images {arguments.images} --rounds {arguments.rounds} "
            f"--size {arguments.size} --widths {' '.join(map(str, arguments.widths))} --threads {arguments.threads}",
            "commit": about["commit"],
            "versions": about["versions"],
            "machine": about["machine"],
            "seconds": time.monotonic() - start,
            "n": arguments.images,
            "rows": rows,
        },
    )


def a_module(size: int, width: int) -> GenerativeModule:
    (config,) = compose_checked([f"model.generator_width={width}", "attack=none", "logger=none", f"data.size={size}"])
    return build(config.model, DataSpec("pictures", 3, size, 0, (), 8 / 255, "0" * 32), 0)


def once(kind: str, module: GenerativeModule, ring: KeyRing, place: Path, images: int) -> dict[str, float]:
    """Seconds by stage of one release, and ``wall``, of an image."""
    keys = ReleaseKeys.find(ring.folder, "release", KINDS[kind])
    with tempfile.TemporaryDirectory(dir=place) as folder, redirect_stderr(StringIO()):
        out, source = Path(folder) / "out", Source("a" * 64, "b" * 64, "c" * 64, "benchmark")
        with patch.object(pipeline.Pipeline, "__init__", unsecured) if kind == "plain" else nullcontext():
            found: Released = release(module, [], source, out, images, keys, Order())
    assert found.made == images
    work = {f"work {stage}": seconds for stage, seconds in found.watch.work.items()}
    return {**found.watch.seconds, **work, "wall": found.watch.total}


START = pipeline.Pipeline.__init__


class NoLog:
    """Forgets what it is given."""

    def append(self, entries: Sequence[object]) -> None:
        pass

    def read(self, see: object) -> None:
        pass


def unsecured(self: pipeline.Pipeline, *arguments: Any) -> None:
    """A pipeline that neither signs nor logs."""
    *others, _ = arguments
    START(self, *others, pipeline.Tools(lambda *_: b"", None, NoLog()))  # type: ignore[arg-type]


def row(kind: str, width: int, rounds: list[dict[str, dict[str, float]]]) -> dict[str, Any]:
    stages = {
        f"work/{stage.removeprefix('work ')}" if stage.startswith("work ") else f"seconds/{stage}": [
            each[kind][stage] for each in rounds
        ]
        for stage in rounds[0][kind]
    }

    def beyond(each: dict[str, dict[str, float]]) -> float:
        return sum(each[kind].get(stage, 0.0) - each["plain"].get(stage, 0.0) for stage in ADDED)

    added = [beyond(each) / each[kind]["work sample"] for each in rounds]
    wall = [(each[kind]["wall"] - each["plain"]["wall"]) / each["plain"]["sample"] for each in rounds]
    setting = {"kind": kind, "width": width}
    return {"setting": setting, "metrics": {**stages, "added": added, "added_wall": wall}}


if __name__ == "__main__":
    main()
