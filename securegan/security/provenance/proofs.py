"""Proofs about a log, in C2SP's formats, for somebody who does not have the log.

``tlog-proof``: that an entry is in it, with the entry itself as its extra data. ``old N`` (as a witness is asked,
tlog-witness): that its newest checkpoint goes on from an older one.
"""

import re
from base64 import b64encode
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from securegan.errors import UserError
from securegan.security.errors import AuthenticationError
from securegan.security.provenance import merkle, note
from securegan.security.provenance.auditing import log_keys, require_log_key
from securegan.security.provenance.files import read_given
from securegan.security.provenance.log import Entry, Log, read_entry
from securegan.security.provenance.note import Checkpoint
from securegan.security.provenance.trust import Trust
from securegan.security.spelling import from_base64, moment

MAGIC = "c2sp.org/tlog-proof@v1"
SUFFIX = ".tlog-proof"
LIMIT = 128 * 2**10  # bytes of a proof
HASHES = r"((?:[A-Za-z0-9+/]{43}=\n){0,64})\n"
INCLUSION = re.compile(rf"{re.escape(MAGIC)}\nextra ([A-Za-z0-9+/]+={{0,2}})\nindex (0|[1-9][0-9]{{0,15}})\n{HASHES}")
CONSISTENCY = re.compile(rf"old (0|[1-9][0-9]{{0,15}})\n{HASHES}")


@dataclass(frozen=True)
class Proven:
    """What a proof of inclusion shows."""

    entry: Entry
    index: int
    checkpoint: Checkpoint


def prove_inclusion(log: Log, trust: Trust, index: int) -> bytes:
    """That the entry at ``index`` is in the log. Raises UserError, AuthenticationError or PolicyError."""
    checkpoint, leaves, lines = _leaves(log, trust, index)
    hashes = merkle.inclusion_proof(leaves, index)
    head = f"{MAGIC}\nextra {b64encode(lines).decode()}\nindex {index}\n"
    return head.encode() + _hashes(hashes) + checkpoint


def prove_consistency(log: Log, trust: Trust, old: Checkpoint) -> bytes:
    """That the log goes on from ``old``. Raises UserError, AuthenticationError or PolicyError."""
    checkpoint, leaves, _ = _leaves(log, trust, None)
    if not 0 < old.size <= len(leaves) or merkle.root_of(leaves[: old.size]) != old.root:
        raise UserError(f"{log.path} does not go on from the checkpoint of {old.size} entries: no proof can be given.")
    return f"old {old.size}\n".encode() + _hashes(merkle.consistency_proof(leaves, old.size)) + checkpoint


def check_inclusion(proof: bytes, trust: Trust, what: object) -> Proven:
    """What ``proof`` shows, of a log that ``trust`` holds good. Raises AuthenticationError or PolicyError."""
    found, signed, hashes = _opened(proof, INCLUSION, what)
    checkpoint, key = note.read_checkpoint(signed, log_keys(trust), what)
    index = int(found[2])
    try:
        line = from_base64(found[1])
        entry = read_entry(line)
    except ValueError as error:
        raise AuthenticationError(what) from error
    leaf = merkle.leaf_hash(line)
    if not merkle.proves_inclusion(leaf, index, checkpoint.size, hashes, checkpoint.root):
        raise AuthenticationError(what)
    require_log_key(trust, key, moment(entry.time), what)
    return Proven(entry, index, checkpoint)


def check_consistency(
    proof: bytes, trust: Trust, old: Checkpoint, what: object, now: datetime | None = None
) -> Checkpoint:
    """The newer checkpoint that goes on from ``old``, by a key that is good now: a checkpoint bears no time.

    Raises AuthenticationError or PolicyError.
    """
    found, signed, hashes = _opened(proof, CONSISTENCY, what)
    checkpoint, key = note.read_checkpoint(signed, log_keys(trust), what)
    if checkpoint.origin != old.origin or int(found[1]) != old.size:
        raise AuthenticationError(what)
    if not merkle.proves_consistency(old.size, checkpoint.size, hashes, old.root, checkpoint.root):
        raise AuthenticationError(what)
    now = now or datetime.now(UTC)
    require_log_key(trust, key, now, what, now)
    return checkpoint


def _leaves(log: Log, trust: Trust, index: int | None) -> tuple[bytes, list[bytes], bytes]:
    """The checkpoint as it was signed, every leaf's hash, and the entry at ``index``."""
    signed = read_given(log.checkpoint_path, note.LIMIT, "the log's")
    checkpoint, _ = note.read_checkpoint(signed, log_keys(trust), log.checkpoint_path)
    if index is not None and not 0 <= index < checkpoint.size:
        raise UserError(f"{log.path} has no entry {index}: it has {checkpoint.size}, numbered from 0.")
    leaves, wanted = [], b""
    for number, line in enumerate(log.lines(checkpoint)):
        leaves.append(merkle.leaf_hash(line))
        if number == index:
            wanted = line
    if merkle.root_of(leaves) != checkpoint.root:
        raise AuthenticationError(log.path)
    return signed, leaves, wanted


def _hashes(hashes: Sequence[bytes]) -> bytes:
    return b"".join(b64encode(each) + b"\n" for each in hashes) + b"\n"


def _opened(proof: bytes, form: re.Pattern[str], what: object) -> tuple[re.Match[str], bytes, list[bytes]]:
    """The head of a proof, the note that follows it, and its hashes."""
    try:
        text = proof.decode()
    except UnicodeDecodeError as error:
        raise AuthenticationError(what) from error
    found = form.match(text)
    if found is None:
        raise AuthenticationError(what)
    try:
        hashes = [from_base64(line) for line in found[found.re.groups].split("\n")[:-1]]
    except ValueError as error:
        raise AuthenticationError(what) from error
    return found, text[found.end() :].encode(), hashes
