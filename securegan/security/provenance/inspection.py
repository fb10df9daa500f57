"""Files and folders as a user names them, each verified as what it is."""

import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from securegan.errors import UserError
from securegan.security.provenance import c2pa, sidecar
from securegan.security.provenance.authenticity import Logged
from securegan.security.provenance.directory import MANIFEST, verify_directory
from securegan.security.provenance.files import MAX_IMAGE, read_regular
from securegan.security.provenance.sidecar import SUFFIX, Verification
from securegan.security.provenance.trust import PURPOSES, Purpose, Trust
from securegan.security.provenance.verdicts import Verdict

IMAGES = (".png", ".jpg", ".jpeg", ".webp", ".bmp")


@dataclass(frozen=True)
class Finding:
    """One file or signed directory, and what was found of it."""

    path: Path
    found: Verification
    directory: bool = False


def inspect(
    paths: Iterable[Path],
    trust: Trust,
    *,
    purpose: Purpose | None = None,
    logged: Logged | None = None,
    anchors: str | None = None,
) -> Iterator[Finding]:
    """Verify images by their sidecars, and folders by their manifests where they have one.

    In a folder, every image needs a sidecar, unless the folder's manifest vouches for it, and every sidecar its image;
    other files are passed over. ``purpose``: what a folder must have been signed for; by default, any.
    ``anchors``: certificates (PEM) by which every image's C2PA manifest must be trusted too.
    Raises UserError for a path that is not there.
    """
    check = partial(_file, trust=trust, logged=logged, anchors=anchors)
    for path in paths:
        if not os.path.lexists(path):
            raise UserError(f"there is no {path}.")
        if path.is_dir() and not path.is_symlink():
            yield from _folder(path, trust, purpose, logged, check)
        else:
            yield check(_image_of(path))


def _folder(
    folder: Path, trust: Trust, purpose: Purpose | None, logged: Logged | None, check: Callable[[Path], Finding]
) -> Iterator[Finding]:
    vouched = False
    if os.path.lexists(folder / MANIFEST):
        found = _directory(folder, trust, purpose, logged)
        vouched = found.verdict.acceptable
        yield Finding(folder, found, directory=True)
    for place, folders, names in os.walk(folder):
        folders.sort()
        known = set(names)
        for name in sorted(known):
            path = Path(place, name)
            if name == MANIFEST:
                continue
            if name.endswith(SUFFIX):
                if name.removesuffix(SUFFIX) not in known:
                    yield check(_image_of(path))
            elif name + SUFFIX in known or (not vouched and path.suffix.lower() in IMAGES):
                yield check(path)


def _directory(folder: Path, trust: Trust, purpose: Purpose | None, logged: Logged | None) -> Verification:
    found: Verification = Verification(Verdict.WRONG_PURPOSE)
    for each in (purpose,) if purpose else PURPOSES:
        found = verify_directory(folder, trust, each, logged=logged)
        if found.verdict is not Verdict.WRONG_PURPOSE:
            break
    return found


def _file(path: Path, trust: Trust, logged: Logged | None, anchors: str | None) -> Finding:
    if path.is_symlink():
        return Finding(path, Verification(Verdict.REFUSED, "a link: verify what it leads to"))
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
