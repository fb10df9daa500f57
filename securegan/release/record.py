"""What a log says of a release: how far it came, under whose keys, and what was approved by hand."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, get_args

from securegan.errors import UserError
from securegan.release.entries import APPROVED, OF_KEY, OF_MODEL, REJECTED, RELEASED, REVIEW, Use
from securegan.security.errors import PolicyError
from securegan.security.provenance.log import Entry
from securegan.security.provenance.signing import PublicKey

USES: Final[tuple[Use, ...]] = get_args(Use)


@dataclass
class Counts:
    """Images of a release, by what became of them; one that was approved is released."""

    release: int = 0
    review: int = 0
    rejection: int = 0

    @property
    def all(self) -> int:
        """How many were sampled."""
        return self.release + self.review + self.rejection

    def add(self, kind: str) -> None:
        """One more, of a kind of entry that is of an image."""
        setattr(self, kind, getattr(self, kind) + 1)


@dataclass
class Record:
    """Filled by :meth:`see`, entry by entry, from a log that counts only once it was read to its end.

    ``keys``: of each use, in the order in which they came; ``strange``: the first entry that cannot be of this release.
    """

    begun: bool = False
    counts: Counts = field(default_factory=Counts)
    keys: dict[Use, list[PublicKey]] = field(default_factory=lambda: {use: [] for use in USES})
    approved: set[int] = field(default_factory=set)
    strange: Entry | None = None

    def see(self, entry: Entry) -> None:
        """Raises PolicyError for an entry that names no key where it should."""
        number = entry.details.get("number")
        if entry.kind == OF_MODEL:
            self.begun = True
        elif entry.kind == OF_KEY:
            self._take_key(entry)
        elif entry.kind == APPROVED and isinstance(number, int):
            if number not in self.approved:
                self.approved.add(number)
                self.counts.review -= 1
                self.counts.release += 1
        elif entry.kind in (RELEASED, REVIEW, REJECTED) and number == self.counts.all:
            self.counts.add(entry.kind)
        else:
            self.strange = self.strange or entry

    def under(self, use: Use, key: PublicKey) -> bool:
        """Whether the last key that the log names for ``use`` is this one; of approvals, any."""
        return key in (self.keys[use] if use == "approvals" else self.keys[use][-1:])

    def require_whole(self, folder: Path) -> None:
        """Raises UserError where an entry cannot be of the release in ``folder``."""
        if self.strange is not None:
            raise UserError(
                f"the log of {folder} is not one of this release: image {self.strange.details.get('number')} stands "
                f"where {self.counts.all} should; begin anew with another --out."
            )

    def _take_key(self, entry: Entry) -> None:
        use, public = entry.details.get("signs"), str(entry.details.get("public"))
        try:
            if use not in USES:
                raise ValueError(f"it signs {use!r}")
            self.keys[use].append(PublicKey(bytes.fromhex(public)))
        except ValueError as error:
            raise PolicyError(f"the log is refused: its entry of a key of this release: {error}.") from error
