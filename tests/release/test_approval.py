"""Images that were laid aside for review, released by hand: each once, whole, and by whom, whatever is killed."""

import os
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from securegan.errors import UserError
from securegan.release.approval import approve
from securegan.release.keys import ReleaseKeys
from securegan.release.release import Order, Released, Source, release
from securegan.release.verification import summarise
from securegan.runs.sampling import load_watched
from securegan.security.envelope.files import open_bytes
from securegan.security.envelope.recipients import Ring
from securegan.security.errors import AuthenticationError, PolicyError
from securegan.security.provenance.auditing import audit
from securegan.security.provenance.log import Entry
from securegan.security.provenance.sidecar import judge

Office = Any
N = 40


class Place:
    """A release with images laid aside, plain or sealed."""

    def __init__(self, run: Path, folder: Path, office: Office, sealed: bool) -> None:
        self.run, self.folder, self.office, self.sealed = run, folder, office, sealed
        self.identities = [Ring(office.ring)]
        self.released = self.make(N)
        self.waiting = sorted(int(path.name[:6]) for path in (folder / "review").iterdir())
        assert len(self.waiting) >= 4

    def keys(self, sign_with: str = "release") -> ReleaseKeys:
        return ReleaseKeys.find(None, sign_with, ["reader"] if self.sealed else [])

    def make(self, n: int) -> Released:
        found = load_watched(self.run)
        source = Source.of(found.folder, found.entry)
        return release(found.module, found.detectors, source, self.folder, n, self.keys(), Order())

    def approve(self, *numbers: int, sign_with: str = "release") -> list[int]:
        return approve(self.folder, numbers, self.keys(sign_with), self.identities)

    def path(self, part: str, number: int, beside: str = "") -> Path:
        return self.folder / part / f"{number:06d}.png{beside}{'.sge' if self.sealed else ''}"

    def read(self, path: Path) -> bytes:
        return open_bytes(path.read_bytes(), self.identities) if self.sealed else path.read_bytes()

    def entries(self) -> list[Entry]:
        found: list[Entry] = []
        audit(self.released.log, self.office.trust(), see=lambda index, entry: found.append(entry))
        return found

    def assert_released(self, *numbers: int) -> None:
        """In ``images`` alone, signed, each approved once in the log."""
        approvals = {int(e.details["number"]): e for e in self.entries() if e.kind == "approval"}
        assert sorted(approvals) == sorted(numbers)
        assert len([e for e in self.entries() if e.kind == "approval"]) == len(numbers)
        for number in numbers:
            data, beside = (self.read(self.path("images", number, suffix)) for suffix in ("", ".sg.json"))
            found = judge(data, beside, self.office.trust())
            assert found.verdict == "byte-exact" and found.origin is not None and found.origin.index == number
            assert not self.path("review", number).exists() and not self.path("review", number, ".sg.json").exists()
            assert approvals[number].details["approved by"] == found.signer.key.kid  # type: ignore[union-attr]


@pytest.fixture(params=[False, True], ids=["plain", "sealed"])
def place(request: pytest.FixtureRequest, run: Path, tmp_path: Path, office: Office) -> Place:
    return Place(run, tmp_path / "out", office, request.param)


def test_an_approved_image_is_released_signed_and_logged(place: Place) -> None:
    first, second, *_ = place.waiting
    before = place.read(place.path("review", first))
    assert place.approve(second, first, first) == [first, second]
    place.assert_released(first, second)
    assert place.read(place.path("images", first)) == before
    size = len(place.entries())
    assert place.approve(first, second) == [] and len(place.entries()) == size  # given again, it changes nothing
    place.assert_released(first, second)


def test_a_release_goes_on_after_an_approval(place: Place) -> None:
    first, *_ = place.waiting
    place.approve(first)
    counts = place.released.counts
    again = place.make(N)
    assert (again.counts.release, again.counts.review) == (counts.release + 1, counts.review - 1) and not again.made
    place.released = place.make(N + 30)
    place.assert_released(first)
    numbers = [e.details["number"] for e in place.entries() if e.kind in ("release", "review")]
    assert numbers == list(range(N + 30))
    summary = summarise(place.released, place.folder, place.keys())
    assert summary["verdicts"] == {"byte-exact": summary["released"]}


def test_who_approves_may_have_a_key_of_their_own(place: Place) -> None:
    office, (first, *_) = place.office, place.waiting
    office.ring.new("reviewer", "ed25519", ["image", "log"])
    from securegan.security.provenance.signing import Signer

    office.believe("reviewer", Signer(office.ring.secret(office.ring.find("reviewer"))), "image")
    keys = ReleaseKeys.find(None, "reviewer", ["reader"] if place.sealed else [], "release")
    approve(place.folder, [first], keys, place.identities)
    place.assert_released(first)
    (approval,) = (e for e in place.entries() if e.kind == "approval")
    assert approval.details["approved by"] == office.ring.find("reviewer").kid
    summary = summarise(place.make(N), place.folder, place.keys())
    assert set(summary["verdicts"]) == {"byte-exact"} and office.ring.find("reviewer").kid in summary["signers"]


STAGES = {
    "sign": ("securegan.security.provenance.sidecar.sign", 1),
    "stage": ("securegan.release.approval.written", 1),
    "staged": ("securegan.security.durable._name", 1),
    "flush": ("securegan.release.approval.flush", 0),
    "log": ("securegan.security.provenance.log.Writer.commit", 0),
    "sign log": ("securegan.security.provenance.log.Log._sign", 0),
    "sidecar": ("os.replace", 4),  # after two sidecars that were staged, the checkpoint and the tree's cache
    "image": ("os.replace", 5),
    "second": ("os.replace", 6),
}


@pytest.mark.parametrize("done", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("stage", STAGES)
def test_killed_anywhere_and_given_again(place: Place, killed: Callable[..., int], stage: str, done: bool) -> None:
    first, second, *_ = place.waiting
    at, after = STAGES[stage]
    status = killed(at, after, lambda: place.approve(first, second), done=done)
    assert os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL
    logged = {int(e.details["number"]) for e in place.entries() if e.kind == "approval"}
    for number in (first, second):  # no image is released that the log does not release
        assert number in logged or not place.path("images", number).exists()
    if done:
        place.make(N + 4)  # a release that goes on in between
    place.approve(first, second)
    place.assert_released(first, second)
    assert place.make(N + 8).counts.all == N + 8


def test_another_image_than_was_laid_aside_is_refused(place: Place) -> None:
    first, second, *_ = place.waiting
    path = place.path("review", first)
    if place.sealed:
        own = path.read_bytes()
        shutil.copy(place.path("review", second), path)
        with pytest.raises(PolicyError, match="holds the object"):
            place.approve(first)
        path.write_bytes(own[:-1] + bytes([own[-1] ^ 1]))
        with pytest.raises(AuthenticationError):
            place.approve(first)
    else:
        path.write_bytes(place.path("review", second).read_bytes())
        with pytest.raises(UserError, match="is not the image that was laid aside"):
            place.approve(first)
        path.unlink()
        path.symlink_to(place.path("review", second))
        with pytest.raises(UserError, match="is a link"):
            place.approve(first)
        path.unlink()
        with pytest.raises(UserError, match="cannot be read"):
            place.approve(first)
    assert not place.path("images", first).exists()
    assert not [e for e in place.entries() if e.kind == "approval"]


def test_an_approval_whose_sidecar_or_entry_was_lost_is_given_again(place: Place, tmp_path: Path) -> None:
    first, second, *_ = place.waiting
    older = Path(shutil.copytree(place.released.log.folder, tmp_path / "older"))
    place.approve(first)
    shutil.rmtree(place.released.log.folder)
    older.rename(place.released.log.folder)  # within what looks like a kill
    assert place.approve(first) == [first]
    place.assert_released(first)
    place.approve(second)
    place.path("images", second, ".sg.json").unlink()
    assert place.approve(second) == [second]
    found = judge(
        place.read(place.path("images", second)),
        place.read(place.path("images", second, ".sg.json")),
        place.office.trust(),
    )
    assert found.verdict == "byte-exact" and place.make(N).counts.all == N


def test_what_was_not_laid_aside_is_not_approved(place: Place) -> None:
    released = next(int(path.name[:6]) for path in (place.folder / "images").iterdir())
    for number in (released, 10**6):
        with pytest.raises(UserError, match=f"image {number} was not laid aside"):
            place.approve(number)


def test_a_changed_log_approves_nothing(place: Place) -> None:
    path = place.released.log.path
    lines = path.read_bytes().splitlines(keepends=True)
    lines[4], lines[5] = lines[5], lines[4]
    path.write_bytes(b"".join(lines))
    with pytest.raises(PolicyError, match="refused"):
        place.approve(place.waiting[0])


def test_a_sealed_one_needs_a_key_that_opens_it(run: Path, tmp_path: Path, office: Office) -> None:
    place = Place(run, tmp_path / "out", office, True)
    with pytest.raises(PolicyError, match="sealed for"):
        approve(place.folder, place.waiting[:1], place.keys(), [])
    with pytest.raises(UserError, match=r"is sealed for .* --encrypt-to"):
        approve(place.folder, place.waiting[:1], ReleaseKeys.find(None, "release"), place.identities)
