"""``securegan verify``, ``sign``, ``trust`` and ``log`` as a user meets them."""

import csv
import json
import os
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from pathlib import Path
from typing import get_args

import pytest

import securegan.cli
from securegan.cli.provenance.audit_log import KINDS
from securegan.security.keys.ring import KeyRing
from securegan.security.provenance.auditing import audit
from securegan.security.provenance.log import Entry, Kind, Log
from securegan.security.provenance.signing import signer_of
from securegan.security.spelling import TIME


class Console:
    """The command in this process: exit code, output and errors."""

    def __init__(self, patch: pytest.MonkeyPatch, capture: pytest.CaptureFixture[str]) -> None:
        self.patch, self.capture = patch, capture
        self.out = self.err = ""

    def __call__(self, *arguments: object) -> int:
        self.patch.setattr("sys.argv", ["securegan", *map(str, arguments)])
        try:
            securegan.cli.main()
            code = 0
        except SystemExit as end:
            code = int(end.code or 0)
        self.out, self.err = self.capture.readouterr()
        return code


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Console:
    monkeypatch.setenv("COLUMNS", "250")
    return Console(monkeypatch, capsys)


@pytest.fixture
def ring(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> KeyRing:
    monkeypatch.setenv("SECUREGAN_KEYS", str(tmp_path / "keys"))
    monkeypatch.setenv("SECUREGAN_TRUST", str(tmp_path / "trust"))
    ring = KeyRing.open()
    ring.new("root", "ed25519", ["trust"])
    ring.new("release", "ed25519", ["image", "checkpoint", "log"])
    return ring


@pytest.fixture
def images(tmp_path: Path, picture, encoded) -> Path:
    folder = tmp_path / "images"
    folder.mkdir()
    for number in range(3):
        (folder / f"{number}.png").write_bytes(encoded(picture(number)))
    return folder


@pytest.fixture
def store(run: Console, ring: KeyRing, tmp_path: Path) -> Path:
    """The default one, in which the key that releases counts."""
    path = tmp_path / "trust" / "store.json"
    path.parent.mkdir()
    assert run("trust", "new", path, "--root", "root") == 0
    (tmp_path / "release.pem").write_text(ring.find("release").pem)
    arguments = ("--name", "release", "--for", "image", "checkpoint", "log", "--root", "root")
    assert run("trust", "add", path, tmp_path / "release.pem", *arguments) == 0
    return path


def test_sign_and_verify(run: Console, store: Path, images: Path) -> None:
    assert run("verify", images) == 1 and run.out.count("unsigned") == 4
    assert run("sign", *images.glob("*.png"), "--key", "release", "--seed", 7, "--run", "digits") == 0
    assert run("verify", images) == 0 and "3 checked: 3 byte-exact" in run.out and " a second" in run.out
    assert run("verify", *images.glob("*"), "--json") == 0
    found = json.loads(run.out)
    assert found["acceptable"] and found["counts"] == {"byte-exact": 6} and found["trust"]["version"] == 2
    row = found["results"][0]
    assert row["signer"] == "release" and row["origin"]["seed"] == 7 and row["origin"]["run"] == "digits"


def test_verify_tells_what_is_wrong_and_exits_with_one(
    run: Console, store: Path, images: Path, encoded, picture
) -> None:
    assert run("sign", *images.glob("*.png"), "--key", "release") == 0
    (images / "0.png").write_bytes(encoded(picture(0), compress_level=0))
    assert run("verify", images) == 0 and "1 pixels-exact" in run.out
    assert run("verify", images, "--exact") == 1
    (images / "1.png").write_bytes(encoded(picture(9)))
    (images / "2.png").unlink()
    (images / "3.png").symlink_to("0.png")
    (images / "notes.txt").write_text("passed over")
    assert run("verify", images, "--json") == 1
    found = json.loads(run.out)
    verdicts = {Path(row["path"]).name: row["verdict"] for row in found["results"]}
    assert verdicts == {"0.png": "pixels-exact", "1.png": "modified", "2.png": "missing", "3.png": "refused"}
    assert [row["origin"] is None for row in found["results"]] == [False, True, True, True]


def test_an_image_under_another_name_is_told_and_not_exact(run: Console, store: Path, images: Path) -> None:
    """Whose pixels are as signed may still be shown in the place of another image."""
    assert run("sign", *images.glob("*.png"), "--key", "release") == 0 and run("verify", images, "--exact") == 0
    for suffix in ("", ".sg.json"):
        (images / f"1.png{suffix}").write_bytes((images / f"0.png{suffix}").read_bytes())
    assert run("verify", images) == 0 and "signed as 0.png" in run.out
    assert run("verify", images, "--json") == 0
    assert [row["signed_name"] for row in json.loads(run.out)["results"]] == ["0.png", "0.png", "2.png"]
    assert run("verify", images, "--exact", "--json") == 1
    assert [row["acceptable"] for row in json.loads(run.out)["results"]] == [True, False, True]


def test_a_long_table_shows_what_is_not_acceptable(run: Console, store: Path, images: Path, encoded, picture) -> None:
    data = encoded(picture())
    for number in range(60):
        (images / f"more-{number:02}.png").write_bytes(data)
    assert run("sign", *images.glob("*.png"), "--key", "release") == 0
    (images / "more-59.png").write_bytes(b"")
    assert run("verify", images) == 1
    assert "more-59" in run.out and "more-00" not in run.out and "63 checked: 62 byte-exact, 1 modified" in run.out
    assert run("verify", images, "--all") == 1 and "more-00" in run.out


def test_names_that_would_drive_the_terminal_are_shown_as_text(run: Console, store: Path, images: Path) -> None:
    (images / "\x1b[2Jred[bold].png").write_bytes(b"x")
    (images / "x\udcff.png").write_bytes(b"x")
    assert run("verify", images) == 1
    assert "\x1b[2J" not in run.out and "\\x1b[2Jred[bold].png" in run.out and "x\\xff.png" in run.out
    (images / "a\nb.png").write_bytes(b"x")
    (images / "a\\nb.png").write_bytes(b"x")  # which reads like it, escaped
    assert run("verify", images, "--json") == 1
    names = {Path(row["path"]) for row in json.loads(run.out)["results"]}
    assert names == set(images.iterdir())  # to a script, they are what they are


def test_mistakes_end_with_one_sentence_and_two(run: Console, store: Path, images: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    why = ("--reason", "superseded", "--root", "root")
    for arguments, said in [
        (("verify", tmp_path / "none"), "there is no"),
        (("verify", tmp_path / "empty"), "there is no image in"),
        (("verify", images, "--trust", tmp_path / "none"), "cannot be read"),
        (("verify", images, "--root", images / "0.png"), "holds no"),
        (("sign", images, "--key", "release"), "say --as what"),
        (("sign", images / "0.png", "--key", "release", "--as", "checkpoint"), "no folder"),
        (("sign", images / "0.png", "--key", "root"), "not for the purpose image"),
        (("sign", images / "0.png", "--key", "nobody"), "no key nobody"),
        (("sign", images / "0.png", "--key", "release", "--model", "12"), "--model=12"),
        (("trust", "revoke", store, "release", *why, "--at", "noon"), "--at=noon"),
        (("trust", "revoke", store, "x", *why), "'x' names no keys"),
        (("log", "show", tmp_path / "none"), "cannot be read"),
        (("log", "new", tmp_path / "log", "--origin", "a b", "--key", "release"), "cannot be named"),
    ]:  # fmt: skip
        assert run(*arguments) == 2, arguments
        assert said in run.err and run.err.startswith("securegan: ") and run.err.count("\n") == 1, run.err


def test_a_forged_store_is_a_mistake_and_no_verdict(run: Console, store: Path, images: Path, tmp_path: Path) -> None:
    pem, root = tmp_path / "release.pem", ("--root", "root")
    assert run("sign", images / "0.png", "--key", "release") == 0
    data = store.read_bytes()
    store.write_bytes(data.replace(b'"sig":"', b'"sig":"A')[:-1])
    for words in (
        ("trust", "add", store, pem, "--name", "more", "--for", "image", *root),
        ("trust", "revoke", store, "release", "--reason", "superseded", *root),
        ("trust", "show", store),
        ("verify", images / "0.png", "--trust", store),
    ):
        assert run(*words) == 2 and f"{store} is refused: it was changed" in run.err, words


def test_c2pa_beside_the_sidecar(run: Console, store: Path, images: Path, tmp_path: Path) -> None:
    pytest.importorskip("c2pa")
    (tmp_path / "plain.png").write_bytes((images / "0.png").read_bytes())
    chain, anchors = tmp_path / "chain", tmp_path / "chain.anchors.pem"
    pem = tmp_path / "release.pem"
    assert run("trust", "certify", pem, "--name", "release", "--out", chain, "--root", "root") == 0
    assert run("sign", *images.glob("*.png"), "--key", "release", "--c2pa", chain, "--seed", 3) == 0
    assert run("verify", images, "--anchors", anchors) == 0 and "3 byte-exact" in run.out
    assert run("sign", images / "0.png", "--key", "release") == 0  # another origin than the manifest's
    assert run("verify", images, "--anchors", anchors) == 1 and "different" in run.out
    assert run("verify", images) == 0
    assert run("verify", images / "1.png", "--anchors", pem) == 2 and "no certificate" in run.err
    (images / "new.png").write_bytes((tmp_path / "plain.png").read_bytes())  # no folder's manifest stands for C2PA's
    assert run("sign", images, "--as", "image", "--key", "release") == 0 and run("verify", images) == 0
    assert run("verify", images, "--anchors", anchors) == 1 and "1 unsigned" in run.out


def test_folders(run: Console, store: Path, images: Path) -> None:
    assert run("sign", images, "--as", "checkpoint", "--key", "release") == 0
    assert run("verify", images) == 1 and "1 byte-exact, " not in run.out and "3 unsigned" in run.out
    assert run("verify", images, "--as", "checkpoint") == 0  # who asks for it, has its manifest vouch for the images
    assert "1 checked: 1 byte-exact" in run.out
    assert run("verify", images, "--as", "dataset") == 1 and "not for dataset" in run.out
    (images / "new").touch()
    assert run("verify", images, "--as", "checkpoint") == 1 and "1 extra: new" in run.out
    (images / "manifest.sg.json").unlink()
    assert run("verify", images, "--as", "checkpoint") == 1 and "no manifest" in run.out
    assert run("sign", images, "--as", "image", "--key", "release") == 0
    assert run("verify", images) == 0 and "1 checked: 1 byte-exact" in run.out


def test_nothing_that_is_named_is_passed_over(run: Console, store: Path, images: Path, tmp_path: Path) -> None:
    """Exit code 0 says that all there is under the paths was verified."""
    assert run("sign", *images.glob("*.png"), "--key", "release") == 0 and run("verify", images) == 0
    (tmp_path / "empty").mkdir()
    assert run("verify", images, tmp_path / "empty") == 2 and f"no image in {tmp_path / 'empty'}" in run.err
    (tmp_path / "empty" / "x.png").touch()
    (images / "linked").symlink_to(tmp_path / "empty")
    assert run("verify", images) == 1 and "a link" in run.out and "1 refused" in run.out
    (images / "linked").unlink()
    nested = images / "a" / "b"
    nested.mkdir(parents=True)
    (nested / "weights").write_bytes(b"1")
    assert run("sign", nested, "--as", "checkpoint", "--key", "release") == 0 and run("verify", images) == 0
    (nested / "weights").write_bytes(b"2")
    assert run("verify", images) == 1 and "1 changed: weights" in run.out


def test_a_folder_that_cannot_be_read_is_refused(
    run: Console, store: Path, images: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert run("sign", *images.glob("*.png"), "--key", "release") == 0
    (images / "closed").mkdir()
    real = os.scandir

    def scan(path: str) -> object:
        if Path(path).name == "closed":
            raise PermissionError(13, "Permission denied", str(path))
        return real(path)

    monkeypatch.setattr(os, "scandir", scan)
    assert run("verify", images) == 1 and "it cannot be read: Permission denied" in run.out


def test_revocation(run: Console, store: Path, images: Path, tmp_path: Path, ring: KeyRing) -> None:
    """What a compromised key signed stands only if a log, under another key, held it before."""
    log, pem = tmp_path / "log", tmp_path / "auditor.pem"
    ring.new("auditor", "ed25519", ["log"])
    pem.write_text(ring.find("auditor").pem)
    assert run("trust", "add", store, pem, "--name", "auditor", "--for", "log", "--root", "root") == 0
    assert run("log", "new", log, "--origin", "example.org/images", "--key", "auditor") == 0
    assert "example.org/images+" in run.out
    assert run("sign", *images.glob("*.png"), "--key", "release") == 0
    kept, bare = (
        Entry(kind="release", name=name, subject=sha256((images / name).read_bytes()).hexdigest())
        for name in ("0.png", "1.png")
    )
    sidecar = sha256((images / "0.png.sg.json").read_bytes()).hexdigest()
    keeper = signer_of(ring, "auditor", "log")
    Log(log).append([kept.model_copy(update={"sidecar": sidecar}), bare], keeper)
    soon = (datetime.now(UTC) + timedelta(minutes=4)).strftime(
        TIME
    )  # after what was signed, within clocks' differences
    early = ("--reason", "superseded", "--root", "root", "--at")
    assert run("trust", "revoke", store, "release", *early, "2099-01-01T00:00:00Z") == 2 and "not come" in run.err
    assert run("trust", "revoke", store, "release", *early, soon) == 0
    assert run("verify", images) == 0
    late = ("--reason", "compromised", "--root", "root", "--at", soon)
    assert run("trust", "revoke", store, "release", *late) == 0
    assert run("verify", images) == 1 and "3 revoked" in run.out
    assert run("verify", images, "--log", log) == 1 and "1 byte-exact" in run.out and "2 revoked" in run.out
    proof = tmp_path / "proof"
    assert run("log", "prove", log, "--file", images / "0.png.sg.json", "--out", proof) == 0
    assert run("log", "verify", proof, "--json") == 0 and json.loads(run.out)["entry"]["sidecar"] == sidecar
    assert run("sign", images / "0.png", "--key", "release", "--run", "a thief's claim") == 0  # of a logged image
    assert run("verify", images, "--log", log) == 1 and "3 revoked" in run.out
    assert run("trust", "show") == 0 and "compromised" in run.out
    assert run("trust", "show", "--json") == 0
    assert json.loads(run.out)["keys"][0]["revoked"]["reason"] == "compromised"


def test_trust_on_another_machine(run: Console, store: Path, images: Path, tmp_path: Path, monkeypatch) -> None:
    assert run("sign", *images.glob("*.png"), "--key", "release") == 0
    monkeypatch.setenv("SECUREGAN_TRUST", str(tmp_path / "elsewhere"))
    assert run("verify", images, "--trust", store) == 2 and "not pinned here" in run.err
    pem = store.with_suffix(".root.pem")
    assert run("verify", images, "--trust", store, "--root", pem) == 0
    assert run("trust", "pin", pem) == 0 and run("verify", images, "--trust", store) == 0
    assert run("verify", images, "--trust", store, "--root", tmp_path / "release.pem") == 2 and "refused" in run.err
    store.write_bytes(store.read_bytes()[:-1])
    assert run("trust", "show", store) == 2 and run("verify", images, "--trust", store) == 2 and "refused" in run.err
    assert run("log", "show", tmp_path, "--trust", store) == 2 and "refused" in run.err


def test_a_fault_of_the_program_is_no_verdict(run: Console, store: Path, images: Path, monkeypatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise RecursionError

    monkeypatch.setattr("securegan.security.provenance.inspection.inspect", fail)
    assert run("verify", images) == 70 and "RecursionError" in run.err


@pytest.fixture
def log(run: Console, store: Path, ring: KeyRing, tmp_path: Path, images: Path) -> Path:
    path = tmp_path / "log"
    assert run("log", "new", path, "--origin", "example.org/images", "--key", "release") == 0
    entries = [Entry(kind="training", name="=cmd()", details={"epochs": 3}), Entry(kind="release", subject="a" * 64)]
    Log(path).append(entries, signer_of(ring, "release", "log"))
    return path


def test_log_show_and_export(run: Console, log: Path, tmp_path: Path) -> None:
    assert run("log", "show", log) == 0 and "epochs: 3" in run.out and "aaaaaaaaaaaaaaaa" in run.out
    assert run("log", "show", log, "--kind", "release", "--json") == 0
    assert [json.loads(line)["index"] for line in run.out.splitlines()] == [1]
    assert (
        run("log", "show", log, "--last", "1", "--json") == 0 and '"release"' in run.out and '"training"' not in run.out
    )
    assert run("log", "export", log, "--out", tmp_path / "log.json") == 0 and "2 entries" in run.out
    found = json.loads((tmp_path / "log.json").read_text())
    assert [entry["kind"] for entry in found["entries"]] == ["training", "release"]
    assert found["checkpoint"].startswith("example.org/images\n2\n") and found["verifier"].startswith(
        "example.org/images+"
    )
    assert run("log", "export", log, "--out", tmp_path / "log.csv") == 0
    rows = list(csv.reader((tmp_path / "log.csv").open()))
    assert rows[0][0] == "index" and rows[1][3] == "'=cmd()" and rows[2][4] == "a" * 64
    assert run("log", "export", log, "--out", tmp_path / "log.xml") == 2
    (log / "log.jsonl").write_bytes((log / "log.jsonl").read_bytes().replace(b"aaaa", b"bbbb"))
    assert run("log", "export", log, "--out", tmp_path / "bad.json") == 2 and not (tmp_path / "bad.json").exists()


def test_a_kind_that_no_entry_has_is_a_mistake(run: Console, log: Path) -> None:
    """And not an empty table."""
    assert run("log", "show", log, "--kind", "realease") == 2 and "release" in run.err
    assert get_args(Kind) == KINDS


def test_an_export_has_the_checkpoint_of_its_entries(
    run: Console, log: Path, tmp_path: Path, ring, monkeypatch
) -> None:
    """Also where another process adds to the log at that moment."""

    def add(*arguments: object, **options: object) -> object:
        Log(log).append([Entry(kind="alert")], signer_of(ring, "release", "log"))
        return audit(*arguments, **options)

    monkeypatch.setattr("securegan.security.provenance.exporting.audit", add)
    assert run("log", "export", log, "--out", tmp_path / "log.json") == 0
    found = json.loads((tmp_path / "log.json").read_text())
    assert len(found["entries"]) == 3 and found["checkpoint"].startswith("example.org/images\n3\n")


def test_log_verify_and_prove(run: Console, log: Path, tmp_path: Path, ring: KeyRing) -> None:
    old = tmp_path / "old"
    old.write_bytes((log / "checkpoint").read_bytes())
    kept = (log / "log.jsonl").read_bytes()
    assert run("log", "verify", log) == 0 and "entries: 2" in run.out
    Log(log).append([Entry(kind="alert")], signer_of(ring, "release", "log"))
    assert run("log", "verify", log, "--known", old, "--json") == 0 and json.loads(run.out)["entries"] == 3
    assert run("log", "prove", log, "--entry", 1, "--out", tmp_path / "p") == 0
    assert run("log", "verify", tmp_path / "p", "--json") == 0 and json.loads(run.out)["entry"]["subject"] == "a" * 64
    assert run("log", "prove", log, "--since", old, "--out", tmp_path / "c") == 0
    assert run("log", "verify", tmp_path / "c", "--known", old) == 0 and "from: 2" in run.out
    assert run("log", "verify", tmp_path / "c") == 2
    assert run("log", "prove", log, "--entry", 3, "--out", tmp_path / "q") == 2 and "no entry 3" in run.err
    assert run("log", "prove", log, "--file", old, "--out", tmp_path / "q") == 2 and "no entry about" in run.err
    (tmp_path / "p").write_bytes((tmp_path / "p").read_bytes().replace(b"index 1", b"index 2"))
    assert run("log", "verify", tmp_path / "p") == 1
    (log / "checkpoint").write_bytes(old.read_bytes())
    (log / "log.jsonl").write_bytes(kept)
    assert run("log", "verify", log) == 1 and "truncated to 2 entries, where 3 were signed before" in run.out
    assert run("log", "verify", log, "--json") == 1 and not json.loads(run.out)["acceptable"]


def test_no_secret_is_printed_or_left_outside_the_key_ring(
    run: Console, log: Path, images: Path, ring: KeyRing, tmp_path: Path
) -> None:
    assert run("sign", images, "--as", "checkpoint", "--key", "release") == 0
    secrets = [ring.secret(key) for key in ring]
    said = run.out + run.err
    for path in tmp_path.rglob("*"):
        if path.is_file() and path.suffix != ".key":
            data = path.read_bytes() + said.encode()
            for secret in secrets:
                assert secret not in data and secret.hex().encode() not in data


def test_the_commands_load_no_torch() -> None:
    """A script that verifies starts at once."""
    code = (
        "import sys; import securegan.security.provenance.inspection, securegan.cli.provenance.verifying, "
        "securegan.security.provenance.proofs, securegan.security.provenance.pixels; "
        "print([name for name in ('torch', 'lightning', 'pytorch_lightning', 'numpy', 'hydra') if name in sys.modules])"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"


def test_an_interruption_is_one_word(run: Console, store: Path, images: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("securegan.security.provenance.inspection.inspect", interrupted)
    assert run("verify", images) == 130 and run.err == "securegan: interrupted\n"
