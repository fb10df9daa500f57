"""Files and folders as a user names them, each verified as what it is."""

import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from securegan.errors import UserError
from securegan.security.provenance import c2pa, sidecar
from securegan.security.provenance.authenticity import Logged
from securegan.security.provenance.directory import MANIFEST, MAX_DEPTH, verify_directory
from securegan.security.provenance.files import MAX_IMAGE, read_regular
from securegan.security.provenance.sidecar import SUFFIX, Verification
from securegan.security.provenance.statement import DirectoryOrigin
from securegan.security.provenance.trust import PURPOSES, Purpose, Trust
from securegan.security.provenance.verdicts import Verdict

IMAGES = (".png", ".jpg", ".jpeg", ".webp", ".bmp")
LINK = "a link: verify what it leads to"


@dataclass(frozen=True)
class Finding:
    """One file or signed directory, and what was found of it."""

    path: Path
    found: Verification
    directory: bool = False

    @property
    def other_name(self) -> str | None:
        """The name under which an image was signed, where it is not the file's: nothing else ties the two."""
        if self.directory or self.found.statement is None:
            return None
        name = self.found.statement.subjects[0].name
        return None if name == self.path.name else name


def inspect(
    paths: Iterable[Path],
    trust: Trust,
    *,
    purpose: Purpose | None = None,
    logged: Logged | None = None,
    anchors: str | None = None,
) -> Iterator[Finding]:
    """Verify images by their sidecars, and folders by their manifests where they have one.

    In a folder, every image needs a sidecar, unless a manifest of images above it vouches for it, and every sidecar its
    image; folders in it are verified by manifests of their own too; links and what cannot be read are refused; files of
    other kinds are passed over.
    ``purpose``: what a folder that is named must have been signed for, whose manifest then vouches.
    ``anchors``: certificates (PEM) by which every image's C2PA manifest must be trusted, beside its sidecar.
    Raises UserError for a path that is not there, or has nothing to verify.
    """
    check = partial(_file, trust=trust, logged=logged, anchors=anchors)
    for path in paths:
        if not os.path.lexists(path):
            raise UserError(f"there is no {path}.")
        if path.is_dir() and not path.is_symlink():
            empty = True
            for finding in _folder(path, trust, purpose, check, logged, every=anchors is not None):
                empty = False
                yield finding
            if empty:
                raise UserError(f"there is no image in {path}.")
        else:
            yield check(_image_of(path))


def _folder(
    folder: Path,
    trust: Trust,
    purpose: Purpose | None,
    check: Callable[[Path], Finding],
    logged: Logged | None,
    every: bool,
) -> Iterator[Finding]:
    """``every``: whatever vouches for an image, it is checked."""
    unread: list[OSError] = []
    vouching: list[Path] = []
    for at, folders, names in os.walk(folder, onerror=unread.append):
        folders.sort()
        place, known = Path(at), set(names)
        for name in folders:
            if (place / name).is_symlink():
                yield Finding(place / name, Verification(Verdict.REFUSED, LINK), directory=True)
        if folders and len(place.parts) - len(folder.parts) >= MAX_DEPTH:
            folders.clear()
            yield Finding(place, Verification(Verdict.REFUSED, f"more than {MAX_DEPTH} folders within"), directory=True)
        asked = purpose if place == folder else None
        if asked is not None or MANIFEST in known:
            found = _directory(place, trust, asked, logged)
            yield Finding(place, found, directory=True)
            if found.verdict.acceptable and (asked is not None or _holds_images(found)):
                vouching.append(place)
        vouched = not every and any(place.is_relative_to(each) for each in vouching)
        for name in sorted(known - {MANIFEST}):
            path = place / name
            if name.endswith(SUFFIX):
                if name.removesuffix(SUFFIX) not in known:
                    yield check(_image_of(path))
            elif name + SUFFIX in known or (not vouched and path.suffix.lower() in IMAGES):
                yield check(path)
    for error in unread:
        found = Verification(Verdict.REFUSED, f"it cannot be read: {error.strerror}")
        yield Finding(Path(error.filename), found, directory=True)


def _holds_images(found: Verification) -> bool:
    """Whether what was signed is a folder of images; who signs a checkpoint does not speak of images in it."""
    origin = None if found.statement is None else found.statement.origin
    return isinstance(origin, DirectoryOrigin) and origin.holds == "image"


def _directory(folder: Path, trust: Trust, purpose: Purpose | None, logged: Logged | None) -> Verification:
    found: Verification = Verification(Verdict.WRONG_PURPOSE)
    for each in (purpose,) if purpose else PURPOSES:
        found = verify_directory(folder, trust, each, logged=logged)
        if found.verdict is not Verdict.WRONG_PURPOSE:
            break
    return found


def _file(path: Path, trust: Trust, logged: Logged | None, anchors: str | None) -> Finding:
    if path.is_symlink():
        return Finding(path, Verification(Verdict.REFUSED, LINK))
    found = sidecar.verify_file(path, trust, logged=logged)
    if anchors is not None and found.verdict.acceptable:
        try:
            credentials = c2pa.read(read_regular(path, MAX_IMAGE), anchors)
        except OSError as error:
            credentials = c2pa.Credentials(f"none: {error.strerror}")
        if not credentials.trusted:
            found = replace(found, verdict=Verdict.REFUSED, reason=f"its C2PA manifest: {credentials.state}")
        elif credentials.origin != found.origin:
            found = replace(found, verdict=Verdict.REFUSED, reason="its C2PA manifest says different things")
    return Finding(path, found)


def _image_of(path: Path) -> Path:
    return path.with_name(path.name.removesuffix(SUFFIX)) if path.name.endswith(SUFFIX) else path
