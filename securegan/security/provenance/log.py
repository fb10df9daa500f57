"""The audit log: a folder that is only ever added to.

``log.jsonl`` has an entry a line; the lines are the leaves of an RFC 6962 tree, of which ``checkpoint`` is the signed
root and size. ``frontier.json`` is what of the tree is needed to go on, believed only where it has the signed root;
``torn.txt`` keeps what a writer that was killed had not yet signed. Nothing counts before it stands under a checkpoint.
"""

import copy
import json
import os
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, BinaryIO, Literal, TypeAlias

from filelock import FileLock, Timeout
from pydantic import Field, ValidationError

from securegan.errors import UserError
from securegan.security.durable import written
from securegan.security.errors import PolicyError
from securegan.security.provenance import strict_json
from securegan.security.provenance.files import open_regular, read_given
from securegan.security.provenance.merkle import EMPTY_ROOT, Frontier, leaf_hash
from securegan.security.provenance.note import LIMIT, NAME, Checkpoint, read_checkpoint
from securegan.security.provenance.signing import PublicKey, Signer
from securegan.security.provenance.statement import Facts, Sha256, Text, Time, now

MAX_LINE = 16 * 2**10  # bytes of an entry
PATIENCE = 60  # seconds for another writer
Kind: TypeAlias = Literal["training", "release", "review", "approval", "rejection", "key", "trust", "alert", "mended"]


class Entry(Facts):
    """What happened to what: ``subject`` is the SHA-256 of an image's, manifest's or data set's bytes.

    ``sidecar``: SHA-256 of the bytes of the image's sidecar; without it no signature of a compromised key stands.
    """

    kind: Kind
    time: Time = Field(default_factory=now)
    subject: Sha256 | None = None
    sidecar: Sha256 | None = None
    name: Text | None = None
    details: Annotated[dict[Text, Text | int | bool], Field(max_length=50, default_factory=dict)]

    def line(self) -> bytes:
        """The entry's bytes in the log, without the newline."""
        return strict_json.write(self.model_dump(exclude_none=True))


def read_entry(line: bytes) -> Entry:
    """Raises ValueError where ``line`` is none that this log would write."""
    try:
        entry = Entry.model_validate(strict_json.parse(line, limit=MAX_LINE))
    except ValidationError as error:
        raise ValueError(error.errors()[0]["msg"]) from error
    if entry.line() != line:
        raise ValueError("another layout")
    return entry


@dataclass
class Tip:
    """How far a log had come: its tree, and the byte after the last entry."""

    origin: str
    frontier: Frontier
    end: int


class Log:
    """A log's folder, to be added to with :meth:`writing` and read with :meth:`lines`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.path, self.checkpoint_path = folder / "log.jsonl", folder / "checkpoint"
        self._frontier_path = folder / "frontier.json"
        self._seen: set[tuple[str, str]] = set()
        self._seen_to = 0

    @classmethod
    def create(cls, folder: Path, origin: str, signer: Signer) -> "Log":
        """A log without entries, known to the world as ``origin``, such as ``example.org/images``. Raises UserError."""
        if not NAME.fullmatch(origin):
            raise UserError(f"a log cannot be named '{origin}': blanks and plus signs are not allowed.")
        log = cls(folder)
        try:
            folder.mkdir(parents=True, exist_ok=True)
            log.path.touch(exist_ok=False)
        except OSError as error:
            raise UserError(f"a log cannot be made in {folder}: {error.strerror}.") from error
        log._sign(Checkpoint(origin, 0, EMPTY_ROOT), signer)
        return log

    @contextmanager
    def writing(self, signer: Signer, others: Iterable[PublicKey] = (), after: Tip | None = None) -> Iterator["Writer"]:
        """Add entries, alone; they are on the disk and signed when the block ends, also where it ends in an error.

        Args: others: keys that signed this log before ``signer`` did; after: what it must go on from.
        Raises UserError, AuthenticationError, or PolicyError where the log is not the one that was signed.
        """
        lock = FileLock(self.folder / ".lock", timeout=PATIENCE)
        try:
            lock.acquire()
        except Timeout as error:
            raise UserError(f"{self.folder} is being written by another process: try again later.") from error
        except OSError as error:
            raise UserError(f"{self.folder} cannot be written: {error.strerror}.") from error
        try:
            checkpoint, _ = self.checkpoint([signer.public, *others])
            if after is not None:
                self._require_continued(checkpoint, after)
            with open(self.path, "r+b") as file:
                writer = Writer(self, file, checkpoint, signer)
                try:
                    yield writer
                finally:
                    writer.commit()
        except OSError as error:
            self._seen, self._seen_to = set(), 0  # it may name entries that did not come to stand
            raise UserError(f"{self.path} cannot be written: {error.strerror}.") from error
        finally:
            lock.release()

    def append(self, entries: Iterable[Entry], signer: Signer) -> None:
        """Add entries, sign, and wait for the disk."""
        with self.writing(signer) as writer:
            for entry in entries:
                writer.append(entry)

    def checkpoint(self, keys: Iterable[PublicKey]) -> tuple[Checkpoint, PublicKey]:
        """The newest checkpoint and who of ``keys`` signed it. Raises UserError or AuthenticationError."""
        return read_checkpoint(read_given(self.checkpoint_path, LIMIT, "the log's"), keys, self.checkpoint_path)

    def lines(self, checkpoint: Checkpoint, after: Tip | None = None) -> Iterator[bytes]:
        """The entries under ``checkpoint``, as bytes, or those ``after``; what stands after them does not count.

        Raises PolicyError where there are fewer, and UserError.
        """
        try:
            with open_regular(self.path) as file:
                file.seek(0 if after is None else after.end)
                for index in range(0 if after is None else after.frontier.size, checkpoint.size):
                    line = file.readline(MAX_LINE + 2)
                    if not line.endswith(b"\n"):
                        raise PolicyError(
                            f"{self.path} is refused: it was truncated to {index} entries, of {checkpoint.size} signed."
                            if len(line) <= MAX_LINE
                            else f"{self.path} is refused: entry {index} is longer than any."
                        )
                    yield line[:-1]
        except OSError as error:
            raise UserError(f"{self.path} cannot be read: {error.strerror}.") from error

    def _require_continued(self, checkpoint: Checkpoint, after: Tip) -> None:
        """Raises PolicyError where ``checkpoint`` is of another log, or older, or another one of that many entries."""
        frontier = copy.deepcopy(after.frontier)
        if checkpoint.origin == after.origin and checkpoint.size >= frontier.size:
            with suppress(PolicyError):  # other entries end elsewhere
                for line in self.lines(checkpoint, after):
                    frontier.add(leaf_hash(line))
            if frontier.root() == checkpoint.root:
                return
        raise PolicyError(
            f"{self.folder} is refused: it does not go on from the {after.frontier.size} entries that this process "
            "knows: it was exchanged meanwhile, or brought back from an older state; restore its newest one."
        )

    def _sign(self, checkpoint: Checkpoint, signer: Signer) -> None:
        with written(self.checkpoint_path, replace=True, mode=0o644) as file:
            file.write(checkpoint.signed(signer))

    def _frontier(self, checkpoint: Checkpoint) -> tuple[Frontier, int]:
        """The tree under ``checkpoint`` and where its lines end, from the cache or, where that is not it, from all."""
        try:
            kept = strict_json.parse(self._frontier_path.read_bytes(), limit=2**16)
            peaks, path = ([bytes.fromhex(each) for each in kept[part]] for part in ("peaks", "path"))
            frontier = Frontier(kept["size"], peaks, path)
            signed = (frontier.size, frontier.root()) == (checkpoint.size, checkpoint.root)
            if signed and kept["end"] == self.path.stat().st_size and frontier.ends_in(leaf_hash(self._last_line())):
                return frontier, kept["end"]
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            pass
        frontier, end = Frontier(), 0
        for line in self.lines(checkpoint):
            frontier.add(leaf_hash(line))
            end += len(line) + 1
        if frontier.root() != checkpoint.root:
            raise PolicyError(f"{self.path} is refused: its entries are not those that were signed.")
        return frontier, end

    def _last_line(self) -> bytes:
        """What stands in the file between its last two newlines. Raises OSError, or ValueError where nothing does."""
        with open_regular(self.path) as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - MAX_LINE - 2))
            *_, line, after = file.read().split(b"\n")
        if after:
            raise ValueError("half a line")
        return line

    def _keep(self, frontier: Frontier, end: int) -> None:
        peaks, path = ([each.hex() for each in part] for part in (frontier.peaks, frontier.path))
        text = json.dumps({"size": frontier.size, "end": end, "peaks": peaks, "path": path})
        with written(self._frontier_path, replace=True, mode=0o644, flush=False) as file:
            file.write(text.encode())


class Writer:
    """Adds to a log that is locked; made by :meth:`Log.writing`."""

    def __init__(self, log: Log, file: BinaryIO, checkpoint: Checkpoint, signer: Signer) -> None:
        self._log, self._file, self._signer = log, file, signer
        self._origin, self._signed = checkpoint.origin, checkpoint.size
        self._frontier, self._end = log._frontier(checkpoint)
        self._last = self._last_time()
        self._lines: list[bytes] = []
        self._mend()

    @property
    def size(self) -> int:
        """Entries so far, with those not yet signed."""
        return self._frontier.size

    @property
    def tip(self) -> Tip:
        """Where the log is, once the block of :meth:`Log.writing` has ended."""
        return Tip(self._origin, self._frontier, self._end)

    def append(self, entry: Entry) -> int:
        """Add an entry, dated now or, where the clock was set back, as the last one; its index.

        Raises UserError where it is longer than an entry may be.
        """
        self._last = max(self._last, now())  # the fixed layout makes the order of texts that of times
        line = entry.model_copy(update={"time": self._last}).line()
        if len(line) > MAX_LINE:
            raise UserError(f"an entry of the log has {MAX_LINE} bytes at most, this one {len(line)}.")
        self._frontier.add(leaf_hash(line))
        self._lines.append(line)
        return self._frontier.size - 1

    def append_once(self, entry: Entry) -> int | None:
        """As :meth:`append`, unless an entry of this kind has this subject already: then None."""
        if entry.subject is None:
            raise UserError("an entry that is to stand once needs a subject.")
        seen = self._seen()
        if (entry.kind, entry.subject) in seen:
            return None
        seen.add((entry.kind, entry.subject))
        return self.append(entry)

    def commit(self) -> None:
        """Flush what was added to the disk, then sign it."""
        if self._frontier.size == self._signed:
            return
        data = b"".join(line + b"\n" for line in self._lines)
        self._file.seek(self._end)
        self._file.write(data)
        self._file.flush()
        os.fsync(self._file.fileno())
        self._end += len(data)
        self._lines.clear()
        self._log._sign(Checkpoint(self._origin, self._frontier.size, self._frontier.root()), self._signer)
        self._signed = self._frontier.size
        self._log._keep(self._frontier, self._end)

    def _mend(self) -> None:
        """Lay aside what stands after the last signed entry: a writer was killed, or somebody else wrote there."""
        self._file.seek(self._end)
        torn = os.fstat(self._file.fileno()).st_size - self._end
        if not torn:
            return
        with open(self._log.folder / "torn.txt", "ab") as file:
            shutil.copyfileobj(self._file, file)
            file.write(b"\n")
            file.flush()
            os.fsync(file.fileno())
        self._file.truncate(self._end)
        self.append(Entry(kind="mended", details={"bytes": torn}))

    def _last_time(self) -> str:
        """The time of the last signed entry."""
        start = max(0, self._end - MAX_LINE - 1)
        self._file.seek(start)
        lines = self._file.read(self._end - start).split(b"\n")
        try:
            return read_entry(lines[-2]).time if len(lines) > 1 else ""
        except ValueError as error:
            raise PolicyError(f"{self._log.path} is refused: its last entry: {error}.") from error

    def _seen(self) -> set[tuple[str, str]]:
        """Kinds and subjects that stand in the log, read once and then as far as others have added."""
        log = self._log
        self._file.seek(log._seen_to)
        while log._seen_to < self._end:
            line = self._file.readline()
            log._seen_to += len(line)
            entry = read_entry(line[:-1])
            if entry.subject is not None:
                log._seen.add((entry.kind, entry.subject))
        return log._seen
