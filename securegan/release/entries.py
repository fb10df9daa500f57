"""The lines of the log that a release writes: one for the model, one for each key it is under, one for every image."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final, Literal

from securegan.errors import UserError
from securegan.release.keys import ReleaseKeys
from securegan.release.leftovers import require_continued
from securegan.release.plan import Plan
from securegan.security.provenance.auditing import follow
from securegan.security.provenance.log import Entry, Log, Tip
from securegan.security.provenance.memory import Memory
from securegan.security.provenance.signing import PublicKey, Signer

LOG: Final = "log"  # the release's own, in its folder

Kind = Literal["release", "review", "rejection"]
Use = Literal["images", "log", "approvals"]  # what a release's keys sign

RELEASED: Final = "release"
REVIEW: Final = "review"
REJECTED: Final = "rejection"
APPROVED: Final = "approval"  # of an image that was laid aside for review
OF_MODEL: Final = "training"
OF_KEY: Final = "key"


def of_model(plan: Plan) -> Entry:
    """The weights that a release's images come from, and what they come from."""
    told: dict[str, str | int | bool] = {"release": plan.id, "config": plan.config, "dataset": plan.dataset}
    told |= {"seed": plan.seed, "weights": plan.weights, "on flagged": plan.on_flagged, "plan": plan.digest}
    if plan.label is not None:
        told["label"] = plan.label
    return Entry(kind=OF_MODEL, subject=plan.model, name=plan.run, details=told | recipients_told(plan.recipients))


def of_recipients(plan: Plan, kids: Sequence[str]) -> Entry:
    """From here on a release's files are sealed for these keys."""
    return Entry(kind=OF_KEY, details=recipients_told(kids) | {"release": plan.id})


def recipients_told(kids: Sequence[str]) -> dict[str, str | int | bool]:
    """For whom a release is sealed, as an entry's details."""
    return {f"recipient {number}": kid for number, kid in enumerate(sorted(kids), 1)}


def of_key(plan: Plan, use: Use, key: PublicKey) -> Entry:
    """From here on a release's images, its log or its approvals are under this key."""
    return Entry(kind=OF_KEY, details={"release": plan.id, "signs": use, "kid": key.kid, "public": key.raw.hex()})


class ReleaseLog:
    """A log as one release sees it."""

    def __init__(self, log: Log, signer: Signer, others: Sequence[PublicKey], release: str) -> None:
        """Args: others: keys that signed the log before; release: its id."""
        self.log, self.signer, self.others, self.release = log, signer, list(others), release
        self._tip: Tip | None = None

    def append(self, entries: Sequence[Entry]) -> None:
        """On the disk and signed when this returns; of a process killed within, all of them count or none.

        Raises PolicyError where the log does not go on from what was read or written here last.
        """
        with self.log.writing(self.signer, self.others, self._tip) as writer:
            for entry in entries:
                writer.append(entry)
        self._tip = writer.tip

    def read(self, see: Callable[[Entry], object]) -> None:
        """Show ``see`` the release's own entries, in order; they count only once this returns.

        Everybody's are read, once and with flat memory: their root must be the signed one, and go on from the newest
        that this machine has verified. Raises AuthenticationError or PolicyError where it is not.
        """

        def own(index: int, entry: Entry) -> None:
            if entry.details.get("release") == self.release:
                see(entry)

        checkpoint, _ = self.log.checkpoint([self.signer.public, *self.others])
        self._tip = follow(self.log, checkpoint, own, Memory()).tip


def log_of(folder: Path, plan: Plan, shared: Log | None, keys: ReleaseKeys, *, begin: bool = False) -> Log:
    """The log of the release in ``folder``: ``shared``, or its own.

    Args: begin: its own, where there is none and nothing was released yet.
    Raises UserError where it is another's, of another key, or missing.
    """
    own = shared or Log(folder / LOG)
    if begin and shared is None:
        if not own.checkpoint_path.exists():
            require_continued(folder, 0, begun=False)
        own = open_log(folder / LOG, plan.origin, keys.keeper)
    origin = keys.require_keeper(own).origin
    if origin != plan.origin:
        raise UserError(f"{own.folder} is the log {origin}, and the release in {folder} is in {plan.origin}.")
    return own


def open_log(folder: Path, origin: str, signer: Signer) -> Log:
    """The log in ``folder``, begun where there is none, or none that was completed. Raises UserError."""
    log = Log(folder)
    if log.checkpoint_path.exists():
        return log
    if log.path.exists() and log.path.stat().st_size:
        raise UserError(f"{log.path} has entries but no checkpoint that signs them: restore it, or name another log.")
    log.path.unlink(missing_ok=True)
    return Log.create(folder, origin, signer)
