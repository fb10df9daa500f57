"""Whole folders: they come back as they were, and no stream of bytes, however made, reaches outside of the new one."""

import os
import struct
import subprocess
import tracemalloc
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from shutil import rmtree

import pytest

from securegan.errors import UserError
from securegan.security.envelope.backends import Forged, load_backend
from securegan.security.envelope.chunked import Sealer
from securegan.security.envelope.files import facts_for, open_envelope, read_header, seal
from securegan.security.envelope.folders import END, FILE, FOLDER, Limits, pack, unpack
from securegan.security.envelope.header import Facts
from securegan.security.envelope.recipients import SecretKey, seal_header
from securegan.security.errors import AuthenticationError, PolicyError

TREE = {
    "config.yaml": b"model: gan\n",
    "checkpoints/last.safetensors": bytes(3_000_000),
    "checkpoints/best.safetensors": b"",
    "samples/0/1.png": bytes(range(256)) * 70,
    "samples/00/1.png": b"another",
    "samples/.hidden": b"a name with a dot",
    "Grüße/日本.txt": b"Unicode",
    "a b/c'd\"e\nf": b"a name that no shell likes",
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name, content in TREE.items():
        path = tmp_path / "run" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    (tmp_path / "run" / "empty" / "within").mkdir(parents=True)
    return tmp_path / "run"


def contents(folder: Path) -> dict[str, bytes | None]:
    return {str(path.relative_to(folder)): path.read_bytes() if path.is_file() else None for path in folder.rglob("*")}


def stream(folder: Path, *, skip_links: bool = False) -> bytes:
    packed = BytesIO()
    pack(folder, packed.write, skip_links=skip_links)
    return packed.getvalue()


def entry(kind: int, name: bytes, content: bytes = b"", size: int | None = None) -> bytes:
    start = struct.pack(">BH", kind, len(name)) + name
    return start + (struct.pack(">Q", len(content) if size is None else size) + content if kind == FILE else b"")


def end(count: int) -> bytes:
    return struct.pack(">BQ", END, count)


def blocks(data: bytes, size: int = 1000) -> Iterator[memoryview]:
    for at in range(0, len(data), size):
        yield memoryview(data)[at : at + size]


def test_a_folder_comes_back_as_it_was(folder: Path, key: SecretKey, tmp_path: Path) -> None:
    envelope = tmp_path / "run.sge"
    facts = seal(folder, envelope, [key], facts_for("run"))
    assert facts.form == "folder" and read_header(envelope).facts == facts
    open_envelope(envelope, tmp_path / "back", [key])
    assert contents(tmp_path / "back") == contents(folder)
    assert {path.name for path in tmp_path.iterdir()} == {"run", "run.sge", "back"}
    assert (tmp_path / "back" / "config.yaml").stat().st_mode & 0o777 == 0o600
    assert stream(tmp_path / "back") == stream(folder)  # one folder, one stream


def test_links_sockets_and_names_without_text_are_refused_when_sealing(folder: Path) -> None:
    link = folder / "checkpoints" / "link"
    for target in ("last.safetensors", "/etc/passwd", "..", "nowhere"):
        link.symlink_to(target)
        with pytest.raises(UserError, match="is a link"):
            stream(folder)
        assert b"link" not in stream(folder, skip_links=True)
        link.unlink()
    os.mkfifo(folder / "pipe")
    with pytest.raises(UserError, match="neither a file nor a folder"):
        stream(folder)
    (folder / "pipe").unlink()
    (folder / os.fsdecode(b"\xff")).write_bytes(b"")
    with pytest.raises(UserError, match="UTF-8"):
        stream(folder)


def test_folders_too_deep_are_refused_when_sealing(tmp_path: Path) -> None:
    """As deep as may be opened, and no deeper; also where Python's stack would end."""
    top = tmp_path / "top"
    deepest = top.joinpath(*["d"] * Limits().depth)
    deepest.mkdir(parents=True)
    assert unpack(blocks(stream(top)), tmp_path / "back") == 1
    (deepest / "one").mkdir()
    with pytest.raises(PolicyError, match="too deep"):
        stream(top)
    before = Path.cwd()
    try:
        os.chdir(deepest)
        for _ in range(1500):
            os.mkdir("d")
            os.chdir("d")
    finally:
        os.chdir(before)
    try:
        with pytest.raises(PolicyError, match="too deep"):
            stream(top)
    finally:
        subprocess.run(["rm", "-r", top], check=True)  # deeper than pytest's own cleaning reaches


def test_a_file_that_changes_while_it_is_sealed_is_refused(folder: Path, key: SecretKey, tmp_path: Path) -> None:
    growing = folder / "checkpoints" / "last.safetensors"

    class Growing(BytesIO):
        def write(self, data: bytes) -> int:  # type: ignore[override]
            if len(data) > 1000 and self.tell() < 1_200_000:
                with growing.open("ab") as file:
                    file.write(b"more")
            return super().write(data)

    with pytest.raises(UserError, match=r"last\.safetensors changed while it was sealed"):
        pack(folder, Growing().write)


def test_a_folder_is_not_sealed_into_itself(folder: Path, key: SecretKey) -> None:
    with pytest.raises(UserError, match="lies in"):
        seal(folder, folder / "run.sge", [key], facts_for("run"))
    assert not (folder / "run.sge").exists()


ESCAPES = [
    b"../out",
    b"/tmp/out",
    b"a/../../out",
    b"a//b",
    b"a/./b",
    b".",
    b"..",
    b"",
    b"a/",
    b"/",
    b"a\0b",
    b"a/" * 64 + b"b",
    b"x" * 256,
    b"a" * 5000,
    b"\xff\xfe",
]


@pytest.mark.parametrize("name", ESCAPES)
@pytest.mark.parametrize("kind", [FILE, FOLDER])
def test_zip_slip_is_refused(name: bytes, kind: int, tmp_path: Path) -> None:
    inside = tmp_path / "inside"
    inside.mkdir()
    with pytest.raises(PolicyError):
        unpack(blocks(entry(kind, name, b"x") + end(1)), inside / "new")
    assert not [*inside.iterdir()] and [*tmp_path.iterdir()] == [inside]


@pytest.mark.parametrize(
    "entries",
    [
        [entry(FILE, b"a"), entry(FILE, b"a")],
        [entry(FILE, b"b"), entry(FILE, b"a")],
        [entry(FILE, b"a"), entry(FILE, b"a/b")],
        [entry(FOLDER, b"a"), entry(FILE, b"a/b")],
        [entry(FOLDER, b"a"), entry(FILE, b"a")],
        [entry(2, b"a"), entry(3, b"b", b"target")],
        [entry(255, b"a")],
    ],
)
def test_links_duplicates_and_unknown_entries_are_refused(entries: list[bytes], tmp_path: Path) -> None:
    with pytest.raises(PolicyError):
        unpack(blocks(b"".join(entries) + end(len(entries))), tmp_path / "new")
    assert not [*tmp_path.iterdir()]


def test_an_existing_link_in_the_place_of_the_new_folder_is_not_followed(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "new").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(UserError, match="exists already"):
        unpack(blocks(stream(folder)), tmp_path / "new")
    assert not [*(tmp_path / "elsewhere").iterdir()]


def test_bombs_are_refused_without_their_memory(tmp_path: Path) -> None:
    many = b"".join(entry(FILE, b"%09d" % number) for number in range(200))
    limits = Limits(entries=100, size=1000)
    nested = b"".join(entry(FILE, b"%02d/" % number + b"d/" * 20 + b"f") for number in range(5))
    assert unpack(blocks(nested + end(5)), tmp_path / "n", Limits(entries=110)) == 5
    rmtree(tmp_path / "n")
    for bomb in (many + end(200), nested + end(5), entry(FILE, b"big", size=1001) + bytes(1001) + end(1)):
        with pytest.raises(PolicyError, match="more than"):
            unpack(blocks(bomb), tmp_path / "new", limits)
    tracemalloc.start()
    with pytest.raises(Forged):
        unpack(blocks(entry(FILE, b"big", b"x", size=1 << 43)), tmp_path / "new")
    with pytest.raises(PolicyError):
        unpack(blocks(entry(FILE, b"big", b"x", size=1 << 63)), tmp_path / "new")
    assert tracemalloc.get_traced_memory()[1] < 1_000_000
    tracemalloc.stop()
    assert not [*tmp_path.iterdir()]


def test_a_stream_cut_anywhere_leaves_nothing(tmp_path: Path) -> None:
    whole = entry(FILE, b"a", b"1234") + entry(FOLDER, b"b") + entry(FILE, b"c/d", b"5") + end(3)
    for length in range(len(whole)):
        with pytest.raises((Forged, PolicyError)):
            unpack(blocks(whole[:length]), tmp_path / "new")
    for more in (b"\0", entry(FILE, b"e")):
        with pytest.raises(Forged):
            unpack(blocks(whole + more), tmp_path / "new")
    with pytest.raises(PolicyError, match="as many entries"):
        unpack(blocks(whole[:-1] + b"\x04"), tmp_path / "new")
    assert not [*tmp_path.iterdir()]
    assert unpack(blocks(whole), tmp_path / "new") == 3


def test_an_envelope_whose_last_tag_is_wrong_leaves_no_folder(folder: Path, key: SecretKey, tmp_path: Path) -> None:
    envelope = tmp_path / "run.sge"
    seal(folder, envelope, [key], facts_for("run"))
    whole = envelope.read_bytes()
    for forged in (whole[:-1], whole[:-1] + bytes([whole[-1] ^ 1])):
        envelope.write_bytes(forged)
        with pytest.raises(AuthenticationError):
            open_envelope(envelope, tmp_path / "back", [key])
    assert {path.name for path in tmp_path.iterdir()} == {"run", "run.sge"}


def test_a_hostile_sender_with_the_key_still_reaches_nothing_outside(key: SecretKey, tmp_path: Path) -> None:
    backend, secret = load_backend(), bytes(32)
    facts = facts_for("run")
    header = seal_header(Facts(facts.purpose, "an object", facts.created, 0, "folder"), [key], secret, backend)
    envelope = tmp_path / "run.sge"
    with envelope.open("wb") as file:
        file.write(header.encode())
        sealer = Sealer(secret, header.context, file, backend)
        sealer.write(entry(FILE, b"../../outside", b"x") + end(1))
        sealer.finish()
    (tmp_path / "deep").mkdir()
    with pytest.raises(PolicyError, match="a path that no folder here may have"):
        open_envelope(envelope, tmp_path / "deep" / "new", [key])
    assert not [*(tmp_path / "deep").iterdir()] and not (tmp_path / "outside").exists()
