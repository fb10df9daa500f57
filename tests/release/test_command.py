"""``securegan release`` and ``securegan intake`` as a user has them, killed for good and started again."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from omegaconf import OmegaConf
from PIL import Image

from securegan.cli import main
from securegan.runs.export import load_generator
from securegan.security.envelope.files import open_bytes
from securegan.security.envelope.recipients import Ring
from securegan.security.keys.ring import KeyRing
from securegan.security.provenance.auditing import audit
from securegan.security.provenance.log import Log, read_entry
from securegan.security.provenance.sidecar import judge, sidecar_of, sign, verify_file
from securegan.security.provenance.signing import Signer
from securegan.security.provenance.statement import ImageOrigin
from securegan.security.provenance.trust import change_store, revoke

Office = Any
Command = Callable[..., Any]


class Done(NamedTuple):
    returncode: int
    stdout: str
    stderr: str


@pytest.fixture
def securegan(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., Done]:
    """The command, in this process."""

    def run(*arguments: object) -> Done:
        monkeypatch.setattr(sys, "argv", ["securegan", *map(str, arguments)])
        code = 0
        try:
            main()
        except SystemExit as end:
            code = int(end.code or 0)
        return Done(code, *capsys.readouterr())

    return run


def test_killed_by_the_system_and_given_again(securegan: Command, run: Path, tmp_path: Path, office: Office) -> None:
    """SIGKILL while images appear; then every image is once in the log, signed, and sealed for the reader alone."""
    out = tmp_path / "out"
    arguments = ["release", run, "--n", 90, "--out", out, "--encrypt-to", "reader"]
    command = [sys.executable, "-m", "securegan", *map(str, arguments)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    deadline = time.monotonic() + 200
    while len(list((out / "images").glob("[0-9]*"))) < 6 and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.002)
    assert process.poll() is None, process.stderr.read() if process.stderr else ""
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    done = securegan(*arguments)
    assert done.returncode == 0, done.stderr
    assert "90 images" in done.stdout and "images a second" in done.stdout and "encrypt" in done.stdout
    trust, log = office.trust(), Log(out / "log")
    found = audit(log, trust)
    entries = [read_entry(line) for line in log.lines(found.checkpoint)]
    numbers = [entry.details["number"] for entry in entries if entry.kind in ("release", "review")]
    assert numbers == list(range(90))
    for entry in entries:
        if entry.kind == "release":
            sealed = [out / "images" / f"{entry.name}{suffix}" for suffix in (".sge", ".sg.json.sge")]
            data, sidecar = (open_bytes(path.read_bytes(), [Ring(office.ring)]) for path in sealed)
            assert judge(data, sidecar, trust).verdict.acceptable
    assert not list(out.rglob("*.png")) and not list(out.rglob("*.sg.json"))  # nothing plain touched the disk
    assert office.ring.open(office.ring.folder).find("reader").sealed > 0
    again = securegan(*arguments)
    assert again.returncode == 0 and len(list(log.lines(log.checkpoint([office.signer.public])[0]))) == len(entries)


def test_a_plain_release_verifies(securegan: Command, run: Path, tmp_path: Path, office: Office) -> None:
    out = tmp_path / "out"
    assert securegan("release", run, "--n", 12, "--out", out, "--class", "3", "--on-flagged", "reject").returncode == 0
    images = sorted((out / "images").glob("*.png"))
    assert images and all(verify_file(path, office.trust()).verdict == "byte-exact" for path in images)
    assert not list((out / "review").iterdir())
    found = verify_file(images[0], office.trust()).origin
    assert found is not None and found.index == int(images[0].stem) and found.source == "trainedAlgorithmicMedia"
    done = securegan("verify", out / "images")
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_log_under_a_key_of_its_own_speaks_for_images_of_a_compromised_one(
    securegan: Command, run: Path, tmp_path: Path, office: Office
) -> None:
    keeper = Signer(office.ring.secret(office.ring.new("keeper", "ed25519", ["log"])))
    office.believe("keeper", keeper, "log")
    out = tmp_path / "out"
    done = securegan("release", run, "--n", 12, "--out", out, "--on-flagged", "reject", "--log-with", "keeper")
    assert done.returncode == 0, done.stderr
    assert audit(Log(out / "log"), office.trust()).checkpoint.size > 1
    time.sleep(1.1)  # the log's time is in seconds
    kid, now = office.signer.kid, datetime.now(UTC)
    change_store(office.store, office.root, office.memory, lambda keys: revoke(keys, kid, "compromised", now))
    verify = ("verify", out / "images", "--trust", office.store)
    assert securegan(*verify).returncode == 1
    assert securegan(*verify, "--log", out / "log").returncode == 0
    first, other = sorted((out / "images").glob("*.png"))[:2]
    origin = ImageOrigin(software="forged", time=now.strftime("%Y-%m-%dT%H:%M:%SZ"))
    for forged in (first, other):  # the thief signs what was released, and what was not
        if forged == other:
            Image.new("L", (32, 32), 7).save(forged)
        kept = sidecar_of(forged).read_bytes()
        sidecar_of(forged).write_bytes(sign(forged.read_bytes(), forged.name, office.signer, origin))
        done = securegan(*verify, "--log", out / "log")
        assert done.returncode == 1 and "1 revoked" in done.stdout
        sidecar_of(forged).write_bytes(kept)


@pytest.mark.parametrize("sealed", [False, True])
def test_a_reviewed_image_is_approved(
    securegan: Command, run: Path, tmp_path: Path, office: Office, sealed: bool
) -> None:
    out, to = tmp_path / "out", ["--encrypt-to", "reader"] if sealed else []
    assert securegan("release", run, "--n", 40, "--out", out, *to).returncode == 0
    first, second, *_ = sorted(int(path.name[:6]) for path in (out / "review").iterdir())
    done = securegan("approve", out, first, second)
    assert done.returncode == 0 and "2 images approved by release" in done.stdout, done.stderr
    assert (
        "0 images approved" in (again := securegan("approve", out, second)).stdout
        and "1 approved before" in again.stdout
    )
    done = securegan("log", "show", out / "log", "--kind", "approval", "--json")
    assert [json.loads(line)["details"]["number"] for line in done.stdout.splitlines()] == [first, second]
    if sealed:  # a whole release is opened by one command
        assert securegan("open", out / "images", "--out", tmp_path / "opened").returncode == 0
    done = securegan("verify", tmp_path / "opened" if sealed else out / "images", "--log", out / "log")
    assert done.returncode == 0 and " byte-exact" in done.stdout, done.stdout + done.stderr
    assert securegan("release", run, "--n", 50, "--out", out, *to).returncode == 0
    assert "40 were asked for" in securegan("release", run, "--n", 40, "--out", out, *to).stdout


def test_a_sealed_image_is_approved_after_its_reader_was_rotated(
    securegan: Command, run: Path, tmp_path: Path, office: Office
) -> None:
    out, pem = tmp_path / "out", tmp_path / "theirs.pem"
    theirs = KeyRing.open(tmp_path / "theirs").new("theirs", "x25519")
    pem.write_text(theirs.pem)
    to = ["--encrypt-to", "reader", pem]
    assert securegan("release", run, "--n", 40, "--out", out, *to).returncode == 0
    office.ring.rotate("reader")
    first, *_ = sorted(int(path.name[:6]) for path in (out / "review").iterdir())
    done = securegan("approve", out, first)
    assert done.returncode == 2 and f"sealed for the key {theirs.kid}" in done.stderr and "PEM" in done.stderr
    assert "1 image approved by release" in securegan("approve", out, first, *to).stdout
    assert securegan("release", run, "--n", 45, "--out", out, *to).returncode == 0
    assert securegan("open", out / "images", "--out", tmp_path / "opened").returncode == 0
    assert securegan("verify", tmp_path / "opened", "--log", out / "log").returncode == 0


def test_an_approval_under_a_compromised_key_stands_by_the_log(
    securegan: Command, run: Path, tmp_path: Path, office: Office
) -> None:
    keeper = Signer(office.ring.secret(office.ring.new("keeper", "ed25519", ["log"])))
    office.believe("keeper", keeper, "log")
    out = tmp_path / "out"
    assert securegan("release", run, "--n", 40, "--out", out, "--log-with", "keeper").returncode == 0
    number = min(int(path.name[:6]) for path in (out / "review").iterdir())
    assert securegan("approve", out, number).returncode == 2  # the log does not go over to another key
    assert securegan("approve", out, number, "--log-with", "keeper").returncode == 0
    time.sleep(1.1)  # the log's time is in seconds
    kid, now = office.signer.kid, datetime.now(UTC)
    change_store(office.store, office.root, office.memory, lambda keys: revoke(keys, kid, "compromised", now))
    image = out / "images" / f"{number:06d}.png"
    assert securegan("verify", image).returncode == 1
    assert securegan("verify", image, "--log", out / "log").returncode == 0


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["approve", "OUT", "3"], "release.json cannot be read"),
        (["approve", "OUT"], "NUMBER"),
        (["approve", "OUT", "-3"], "-3 is not the number of an image"),
        (["approve", "OUT", "x"], "x is not the number of an image"),
        (["release", "RUN", "--out", "OUT"], "--n"),
        (["release", "RUN", "--n", "0", "--out", "OUT"], "0 is not a positive number"),
        (["release", "RUN", "--n", "3", "--out", "OUT", "--sign-with", "nobody"], "has no key nobody"),
        (["release", "RUN", "--n", "3", "--out", "OUT", "--sign-with", "reader"], "cannot sign"),
        (["release", "RUN", "--n", "3", "--out", "OUT", "--encrypt-to", "release"], "cannot seal"),
        (["release", "RUN", "--n", "3", "--out", "OUT", "--require-signed"], "signatures are required and it has none"),
        (["intake", "PNG"], "give --run RUN"),
        (["intake", "--run", "RUN"], "nothing to judge"),
        (["intake", "PNG", "--run", "RUN", "--surrogate", "RUN"], "--surrogate is for --audit alone"),
        (["intake", "PNG", "--run", "RUN", "--false-positive-rate", "2"], "not a rate between 0 and 1"),
        (["intake", "/nowhere.png", "--run", "RUN", "--false-positive-rate", "0.1"], "/nowhere.png cannot be read"),
    ],
)
def test_mistakes_are_one_sentence(
    securegan: Command, run: Path, tmp_path: Path, office: Office, arguments: list[str], said: str
) -> None:
    places = {"RUN": str(run), "OUT": str(tmp_path / "out"), "PNG": str(tmp_path / "a.png")}
    done = securegan(*(places.get(argument, argument) for argument in arguments))
    assert done.returncode == 2 and said in done.stderr and len(done.stderr.strip().splitlines()) == 1, done.stderr
    assert not (tmp_path / "out").exists()


def test_intake_tells_scripts(securegan: Command, run: Path, tmp_path: Path, office: Office) -> None:
    out = tmp_path / "out"
    securegan("release", run, "--n", 4, "--out", out)
    (out / "images" / "broken.png").write_bytes(b"no image")
    done = securegan("intake", out / "images", "--require-signed", "--json")
    told = [json.loads(line) for line in done.stdout.splitlines()]
    assert done.returncode == 1 and {row["accepted"] for row in told} == {True, False}
    assert next(row for row in told if not row["accepted"])["reason"] == "unsigned"
    (out / "images" / "broken.png").unlink()
    assert securegan("intake", out / "images", "--require-signed").returncode == 0


def test_commands_that_load_a_run_ask_for_its_signature(
    securegan: Command, run: Path, make_run: Callable[..., Path], tmp_path: Path, office: Office
) -> None:
    signed = make_run(tmp_path / "signed", signer=office.signer)
    for command in (["sample", "--n", "1"], ["export", "--sign-with", "release"]):
        name, *further = command
        refused = securegan(name, run, "--out", tmp_path / name, "--require-signed", *further)
        assert refused.returncode == 2 and "signatures are required" in refused.stderr
        assert securegan(name, signed, "--out", tmp_path / name, "--require-signed", *further).returncode == 0
    assert "signatures are required" in securegan("audit", run, "--require-signed").stderr
    (tmp_path / "planted").mkdir()  # says that it is an attack on a run that is signed
    shutil.copy(signed / "data.json", tmp_path / "planted")
    config = OmegaConf.load(signed / "config.yaml")
    OmegaConf.save({**config, "ckpt": str(signed)}, tmp_path / "planted" / "config.yaml")
    planted = securegan("audit", tmp_path / "planted", "--require-signed")
    assert planted.returncode == 2 and "an attack has none" in planted.stderr
    again = securegan("attack", run, "--out", tmp_path / "attacked", "--require-signed", "attack=fgsm")
    assert again.returncode == 2 and "signatures are required" in again.stderr
    load_generator(tmp_path / "export", office.trust())
    assert securegan("verify", tmp_path / "export").returncode == 0
