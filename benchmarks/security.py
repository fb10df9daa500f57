"""Cost of envelopes: throughput beside bare calls of the same library, and memory for 4 GiB.

``throughput``: a message in memory is sealed and opened by both backends, in interleaved rounds with bare calls of the
same library at the same chunk size (16 KiB, buffers made before, nothing derived, counted or written), with
``cryptography``'s own Cobblestone-256, and with ``openssl speed`` beside. CPU time of one thread; ``ratio`` is ours
over the bare calls', in bytes a second.
``images``: whole envelopes in memory, header and key wrap included, of the sizes of an image.
``memory``: a sparse file is sealed and opened again, file to file, each in a process of its own that tells its peak of
resident memory (VmHWM), at 4 MiB and at 4 GiB.
Run with ``python benchmarks/security.py [--cases throughput images memory] [--rounds 7] [--folder FOLDER]``, with 9 GB
free in FOLDER; writes ``benchmarks/security.json``, where the rows of cases that were not run stay.
"""

import argparse
import json
import os
import secrets
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any

from Crypto.Cipher import AES
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from securegan.runs.atomic import write_json
from securegan.runs.folder import environment
from securegan.security.envelope.backends import BACKENDS, NONCE, load_backend
from securegan.security.envelope.chunked import CHUNK, SEALED, Opener, Sealer
from securegan.security.envelope.files import facts_for, open_bytes, seal_bytes
from securegan.security.envelope.recipients import SecretKey

MIB = 1 << 20
SIZES = {"cryptography": 64 * MIB, "pycryptodome": 16 * MIB}
IMAGES = {"32x32": 3_072, "256x256": 196_608}
FILES = {"4 MiB": 4 * MIB, "4 GiB": 4096 * MIB}
REPEATS = 200  # images a round
KEY, BASE = secrets.token_bytes(32), secrets.randbits(88)

Row = dict[str, Any]
Contender = Callable[[], object]


class Discarded:
    """Where sealed bytes go that nobody measures."""

    def write(self, data: bytes) -> int:
        return len(data)


def bare(library: str, size: int) -> tuple[Contender, Contender]:
    """The calls that sealing and opening ``size`` bytes comes to, and no more."""
    plain = memoryview(secrets.token_bytes(size))
    sealed = memoryview(bytearray(size // CHUNK * SEALED))
    opened = memoryview(bytearray(size))

    def seal_cryptography() -> None:
        encrypt = AESGCM(KEY).encrypt_into
        for number in range(size // CHUNK):
            nonce = (BASE ^ number).to_bytes(NONCE, "big")
            into = sealed[number * SEALED : (number + 1) * SEALED]
            encrypt(nonce, plain[number * CHUNK : (number + 1) * CHUNK], None, into)

    def open_cryptography() -> None:
        decrypt = AESGCM(KEY).decrypt_into
        for number in range(size // CHUNK):
            nonce = (BASE ^ number).to_bytes(NONCE, "big")
            into = opened[number * CHUNK : (number + 1) * CHUNK]
            decrypt(nonce, sealed[number * SEALED : (number + 1) * SEALED], None, into)

    def seal_pycryptodome() -> None:
        for number in range(size // CHUNK):
            cipher = AES.new(KEY, AES.MODE_GCM, nonce=(BASE ^ number).to_bytes(NONCE, "big"))
            start = number * SEALED
            cipher.encrypt(plain[number * CHUNK : (number + 1) * CHUNK], output=sealed[start : start + CHUNK])
            sealed[start + CHUNK : start + SEALED] = cipher.digest()

    def open_pycryptodome() -> None:
        for number in range(size // CHUNK):
            cipher = AES.new(KEY, AES.MODE_GCM, nonce=(BASE ^ number).to_bytes(NONCE, "big"))
            start = number * SEALED
            cipher.decrypt(sealed[start : start + CHUNK], output=opened[number * CHUNK : (number + 1) * CHUNK])
            cipher.verify(bytes(sealed[start + CHUNK : start + SEALED]))

    pairs: dict[str, tuple[Contender, Contender]] = {
        "cryptography": (seal_cryptography, open_cryptography),
        "pycryptodome": (seal_pycryptodome, open_pycryptodome),
    }
    return pairs[library]


def ours(library: str, size: int) -> tuple[Contender, Contender]:
    """The same bytes through Sealer and Opener."""
    backend, plain, out = load_backend(library), secrets.token_bytes(size), BytesIO()

    def seal(sink: Any = Discarded()) -> None:  # noqa: B008
        sealer = Sealer(KEY, b"", sink, backend)
        sealer.write(plain)
        sealer.finish()

    seal(out)

    def opened() -> None:
        out.seek(0)
        for _ in Opener(KEY, b"", out, backend).blocks():
            pass

    return seal, opened


def native(size: int) -> tuple[Contender, Contender] | None:
    """``cryptography``'s own Cobblestone-256, in pieces of a mebibyte; it is there from release 50 on."""
    try:
        from cryptography.cobblestone import Cobblestone256Decryptor, Cobblestone256Encryptor
    except ImportError:
        return None
    plain, into = memoryview(secrets.token_bytes(size)), bytearray(2 * MIB)
    first = Cobblestone256Encryptor(KEY, b"")
    sealed = memoryview(first.update(plain) + first.finalize())

    def through(piecewise: Any, data: memoryview) -> None:
        for start in range(0, len(data), MIB):
            piecewise.update_into(data[start : start + MIB], into)
        piecewise.finalize()

    return (
        lambda: through(Cobblestone256Encryptor(KEY, b""), plain),
        lambda: through(Cobblestone256Decryptor(KEY, b""), sealed),
    )


def timed(contenders: dict[str, Contender], rounds: int) -> dict[str, list[float]]:
    """CPU seconds of interleaved rounds; the first, which warms up, is not counted."""
    seconds: dict[str, list[float]] = {name: [] for name in contenders}
    for turn in range(rounds + 1):
        for name, run in contenders.items():
            begun = time.process_time()
            run()
            if turn:
                seconds[name].append(time.process_time() - begun)
    return seconds


def throughput(rounds: int, _: Path) -> list[Row]:
    """Sealing and opening beside bare calls."""
    rows = [openssl()] if shutil.which("openssl") else []
    for library in BACKENDS:
        size = SIZES[library]
        sources = {"bare calls": bare(library, size), "securegan": ours(library, size)}
        own = native(size) if library == "cryptography" else None
        if own:
            sources["cryptography.cobblestone"] = own
        for number, doing in enumerate(("seal", "open")):
            seconds = timed({name: pair[number] for name, pair in sources.items()}, rounds)
            for name, found in seconds.items():
                ratios = [other / mine for mine, other in zip(found, seconds["bare calls"], strict=True)]
                speeds = [size / 1e6 / one for one in found]
                print(
                    f"{library:13s} {doing}  {name:25s} {statistics.median(speeds):7.0f} MB/s  "
                    f"ratio {statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})",
                    flush=True,
                )
                rows.append(
                    {
                        "setting": {"case": "throughput", "backend": library, "doing": doing, "by": name},
                        "metrics": {"speed/mb_per_second": speeds, "speed/ratio": ratios},
                        "n": size,
                        "seeds": [],
                    }
                )
    return rows


def openssl() -> Row:
    """What ``openssl speed`` of this machine says at the same chunk size."""
    command = ["openssl", "speed", "-mr", "-seconds", "2", "-bytes", str(CHUNK), "-evp", "aes-256-gcm"]
    found = subprocess.run(command, capture_output=True, text=True, check=True)
    speed = float(next(line for line in found.stdout.splitlines() if line.startswith("+F:")).rsplit(":", 1)[1]) / 1e6
    release = subprocess.run(["openssl", "version"], capture_output=True, text=True, check=True).stdout.split()[1]
    print(f"openssl speed, release {release}                {speed:12.0f} MB/s", flush=True)
    return {
        "setting": {"case": "throughput", "backend": f"openssl {release}", "doing": "seal", "by": "openssl speed"},
        "metrics": {"speed/mb_per_second": [speed]},
        "n": CHUNK,
        "seeds": [],
    }


def images(rounds: int, _: Path) -> list[Row]:
    """Whole envelopes in memory, beside one bare call for the whole image."""
    rows = []
    key = SecretKey(KEY)
    for library in BACKENDS:
        backend = load_backend(library)
        for name, size in IMAGES.items():
            data = secrets.token_bytes(size)
            envelope = seal_bytes(data, [key], facts_for("image"), backend=backend)
            contenders: dict[str, Contender] = {
                "seal": lambda d=data, b=backend: [  # type: ignore[misc]
                    seal_bytes(d, [key], facts_for("image"), backend=b) for _ in range(REPEATS)
                ],
                "open": lambda e=envelope, b=backend: [  # type: ignore[misc]
                    open_bytes(e, [key], backend=b) for _ in range(REPEATS)
                ],
            }
            for doing, found in timed(contenders, rounds).items():
                each = [1e6 * one / REPEATS for one in found]
                print(f"{library:13s} {doing}  image of {name:8s} {statistics.median(each):8.0f} us", flush=True)
                rows.append(
                    {
                        "setting": {"case": "images", "backend": library, "doing": doing, "image": name},
                        "metrics": {"speed/cpu_microseconds": each, "size/overhead_bytes": [len(envelope) - size]},
                        "n": REPEATS,
                        "seeds": [],
                    }
                )
    return rows


ALONE = """
import json, os, sys, time
from pathlib import Path
from securegan.security.envelope.backends import load_backend
from securegan.security.envelope.files import facts_for, open_envelope, seal
from securegan.security.envelope.recipients import SecretKey
doing, source, out, backend = sys.argv[1:]
key, backend, begun = SecretKey(bytes(32)), load_backend(backend), time.monotonic()
if doing == "seal":
    seal(Path(source), Path(out), [key], facts_for("dataset"), backend=backend)
else:
    open_envelope(Path(source), Path(out), [key], backend=backend)
seconds = time.monotonic() - begun
status = Path("/proc/self/status").read_text()
peak = next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM"))
print(json.dumps([seconds, peak / 1024]))
"""


def memory(rounds: int, folder: Path) -> list[Row]:
    """Peak of resident memory by the size of the file; the seconds are of the wall clock, the disk's among them."""
    rows = []
    for library in BACKENDS:
        for name, size in FILES.items():
            with tempfile.TemporaryDirectory(dir=folder) as made:
                paths = [Path(made) / part for part in ("plain", "sealed", "opened")]
                paths[0].touch()
                os.truncate(paths[0], size)
                for doing, source, out in (("seal", *paths[:2]), ("open", *paths[1:])):
                    command = [sys.executable, "-c", ALONE, doing, str(source), str(out), library]
                    printed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
                    seconds, peak = json.loads(printed)
                    print(
                        f"{library:13s} {doing}  {name}: peak {peak:6.1f} MiB, {seconds:6.2f} s, "
                        f"{size / 1e6 / seconds:6.0f} MB/s",
                        flush=True,
                    )
                    rows.append(
                        {
                            "setting": {"case": "memory", "backend": library, "doing": doing, "file": name},
                            "metrics": {"memory/peak_mib": [peak], "speed/seconds": [seconds]},
                            "n": size,
                            "seeds": [],
                        }
                    )
                    if doing == "open":
                        assert out.stat().st_size == size
    return rows


CASES: dict[str, Callable[[int, Path], list[Row]]] = {"throughput": throughput, "images": images, "memory": memory}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cases", nargs="+", choices=[*CASES], default=[*CASES])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()), help="for the files of memory")
    chosen = parser.parse_args()
    start, path = time.monotonic(), Path(__file__).with_suffix(".json")
    before = json.loads(path.read_text())["rows"] if path.exists() else []
    rows = [row for row in before if row["setting"]["case"] not in chosen.cases]
    for case in chosen.cases:
        rows += CASES[case](chosen.rounds, chosen.folder)
    results = {
        "command": " ".join(["python benchmarks/security.py", *sys.argv[1:]]),
        "seconds": round(time.monotonic() - start),
        "rows": rows,
    }
    write_json(path, {**environment(), **results})


if __name__ == "__main__":
    main()
