"""``securegan seal``, ``open`` and ``rewrap``, as a user gives them."""

import io
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from securegan.security.keys.ring import KeyRing

WORDS = "five words are a password"
PLAIN = bytes(range(256)) * 100


@pytest.fixture
def image(tmp_path: Path) -> Path:
    (tmp_path / "image.png").write_bytes(PLAIN)
    return tmp_path / "image.png"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "run" / "samples").mkdir(parents=True)
    (tmp_path / "run" / "samples" / "0.png").write_bytes(PLAIN)
    (tmp_path / "run" / "config.yaml").write_text("seed: 0\n")
    return tmp_path / "run"


def kid_of(tmp_path: Path, name: str) -> str:
    return KeyRing.open(tmp_path / "keys").find(name).kid[:8]


def told(image: Path, sealers: str) -> str:
    """What ``open`` says of an envelope."""
    whole = f"{image}.sge is whole, as its sealer made it, who could be anybody with {sealers}"
    return f"{whole}; the file in it is {image}\n"


def test_a_file_is_sealed_and_opened_by_a_key_of_the_ring(run: Any, image: Path, tmp_path: Path) -> None:
    run("keys", "new", "archive", "--purpose", "image")
    code, out, _ = run("seal", image, "--to", "archive")
    assert (code, out) == (0, f"{image} is sealed in {image}.sge, for the purpose image\n")
    image.unlink()
    code, out, _ = run("open", f"{image}.sge")
    assert (code, out) == (0, told(image, f"key {kid_of(tmp_path, 'archive')}"))
    assert image.read_bytes() == PLAIN
    assert KeyRing.open(tmp_path / "keys").find("archive").sealed == 1


def test_open_says_who_could_have_sealed_it(
    run: Any, image: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SECUREGAN_PASSWORD", WORDS)
    run("keys", "new", "own"), run("keys", "new", "friends", "--kind", "x25519")
    assert run("seal", image, "--to", "own", "--to", "friends", "--password")[0] == 0
    image.unlink()
    own, friends = kid_of(tmp_path, "own"), kid_of(tmp_path, "friends")
    sealers = f"key {own} or the public part of key {friends} or the password"
    assert run("open", f"{image}.sge")[1] == told(image, sealers)


def test_an_envelope_of_somebody_with_the_public_key_keeps_no_genuine_version_out(
    run: Any, image: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run("keys", "new", "friends", "--kind", "x25519")
    run("keys", "export", "friends", "--out", tmp_path / "friends.pem")
    for name, version, ring in (("genuine", 4, "keys"), ("forged", 9 * 10**18, "nobody")):
        monkeypatch.setenv("SECUREGAN_KEYS", str(tmp_path / ring))
        words = ["--to", tmp_path / "friends.pem", "--object", "doc", "--version", version]
        assert run("seal", image, *words, "--out", tmp_path / name)[0] == 0
    monkeypatch.setenv("SECUREGAN_KEYS", str(tmp_path / "keys"))
    for name in ("forged", "genuine"):
        code, out, _ = run("open", tmp_path / name, "--out", tmp_path / f"{name}.png")
        assert code == 0 and "anybody with the public part of key" in out


def test_hostile_names_drive_no_terminal_and_end_in_no_traceback(run: Any, tmp_path: Path) -> None:
    run("keys", "new", "archive", "--purpose", "image")
    for name in ("a\x1b]0;owned\x07", "b\x9b31m", "c\nd", "e\udcff"):
        folder = tmp_path / name
        folder.mkdir()
        (folder / f"{name}.png").write_bytes(PLAIN)
        sealed = tmp_path / f"{name}.sge"
        told = [run("seal", folder, "--to", "archive")]
        if "\udcff" in name:
            assert told[0][0] == 2 and "cannot be sealed" in told[0][2]  # a name within that is not UTF-8
            told = [run("seal", folder / f"{name}.png", "--to", "archive", "--out", sealed)]
        told.append(run("open", sealed, "--out", tmp_path / f"{name}.back"))
        told.append(run("rewrap", sealed, "--to", "archive"))
        assert [code for code, _, _ in told] == [0, 0, 0]
        (folder / "link").symlink_to(name)
        told += [run("seal", folder, "--to", "archive", "--force"), run("open", sealed, "--at-least", name), run(name)]
        told.append(run("keys", "list", "--keys", tmp_path / name / "none"))
        assert [code for code, _, _ in told[3:]] == [2, 2, 2, 0]
        for _, out, err in told:
            assert (out + err).count("\n") == 1 and (out + err)[:-1].isprintable()


def test_a_folder_is_sealed_and_opened(run: Any, folder: Path, tmp_path: Path) -> None:
    run("keys", "new", "archive")
    assert run("seal", folder, "--to", "archive", "--purpose", "run", "--out", tmp_path / "it.sge")[0] == 0
    code, out, _ = run("open", tmp_path / "it.sge", "--out", tmp_path / "back", "--purpose", "run")
    assert code == 0 and f"the folder in it is {tmp_path / 'back'}" in out
    assert (tmp_path / "back" / "samples" / "0.png").read_bytes() == PLAIN
    code, _, err = run("open", tmp_path / "it.sge", "--out", tmp_path / "back")
    assert code == 2 and "exists already" in err


def test_several_envelopes_and_folders_of_them_are_opened(run: Any, tmp_path: Path) -> None:
    run("keys", "new", "archive")
    contents = {name: name.encode() * 100 for name in ("a.png", "b.png", "c.png")}
    (tmp_path / "sealed").mkdir()
    for name, content in contents.items():
        (tmp_path / name).write_bytes(content)
        assert run("seal", tmp_path / name, "--to", "archive", "--out", tmp_path / "sealed" / f"{name}.sge")[0] == 0
        (tmp_path / name).unlink()
    (tmp_path / "sealed" / "notes.txt").write_text("none of them")
    (tmp_path / "sealed" / "z.sge").mkdir()
    (tmp_path / "sealed" / ".a.png.sge.abc").write_bytes(b"half of one")
    code, out, err = run("open", tmp_path / "sealed", "--out", tmp_path / "opened" / "here")
    assert code == 0 and len(out.splitlines()) == 3, err
    found = {path.name: path.read_bytes() for path in (tmp_path / "opened" / "here").iterdir()}
    assert found == contents
    sealed = [tmp_path / "sealed" / f"{name}.sge" for name in contents]
    assert run("open", *sealed[:2])[0] == 0
    assert (tmp_path / "sealed" / "b.png").read_bytes() == contents["b.png"]
    sealed[1].write_bytes(sealed[1].read_bytes()[:-1])
    code, out, _ = run("open", *sealed, "--out", tmp_path / "again")
    assert code == 1 and [path.name for path in (tmp_path / "again").iterdir()] == ["a.png"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["EMPTY"], "there is no envelope (*.sge) in"),
        (["ONE", "-"], "- is one envelope"),
        (["ONE", "ONE", "--out", "OUT"], "the same name"),
        (["ALL", "--out", "-"], "does not go into one pipe"),
        (["ONE", "OTHER", "--out", "OUT"], "does not end in .sge"),
        (["ALL", "--out", "OTHER"], "cannot be made"),
        (["ONE", "MISSING", "--out", "OUT"], "there is no such file"),
        (["DOTS"], "has no name without .sge"),
    ],
)
def test_mistakes_with_several(run: Any, tmp_path: Path, words: list[str], said: str) -> None:
    run("keys", "new", "archive")
    places = {"EMPTY": tmp_path / "empty", "ONE": tmp_path / "1.sge", "OTHER": tmp_path / "2", "ALL": tmp_path}
    places |= {"MISSING": tmp_path / "none.sge", "DOTS": tmp_path / "dots" / "..sge"}
    places["DOTS"].parent.mkdir()
    places["EMPTY"].mkdir()
    (tmp_path / "plain").write_bytes(PLAIN)
    for name in ("1.sge", "2", "dots/..sge"):
        run("seal", tmp_path / "plain", "--to", "archive", "--out", tmp_path / name)
    code, _, err = run("open", *(places.get(word, tmp_path / "out" if word == "OUT" else word) for word in words))
    assert code == 2 and said in err and len(err.strip().splitlines()) == 1, err


def test_a_changed_envelope_ends_with_1(run: Any, image: Path, tmp_path: Path) -> None:
    run("keys", "new", "archive")
    run("seal", image, "--to", "archive")
    envelope = tmp_path / "image.png.sge"
    envelope.write_bytes(envelope.read_bytes()[:-1])
    code, out, err = run("open", envelope, "--out", tmp_path / "back")
    assert (code, out) == (1, "") and "is refused: it was changed, is not complete" in err
    assert not (tmp_path / "back").exists()


def test_passwords_come_from_a_file_or_the_environment(
    run: Any, image: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "password").write_text(WORDS + "\nanother line\n")
    (tmp_path / "password").chmod(0o640)
    code, _, err = run("seal", image, "--password-file", tmp_path / "password")
    assert code == 2 and "is open to others: chmod 600" in err
    (tmp_path / "password").chmod(0o600)
    envelope = tmp_path / "image.png.sge"
    assert run("seal", image, "--password-file", tmp_path / "password")[0] == 0
    monkeypatch.setenv("SECUREGAN_PASSWORD", WORDS)
    assert run("open", envelope, "--password", "--out", tmp_path / "back")[0] == 0
    assert (tmp_path / "back").read_bytes() == PLAIN
    monkeypatch.setenv("SECUREGAN_PASSWORD", "another password")
    code, _, err = run("open", envelope, "--password", "--out", tmp_path / "again")
    assert code == 1 and "another password" not in err
    monkeypatch.setenv("SECUREGAN_PASSWORD", "short")
    code, _, err = run("seal", image, "--password", "--force")
    assert code == 2 and "12 characters" in err


def test_a_password_is_asked_for_twice_when_sealing(
    run: Any, image: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    answers = iter([WORDS, WORDS, WORDS, WORDS, "something else"])
    monkeypatch.setattr("getpass.getpass", lambda prompt: (asked.append(prompt), next(answers))[1])
    monkeypatch.setattr("sys.stdin", type("Terminal", (io.StringIO,), {"isatty": lambda self: True})())
    assert run("seal", image, "--password")[0] == 0 and len(asked) == 2
    assert run("open", f"{image}.sge", "--password", "--out", tmp_path / "back")[0] == 0 and len(asked) == 3
    code, _, err = run("seal", image, "--password", "--force")
    assert code == 2 and "differ" in err


def test_rotation_goes_on_with_a_rewrap(run: Any, image: Path, tmp_path: Path) -> None:
    run("keys", "new", "archive")
    run("seal", image, "--to", "archive")
    envelope, old = f"{image}.sge", KeyRing.open(tmp_path / "keys").find("archive")
    run("keys", "rotate", "archive")
    code, out, _ = run("rewrap", envelope, "--to", "archive")
    new = KeyRing.open(tmp_path / "keys").find("archive")
    assert (code, out) == (0, f"{envelope} is now sealed for key {new.kid[:8]}\n")
    run("keys", "revoke", old.kid, "--reason", "superseded")
    assert run("open", envelope, "--out", tmp_path / "back")[0] == 0


def test_what_a_revoked_key_has_sealed_is_saved_on_demand_alone(run: Any, image: Path, tmp_path: Path) -> None:
    run("keys", "new", "archive")
    run("seal", image, "--to", "archive")
    run("keys", "revoke", "archive", "--reason", "compromised")
    run("keys", "new", "archive")
    for words in (("open", f"{image}.sge", "--out", tmp_path / "a"), ("rewrap", f"{image}.sge", "--to", "archive")):
        code, _, err = run(*words)
        assert code == 2 and "was revoked on" in err
        assert run(*words, "--even-revoked")[0] == 0
    assert run("open", f"{image}.sge", "--key", "archive", "--out", tmp_path / "b")[0] == 0


def test_keys_of_others_and_from_elsewhere(
    run: Any, image: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run("keys", "new", "mine", "--kind", "x25519")
    run("keys", "export", "mine", "--out", tmp_path / "mine.pem")
    key = KeyRing.open(tmp_path / "keys").find("mine")
    secret = tmp_path / "keys" / f"{key.kid}.key"
    monkeypatch.setenv("SECUREGAN_KEYS", str(tmp_path / "nobody"))
    monkeypatch.setenv("A_KEY", "11" * 32)
    envelope = tmp_path / "it.sge"
    assert run("seal", image, "--to", tmp_path / "mine.pem", "--to", "env:A_KEY", "--out", envelope)[0] == 0
    code, _, err = run("open", envelope, "--out", tmp_path / "a")
    assert code == 2 and f"it is sealed for key {key.kid[:8]} or key" in err
    assert run("open", envelope, "--key", secret, "--out", tmp_path / "a")[0] == 0
    assert run("open", envelope, "--key", "env:A_KEY", "--out", tmp_path / "b")[0] == 0
    assert not (tmp_path / "nobody").exists()


def test_older_versions_are_opened_on_demand_alone(run: Any, image: Path, tmp_path: Path) -> None:
    run("keys", "new", "archive")
    for version in (1, 2):
        out = tmp_path / f"{version}.sge"
        run("seal", image, "--to", "archive", "--object", "weights", "--version", version, "--out", out)
        assert run("open", out, "--out", tmp_path / str(version))[0] == 0
    code, _, err = run("open", tmp_path / "1.sge", "--out", tmp_path / "old")
    assert code == 2 and "an older version is played back" in err
    assert run("open", tmp_path / "1.sge", "--out", tmp_path / "old", "--older")[0] == 0
    for more in (["--at-least", "3"], ["--object", "others"], ["--purpose", "image"]):
        assert run("open", tmp_path / "2.sge", "--out", tmp_path / "new", *more)[0] == 2


def test_what_anybody_can_read(run: Any, image: Path) -> None:
    run("keys", "new", "archive")
    run("seal", image, "--to", "archive", "--object", "weights", "--version", "7")
    out = run("open", f"{image}.sge", "--info")[1]
    assert "weights" in out and "transport" in out and "for      key" in out and "image.png" not in out


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["seal", "image.png"], "for whom?"),
        (["seal", "image.png", "--to", "archve"], "Did you mean 'archive'"),
        (["seal", "image.png", "--to", "archive", "--purpose", "imge"], "purpose 'imge'"),
        (["seal", "image.png", "--to", "archive", "--backend", "openssl"], "expected cryptography, pycryptodome"),
        (["seal", "missing.png", "--to", "archive"], "missing.png cannot be read: No such file"),
        (["seal", "-", "--to", "archive"], "where to?"),
        (["seal", "image.png", "--password-file", "missing"], "cannot be read as text"),
        (["seal", "image.png", "--password"], "no terminal to ask"),
        (["open", "image.png"], "where to?"),
        (["open", "image.png", "--out", "out"], "no envelope of SecureGAN"),
        (["open", "image.png", "--out", "out", "--key", "env:NO_SUCH_KEY"], "NO_SUCH_KEY, which is to hold a key"),
        (["rewrap", "image.png", "--to", "archive"], "no envelope of SecureGAN"),
    ],
)
def test_a_mistake_ends_with_one_sentence_and_2(
    words: list[str], expected: str, run: Any, image: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run("keys", "new", "archive")
    monkeypatch.chdir(image.parent)
    monkeypatch.setattr("sys.stdin", io.StringIO())
    code, out, err = run(*words)
    assert (code, out) == (2, "") and expected in err and err.count("\n") == 1


@pytest.mark.parametrize("form", ["file", "folder"])
def test_an_open_that_is_ended_leaves_no_plaintext(form: str, run: Any, image: Path, tmp_path: Path) -> None:
    run("keys", "new", "archive", "--purpose", "run")
    (tmp_path / "here").mkdir()
    (tmp_path / "folder").mkdir()
    source = image if form == "file" else tmp_path / "folder"
    (image if form == "file" else source / "one").write_bytes(bytes(1 << 20))
    assert run("seal", source, "--to", "archive", "--out", tmp_path / "it.sge")[0] == 0
    command = [sys.executable, "-m", "securegan", "open", "-", "--out", str(tmp_path / "here" / "out")]
    opening = subprocess.Popen(
        command, stdin=subprocess.PIPE, env={**os.environ, "SECUREGAN_KEYS": str(tmp_path / "keys")}
    )
    assert opening.stdin is not None
    opening.stdin.write((tmp_path / "it.sge").read_bytes()[: 600 << 10])
    opening.stdin.flush()
    until = time.monotonic() + 60
    while not any(path.is_file() and path.stat().st_size for path in (tmp_path / "here").rglob("*")):
        assert time.monotonic() < until and opening.poll() is None
        time.sleep(0.05)
    opening.send_signal(signal.SIGTERM)
    assert opening.wait(60) == 128 + signal.SIGTERM
    opening.stdin.close()
    assert not [*(tmp_path / "here").iterdir()]


def test_through_pipes_without_torch(image: Path, tmp_path: Path) -> None:
    """As processes of their own, which start in a moment: nothing here loads torch."""
    environment = {**os.environ, "SECUREGAN_KEYS": str(tmp_path / "keys"), "SECUREGAN_PASSWORD": WORDS}

    def command(*words: str, given: bytes = b"") -> bytes:
        code = "import sys; from securegan.cli import main; main(); sys.exit('torch' in sys.modules)"
        return subprocess.run(
            [sys.executable, "-c", code, *words], input=given, env=environment, check=True, capture_output=True
        ).stdout

    command("keys", "new", "archive")
    sealed = command("seal", "-", "--to", "archive", "--password", "--out", "-", given=PLAIN)
    for words in ([], ["--password"]):
        assert command("open", "-", "--out", "-", *words, given=sealed) == PLAIN
