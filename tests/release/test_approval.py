"""Images that were laid aside for review, released by hand: each once, whole, and by whom, whatever is killed."""

import json
import os
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from securegan.errors import UserError
from securegan.release.approval import approve
from securegan.release.finishing import sealing, signing
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
def sealed(request: pytest.FixtureRequest) -> bool:
    return bool(request.param)


@pytest.fixture
def place(run: Path, tmp_path: Path, office: Office, sealed: bool) -> Place:
    return Place(run, tmp_path / "out", office, sealed)


def edit(place: Place, **changed: object) -> None:
    path = place.folder / "release.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changed}))


def contents(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


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
        with pytest.raises(PolicyError, match=rf"^{path} is refused: it holds the object"):
            place.approve(first)
        path.write_bytes(own[:-1] + bytes([own[-1] ^ 1]))
        with pytest.raises(AuthenticationError, match=f"^{path} is refused"):
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
        with pytest.raises(UserError, match=f"does not hold image {first}"):
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


EDITS = {
    "seed": 7,
    "run": "another",
    "model": "d" * 64,
    "config": "d" * 64,
    "dataset": "d" * 64,
    "averaged": False,
    "label": 3,
    "on_flagged": "reject",
    "detectors": [],
}


@pytest.mark.parametrize("name", EDITS)
def test_a_plan_that_was_edited_vouches_for_nothing(run: Path, tmp_path: Path, office: Office, name: str) -> None:
    place = Place(run, tmp_path / "out", office, False)
    edit(place, **{name: EDITS[name]})
    kept = contents(place.folder)
    with pytest.raises(UserError, match=r"release\.json is not what the release was begun with: .*; restore it"):
        place.approve(place.waiting[0])
    assert contents(place.folder) == kept
    plan = place.released.plan.model_copy(update={name: EDITS[name]})
    with pytest.raises(UserError, match="is not what the release was begun with"):
        summarise(replace(place.released, plan=plan), place.folder, place.keys())


def test_edited_recipients_are_refused(run: Path, tmp_path: Path, office: Office) -> None:
    place = Place(run, tmp_path / "out", office, True)
    thief = office.ring.new("thief", "x25519")
    edit(place, recipients=[thief.kid])
    keys = ReleaseKeys.find(None, "release", ["thief"])
    with pytest.raises(UserError, match=rf"it says recipient 1 {thief.kid}, and the signed log {place.keys().kids[0]}"):
        approve(place.folder, place.waiting[:1], keys, place.identities)
    found = load_watched(place.run)
    source = Source.of(found.folder, found.entry)
    with pytest.raises(UserError, match="it says recipient 1"):
        release(found.module, found.detectors, source, place.folder, N + 9, keys, Order())


def test_an_approval_does_not_go_on_with_a_log_that_a_release_would_not(
    run: Path, tmp_path: Path, office: Office
) -> None:
    place = Place(run, tmp_path / "out", office, False)
    log = place.released.log.folder
    older = Path(shutil.copytree(log, tmp_path / "older"))
    place.make(N + 80)
    shutil.rmtree(log)
    older.rename(log)
    kept = contents(place.folder)
    with pytest.raises(UserError, match=f"ends before image {N}, and no process that was killed"):
        place.approve(place.waiting[0])
    assert contents(place.folder) == kept


@pytest.mark.parametrize("sizes", [(N, N + 20), (N + 20, N), (N, N)])
def test_the_id_of_another_release_in_the_same_log_is_refused(
    run: Path, tmp_path: Path, office: Office, sealed: bool, sizes: tuple[int, int]
) -> None:
    """Plan and log are the same, and so are the images: only the files tell whose entries these are."""
    folders = [tmp_path / "first", tmp_path / "second"]
    keys = ReleaseKeys.find(None, "release", ["reader"] if sealed else [])
    found = load_watched(run)
    source = Source.of(found.folder, found.entry)

    def make(folder: Path, n: int) -> Released:
        order, log = Order(), tmp_path / "shared"
        return release(found.module, found.detectors, source, folder, n, keys, order, log=log)

    make(folders[0], sizes[0])
    time.sleep(1.1)  # a sidecar's time is in seconds
    make(folders[1], sizes[1])
    shutil.copy(folders[0] / "release.json", folders[1] / "release.json")
    kept = contents(folders[1])
    number = min(int(path.name[:6]) for path in (folders[1] / "review").iterdir())
    for act in (
        lambda: make(folders[1], sizes[1] + 5),
        lambda: approve(folders[1], [number], keys, [Ring(office.ring)], tmp_path / "shared"),
    ):
        with pytest.raises(UserError, match="another release's; restore them"):
            act()
    assert contents(folders[1]) == kept


@pytest.mark.parametrize("what", ["another image", "a link", "another sidecar", "a link as sidecar"])
def test_what_was_laid_over_an_approved_image_stays_where_it_is(place: Place, tmp_path: Path, what: str) -> None:
    first, *_ = place.waiting
    place.approve(first)
    beside = ".sg.json" if "sidecar" in what else ""
    planted = place.path("review", first, beside)
    if "link" in what:
        target = tmp_path / "elsewhere"
        shutil.copy(place.path("images", first, beside), target)
        planted.symlink_to(target)
    elif beside:
        keys, number = place.keys(), first
        signed = signing(place.released.plan, keys)(b"another", f"{number:06d}.png", number, "e" * 64)
        seal = sealing(place.released.plan, keys)
        planted.write_bytes(seal(signed, f"{number:06d}.png.sg.json") if seal else signed)
    else:
        seal, data = sealing(place.released.plan, place.keys()), b"another image"
        planted.write_bytes(seal(data, f"{first:06d}.png") if seal else data)
    kept = contents(place.folder / "images")
    with pytest.raises(UserError, match=r"is not what was approved: .* is; look at it|is a link"):
        place.approve(first)
    assert contents(place.folder / "images") == kept and os.path.lexists(planted)
    planted.unlink()
    place.assert_released(first)


def test_what_came_under_the_name_of_an_image_that_is_being_approved_is_not_moved(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between the log's signed step and the move."""
    first, second, *_ = place.waiting
    path, flushed = place.path("review", first), iter(range(9))

    def swapped(folder: Path) -> None:
        if next(flushed) == 0:
            path.write_bytes(place.path("review", second).read_bytes())

    monkeypatch.setattr("securegan.release.approval.flush", swapped)
    with pytest.raises(UserError, match=r"is missing or not what was approved|holds the object"):
        place.approve(first)
    assert not place.path("images", first).exists()


@pytest.mark.parametrize("what", ["altered", "revoked", "revoked meanwhile"])
def test_nothing_is_signed_unless_all_are_approved(place: Place, monkeypatch: pytest.MonkeyPatch, what: str) -> None:
    first, second, *_ = place.waiting
    if what == "altered":
        path = place.path("review", second)
        path.write_bytes(path.read_bytes()[:-1])
    keys, signed = place.keys(), iter(range(9))
    end = partial(place.office.ring.revoke, "release", "superseded")
    if what == "revoked":
        end()
    elif what == "revoked meanwhile":
        monkeypatch.setattr("securegan.release.approval.flush", lambda folder: end())
    kept = contents(place.folder)
    monkeypatch.setattr(keys.signer.__class__, "sign", _counted(keys.signer.__class__.sign, signed))
    with pytest.raises(UserError):
        approve(place.folder, [first, second], keys, place.identities)
    assert contents(place.folder) == kept
    assert next(signed) == (2 if what == "revoked meanwhile" else 0)


def _counted(act: Callable[..., Any], calls: Iterator[int]) -> Callable[..., Any]:
    def counted(*arguments: Any) -> Any:
        next(calls)
        return act(*arguments)

    return counted


@pytest.mark.parametrize("part", ["images", "review"])
def test_a_folder_that_is_a_link_is_refused(place: Place, tmp_path: Path, part: str) -> None:
    (place.folder / part).rename(tmp_path / part)
    (place.folder / part).symlink_to(tmp_path / part)
    kept = contents(tmp_path / part)
    with pytest.raises(UserError, match=rf"{part} is a link: a release lies in its own folder alone"):
        place.approve(place.waiting[0])
    assert contents(tmp_path / part) == kept


def test_a_log_that_lacks_an_image_approves_nothing(place: Place) -> None:
    strange = Entry(kind="release", subject="a" * 64, details={"release": place.released.plan.id, "number": N + 1})
    place.released.log.append([strange], place.office.signer)
    with pytest.raises(UserError, match=f"image {N + 1} stands where {N} should"):
        place.approve(place.waiting[0])


def test_a_release_is_approved_in_its_own_log_alone(run: Path, tmp_path: Path, office: Office) -> None:
    place = Place(run, tmp_path / "out", office, False)
    first, *_ = place.waiting
    with pytest.raises(UserError, match="has a log of its own: leave --log out"):
        approve(place.folder, [first], place.keys(), log=place.released.log.folder)
    found, shared = load_watched(run), tmp_path / "shared"
    source, folder = Source.of(found.folder, found.entry), tmp_path / "second"
    release(found.module, found.detectors, source, folder, N, place.keys(), Order(), log=shared)
    with pytest.raises(UserError, match=r"is in the log securegan/log/.*: name it with --log"):
        approve(folder, [first], place.keys())
    assert not (folder / "log").exists()
    assert approve(folder, [first], place.keys(), log=shared) == [first]
