"""The sidecar ``NAME.sg.json`` of an image ``NAME``: who made it, from what, and whether it is still as it was.

A DSSE envelope of an in-toto statement with one subject. ``sign`` and ``judge`` work on bytes and touch no disk,
``sign_file`` and ``verify_file`` on files.
"""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from securegan.errors import UserError
from securegan.security.durable import written
from securegan.security.errors import PolicyError
from securegan.security.provenance import dsse, statement
from securegan.security.provenance.authenticity import Logged, Rejected, authenticate
from securegan.security.provenance.files import MAX_IMAGE, digest_file, read_given, read_regular
from securegan.security.provenance.signing import Signer
from securegan.security.provenance.statement import ImageOrigin, Statement, Subject
from securegan.security.provenance.trust import Trust, TrustedKey
from securegan.security.provenance.verdicts import Verdict

SUFFIX = ".sg.json"
LIMIT = 64 * 2**10  # bytes of a sidecar


@dataclass(frozen=True)
class Verification:
    """What was found; ``signer`` and ``statement`` only where the signature counts."""

    verdict: Verdict
    reason: str = ""
    signer: TrustedKey | None = None
    statement: Statement | None = None

    @property
    def origin(self) -> ImageOrigin | None:
        """What the signer says of an image that is as it was signed, and of no other."""
        origin = self.statement.origin if self.statement is not None and self.verdict.acceptable else None
        return origin if isinstance(origin, ImageOrigin) else None

    def require(self, what: object) -> None:
        """Raises PolicyError about ``what`` where the verdict is not acceptable."""
        if not self.verdict.acceptable:
            raise PolicyError(f"{what} is refused, {self.verdict}: {self.reason}.")


def sidecar_of(path: Path) -> Path:
    """Where the sidecar of a file lies."""
    return path.with_name(path.name + SUFFIX)


def sign(data: bytes, name: str, signer: Signer, origin: ImageOrigin, pixels: str | None = None) -> bytes:
    """The sidecar of the image file ``data``.

    Args: pixels: their digest (``pixels.digest_of``) where it is known already; without it the image is decoded.
    Raises UserError where it is none, or its name no file's.
    """
    try:
        subject = Subject(name, hashlib.sha256(data).hexdigest(), pixels or _pixels(data))
    except ValueError as error:
        raise UserError(f"{name!r} cannot be signed: {error}.") from error
    return dsse.sign(statement.PAYLOAD, Statement((subject,), origin).payload(), signer)


def sign_file(path: Path, signer: Signer, origin: ImageOrigin) -> Path:
    """Write the sidecar of an image file; its path. Raises UserError."""
    sidecar = sign(read_given(path, MAX_IMAGE, "the image"), path.name, signer, origin)
    with written(sidecar_of(path), replace=True, mode=0o644, flush=False) as file:
        file.write(sidecar)
    return sidecar_of(path)


def judge(
    data: bytes, sidecar: bytes, trust: Trust, *, now: datetime | None = None, logged: Logged | None = None
) -> Verification:
    """Whether ``sidecar`` speaks of the image file ``data``, and counts: for whoever goes on with these very bytes."""
    return _judge(sidecar, trust, now, logged, lambda: hashlib.sha256(data).hexdigest(), lambda: data)


def verify_file(path: Path, trust: Trust, *, now: datetime | None = None, logged: Logged | None = None) -> Verification:
    """Whether the file is what its sidecar says, by a key that ``trust`` holds good for images."""
    try:
        sidecar = read_regular(sidecar_of(path), LIMIT)
    except OSError as error:
        missing = isinstance(error, FileNotFoundError)
        return Verification(Verdict.UNSIGNED if missing else Verdict.REFUSED, f"no sidecar: {error.strerror}")
    try:
        return _judge(sidecar, trust, now, logged, lambda: digest_file(path), lambda: read_regular(path, MAX_IMAGE))
    except OSError as error:
        missing = isinstance(error, FileNotFoundError)
        return Verification(Verdict.MISSING if missing else Verdict.REFUSED, f"no image: {error.strerror}")


def _judge(
    sidecar: bytes,
    trust: Trust,
    now: datetime | None,
    logged: Logged | None,
    digest: Callable[[], str],
    data: Callable[[], bytes],
) -> Verification:
    if len(sidecar) > LIMIT:
        return Verification(Verdict.REFUSED, f"a sidecar of more than {LIMIT} bytes")
    try:
        signer, found = authenticate(sidecar, trust, ImageOrigin, "image", now=now, logged=logged)
    except Rejected as error:
        return Verification(error.verdict, str(error))
    if len(found.subjects) != 1:
        return Verification(Verdict.REFUSED, f"a sidecar of {len(found.subjects)} images")
    subject = found.subjects[0]
    if digest() == subject.sha256:
        return Verification(Verdict.BYTE_EXACT, "", signer, found)
    verdict, reason = Verdict.MODIFIED, "bytes and pixels are not those signed"
    try:
        if subject.pixels is not None and _pixels(data()) == subject.pixels:
            verdict, reason = Verdict.PIXELS_EXACT, "other bytes, the same pixels"
    except ValueError as error:
        reason = f"not the bytes signed, and no image: {error}"
    return Verification(verdict, reason, signer, found)


def _pixels(data: bytes) -> str:
    from securegan.security.provenance.pixels import digest_of_image  # Pillow, which few verifications need

    return digest_of_image(data)
