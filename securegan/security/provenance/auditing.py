"""Reading a log as somebody who does not believe its keeper."""

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime

from securegan.security.errors import PolicyError
from securegan.security.provenance.files import read_given
from securegan.security.provenance.log import Entry, Log, Tip, read_entry
from securegan.security.provenance.memory import Memory
from securegan.security.provenance.merkle import EMPTY_ROOT, Frontier, leaf_hash
from securegan.security.provenance.note import LIMIT, Checkpoint, read_checkpoint
from securegan.security.provenance.signing import PublicKey
from securegan.security.provenance.trust import Trust, TrustedKey
from securegan.security.spelling import moment


@dataclass(frozen=True)
class Audit:
    """A log that is as it was signed. ``unsigned``: bytes after the last signed entry, which do not count.

    ``note``: the checkpoint as it was signed.
    """

    checkpoint: Checkpoint
    note: bytes
    signer: TrustedKey
    kinds: Counter[str]
    unsigned: int


@dataclass(frozen=True)
class Followed:
    """Entries by kind, the time of the last (empty where there is none), and where the log was then."""

    kinds: Counter[str]
    last: str
    tip: Tip


def log_keys(trust: Trust) -> list[PublicKey]:
    """Keys that sign logs."""
    return [key.key for key in trust.keys.values() if "log" in key.purposes]


def require_log_key(
    trust: Trust, key: PublicKey, last: datetime, what: object, now: datetime | None = None
) -> TrustedKey:
    """The key of a log whose last entry is of the time ``last``. Raises PolicyError where it does not count."""
    known = trust.keys[key.kid]
    verdict = known.standing("log", last, now)
    if verdict is not None:
        raise PolicyError(f"{what} is refused: the key {known.name}, which signed it, is {verdict}.")
    return known


def audit(
    log: Log,
    trust: Trust,
    memory: Memory | None = None,
    known: Iterable[Checkpoint] = (),
    see: Callable[[int, Entry], object] = lambda index, entry: None,
) -> Audit:
    """Read the whole log against its checkpoint and those known from before; in one pass, its memory flat.

    Args: memory: what was seen of this log on this machine, and where to keep what is seen now; known: checkpoints
    that were kept elsewhere; see: shown every entry, which count only once this returns.
    Raises AuthenticationError or PolicyError where the log was truncated, forked, changed or signed by no trusted key.
    """
    note = read_given(log.checkpoint_path, LIMIT, "the log's")
    checkpoint, key = read_checkpoint(note, log_keys(trust), log.checkpoint_path)
    found = follow(log, checkpoint, see, memory, known)
    last = moment(found.last) if found.last else datetime.now(UTC)
    signer = require_log_key(trust, key, last, log.checkpoint_path)
    if memory is not None:
        memory.checkpoint(checkpoint.origin, checkpoint.size, checkpoint.root, log.checkpoint_path)
    return Audit(checkpoint, note, signer, found.kinds, log.path.stat().st_size - found.tip.end)


def follow(
    log: Log,
    checkpoint: Checkpoint,
    see: Callable[[int, Entry], object],
    memory: Memory | None = None,
    known: Iterable[Checkpoint] = (),
) -> Followed:
    """Read the entries under a checkpoint whose signature was checked; as :func:`audit` otherwise, but keeps nothing.

    Raises PolicyError, after ``see`` was shown what then does not count.
    """
    marks = _marks(log, checkpoint, known, memory)
    frontier, kinds, last, end = Frontier(), Counter[str](), "", 0
    _compare(log, frontier, marks)
    for line in log.lines(checkpoint):
        frontier.add(leaf_hash(line))
        end += len(line) + 1
        _compare(log, frontier, marks)
        try:
            entry = read_entry(line)
        except ValueError as error:
            raise PolicyError(f"{log.path} is refused: entry {frontier.size - 1}: {error}.") from error
        if entry.time < last:
            raise PolicyError(f"{log.path} is refused: entry {frontier.size - 1} is older than the one before it.")
        last = entry.time
        kinds[entry.kind] += 1
        see(frontier.size - 1, entry)
    if frontier.root() != checkpoint.root:
        raise PolicyError(f"{log.path} is refused: its entries are not those that were signed.")
    return Followed(kinds, last, Tip(checkpoint.origin, frontier, end))


def _marks(log: Log, checkpoint: Checkpoint, known: Iterable[Checkpoint], memory: Memory | None) -> dict[int, bytes]:
    """Roots that the log must have at sizes known from before."""
    marks: dict[int, bytes] = {0: EMPTY_ROOT}
    earlier = [(each.origin, each.size, each.root) for each in known]
    if memory is not None and (newest := memory.newest_checkpoint(checkpoint.origin)) is not None:
        earlier.append((checkpoint.origin, *newest))
    for origin, size, root in earlier:
        if origin != checkpoint.origin:
            raise PolicyError(f"the checkpoint given is of the log {origin}, not of {checkpoint.origin}.")
        if size > checkpoint.size:
            raise PolicyError(
                f"{log.checkpoint_path} is refused: the log was truncated to {checkpoint.size} entries, where {size} "
                "were signed before."
            )
        if marks.setdefault(size, root) != root:
            raise PolicyError(f"{log.path} is refused: it was forked: two roots of {size} entries were signed.")
    return marks


def _compare(log: Log, frontier: Frontier, marks: dict[int, bytes]) -> None:
    if frontier.size in marks and frontier.root() != marks[frontier.size]:
        raise PolicyError(
            f"{log.path} is refused: it was forked: its first {frontier.size} entries are not those signed before."
        )
