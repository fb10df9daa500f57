"""What somebody may hide in the files of a run, an export or a data set: nothing of it is run, and nothing leaks."""

import json
import os
import pickle
import shutil
import struct
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch
from omegaconf import OmegaConf
from safetensors.torch import load_file, save_file

from securegan.data.decode import BadImage
from securegan.data.sources import open_files
from securegan.errors import ConfigError, UserError
from securegan.release.settings import Security
from securegan.runs.export import export_generator, load_generator
from securegan.runs.sampling import load_module
from securegan.security.provenance.files import digest_file

Office = Any


class Canary:
    """Sings (makes a file) when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.path),)


@pytest.fixture
def copied(run: Path, tmp_path: Path) -> Path:
    return shutil.copytree(run, tmp_path / "run")


def _reindex(run: Path) -> None:
    """Checksums of what lies there now, as an attacker would write them."""
    path = run / "checkpoints" / "index.json"
    index = json.loads(path.read_text())
    for entry in index.values():
        for about in (entry, entry["weights"]):
            file = run / "checkpoints" / about["file"]
            about["sha256"] = digest_file(file) if file.exists() else ""
    path.write_text(json.dumps(index))


def test_the_canary_sings(tmp_path: Path) -> None:
    pickle.loads(pickle.dumps(Canary(tmp_path / "sung")))
    assert (tmp_path / "sung").exists()


@pytest.mark.parametrize("form", ["pickle", "torch"])
@pytest.mark.parametrize("file", ["epoch-0001.ckpt", "epoch-0001.safetensors"])
def test_pickled_code_in_a_checkpoint_never_runs(copied: Path, tmp_path: Path, form: str, file: str) -> None:
    content = {"state_dict": {"a": Canary(tmp_path / "sung")}}
    path = copied / "checkpoints" / file
    with path.open("wb") as out:
        pickle.dump(content, out) if form == "pickle" else torch.save(content, out)
    _reindex(copied)
    if file.endswith(".ckpt"):
        load_module(copied)  # which does not so much as open it
    else:
        with pytest.raises(UserError, match="does not hold the weights"):
            load_module(copied)
    assert not (tmp_path / "sung").exists()


@pytest.mark.parametrize("key", ["_target_", "_class_path", "_instantiator", "class_path"])
def test_a_checkpoint_that_names_code_runs_none(
    copied: Path, tmp_path: Path, key: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Lightning once called what a checkpoint's hyper-parameters named."""
    tensors = load_file(copied / "checkpoints" / "epoch-0001.safetensors")
    named = {key: "os.mkdir", "args": str(tmp_path / "sung"), "path": str(tmp_path / "sung")}
    save_file(
        tensors, copied / "checkpoints" / "epoch-0001.safetensors", metadata={k: str(v) for k, v in named.items()}
    )
    hyper = {"state_dict": tensors, "hyper_parameters": named, "hparams_name": "kwargs", key: named}
    torch.save(hyper, copied / "checkpoints" / "epoch-0001.ckpt")
    _reindex(copied)
    load_module(copied)
    assert not (tmp_path / "sung").exists()


@pytest.mark.parametrize("target", ["os.mkdir", "securegan.run.os.mkdir", "torch.load", "securegan.cli.main.os.system"])
@pytest.mark.parametrize("group", ["model", "data", "detector.mahalanobis", "attack", "security"])
def test_a_target_in_a_runs_configuration_is_refused(copied: Path, tmp_path: Path, target: str, group: str) -> None:
    config = OmegaConf.load(copied / "config.yaml")
    OmegaConf.update(config, group, {"_target_": target, "path": str(tmp_path / "sung")}, merge=False)
    OmegaConf.save(config, copied / "config.yaml")
    with pytest.raises(ConfigError, match="is not allowed"):
        load_module(copied)
    assert not (tmp_path / "sung").exists()


@pytest.mark.parametrize(
    "target", ["os.mkdir", "torch.load", "securegan.runs.checkpoints.sha256", "securegan.cli.main"]
)
def test_a_target_in_an_exports_configuration_is_refused(run: Path, tmp_path: Path, target: str) -> None:
    export_generator(run, tmp_path / "out", "safetensors")
    path = tmp_path / "out" / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "target": target}))
    with pytest.raises(UserError, match=r"not allowed|not a generative model"):
        load_generator(tmp_path / "out")


def _lying(header: bytes, size: int | None = None, data: bytes = bytes(16)) -> bytes:
    return struct.pack("<Q", len(header) if size is None else size) + header + data


LIES = {
    "a header longer than the file": _lying(b'{"a":{}}', 2**40),
    "a header longer than memory": _lying(b"{}", 2**63 - 1),
    "no header": _lying(b""),
    "a header that is no JSON": _lying(b"\xff\xfe{"),
    "offsets beyond the end": _lying(b'{"a":{"dtype":"F32","shape":[9],"data_offsets":[0,36]}}'),
    "offsets backwards": _lying(b'{"a":{"dtype":"F32","shape":[4],"data_offsets":[16,0]}}'),
    "a shape beyond its offsets": _lying(b'{"a":{"dtype":"F32","shape":[1000000],"data_offsets":[0,16]}}'),
    "a shape beyond 64 bits": _lying(b'{"a":{"dtype":"F32","shape":[4294967296,4294967296],"data_offsets":[0,16]}}'),
    "overlapping tensors": _lying(
        b'{"a":{"dtype":"F32","shape":[4],"data_offsets":[0,16]},"b":{"dtype":"F32","shape":[2],"data_offsets":[8,16]}}'
    ),
    "an unknown type": _lying(b'{"a":{"dtype":"PY","shape":[4],"data_offsets":[0,16]}}'),
    "a negative shape": _lying(b'{"a":{"dtype":"F32","shape":[-4],"data_offsets":[0,16]}}'),
    "bytes behind the last tensor": _lying(b'{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}'),
    "nothing": b"",
}


@pytest.mark.parametrize("lie", list(LIES))
def test_a_lying_safetensors_header_is_one_sentence(copied: Path, lie: str) -> None:
    (copied / "checkpoints" / "epoch-0001.safetensors").write_bytes(LIES[lie])
    _reindex(copied)
    with pytest.raises(UserError, match="does not hold the weights"):
        load_module(copied)


def test_a_tensor_of_another_shape_is_one_sentence(copied: Path) -> None:
    path = copied / "checkpoints" / "epoch-0001.safetensors"
    tensors = load_file(path)
    tensors["attached.mahalanobis.threshold"] = torch.zeros(3, dtype=torch.float64)
    save_file(tensors, path)
    _reindex(copied)
    with pytest.raises(UserError, match="does not hold the weights"):
        load_module(copied)


def test_a_zip_bomb_among_the_data_is_refused_unread(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with zipfile.ZipFile(tmp_path / "bomb.zip", "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("bomb.png", bytes(64 * 2**20))
        file.writestr("fine.png", b"small")
    assert (tmp_path / "bomb.zip").stat().st_size < 100_000
    files = open_files(str(tmp_path / "bomb.zip"))
    assert [entry.name for entry in files.images] == ["fine.png"]
    assert "times as long" in files.refused[0].reason


def test_an_entry_that_lies_of_its_length_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "lying.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("a.png", os.urandom(3_000_000))
    content = bytearray(path.read_bytes())
    place = content.rindex(b"PK\x01\x02")
    struct.pack_into("<I", content, place + 24, 1000)  # the unpacked size in the directory
    path.write_bytes(content)
    files = open_files(str(path))
    with pytest.raises(BadImage):
        files.read("a.png")


def test_no_secret_lies_in_checkpoints_configuration_or_logs(
    run: Path, tmp_path: Path, office: Office, caplog: pytest.LogCaptureFixture
) -> None:
    from securegan.release.release import Order, Source, release
    from securegan.release.verification import summarise
    from securegan.runs.sampling import load_watched

    keys = Security(encrypt=True).find_keys()
    found = load_watched(run)
    out = tmp_path / "out"
    released = release(found.module, found.detectors, Source.of(found.folder, found.entry), out, 3, keys, Order())
    summarise(released, out, keys)
    export_generator(run, tmp_path / "export", "safetensors", signer=keys.signer)
    told = "".join([repr(keys), repr(keys.signer), repr(released), repr(vars(Security())), str(keys.ring), caplog.text])
    secrets = [path.read_bytes() for path in office.ring.folder.glob("*.key")]
    assert len(secrets) == 2
    for secret in secrets:
        assert secret.hex() not in told and repr(secret) not in told
        for path in [*out.rglob("*"), *(tmp_path / "export").rglob("*"), *run.rglob("*")]:
            if path.is_file():
                content = path.read_bytes()
                assert secret not in content and secret.hex().encode() not in content, path
    with pytest.raises((TypeError, pickle.PicklingError)):
        pickle.dumps(keys)
