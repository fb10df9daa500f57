"""Files, folders and bytes into envelopes and out of them.

``source`` and ``out`` are paths or binary streams. What has a name appears under it whole, after its last tag was
checked; a stream gets every block as soon as the block's own tag was.
"""

import secrets
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from io import BytesIO
from pathlib import Path
from stat import S_IMODE
from typing import BinaryIO, TypeAlias, cast

from securegan.errors import UserError
from securegan.security.durable import umasked, written
from securegan.security.envelope import SUFFIX as SUFFIX
from securegan.security.envelope.backends import Backend, Forged, load_backend
from securegan.security.envelope.chunked import Opener, Sealer, pieces
from securegan.security.envelope.folders import Limits, pack, unpack
from securegan.security.envelope.header import Facts, Header
from securegan.security.envelope.recipients import Identity, Recipient, seal_header, unlock
from securegan.security.envelope.versions import Expected, Versions
from securegan.security.errors import AuthenticationError, PolicyError
from securegan.security.keys.key import now

KEY = 32

Stream: TypeAlias = Path | BinaryIO


def facts_for(purpose: str, object_id: str | None = None, version: int = 0) -> Facts:
    """Of an envelope made now; an object without an id gets a random one, which tells nothing of it."""
    return Facts(purpose, object_id or secrets.token_hex(16), now(), version)


def seal(
    source: Stream,
    out: Stream,
    recipients: Sequence[Recipient],
    facts: Facts,
    *,
    backend: Backend | None = None,
    replace: bool = False,
    flush: bool = True,
    skip_links: bool = False,
) -> Facts:
    """Seal a file, a whole folder or a stream under a fresh data key; the facts as they stand in the header.

    ``flush`` waits until the envelope is on the disk. Raises UserError where something cannot be read or written,
    PolicyError where a recipient must not be used.
    """
    backend = backend or load_backend()
    key = secrets.token_bytes(KEY)
    folder = isinstance(source, Path) and source.is_dir()
    if isinstance(source, Path) and isinstance(out, Path) and out.resolve().is_relative_to(source.resolve()):
        raise UserError(f"{out} lies in {source}, which is to be sealed: choose another place for the envelope.")
    facts = Facts(facts.purpose, facts.object_id, facts.created, facts.version, "folder" if folder else "file")
    header = seal_header(facts, recipients, key, backend)
    with _reading(source, folder) as given, _writing(out, replace=replace, flush=flush, mode=umasked(0o644)) as sink:
        sink.write(header.encode())
        sealer = Sealer(key, header.context, sink, backend)
        if given is None:
            assert isinstance(source, Path)
            pack(source, sealer.write, skip_links=skip_links)
        else:
            for piece in _given(given):
                sealer.write(piece)
        sealer.finish()
    return facts


def open_envelope(
    source: Stream,
    out: Stream,
    identities: Sequence[Identity],
    expected: Expected = Expected(),  # noqa: B008
    *,
    versions: Versions | None = None,
    backend: Backend | None = None,
    replace: bool = False,
    limits: Limits = Limits(),  # noqa: B008
    name: str | None = None,
) -> Header:
    """Open an envelope into a new file or folder, as it holds one or the other; its header, which was checked.

    ``name``: what errors call a stream.
    Who sealed it is not proven, but that they had one of its recipients' keys, public or secret as the kind has it, or
    had been given its data key. Raises AuthenticationError for every forgery, PolicyError for what anybody can see (a
    version, a key, a purpose), UserError where something cannot be read or written.
    """
    backend = backend or load_backend()
    with _naming(source, name), _reading(source, False) as given:
        assert given is not None
        header, opener = _unlocked(given, identities, expected, versions, backend)
        if header.facts.form == "folder":
            if not isinstance(out, Path):
                raise UserError("it holds a folder, which cannot be written to a stream: name a new folder.")
            unpack(opener.blocks(), out, limits)
        else:
            with _writing(out, replace=replace, flush=False, mode=0o600) as sink:
                for block in opener.blocks():
                    sink.write(block)
        if versions is not None:
            versions.remember(header)
    return header


def seal_bytes(data: bytes, recipients: Sequence[Recipient], facts: Facts, *, backend: Backend | None = None) -> bytes:
    """An envelope in memory."""
    out = BytesIO()
    seal(BytesIO(data), out, recipients, facts, backend=backend)
    return out.getvalue()


def open_bytes(
    envelope: bytes,
    identities: Sequence[Identity],
    expected: Expected = Expected(),  # noqa: B008
    *,
    backend: Backend | None = None,
    name: str | None = None,
) -> bytes:
    """What an envelope in memory holds; raises as :func:`open_envelope` does, and then nothing was given out."""
    out = BytesIO()
    open_envelope(BytesIO(envelope), out, identities, expected, backend=backend, name=name)
    return out.getvalue()


def rewrap(
    path: Path,
    identities: Sequence[Identity],
    recipients: Sequence[Recipient],
    *,
    add: bool = False,
    backend: Backend | None = None,
) -> Header:
    """Put other recipients in the place of an envelope's own, or ``add`` them; the payload is checked and copied as is.

    Whoever could open the envelope before still can where they kept a copy. Raises as :func:`open_envelope` does.
    """
    backend = backend or load_backend()
    with _naming(path), _reading(path, False) as source:
        assert source is not None
        header = Header.read(source)
        key = unlock(header, identities, backend)
        wrapped = seal_header(header.facts, recipients, key, backend)
        if add:
            wrapped = Header.make(header.facts, (*header.stanzas, *wrapped.stanzas), key)
        with written(path, replace=True, mode=S_IMODE(path.stat().st_mode)) as sink:
            sink.write(wrapped.encode())
            copied = cast(BinaryIO, _Copied(source, sink))
            deque(Opener(key, header.context, copied, backend).blocks(), maxlen=0)
    return wrapped


class _Copied:
    """A source of which all that is read is written to ``sink`` too."""

    def __init__(self, source: BinaryIO, sink: BinaryIO) -> None:
        self._source, self._sink = source, sink

    def readinto(self, view: memoryview) -> int:
        size: int = self._source.readinto(view)  # type: ignore[attr-defined]
        self._sink.write(view[:size])
        return size


def read_header(source: Stream) -> Header:
    """What anybody can read of an envelope, unchecked. Raises PolicyError or AuthenticationError where it is none."""
    with _naming(source), _reading(source, False) as given:
        assert given is not None
        return Header.read(given)


def _unlocked(
    source: BinaryIO,
    identities: Sequence[Identity],
    expected: Expected,
    versions: Versions | None,
    backend: Backend,
) -> tuple[Header, Opener]:
    header = Header.read(source)
    key = unlock(header, identities, backend)
    expected.check(header.facts)
    if versions is not None:
        versions.check(header.facts)
    return header, Opener(key, header.context, source, backend)


def _given(source: BinaryIO) -> Iterator[memoryview]:
    """As :func:`pieces`; what whoever takes them raises is not the source's."""
    try:
        yield from pieces(source)
    except OSError as error:
        raise UserError(f"what is to be sealed cannot be read: {error.strerror}.") from error


@contextmanager
def _naming(source: Stream, given: str | None = None) -> Iterator[None]:
    """Every forgery is one error; what anybody can see is told with the file's name."""
    name = str(source) if isinstance(source, Path) else given or "the envelope"
    try:
        yield
    except Forged:
        raise AuthenticationError(name) from None
    except PolicyError as error:
        raise PolicyError(f"{name} is refused: {error}") from error


def _reading(source: Stream, folder: bool) -> AbstractContextManager[BinaryIO | None]:
    if folder:
        return nullcontext(None)
    if not isinstance(source, Path):
        return nullcontext(source)
    try:
        return open(source, "rb", buffering=0)
    except OSError as error:
        raise UserError(f"{source} cannot be read: {error.strerror}.") from error


def _writing(out: Stream, *, replace: bool, flush: bool, mode: int) -> AbstractContextManager[BinaryIO]:
    return written(out, replace=replace, flush=flush, mode=mode) if isinstance(out, Path) else _streaming(out)


@contextmanager
def _streaming(out: BinaryIO) -> Iterator[BinaryIO]:
    try:
        yield out
        out.flush()
    except OSError as error:
        raise UserError(f"the stream could not be written to its end: {error.strerror or error}.") from error
