"""Checkpoints that must be signed by a trusted key, and exports."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from securegan.errors import UserError
from securegan.release.settings import Security
from securegan.runs.checkpoints import sha256
from securegan.runs.export import export_generator, load_generator
from securegan.runs.sampling import load_module
from securegan.security.errors import PolicyError
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
        entry["weights"]["sha256"] = sha256(path)
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
