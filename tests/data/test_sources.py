"""What a folder or a zip is taken to say: files, splits, classes and groups."""

import json
import os
import stat
import struct
import zipfile
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from securegan.data.batch import SPLITS
from securegan.data.decode import BadImage
from securegan.data.layout import ImageFiles, listing_key
from securegan.data.sources import open_files
from securegan.errors import ConfigError, UserError


def picture(seed: int) -> bytes:
    buffer = BytesIO()
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (8, 8, 3), dtype=np.uint8)).save(buffer, "PNG")
    return buffer.getvalue()


def as_folder(root: Path, files: dict[str, bytes]) -> Path:
    for name, data in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(data)
    return root


def as_zip(path: Path, files: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return path


def images(path: Path) -> ImageFiles:
    return ImageFiles(open_files(str(path)), 8, 3)


def read(names: list[str], root: Path, extra: dict[str, bytes] | None = None) -> ImageFiles:
    return images(as_folder(root, {name: picture(seed) for seed, name in enumerate(names)} | (extra or {})))


def given(found: ImageFiles) -> list[str | None]:
    return [SPLITS[code] if code >= 0 else None for code in found.given]


def test_class_folders_give_sorted_labels(tmp_path: Path) -> None:
    found = read(["dog/1.png", "cat/1.png", "cat/deep/2.png"], tmp_path)
    assert found.class_names == ("cat", "dog")
    assert found.labels.tolist() == [0, 0, 1]
    assert given(found) == [None] * 3


def test_flat_images_and_a_single_class_folder_are_unlabelled(tmp_path: Path) -> None:
    for root, names in (("flat", ["1.png", "2.png"]), ("one", ["cat/1.png", "cat/2.png"])):
        found = read(names, tmp_path / root)
        assert found.class_names == () and found.labels.tolist() == [-1, -1]


@pytest.mark.parametrize("validate", ["val", "valid", "validate", "validation", "Val"])
@pytest.mark.parametrize("wrap", ["", "archive/", "a/b/"])
def test_split_folders_are_respected(tmp_path: Path, validate: str, wrap: str) -> None:
    names = [f"{wrap}{split}/{label}/1.png" for split in ("train", validate, "test") for label in ("cat", "dog")]
    found = read(names, tmp_path)
    assert sorted(zip(given(found), found.labels.tolist(), strict=True)) == [
        (split, label) for split in ("test", "train", "validate") for label in (0, 1)
    ]


def test_flat_images_within_splits_are_unlabelled(tmp_path: Path) -> None:
    found = read(["train/1.png", "test/1.png"], tmp_path)
    assert found.class_names == () and sorted(map(str, given(found))) == ["test", "train"]


def test_a_lone_train_folder_wraps_but_train_beside_other_folders_is_a_class(tmp_path: Path) -> None:
    assert given(read(["train/cat/1.png", "train/dog/1.png"], tmp_path / "split")) == ["train", "train"]
    found = read(["train/1.png", "bus/1.png"], tmp_path / "vehicles")
    assert found.class_names == ("bus", "train") and given(found) == [None, None]


def test_strays_are_reported(tmp_path: Path) -> None:
    found = read(["train/cat/1.png", "train/dog/1.png", "test/cat/1.png", "more/x.png", "train/y.png"], tmp_path)
    assert set(found.refused) == {("more/x.png", "outside the split folders"), ("train/y.png", "in no class folder")}
    assert len(found) == 3


def test_hidden_files_and_other_files_are_passed_over(tmp_path: Path) -> None:
    extra = {"__MACOSX/._1.png": b"", ".git/2.png": b"", ".3.png": b"", "notes.txt": b"", "labels.csv": b""}
    for found in (
        read(["1.png"], tmp_path / "folder", extra),
        images(as_zip(tmp_path / "a.zip", {"1.png": picture(0)} | extra)),
    ):
        assert found.names == ["1.png"] and not found.refused


def test_zip_and_folder_hold_the_same_images(tmp_path: Path) -> None:
    names = [f"top/{split}/{label}/{n}.png" for split in ("test", "train") for label in "ab" for n in (1, 2)]
    files = {name: picture(seed) for seed, name in enumerate(names)}
    folder, archive = images(as_folder(tmp_path / "folder", files)), images(as_zip(tmp_path / "a.zip", files))
    assert folder.names == archive.names
    for attribute in ("labels", "given", "groups"):
        assert np.array_equal(getattr(folder, attribute), getattr(archive, attribute))
    for position in range(len(folder)):
        assert np.array_equal(folder.load(position).pixels, archive.load(position).pixels)


@pytest.mark.parametrize("name", ["../evil.png", "/evil.png", "C:/evil.png", "a/../../evil.png", "..\\evil.png"])
def test_names_that_leave_the_archive_are_refused(tmp_path: Path, name: str) -> None:
    found = images(as_zip(tmp_path / "a.zip", {"good.png": picture(0), name: picture(1)}))
    assert found.names == ["good.png"]
    assert [file.reason for file in found.refused] == ["its name leads out of the archive"]


def test_links_in_a_zip_are_refused(tmp_path: Path) -> None:
    path = as_zip(tmp_path / "a.zip", {"good.png": picture(0)})
    link = zipfile.ZipInfo("link.png")
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr(link, "/etc/passwd")
    found = images(path)
    assert found.names == ["good.png"] and found.refused == [("link.png", "a link, which is not followed")]


def test_links_and_pipes_in_a_folder_are_not_opened(tmp_path: Path) -> None:
    outside = as_folder(tmp_path / "outside", {"1.png": picture(1)})
    root = as_folder(tmp_path / "root", {"good.png": picture(0)})
    (root / "link.png").symlink_to(outside / "1.png")
    (root / "linked").symlink_to(outside)
    (root / "loop").symlink_to(root)
    os.mkfifo(root / "pipe.png")
    found = images(root)
    assert found.names == ["good.png"]
    assert {file.name for file in found.refused} == {"link.png", "linked", "loop"}


def test_encrypted_entries_are_refused(tmp_path: Path) -> None:
    path = as_zip(tmp_path / "a.zip", {"good.png": picture(0), "locked.png": picture(1)})
    data = bytearray(path.read_bytes())
    for magic, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):  # the flags of the second entry, in both places
        place = data.index(magic, data.index(magic) + 1) + offset
        data[place : place + 2] = struct.pack("<H", 1)
    path.write_bytes(data)
    found = images(path)
    assert found.names == ["good.png"] and found.refused == [("locked.png", "encrypted")]


def test_challenge_metadata_groups_clips_and_labels_flat_images(tmp_path: Path) -> None:
    metadata = {
        "real.mp4": {"label": "REAL", "split": "train"},
        "fake1.mp4": {"label": "FAKE", "original": "real.mp4"},
        "fake2.mp4": {"label": "FAKE", "original": "real.mp4"},
        "other.mp4": {"label": "REAL"},
    }
    names = ["fake1_000.jpg", "fake1_001.jpg", "fake2.jpg", "other.jpg", "real.jpg"]
    found = read(names, tmp_path, {"metadata.json": json.dumps(metadata).encode()})
    assert found.class_names == ("FAKE", "REAL")
    assert found.labels.tolist() == [0, 0, 0, 1, 1]
    real, other = found.groups[4], found.groups[3]
    assert found.groups.tolist() == [real, real, real, other, real] and real != other


def test_other_metadata_is_ignored_and_broken_metadata_is_refused(tmp_path: Path) -> None:
    found = read(["1.png"], tmp_path / "other", {"metadata.json": b'{"license": "CC0", "files": {"a": 1}}'})
    assert found.groups.tolist() == [-1]
    with pytest.raises(UserError, match=r"metadata\.json"):
        read(["1.png"], tmp_path / "broken", {"metadata.json": b'{"real.mp4": '})


def test_the_key_follows_every_change(tmp_path: Path) -> None:
    root = as_folder(tmp_path / "root", {"1.png": picture(0), "2.png": picture(1)})
    keys = [listing_key(open_files(str(root)))]
    os.utime(root / "1.png", ns=(1, 1))
    keys.append(listing_key(open_files(str(root))))
    (root / "3.png").write_bytes(picture(2))
    keys.append(listing_key(open_files(str(root))))
    (root / "3.png").rename(root / "4.png")
    keys.append(listing_key(open_files(str(root))))
    (root / "metadata.json").write_text("{}")
    keys.append(listing_key(open_files(str(root))))
    assert len(set(keys)) == len(keys)
    assert listing_key(open_files(str(root))) == keys[-1]


def test_a_missing_path_names_the_key_and_the_near_match(tmp_path: Path) -> None:
    (tmp_path / "cifar10.zip").touch()
    with pytest.raises(ConfigError, match=r"data\.path='.*cifr10\.zip' does not exist.*Did you mean 'cifar10\.zip'"):
        open_files(str(tmp_path / "cifr10.zip"))


def test_what_is_neither_folder_nor_zip_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.tar").write_bytes(b"no archive")
    with pytest.raises(ConfigError, match="neither a folder nor a zip file"):
        open_files(str(tmp_path / "a.tar"))
    (tmp_path / "broken.ZIP").write_bytes(b"PK\x03\x04 cut short")
    with pytest.raises(ConfigError, match=r"broken\.ZIP' is damaged or not a zip file"):
        open_files(str(tmp_path / "broken.ZIP"))


def test_a_missing_path_is_not_taken_for_any_neighbour(tmp_path: Path) -> None:
    (tmp_path / "opt").mkdir()
    with pytest.raises(ConfigError, match=r"of images\.$"):
        open_files(str(tmp_path / "nope"))


def test_a_source_without_images_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="holds no image"):
        read([], tmp_path, {"readme.txt": b"no image"})


def test_a_zip_entry_with_a_wrong_checksum_is_a_bad_image(tmp_path: Path) -> None:
    path = as_zip(tmp_path / "a.zip", {"1.png": picture(0)})
    data = bytearray(path.read_bytes())
    data[60] ^= 0xFF
    path.write_bytes(data)
    with pytest.raises(BadImage, match="cannot be read from the archive"):
        images(path).load(0)
