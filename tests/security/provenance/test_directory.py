"""A signed directory: these files, all of them, and nothing else."""

import os
import shutil
from datetime import timedelta
from hashlib import sha256
from pathlib import Path

import pytest

from securegan.errors import UserError
from securegan.security.errors import PolicyError
from securegan.security.provenance import directory, dsse, sidecar, statement, strict_json
from securegan.security.provenance.directory import MANIFEST, MAX_DEPTH, copy_verified, sign_directory, verify_directory
from securegan.security.provenance.inspection import inspect
from securegan.security.provenance.statement import DirectoryOrigin
from securegan.security.provenance.trust import revoke
from securegan.security.provenance.verdicts import Verdict


@pytest.fixture
def folder(tmp_path: Path, party, lab) -> Path:
    folder = tmp_path / "export"
    (folder / "deep" / "er").mkdir(parents=True)
    for name in ("config.json", "weights.safetensors", "deep/a", "deep/er/b"):
        (folder / name).write_bytes(name.encode() * 100)
    sign_directory(folder, party.signer, DirectoryOrigin(time=lab.day(0), holds="checkpoint", seed=1))
    return folder


@pytest.fixture
def verdict(folder: Path, party, lab):
    """Of the folder; whatever it is, a copy is made where it is acceptable, and nowhere else."""

    def judge(trust=party.trust, purpose="checkpoint") -> Verdict:
        to = folder.parent / "copy"
        found = verify_directory(folder, trust, purpose, now=lab.now)
        if found.verdict.acceptable:
            copied = copy_verified(folder, to, trust, purpose, now=lab.now)
            assert copied == found.statement and verify_directory(to, trust, purpose, now=lab.now) == found
            shutil.rmtree(to)
        else:
            with pytest.raises(PolicyError, match=str(found.verdict)):
                copy_verified(folder, to, trust, purpose, now=lab.now)
        assert not to.exists() and not list(folder.parent.glob(".copy*"))
        return found.verdict

    return judge


def said(folder: Path) -> dict:
    """The statement of a manifest."""
    envelope = dsse.read((folder / MANIFEST).read_bytes(), statement.PAYLOAD, "it")
    return strict_json.parse(envelope.unverified, limit=10**6)


def test_a_directory_as_it_was_signed(folder: Path, verdict, party, lab) -> None:
    assert verdict() is Verdict.BYTE_EXACT
    found = verify_directory(folder, party.trust, "checkpoint", now=lab.now)
    names = ["config.json", "deep/a", "deep/er/b", "weights.safetensors"]
    assert found.statement is not None and [subject.name for subject in found.statement.subjects] == names
    sign_directory(folder, party.signer, DirectoryOrigin(time=lab.day(0), holds="checkpoint"))
    assert verdict() is Verdict.BYTE_EXACT


def test_every_byte_of_a_manifest_flipped_and_every_length_is_rejected(folder: Path, party, lab) -> None:
    data = (folder / MANIFEST).read_bytes()
    for place in range(0, len(data), 5):
        for changed in (data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :], data[:place]):
            (folder / MANIFEST).write_bytes(changed)
            found = verify_directory(folder, party.trust, "checkpoint", now=lab.now).verdict
            assert found in (Verdict.REFUSED, Verdict.UNKNOWN_SIGNER)


def test_changed_missing_and_extra_files(folder: Path, verdict, party, lab) -> None:
    (folder / "deep" / "a").write_bytes(b"other")
    (folder / "config.json").unlink()
    (folder / "deep" / "new").touch()
    assert verdict() is Verdict.MODIFIED
    found = verify_directory(folder, party.trust, "checkpoint", now=lab.now)
    assert (found.changed, found.missing, found.extra) == (("deep/a",), ("config.json",), ("deep/new",))
    with pytest.raises(PolicyError, match="1 changed: deep/a; 1 missing: config"):
        found.require(folder)
    for number in range(500):
        (folder / f"extra-{number}").touch()
    assert verdict() is Verdict.MODIFIED


def test_swapped_files_are_modified(folder: Path, verdict) -> None:
    (folder / "deep" / "a").rename(folder / "x")
    (folder / "deep" / "er" / "b").rename(folder / "deep" / "a")
    (folder / "x").rename(folder / "deep" / "er" / "b")
    assert verdict() is Verdict.MODIFIED


def test_links_pipes_and_extra_manifests_in_a_signed_directory_are_refused(folder: Path, verdict, tmp_path) -> None:
    outside = tmp_path / "outside"
    (folder / "deep" / "a").rename(outside)
    (folder / "deep" / "a").symlink_to(outside)  # the same bytes, elsewhere
    assert verdict() is Verdict.MODIFIED
    (folder / "deep" / "a").unlink()
    outside.rename(folder / "deep" / "a")
    assert verdict() is Verdict.BYTE_EXACT
    (folder / "link").symlink_to("config.json")
    assert verdict() is Verdict.MODIFIED
    (folder / "link").unlink()
    (folder / "elsewhere").symlink_to(tmp_path)
    assert verdict() is Verdict.MODIFIED
    (folder / "elsewhere").unlink()
    os.mkfifo(folder / "pipe")
    assert verdict() is Verdict.MODIFIED
    (folder / "pipe").unlink()
    (folder / "deep" / MANIFEST).touch()
    assert verdict() is Verdict.MODIFIED


def test_very_many_folders_within_folders_are_refused(folder: Path, verdict, party, lab) -> None:
    """In one sentence, and not by the interpreter's own limit."""
    (folder / "deep" / "er" / Path(*["x"] * MAX_DEPTH)).mkdir(parents=True)
    assert verdict() is Verdict.MODIFIED
    with pytest.raises(UserError, match=f"more than {MAX_DEPTH}"):
        sign_directory(folder, party.signer, DirectoryOrigin(time=lab.day(0), holds="checkpoint"))
    found = {each.found.verdict for each in inspect([folder], party.trust)}
    assert found == {Verdict.MODIFIED, Verdict.REFUSED}


def test_links_are_not_signed(folder: Path, party, lab, tmp_path: Path) -> None:
    (folder / "link").symlink_to("config.json")
    with pytest.raises(UserError, match="'link' is a link"):
        sign_directory(folder, party.signer, DirectoryOrigin(holds="run"))
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="no file in it"):
        sign_directory(tmp_path / "empty", party.signer, DirectoryOrigin(holds="run"))
    with pytest.raises(UserError, match="cannot be signed"):
        sign_directory(tmp_path / "none", party.signer, DirectoryOrigin(holds="run"))


def test_wrong_purposes_and_unknown_signers(folder: Path, verdict, lab, tmp_path: Path) -> None:
    assert verdict(purpose="dataset") is Verdict.WRONG_PURPOSE
    assert verdict(trust=lab.party(purposes=["image", "dataset"]).trust) is Verdict.WRONG_PURPOSE
    assert verdict(trust=lab.party(seed=9).trust) is Verdict.UNKNOWN_SIGNER
    (folder / MANIFEST).unlink()
    assert verdict() is Verdict.UNSIGNED


def test_the_sidecar_of_an_image_is_no_manifest(folder: Path, verdict, party, lab, image: bytes) -> None:
    (folder / MANIFEST).write_bytes(sidecar.sign(image, "config.json", party.signer, lab.origin()))
    assert verdict() is Verdict.REFUSED


@pytest.mark.parametrize(
    "name", ["../outside", "/etc/hostname", "deep/../config.json", "./config.json", "deep//a", MANIFEST]
)
def test_lying_names_in_a_manifest_are_refused(name: str, folder: Path, verdict, party) -> None:
    """Signed by a key that is trusted: the reader does not leave the folder for anybody."""
    (folder.parent / "outside").write_bytes(b"deep/a" * 100)
    value = said(folder)
    value["subject"][1]["name"] = name
    (folder / MANIFEST).write_bytes(dsse.sign(statement.PAYLOAD, strict_json.write(value), party.signer))
    assert verdict() is Verdict.REFUSED


def test_a_file_named_twice_is_refused(folder: Path, verdict, party) -> None:
    value = said(folder)
    value["subject"].append(value["subject"][0])
    (folder / MANIFEST).write_bytes(dsse.sign(statement.PAYLOAD, strict_json.write(value), party.signer))
    assert verdict() is Verdict.REFUSED


def test_what_is_loaded_is_what_was_checked(folder: Path, party, lab, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file changed after it was copied changes nothing; one changed before it was read is not accepted."""
    real, copied = directory._copied, []

    manifest = (folder / MANIFEST).read_bytes()

    def swap(path: Path, to: Path) -> str:
        digest = real(path, to)
        copied.append(path)
        path.write_bytes(b"changed after its check")
        (folder / MANIFEST).unlink(missing_ok=True)
        (folder / MANIFEST).symlink_to("/etc/hostname")
        return digest

    monkeypatch.setattr(directory, "_copied", swap)
    copy_verified(folder, folder.parent / "copy", party.trust, "checkpoint", now=lab.now)
    assert len(copied) == 4 and (folder.parent / "copy" / "deep" / "a").read_bytes() == b"deep/a" * 100
    assert (folder.parent / "copy" / MANIFEST).read_bytes() == manifest
    (folder / MANIFEST).unlink()
    (folder / MANIFEST).write_bytes(manifest)
    assert verify_directory(folder, party.trust, "checkpoint", now=lab.now).verdict is Verdict.MODIFIED


def test_a_copy_goes_to_a_new_folder(folder: Path, party, lab) -> None:
    with pytest.raises(UserError, match="exists already"):
        copy_verified(folder, folder, party.trust, "checkpoint", now=lab.now)
    with pytest.raises(UserError, match="cannot be copied"):
        copy_verified(folder, folder / "none" / "copy", party.trust, "checkpoint", now=lab.now)


def test_a_compromised_key_stands_only_for_manifests_that_were_logged(folder: Path, party, lab) -> None:
    stolen = lab.trust(*revoke([party.key], party.key.key.kid, "compromised", lab.now))
    logged = {sha256((folder / MANIFEST).read_bytes()).hexdigest(): lab.now - timedelta(days=1)}.get
    assert verify_directory(folder, stolen, "checkpoint", now=lab.now).verdict is Verdict.REVOKED
    assert verify_directory(folder, stolen, "checkpoint", now=lab.now, logged=logged).verdict is Verdict.BYTE_EXACT
