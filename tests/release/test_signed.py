"""Checkpoints that must be signed by a trusted key, and exports."""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from omegaconf import OmegaConf
from safetensors.torch import load_file, save_file

from securegan.errors import UserError
from securegan.experiment import trust_of
from securegan.release.intake import calibrated
from securegan.release.release import Source
from securegan.release.settings import Security
from securegan.run import take_requirement
from securegan.runs import sampling
from securegan.runs.export import export_generator, load_generator
from securegan.runs.sampling import load_module, load_watched
from securegan.runs.signed import require_trusted
from securegan.security.errors import PolicyError
from securegan.security.provenance.files import digest_file
from securegan.security.provenance.signing import Signer

Office = Any
STRANGER = Signer(bytes(range(32)))


@pytest.fixture
def signed(make_run: Callable[..., Path], tmp_path: Path, office: Office) -> Path:
    return make_run(tmp_path / "signed", signer=office.signer)


def test_a_signed_checkpoint_is_loaded(signed: Path, office: Office) -> None:
    module = load_module(signed, trust=office.trust())
    assert torch.equal(module.images_seen, load_module(signed).images_seen)


def test_an_unsigned_one_and_a_strangers_are_refused(
    run: Path, make_run: Callable[..., Path], tmp_path: Path, office: Office
) -> None:
    with pytest.raises(PolicyError, match="signatures are required and it has none"):
        load_module(run, trust=office.trust())
    with pytest.raises(PolicyError, match="not in the trust store"):
        load_module(make_run(tmp_path / "strange", signer=STRANGER), trust=office.trust())


@pytest.mark.parametrize("name", ["config.yaml", "data.json"])
def test_what_a_model_is_rebuilt_with_is_signed_too(signed: Path, office: Office, name: str) -> None:
    path = signed / name
    path.write_text(path.read_text().replace("digits", "digitz", 1))
    with pytest.raises(PolicyError, match=f"{name} is refused"):
        load_module(signed, trust=office.trust())


def test_other_weights_under_a_signed_name_are_refused(signed: Path, office: Office) -> None:
    """The index is not signed: whoever can write there can give it the checksum of other weights."""
    path = signed / "checkpoints" / "epoch-0001.safetensors"
    tensors = load_file(path)
    tensors["attached.mahalanobis.threshold"].fill_(1e9)
    save_file(tensors, path)
    index = json.loads((signed / "checkpoints" / "index.json").read_text())
    for entry in index.values():
        entry["weights"]["sha256"] = digest_file(path)
    (signed / "checkpoints" / "index.json").write_text(json.dumps(index))
    load_module(signed)
    with pytest.raises(PolicyError, match="not what was signed"):
        load_module(signed, trust=office.trust())


def test_the_signature_of_another_run_does_not_count(
    signed: Path, make_run: Callable[..., Path], tmp_path: Path, office: Office
) -> None:
    other = make_run(tmp_path / "other", "seed=1")
    shutil.copy(signed / "checkpoints" / "epoch-0001.sg.json", other / "checkpoints")
    with pytest.raises(PolicyError, match="is refused"):
        load_module(other, trust=office.trust())


def test_every_byte_of_a_checkpoints_signature_counts(signed: Path, office: Office) -> None:
    path, trust = signed / "checkpoints" / "epoch-0001.sg.json", office.trust()
    whole = path.read_bytes()
    for position in range(0, len(whole), 37):
        path.write_bytes(whole[:position] + bytes([whole[position] ^ 1]) + whole[position + 1 :])
        with pytest.raises(PolicyError):
            load_module(signed, trust=trust)


def test_an_image_key_does_not_vouch_for_weights(signed: Path, office: Office) -> None:
    trust = office.trust()
    trust.keys = {kid: key.model_copy(update={"purposes": ["image"]}) for kid, key in trust.keys.items()}
    with pytest.raises(PolicyError, match="is for image, not for checkpoint"):
        load_module(signed, trust=trust)


def test_a_signed_export_is_loaded_from_a_checked_copy(run: Path, tmp_path: Path, office: Office) -> None:
    out = tmp_path / "out"
    export_generator(run, out, "safetensors", signer=office.signer)
    z, y = torch.randn(2, 6), torch.tensor([1, 2])
    assert torch.equal(load_generator(out, office.trust())(z, y), load_generator(out)(z, y))
    config = json.loads((out / "config.json").read_text())
    (out / "config.json").write_text(json.dumps({**config, "seed": 7}))
    load_generator(out)
    with pytest.raises(PolicyError, match=r"1 changed: config\.json"):
        load_generator(out, office.trust())


def test_an_export_with_a_file_more_or_without_signature_is_refused(run: Path, tmp_path: Path, office: Office) -> None:
    out = tmp_path / "out"
    export_generator(run, out, "safetensors", signer=office.signer)
    (out / "more.bin").touch()
    with pytest.raises(PolicyError, match="1 extra"):
        load_generator(out, office.trust())
    (out / "more.bin").unlink()
    (out / "manifest.sg.json").unlink()
    with pytest.raises(PolicyError, match="no manifest"):
        load_generator(out, office.trust())


def test_a_release_names_what_was_loaded(
    signed: Path, make_run: Callable[..., Path], tmp_path: Path, office: Office
) -> None:
    """A run that trains on meanwhile, or somebody who writes there, changes nothing of what a sidecar says."""
    other = make_run(tmp_path / "other", "seed=1")
    named = {name: digest_file(signed / name) for name in ("config.yaml", "data.json")}
    weights = digest_file(signed / "checkpoints" / "epoch-0001.safetensors")
    found = load_watched(signed, trust=office.trust())
    shutil.rmtree(signed / "checkpoints")
    shutil.copytree(other / "checkpoints", signed / "checkpoints")
    for name in named:
        (signed / name).write_text("{}")
    source = Source.of(found.folder, found.entry)
    assert (source.model, source.config, source.dataset) == (weights, named["config.yaml"], named["data.json"])


@pytest.mark.parametrize("name", ["config.yaml", "data.json"])
def test_what_was_checked_is_what_a_model_is_built_by(
    signed: Path, office: Office, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    check = sampling.verified_weights

    def then_changed(*arguments: object) -> object:
        weights = check(*arguments)  # type: ignore[arg-type]
        (signed / name).write_text("{}")
        return weights

    monkeypatch.setattr(sampling, "verified_weights", then_changed)
    assert load_module(signed, trust=office.trust()).latent_dim == 6


@pytest.mark.parametrize("named", [False, True])
def test_the_environment_asks_for_signatures_whatever_a_run_says(
    run: Path, signed: Path, office: Office, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, named: bool
) -> None:
    export_generator(run, tmp_path / "export", "safetensors")
    if named:
        shutil.copy(office.store, tmp_path / "store.json")
        office.store.unlink()
    monkeypatch.setenv("SECUREGAN_REQUIRE_SIGNED", str(tmp_path / "store.json") if named else "1")
    config = OmegaConf.load(run / "config.yaml")
    assert not config.security and trust_of(config) is not None
    for load in (load_module, calibrated, lambda run: export_generator(run, tmp_path / "out", "safetensors")):
        with pytest.raises(PolicyError, match="signatures are required"):
            load(run)
    with pytest.raises(PolicyError, match="no manifest"):
        load_generator(tmp_path / "export")
    load_module(signed)
    monkeypatch.setenv("SECUREGAN_REQUIRE_SIGNED", "yes")
    with pytest.raises(UserError, match="the trust store yes cannot be read"):
        load_module(signed)
    monkeypatch.setenv("SECUREGAN_REQUIRE_SIGNED", "0")
    load_module(run)


def test_the_command_line_of_a_run_asks_for_signatures(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("SECUREGAN_REQUIRE_SIGNED", raising=False)
    monkeypatch.chdir(tmp_path)
    for given, asked in {
        ("ckpt=a", "-m"): None,
        ("ckpt=a", "--require-signed", "-m"): "1",
        ("--trust", "store.json", "ckpt=a", "-m"): str(tmp_path / "store.json"),
    }.items():
        monkeypatch.setenv("SECUREGAN_REQUIRE_SIGNED", "")
        assert take_requirement(list(given)) == ["ckpt=a", "-m"]
        assert os.environ["SECUREGAN_REQUIRE_SIGNED"] == (asked or "")
    assert take_requirement(["--require-signed"]) == []  # where a store was named before
    assert os.environ["SECUREGAN_REQUIRE_SIGNED"] == str(tmp_path / "store.json")


def test_a_run_that_must_be_signed_and_would_not_count_is_not_trained(office: Office) -> None:
    require_trusted(office.signer, office.trust())
    with pytest.raises(PolicyError, match="would sign nothing: give security=signed"):
        require_trusted(None, office.trust())
    with pytest.raises(PolicyError, match="would not count: unknown signer"):
        require_trusted(STRANGER, office.trust())
    trust = office.trust()
    trust.keys = {kid: key.model_copy(update={"purposes": ["image"]}) for kid, key in trust.keys.items()}
    with pytest.raises(PolicyError, match="would not count: wrong purpose"):
        require_trusted(office.signer, trust)


def test_settings_find_their_keys_before_anything_is_trained(office: Office) -> None:
    assert Security().find_keys().signer.kid == office.signing.kid
    assert not Security().find_keys().recipients and len(Security(encrypt=True).find_keys().recipients) == 1
    with pytest.raises(PolicyError, match=r"has no key relase.*release"):
        Security(sign_with="relase").find_keys()
    with pytest.raises(UserError, match="encrypt_to"):
        Security(encrypt=True, encrypt_to=())
    office.ring.revoke("release", "compromised")
    with pytest.raises(PolicyError, match="revoked"):
        Security().find_keys()


def test_signatures_are_required_only_where_asked(office: Office) -> None:
    assert Security().trust() is None
    assert Security(require_signed=True).trust().keys  # type: ignore[union-attr]
    with pytest.raises(UserError, match="cannot be read"):
        Security(require_signed=True, trust="/nowhere").trust()
