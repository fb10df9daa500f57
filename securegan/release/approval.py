"""An image that was laid aside for review, released by hand after all.

It is the image of the log, or it is refused. Its sidecar is signed beside it in ``review/``, then the approval is
logged, then sidecar and image move to ``images/``: killed anywhere and given again, each approval ends whole and stands
in the log once, and no image lies in ``images/`` that the log does not release.
"""

import hashlib
import os
from collections.abc import Sequence
from pathlib import Path

from securegan.errors import UserError
from securegan.release.entries import APPROVED, REVIEW, ReleaseLog, log_of, of_key, of_recipients
from securegan.release.finishing import object_of, sealing, signing
from securegan.release.flush import flush
from securegan.release.keys import PURPOSE, ReleaseKeys
from securegan.release.plan import FOLDERS, OWN_LOG, Plan, found
from securegan.release.record import Record
from securegan.security.durable import written
from securegan.security.envelope.files import SUFFIX as SEALED
from securegan.security.envelope.files import open_bytes
from securegan.security.envelope.recipients import Identity
from securegan.security.envelope.versions import Expected
from securegan.security.provenance.files import MAX_IMAGE, read_given
from securegan.security.provenance.log import Entry, Log
from securegan.security.provenance.sidecar import SUFFIX


def approve(
    folder: Path,
    numbers: Sequence[int],
    keys: ReleaseKeys,
    identities: Sequence[Identity] = (),
    log: Path | None = None,
) -> list[int]:
    """Release the images ``numbers`` of the release in ``folder``; gives those that were not approved before.

    Args:
        folder: of the release.
        numbers: of its images, as they stand in their names.
        keys: who approves, and signs; who keeps the log; for whom the release is sealed, if for anybody.
        identities: that open what is sealed.
        log: of several releases, where the release is in one.

    Raises:
        UserError: an image was not laid aside, is missing or not the one that was; or as :func:`.release.release` does.
    """
    with found(folder) as plan:
        if not keys.are_for(plan.recipients):
            raise UserError(
                f"{folder} is sealed for {', '.join(kid[:8] for kid in plan.recipients) or 'nobody'}: name the same "
                "keys with --encrypt-to."
            )
        if (log is None) != (plan.log == ""):
            told = OWN_LOG if log else f"is in the log {plan.log}: name it with --log"
            raise UserError(f"the release in {folder} {told}.")
        shared = None if log is None else Log(log)
        own = ReleaseLog(log_of(folder, plan, shared, keys), keys.keeper, keys.signed_before, plan.id)
        desk = _Desk(folder, plan, keys, identities, frozenset(numbers))
        own.read(desk.see)
        desk.record.require_whole(folder)
        try:
            return _approve(desk, own, sorted(set(numbers)))
        except OSError as error:
            raise UserError(f"{folder}: {error.strerror}; the same command goes on from there.") from error


def _approve(desk: "_Desk", log: ReleaseLog, numbers: Sequence[int]) -> list[int]:
    keys = desk.keys
    new = [number for number in numbers if not desk.is_approved(number)]
    for number in new:
        desk.image(number)
    keys.check()
    for number in sorted({*numbers} - {*new}):
        desk.move(number)
    if new:
        try:
            entries = [desk.stage(number) for number in new]
            flush(desk.folder)
            keys.check()
            log.append([*desk.keys_changed(), *entries])
        except (OSError, UserError):
            desk.withdraw()
            raise
        for key in keys.counted:
            keys.ring.count(key, sealed=len(new))
    for number in new:
        desk.move(number)
    flush(desk.folder)
    return new


class _Desk:
    """Where images wait, and what the log says of them and of the release."""

    def __init__(
        self,
        folder: Path,
        plan: Plan,
        keys: ReleaseKeys,
        identities: Sequence[Identity],
        wanted: frozenset[int],
    ) -> None:
        self.folder, self.plan, self.keys, self.identities, self.wanted = folder, plan, keys, identities, wanted
        self.record = Record(plan)
        self._sign, self._seal = signing(plan, keys), sealing(plan, keys)
        self._reviews: dict[int, Entry] = {}
        self._approvals: dict[int, Entry] = {}  # the last of each image
        self._staged: list[Path] = []

    def see(self, entry: Entry) -> None:
        """An entry of the log."""
        self.record.see(entry)
        number = entry.details.get("number")
        if isinstance(number, int) and number in self.wanted:
            if entry.kind == REVIEW:
                self._reviews[number] = entry
            elif entry.kind == APPROVED:
                self._approvals[number] = entry

    def keys_changed(self) -> list[Entry]:
        """What the log does not know yet of whose keys it is under."""
        signer, keeper = self.keys.signer.public, self.keys.keeper.public
        known = signer in self.record.keys["images"] or self.record.under("approvals", signer)
        changed = [] if known else [of_key(self.plan, "approvals", signer)]
        if not self.record.under("log", keeper):
            changed.append(of_key(self.plan, "log", keeper))
        if sorted(self.keys.kids) != sorted(self.record.recipients):
            changed.append(of_recipients(self.plan, self.keys.kids))
        return changed

    def is_approved(self, number: int) -> bool:
        """With a sidecar that is still there. Raises UserError for an image that was never laid aside."""
        if number not in self._reviews:
            raise UserError(f"image {number} was not laid aside for review in {self.folder}: it cannot be approved.")
        entry = self._approvals.get(number)
        if entry is None:
            return False
        name = self._name(number) + SUFFIX
        return any(self._holds(self._path(kind, name), name, entry.sidecar) for kind in FOLDERS)

    def image(self, number: int) -> bytes:
        """The file that was laid aside. Raises UserError where it is another, or gone."""
        name = self._name(number)
        path, released = self._path("review", name), self._path("release", name)
        if not path.exists() and released.exists():
            path = released  # approved once, and the log or the sidecar was lost
        data = self._content(path, name)
        if hashlib.sha256(data).hexdigest() != self._reviews[number].subject:
            raise UserError(f"{path} is not the image that was laid aside, by the log: restore it.")
        return data

    def stage(self, number: int) -> Entry:
        """Sign :meth:`image` where it lies; gives the entry that says who did."""
        name, entry = self._name(number), self._reviews[number]
        signed = self._sign(self.image(number), name, number, str(entry.details.get("pixels")))
        path = self._path("review", name + SUFFIX)
        with written(path, replace=True, mode=0o644, flush=False) as file:
            file.write(signed if self._seal is None else self._seal(signed, name + SUFFIX))
        self._staged.append(path)
        details = {**entry.details, "approved by": self.keys.signer.kid}
        digest = hashlib.sha256(signed).hexdigest()
        approval = Entry(kind=APPROVED, subject=entry.subject, sidecar=digest, name=name, details=details)
        self._approvals[number] = approval
        return approval

    def withdraw(self) -> None:
        """Remove the sidecars of images whose approval did not come to stand in the log."""
        for path in self._staged:
            path.unlink(missing_ok=True)

    def move(self, number: int) -> None:
        """To the released ones, where it is what the log's approval names; the sidecar first: an image that can be seen
        can be verified. Raises UserError where anything else lies there; it stays.
        """
        entry, name = self._approvals[number], self._name(number)
        for file, digest in ((name + SUFFIX, entry.sidecar), (name, entry.subject)):
            source, target = self._path("review", file), self._path("release", file)
            if self._holds(source, file, digest):
                os.replace(source, target)
            elif not self._holds(target, file, digest):
                raise UserError(f"{target} is missing or not what was approved, by the log: restore it.")
            elif os.path.lexists(source):
                raise UserError(f"{source} is not what was approved: {target} is; look at it and remove it.")

    def _holds(self, path: Path, file: str, digest: str | None) -> bool:
        """Whether the file at ``path`` is there and has this digest; one that is sealed, what is in it."""
        return os.path.lexists(path) and hashlib.sha256(self._content(path, file)).hexdigest() == digest

    def _name(self, number: int) -> str:
        return f"{number:06d}.png"

    def _path(self, kind: str, file: str) -> Path:
        return self.folder / FOLDERS[kind] / (file + (SEALED if self.plan.recipients else ""))

    def _content(self, path: Path, name: str) -> bytes:
        """Of a file, opened where it is sealed."""
        if path.is_symlink():
            raise UserError(f"{path} is a link: put the file itself there.")
        data = read_given(path, MAX_IMAGE, "the file")
        if not self.plan.recipients:
            return data
        expected = Expected(purpose=PURPOSE, object_id=object_of(self.plan, name))
        return open_bytes(data, self.identities, expected, name=str(path))
