"""What a log says of a release: how far it came, under whose keys, and what was approved by hand."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, get_args

from securegan.errors import UserError
from securegan.release.entries import APPROVED, OF_KEY, OF_MODEL, REJECTED, RELEASED, REVIEW, Use, of_model
from securegan.release.leftovers import IN_IMAGES, IN_REVIEW, NOWHERE, require_continued, require_files
from securegan.release.plan import PLAN, Plan
from securegan.security.errors import PolicyError
from securegan.security.provenance.log import Entry
from securegan.security.provenance.signing import PublicKey

USES: Final[tuple[Use, ...]] = get_args(Use)
PLACES: Final = {RELEASED: IN_IMAGES, REVIEW: IN_REVIEW, REJECTED: NOWHERE}


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

    ``keys``: of each use, in the order in which they came; ``strange``: the first entry that cannot be of this release;
    ``denied``: in what the plan is not the one that was signed; ``folders``: of each image, a byte (:mod:`.leftovers`);
    ``first``: entry of a released image; ``recipients``: kids, those of now.
    """

    plan: Plan
    begun: bool = False
    denied: str = ""
    first: Entry | None = None
    recipients: list[str] = field(init=False)
    folders: bytearray = field(default_factory=bytearray)
    counts: Counts = field(default_factory=Counts)
    keys: dict[Use, list[PublicKey]] = field(default_factory=lambda: {use: [] for use in USES})
    approved: set[int] = field(default_factory=set)
    strange: Entry | None = None

    def __post_init__(self) -> None:
        self.recipients = sorted(self.plan.recipients)

    def see(self, entry: Entry) -> None:
        """Raises PolicyError for an entry that names no key where it should."""
        number = entry.details.get("number")
        if entry.kind == OF_MODEL:
            self.begun = True
            self.denied = self.denied or self._difference(entry)
        elif entry.kind == OF_KEY and "signs" in entry.details:
            self._take_key(entry)
        elif entry.kind == OF_KEY:
            self.recipients = [str(kid) for name, kid in entry.details.items() if name.startswith("recipient ")]
        elif entry.kind == APPROVED and isinstance(number, int):
            if number not in self.approved:
                self.approved.add(number)
                self.counts.review -= 1
                self.counts.release += 1
        elif entry.kind in (RELEASED, REVIEW, REJECTED) and number == self.counts.all:
            self.counts.add(entry.kind)
            self.folders.append(PLACES[entry.kind])
            if entry.kind == RELEASED:
                self.first = self.first or entry
        else:
            self.strange = self.strange or entry

    def under(self, use: Use, key: PublicKey) -> bool:
        """Whether the last key that the log names for ``use`` is this one; of approvals, any."""
        return key in (self.keys[use] if use == "approvals" else self.keys[use][-1:])

    def require_whole(self, folder: Path) -> None:
        """Raises UserError where the log is not that of the release in ``folder``, its plan or its files.

        Called before anything is written there, whoever goes on with it.
        """
        if self.denied:
            raise UserError(f"{folder / PLAN} is not what the release was begun with: {self.denied}; restore it.")
        if self.strange is not None:
            raise UserError(
                f"the log of {folder} is not one of this release: image {self.strange.details.get('number')} stands "
                f"where {self.counts.all} should; begin anew with another --out."
            )
        require_continued(folder, self.counts.all, begun=self.begun)
        require_files(folder, self.plan, self.folders, self.first)

    def _difference(self, signed: Entry) -> str:
        """What the plan says otherwise than its signed entry; empty where nothing."""
        said = of_model(self.plan)
        pairs: dict[str, tuple[object, object]] = {"model": (said.subject, signed.subject)}
        pairs["run"] = (said.name, signed.name)
        for name in [*said.details, *signed.details]:
            pairs[name] = (said.details.get(name), signed.details.get(name))
        found = ((name, *both) for name, both in pairs.items() if both[0] != both[1] and name != "plan")
        for name, here, there in found:
            return f"it says {name} {here}, and the signed log {there}"
        return "" if pairs["plan"][0] == pairs["plan"][1] else "its detectors or its log are others"

    def _take_key(self, entry: Entry) -> None:
        use, public = entry.details.get("signs"), str(entry.details.get("public"))
        try:
            if use not in USES:
                raise ValueError(f"it signs {use!r}")
            self.keys[use].append(PublicKey(bytes.fromhex(public)))
        except ValueError as error:
            raise PolicyError(f"the log is refused: its entry of a key of this release: {error}.") from error
