"""Torchvision's sets: its files become the store, a folder stands in for them, and no network is one clear sentence."""

import struct
from pathlib import Path

import numpy as np
import pytest
import torch
import torchvision
from PIL import Image

from securegan.data.torchvision_sets import CIFAR10, MNIST
from securegan.errors import UserError

NOWHERE = "http://127.0.0.1:9/"  # the discard port: nothing listens there


def write_mnist(raw: Path, train: int, test: int) -> dict[str, np.ndarray]:
    """Files in the format of the originals, with random pixels; returns the pixels of both parts."""
    raw.mkdir(parents=True)
    random, pixels = np.random.default_rng(0), {}
    for part, n in (("train", train), ("t10k", test)):
        pixels[part] = random.integers(0, 256, (n, 28, 28), dtype=np.uint8)
        labels = (np.arange(n) % 10).astype(np.uint8)
        header = struct.pack(">IIII", 0x803, n, 28, 28)
        (raw / f"{part}-images-idx3-ubyte").write_bytes(header + pixels[part].tobytes())
        (raw / f"{part}-labels-idx1-ubyte").write_bytes(struct.pack(">II", 0x801, n) + labels.tobytes())
    return pixels


def test_the_test_set_is_the_test_split(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pixels = write_mnist(tmp_path / "downloads/MNIST/raw", 100, 30)
    module = MNIST(tmp_path, 0, size=28, batch_size=8)
    assert (module.spec.name, module.spec.channels, module.spec.num_classes) == ("mnist", 1, 10)
    assert [module.split_size(split) for split in ("train", "calibrate", "validate", "test")] == [80, 10, 10, 30]
    batch = module.chunk("test", 0, 30)
    assert sorted(batch.index.tolist()) == list(range(100, 130))
    expected = torch.from_numpy(pixels["t10k"][batch.index.numpy() - 100]) / 255
    assert torch.equal(batch.images[:, 0], expected)
    assert batch.labels.tolist() == [(index - 100) % 10 for index in batch.index.tolist()]

    monkeypatch.setattr("torchvision.datasets.MNIST", None)  # prepared once, torchvision is not asked again
    assert MNIST(tmp_path, 0, size=28, batch_size=8).spec == module.spec


def test_images_are_resized_as_files_are(tmp_path: Path) -> None:
    pixels = write_mnist(tmp_path / "downloads/MNIST/raw", 100, 30)
    image = MNIST(tmp_path, 0, size=32).chunk("test", 0, 1)
    expected = Image.fromarray(pixels["t10k"][int(image.index) - 100]).resize((32, 32), Image.Resampling.BILINEAR)
    assert np.array_equal(image.images[0, 0].numpy(), np.asarray(expected, dtype=np.float32) / 255)


def test_no_network_is_one_sentence_that_names_the_way_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torchvision.datasets.MNIST, "mirrors", [NOWHERE])
    monkeypatch.setattr(torchvision.datasets.CIFAR10, "url", NOWHERE + "cifar.tar.gz")
    for kind, name in ((MNIST, "MNIST"), (CIFAR10, "CIFAR10")):
        with pytest.raises(UserError, match=rf"^{name} could not be downloaded .*data\.path") as caught:
            kind(tmp_path, 0).setup()
        assert "\n" not in str(caught.value)
        assert not list((tmp_path / "data").glob("*.partial"))


def test_a_damaged_download_is_named(tmp_path: Path) -> None:
    raw = tmp_path / "downloads/MNIST/raw"
    write_mnist(raw, 100, 30)
    path = raw / "train-images-idx3-ubyte"
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(UserError, match=r"is damaged there \(shape"):
        MNIST(tmp_path, 0).setup()


def test_a_path_replaces_the_download(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torchvision.datasets.CIFAR10", None)
    for n in range(40):
        folder = tmp_path / "mine" / ("cat" if n % 2 else "dog")
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((8, 8, 3), n, dtype=np.uint8)).save(folder / f"{n}.png")
    module = CIFAR10(tmp_path / "cache", 0, path=str(tmp_path / "mine"), size=8)
    assert module.spec.name == "cifar10" and module.spec.class_names == ("cat", "dog")
