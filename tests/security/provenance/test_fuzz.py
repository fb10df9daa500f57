"""Every parser of bytes from outside, on genuine ones that were damaged: they are refused in the way they should be.

A short run by default; ``pytest -m slow tests/security/provenance/test_fuzz.py`` for the long one, which prints counts.
"""

from base64 import b64encode
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from securegan.errors import UserError
from securegan.security.errors import AuthenticationError, PolicyError
from securegan.security.provenance import directory, dsse, sidecar, statement, strict_json
from securegan.security.provenance.log import Entry, Log, read_entry
from securegan.security.provenance.memory import Memory
from securegan.security.provenance.note import read_checkpoint
from securegan.security.provenance.pixels import BadPixels, digest_of_image
from securegan.security.provenance.proofs import check_consistency, check_inclusion, prove_consistency, prove_inclusion
from securegan.security.provenance.signing import Signer, read_public
from securegan.security.provenance.statement import DirectoryOrigin, ImageOrigin
from securegan.security.provenance.trust import new_store, read_store
from securegan.security.provenance.verdicts import Verdict

SHORT, LONG = 40, 4000
PARTS = (b'"a":1,', b"null", b"{}", b"[]", b'"\\ud800"', b"1e9", b"-1", b"\0", b"\n\n")


class Target(NamedTuple):
    """A parser: genuine input, what to do with it, how it may refuse; whether all but the genuine must be refused."""

    genuine: bytes
    parse: Callable[[bytes], object]
    refusal: tuple[type[Exception], ...]
    bound: bool = True


def unacceptable(verdict: Verdict) -> None:
    if not verdict.acceptable:
        raise PolicyError(verdict)


@pytest.fixture
def targets(party, lab, image: bytes, tmp_path: Path) -> dict[str, Target]:
    signer, trust, refused = party.signer, party.trust, (AuthenticationError, PolicyError)
    signed = sidecar.sign(image, "a.png", signer, lab.origin())
    payload = dsse.read(signed, statement.PAYLOAD, "it").unverified
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "a").write_bytes(b"a")
    manifest = directory.sign_directory(folder, signer, DirectoryOrigin(time=lab.day(0), holds="run"))
    log = Log.create(tmp_path / "log", "example.org/log", signer)
    log.append([Entry(kind="alert", details={"n": number}) for number in range(5)], signer)
    old, _ = log.checkpoint([signer.public])
    log.append([Entry(kind="release", subject="a" * 64)], signer)
    root, memory = Signer(b"r" * 32), Memory(tmp_path / "memory")
    new_store(tmp_path / "store", "lab", root, memory)
    store, kept = (tmp_path / "store").read_bytes(), memory.path.read_bytes()

    def with_file(path: Path, read: Callable[[], object]) -> Callable[[bytes], object]:
        def parse(data: bytes) -> object:
            path.write_bytes(data)
            return read()

        return parse

    def verify_folder() -> None:
        unacceptable(directory.verify_directory(folder, trust, "run", now=lab.now).verdict)

    def read_memory() -> None:
        Memory(tmp_path / "other").root("0" * 32)

    (tmp_path / "other").mkdir()
    return {
        "strict JSON": Target(payload, lambda data: strict_json.parse(data, limit=10_000), (ValueError,), bound=False),
        "DSSE envelope": Target(
            signed, lambda data: dsse.read(data, statement.PAYLOAD, "it").payload(signer.public, "it"), refused
        ),
        "statement": Target(payload, lambda data: statement.read(data, ImageOrigin, "it"), refused, bound=False),
        "sidecar": Target(
            signed, lambda data: unacceptable(sidecar.judge(image, data, trust, now=lab.now).verdict), refused
        ),
        "manifest": Target(manifest.read_bytes(), with_file(manifest, verify_folder), refused),
        "trust store": Target(
            store, with_file(tmp_path / "store", lambda: read_store(tmp_path / "store", memory)), refused
        ),
        "memory": Target(kept, with_file(tmp_path / "other" / "memory.json", read_memory), (UserError,), bound=False),
        "checkpoint": Target(
            log.checkpoint_path.read_bytes(), lambda data: read_checkpoint(data, [signer.public], "it"), refused
        ),
        "log entry": Target(log.path.read_bytes().splitlines()[-1], read_entry, (ValueError,), bound=False),
        "inclusion proof": Target(
            prove_inclusion(log, trust, 3), lambda data: check_inclusion(data, trust, "it"), refused
        ),
        "consistency proof": Target(
            prove_consistency(log, trust, old), lambda data: check_consistency(data, trust, old, "it"), refused
        ),
        "pixels": Target(image, digest_of_image, (BadPixels,), bound=False),
        "public key": Target(
            signer.public.pem().encode(),
            with_file(tmp_path / "pem", lambda: read_public(tmp_path / "pem")),
            (UserError,),
            bound=False,
        ),
    }


@st.composite
def damaged(draw: st.DrawFn, genuine: bytes) -> bytes:
    """Cut, filled, doubled, swapped, flipped, or put into base64: once or several times."""
    data = genuine
    for _ in range(draw(st.integers(1, 3))):
        start = draw(st.integers(0, len(data)))
        end = draw(st.integers(start, min(len(data), start + 40)))
        kind = draw(st.sampled_from(["cut", "fill", "double", "flip", "end", "json", "base64"]))
        if kind == "cut":
            data = data[:start] + data[end:]
        elif kind == "fill":
            data = data[:start] + draw(st.binary(max_size=40)) + data[end:]
        elif kind == "double":
            data = data[:end] + data[start:]
        elif kind == "flip" and start < len(data):
            data = data[:start] + bytes([data[start] ^ 1 << draw(st.integers(0, 7))]) + data[start + 1 :]
        elif kind == "end":
            data = data[:start]
        elif kind == "json":
            part = draw(
                st.sampled_from([b'"a":1,', b"null", b"{}", b"[]", b'"\\ud800"', b"1e9", b"-1", b"\0", b"\n\n"])
            )
            data = data[:start] + part + data[start:]
        elif kind == "base64":
            data = data[:start] + b64encode(data[start:end]) + data[end:]
    return data


def fuzz(name: str, target: Target, examples: int) -> int:
    """How many damaged inputs a parser has seen."""
    seen = 0

    @settings(max_examples=examples, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    @given(data=damaged(target.genuine))
    def run(data: bytes) -> None:
        nonlocal seen
        seen += 1
        try:
            target.parse(data)
        except target.refusal:
            return
        assert data == target.genuine or not target.bound, name

    target.parse(target.genuine)
    run()
    return seen


def test_every_parser_refuses_damaged_input(targets: dict[str, Target]) -> None:
    assert all(fuzz(name, target, SHORT) >= SHORT / 2 for name, target in targets.items())


@pytest.mark.slow
def test_every_parser_refuses_damaged_input_at_length(
    targets: dict[str, Target], capsys: pytest.CaptureFixture[str]
) -> None:
    counts = {name: fuzz(name, target, LONG) for name, target in targets.items()}
    with capsys.disabled():
        print(f"\nfuzzed: {sum(counts.values()):,} inputs: " + ", ".join(f"{n:,} {name}" for name, n in counts.items()))
