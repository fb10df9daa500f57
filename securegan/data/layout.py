"""What the names in a source mean: splits, classes and groups of images that belong together.

Class folders or flat, within ``train/``, ``val/`` and ``test/`` or without them, all in one wrapping folder or not.
Classes are the sorted names of the class folders; a single class folder tells nothing apart and counts as unlabelled.
The ``metadata.json`` of the Deepfake Detection Challenge (``{"clip.mp4": {"label": "FAKE", "original": "clip2.mp4"}}``)
gives the groups, so that a real clip and the fakes made from it stay in one split, and the labels where there are no
class folders.
"""

import json
from collections.abc import Callable
from hashlib import blake2b
from pathlib import PurePosixPath
from typing import Any

import numpy as np

from securegan.data.bad_files import BadFile
from securegan.data.batch import SPLITS
from securegan.data.decode import BadImage, Decoded, decode
from securegan.data.sources import SIDECAR, Entry, Files
from securegan.errors import UserError

# Name, bytes and sidecar of an image file; why it is refused, or nothing.
Gate = Callable[[str, bytes, bytes | None], str]

SPLIT_NAMES = {
    "train": "train",
    "training": "train",
    "calibrate": "calibrate",
    "calibration": "calibrate",
    "val": "validate",
    "valid": "validate",
    "validate": "validate",
    "validation": "validate",
    "test": "test",
    "testing": "test",
}


class ImageFiles:
    """The images of a source in a fixed order, with labels, given splits and groups as far as the source gives them."""

    def __init__(self, files: Files, size: int, channels: int, gate: Gate | None = None) -> None:
        """Args:
        size, channels: of the decoded images.
        gate: asked of every image before it is decoded here.
        Raises UserError where the source holds no image.
        """
        self.files, self.size, self.channels, self.gate = files, size, channels, gate
        self.sidecars = {entry.name for entry in files.sidecars}
        self.refused = list(files.refused)
        entries = sorted(_unwrapped(files.images), key=lambda item: item[0])
        if not entries:
            reported = f" ('{files.refused[0].name}': {files.refused[0].reason})" if files.refused else ""
            raise UserError(
                f"data.path='{files.path}' holds no image that can be read{reported}: expected PNG, JPEG, WebP or BMP "
                f"files, flat or in class folders."
            )
        has_splits = _has_splits([parts for parts, _ in entries])
        metadata = _read_metadata(files)
        rows = [_Row(parts, entry, has_splits, metadata) for parts, entry in entries]
        self.class_names = tuple(sorted({row.label for row in rows if row.label is not None}))
        if len(self.class_names) < 2:
            self.class_names = ()
        rows = [row for row in rows if self._belongs(row, has_splits)]
        self.names = [row.entry.name for row in rows]
        codes = {name: code for code, name in enumerate(self.class_names)}
        self.labels = np.array([codes.get(str(row.label), -1) for row in rows], dtype=np.int64)
        self.given = np.array([SPLITS.index(row.split) if row.split else -1 for row in rows], dtype=np.int64)
        groups = {name: code for code, name in enumerate(sorted({row.group for row in rows if row.group}))}
        self.groups = np.array([groups[row.group] if row.group else -1 for row in rows], dtype=np.int64)

    def _belongs(self, row: "_Row", has_splits: bool) -> bool:
        """Whether an image has the split and the class that the others have; otherwise it is reported."""
        if has_splits and row.split is None:
            self.refused.append(BadFile(row.entry.name, "outside the split folders"))
        elif self.class_names and row.label is None:
            self.refused.append(BadFile(row.entry.name, "in no class folder"))
        else:
            return True
        return False

    def __len__(self) -> int:
        return len(self.names)

    def load(self, position: int) -> Decoded:
        """Decode image ``position``; raises BadImage. Safe in several threads at once."""
        name = self.names[position]
        content = self.files.read(name)
        if self.gate is not None:
            beside = name + SIDECAR
            if reason := self.gate(name, content, self.files.read(beside) if beside in self.sidecars else None):
                raise BadImage(reason)
        return decode(content, name, self.size, self.channels)


def listing_key(files: Files, gate_key: str = "") -> str:
    """A digest of all names, sizes and stamps: it changes whenever a file is added, removed or changed.

    Args: gate_key: of the gate that the images pass, which reads sidecars too.
    """
    hasher = blake2b(gate_key.encode(), digest_size=16)
    refused = [Entry(file.name, file.reason) for file in files.refused]
    for entry in sorted(files.images + files.metadata + refused + (files.sidecars if gate_key else [])):
        hasher.update(f"{entry.name}\x00{entry.stamp}\x00".encode("utf-8", "surrogateescape"))
    return hasher.hexdigest()


class _Row:
    """One image's split, label and group as its path and the metadata give them."""

    def __init__(
        self, parts: tuple[str, ...], entry: Entry, has_splits: bool, metadata: dict[str, dict[str, Any]]
    ) -> None:
        self.entry = entry
        self.split = SPLIT_NAMES.get(parts[0].lower()) if has_splits and len(parts) > 1 else None
        folders = parts[1:-1] if self.split else parts[:-1]
        stem = PurePosixPath(parts[-1]).stem
        # frames of a clip are often named after it with a number: clip_007.jpg
        clip = stem if stem in metadata else stem.rpartition("_")[0]
        about = metadata.get(clip, {})
        self.label: str | None = folders[0] if folders else about.get("label")
        self.group: str | None = (about.get("original") or clip) if about else None


def _unwrapped(images: list[Entry]) -> list[tuple[tuple[str, ...], Entry]]:
    """Every image's path as parts, without folders that wrap everything (unless they name a split)."""
    paths = [(tuple(image.name.split("/")), image) for image in images]
    while paths and len({parts[0] for parts, _ in paths}) == 1:
        if paths[0][0][0].lower() in SPLIT_NAMES or any(len(parts) == 1 for parts, _ in paths):
            break
        paths = [(parts[1:], image) for parts, image in paths]
    return paths


def _has_splits(paths: list[tuple[str, ...]]) -> bool:
    """Whether the top folders are splits: all of them, or train beside another split.

    A lone ``train`` beside other folders is taken for a class (of vehicles), as data sets have it.
    """
    tops = {parts[0].lower() for parts in paths if len(parts) > 1}
    splits = {SPLIT_NAMES[top] for top in tops if top in SPLIT_NAMES}
    if not splits:
        return False
    return all(top in SPLIT_NAMES for top in tops) or ("train" in splits and len(splits) > 1)


def _read_metadata(files: Files) -> dict[str, dict[str, Any]]:
    """``{clip: {"label": ..., "original": clip or None}}`` of every challenge metadata file, by name without suffix."""
    clips: dict[str, dict[str, Any]] = {}
    for entry in files.metadata:
        try:
            content = json.loads(files.read(entry.name))
        except (BadImage, ValueError, RecursionError) as error:
            raise UserError(
                f"'{entry.name}' of {files.path} cannot be read ({error}): mend it or take it away, since without it "
                f"images of one clip could fall into several splits."
            ) from error
        if not isinstance(content, dict):
            continue
        for name, about in content.items():
            if isinstance(about, dict) and isinstance(about.get("label"), str):
                original = about.get("original")
                original = PurePosixPath(original).stem if isinstance(original, str) and original else None
                clips[PurePosixPath(name).stem] = {"label": about["label"], "original": original}
    return clips
