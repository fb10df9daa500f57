"""The lines of the log that a release writes: one for the model it is of, one for every image."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final, Literal

from securegan.errors import UserError
from securegan.release.plan import Plan
from securegan.security.provenance.log import Entry, Log, read_entry
from securegan.security.provenance.signing import PublicKey, Signer

Kind = Literal["release", "review", "rejection"]

RELEASED: Final = "release"
REVIEW: Final = "review"
REJECTED: Final = "rejection"
OF_MODEL: Final = "training"


def of_model(plan: Plan) -> Entry:
    """The weights that a release's images come from, and what they come from."""
    told: dict[str, str | int | bool] = {"release": plan.id, "config": plan.config, "dataset": plan.dataset}
    return Entry(kind=OF_MODEL, subject=plan.model, name=plan.run, details=told | {"seed": plan.seed})


class ReleaseLog:
    """A log as one release sees it."""

    def __init__(self, log: Log, signer: Signer, others: Sequence[PublicKey], release: str) -> None:
        """Args: others: keys that signed the log before; release: its id."""
        self.log, self.signer, self.others, self.release = log, signer, list(others), release

    def append(self, entries: Sequence[Entry]) -> None:
        """On the disk and signed when this returns; of a process killed within, all of them count or none."""
        with self.log.writing(self.signer, self.others) as writer:
            for entry in entries:
                writer.append(entry)

    def entries(self) -> Iterator[Entry]:
        """The release's own, in order."""
        checkpoint, _ = self.log.checkpoint([self.signer.public, *self.others])
        for line in self.log.lines(checkpoint):
            if self.release.encode() not in line:
                continue  # of another release, or of none
            entry = read_entry(line)
            if entry.details.get("release") == self.release:
                yield entry


def open_log(folder: Path, origin: str, signer: Signer) -> Log:
    """The log in ``folder``, begun where there is none, or none that was completed. Raises UserError."""
    log = Log(folder)
    if log.checkpoint_path.exists():
        return log
    if log.path.exists() and log.path.stat().st_size:
        raise UserError(f"{log.path} has entries but no checkpoint that signs them: restore it, or name another log.")
    log.path.unlink(missing_ok=True)
    return Log.create(folder, origin, signer)
