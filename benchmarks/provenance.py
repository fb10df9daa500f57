"""Cost of signatures: images signed and verified a second, entries logged and audited a second.

``images``: sidecars made in memory, and a folder of PNG files verified as ``securegan verify`` does; beside each, in
interleaved rounds, the bare calls that it comes to: reading both files, SHA-256, Ed25519 of the same library.
``log``: entries added one by one (flushed to the disk and signed each) and together, to a log that has many already,
and the whole log audited. CPU time of one thread, but for entries one by one, which wait for the disk.
Run with ``python benchmarks/provenance.py [--rounds 5] [--entries 50000] [--folder FOLDER]``; writes
``benchmarks/provenance.json``.
"""

import argparse
import hashlib
import statistics
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from securegan.runs.atomic import write_json
from securegan.runs.folder import environment
from securegan.security.provenance import sidecar
from securegan.security.provenance.auditing import audit
from securegan.security.provenance.inspection import inspect
from securegan.security.provenance.log import Entry, Log
from securegan.security.provenance.signing import Signer
from securegan.security.provenance.statement import ImageOrigin
from securegan.security.provenance.trust import PURPOSES, Contents, Trust, trusted_key
from securegan.security.spelling import as_text

SIZES = (32, 256)
IMAGES = 500
SINGLE = 200  # entries added one by one
SIGNER = Signer(bytes(32))

Row = dict[str, Any]


def believed() -> Trust:
    """A trust store with the one key."""
    start = datetime.now(UTC) - timedelta(days=1)
    key = trusted_key("release", SIGNER.public, PURPOSES, start, start + timedelta(days=30))
    until = as_text(start + timedelta(days=30))
    return Trust(Contents(name="benchmark", version=1, time=key.since, until=until, keys=[key]))


def seconds(work: Callable[[], object], clock: Callable[[], float] = time.process_time) -> float:
    start = clock()
    work()
    return clock() - start


def row(setting: dict[str, Any], n: int, ours: list[float], bare: list[float] | None = None) -> Row:
    """Figures a second, per round; ``ratio``: the bare calls' time over ours."""
    metrics = {"speed/per_second": [n / each for each in ours]}
    if bare is not None:
        metrics["speed/per_second_bare"] = [n / each for each in bare]
        metrics["speed/ratio"] = [b / o for o, b in zip(ours, bare, strict=True)]
    print(setting, {name: round(statistics.median(values), 2) for name, values in metrics.items()}, flush=True)
    return {"setting": setting, "metrics": metrics, "n": n}


def images(folder: Path, trust: Trust, rounds: int) -> list[Row]:
    """Sign and verify at each size."""
    rows = []
    draw = np.random.default_rng(0)
    for size in SIZES:
        place = folder / str(size)
        place.mkdir()
        files: dict[str, bytes] = {}
        for number in range(IMAGES):
            made = BytesIO()
            Image.fromarray(draw.integers(0, 256, (size, size, 3), dtype=np.uint8)).save(made, "PNG", compress_level=1)
            files[f"{number}.png"] = made.getvalue()
        origin = ImageOrigin(model="a" * 64, config="b" * 64, seed=1)

        def sign(files: dict[str, bytes] = files, origin: ImageOrigin = origin) -> list[bytes]:
            return [sidecar.sign(data, name, SIGNER, origin, "0" * 64) for name, data in files.items()]

        def sign_bare(files: dict[str, bytes] = files) -> None:
            for data in files.values():
                SIGNER.sign(hashlib.sha256(data).digest() * 15)  # as long as a statement

        for (name, data), signature in zip(files.items(), sign(), strict=True):
            (place / name).write_bytes(data)
            (place / f"{name}{sidecar.SUFFIX}").write_bytes(signature)
        message = bytes(480)
        signed = SIGNER.sign(message)

        def verify(place: Path = place) -> None:
            assert all(found.found.verdict == "byte-exact" for found in inspect([place], trust))

        def verify_bare(place: Path = place, files: dict[str, bytes] = files, signed: bytes = signed) -> None:
            for name in files:
                hashlib.sha256((place / name).read_bytes()).digest()
                (place / f"{name}{sidecar.SUFFIX}").read_bytes()
                assert SIGNER.public.verifies(signed, message)  # noqa: B023

        for what, ours, bare in (("sign", sign, sign_bare), ("verify", verify, verify_bare)):
            pairs = [(seconds(ours), seconds(bare)) for _ in range(rounds)]
            rows.append(row({"case": what, "size": size}, IMAGES, [a for a, _ in pairs], [b for _, b in pairs]))
    return rows


def logs(folder: Path, trust: Trust, rounds: int, entries: int) -> list[Row]:
    """Add to a log, and audit it."""
    log = Log.create(folder / "log", "example.org/benchmark", SIGNER)

    def made(first: int, n: int) -> list[Entry]:
        return [
            Entry(kind="release", subject=f"{number:064x}", name=f"{number}.png") for number in range(first, first + n)
        ]

    many = made(0, entries)
    together = [seconds(lambda: log.append(many, SIGNER))]
    rows = [row({"case": "append together"}, entries, together)]

    def one_by_one() -> None:
        for entry in made(0, SINGLE):
            log.append([entry], SIGNER)

    singles = [seconds(one_by_one, time.perf_counter) for _ in range(rounds)]
    rows.append(row({"case": "append one by one", "entries before": entries}, SINGLE, singles))
    size = entries + SINGLE * rounds
    return [*rows, row({"case": "audit", "entries": size}, size, [seconds(lambda: audit(log, trust))])]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--entries", type=int, default=50_000)
    parser.add_argument("--folder", type=Path, help="where to work (default: the system's)")
    arguments = parser.parse_args()
    trust, start = believed(), time.perf_counter()
    with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
        rows = images(Path(folder), trust, arguments.rounds)
        rows += logs(Path(folder), trust, arguments.rounds, arguments.entries)
    spent = {"command": "python benchmarks/provenance.py", "seconds": time.perf_counter() - start, "rows": rows}
    write_json(Path(__file__).with_suffix(".json"), {**environment(), **spent})


if __name__ == "__main__":
    main()
