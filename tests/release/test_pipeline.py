"""A release that dies anywhere and goes on: every image once in the log, none unsigned, and the same images."""

import base64
import hashlib
import json
import os
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from securegan.detectors.base import Detector
from securegan.errors import UserError
from securegan.models.base import GenerativeModule
from securegan.release import pipeline
from securegan.release.entries import ReleaseLog, open_log
from securegan.release.finishing import object_of
from securegan.release.pipeline import Counts, Pipeline, Tools
from securegan.release.plan import Plan, opened
from securegan.release.screening import Screen
from securegan.runs.sampling import TOGETHER, load_watched, sample
from securegan.security.envelope.files import facts_for, open_bytes, seal_bytes
from securegan.security.envelope.recipients import SecretKey
from securegan.security.errors import PolicyError
from securegan.security.provenance import sidecar
from securegan.security.provenance.log import Entry, Log, read_entry
from securegan.security.provenance.signing import Signer
from securegan.security.provenance.statement import ImageOrigin

N = TOGETHER + 14
KEY = Signer(bytes(range(32)))
READER = SecretKey(bytes(32))


def sign(data: bytes, name: str, number: int, pixels: str) -> bytes:
    return sidecar.sign(data, name, KEY, ImageOrigin(index=number), pixels)


def sealing(plan: Plan) -> Callable[[bytes, str], bytes]:
    return lambda data, name: seal_bytes(data, [READER], facts_for("image", object_of(plan, name)))


def a_log(tmp_path: Path) -> Log:
    return open_log(tmp_path / "log", "test", KEY)


def a_plan(**changed: object) -> Plan:
    plain = {"model": "a" * 64, "config": "b" * 64, "dataset": "c" * 64, "run": "run", "seed": 0, "label": None}
    further = {"averaged": True, "on_flagged": "review", "detectors": [], "recipients": [], "log": "test"}
    return Plan(**{**plain, **further, **changed})  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def watched(run: Path) -> tuple[GenerativeModule, list[Detector]]:
    found = load_watched(run)
    return found.module, found.detectors


Release = Callable[..., Counts]


@pytest.fixture
def release(watched: tuple[GenerativeModule, list[Detector]], tmp_path: Path) -> Release:
    """``release(n, sealed=..., **plan)`` into ``tmp_path / out``, logged in ``tmp_path / log``."""

    def run(n: int = N, *, sealed: bool = False, **plan: object) -> Counts:
        module, detectors = watched
        recipients = {"recipients": [READER.kid]} if sealed else {}
        with opened(tmp_path / "out", a_plan(**recipients, **plan)) as begun:
            tools = Tools(sign, sealing(begun) if sealed else None, ReleaseLog(a_log(tmp_path), KEY, (), begun.id))
            return Pipeline(module, Screen(module, detectors), begun, tmp_path / "out", tools).run(n)

    return run


def logged(tmp_path: Path) -> list[Entry]:
    log = a_log(tmp_path)
    entries = [read_entry(line) for line in log.lines(log.checkpoint([KEY.public])[0])]
    return [entry for entry in entries if entry.kind != "mended"]


def images_of(tmp_path: Path, part: str = "images") -> set[int]:
    return {int(path.name[:6]) for path in (tmp_path / "out" / part).glob("[0-9]*") if "sg.json" not in path.name}


def assert_complete(tmp_path: Path, n: int, *, sealed: bool = False) -> None:
    """Every image is once in the log, in order, with its files; each released image has a sidecar that speaks of it."""
    start, *entries = logged(tmp_path)
    assert start.kind == "training" and [entry.details["number"] for entry in entries] == list(range(n))
    for part, kind in (("images", "release"), ("review", "review")):
        assert images_of(tmp_path, part) == {entry.details["number"] for entry in entries if entry.kind == kind}
        names = [path.name for path in (tmp_path / "out" / part).iterdir()]
        assert all(name.endswith(".sge") == sealed and not name.startswith(".") for name in names)
    for entry in entries:
        if entry.kind == "release":
            assert_signed(tmp_path / "out" / "images" / str(entry.name), entry.subject, sealed=sealed)


def assert_signed(path: Path, digest: str | None = None, *, sealed: bool = False) -> None:
    def content(found: Path) -> bytes:
        if sealed:
            return open_bytes(found.with_name(found.name + ".sge").read_bytes(), [READER])
        return found.read_bytes()

    data = content(path)
    statement = json.loads(content(path.with_name(path.name + ".sg.json")))
    assert statement["signatures"]
    said = json.loads(base64.b64decode(statement["payload"]))
    assert said["subject"][0]["digest"]["sha256"] == hashlib.sha256(data).hexdigest()
    assert digest is None or digest == hashlib.sha256(data).hexdigest()
    assert said["predicate"]["index"] == int(path.name[:6])


def test_a_release_holds_the_samples_of_its_seed(
    release: Release, watched: tuple[GenerativeModule, list[Detector]], tmp_path: Path
) -> None:
    counts = release()
    assert counts.all == N and counts.review > 0 and counts.release > counts.review
    assert_complete(tmp_path, N)
    images = torch.cat([part for part, _ in sample(watched[0], N, seed=0)])
    for entry in logged(tmp_path)[1:]:
        part, number = "images" if entry.kind == "release" else "review", int(entry.details["number"])
        with Image.open(tmp_path / "out" / part / str(entry.name)) as written:
            expected = images[number, 0].mul(255).round().byte().numpy()
            assert np.array_equal(np.asarray(written), expected)
        assert entry.details["class"] == str(number % 10)
        score, limit = float(entry.details["score mahalanobis"]), watched[1][0].threshold
        assert (score > limit) == (entry.kind == "review") or abs(score - limit) < 1e-4


def test_flagged_images_are_rejected_where_asked(release: Release, tmp_path: Path) -> None:
    counts = release(on_flagged="reject")
    assert counts.rejection > 0 and counts.review == 0 and not images_of(tmp_path, "review")
    assert len(images_of(tmp_path)) == counts.release == N - counts.rejection
    assert all("pixels" in entry.details for entry in logged(tmp_path)[1:])  # which can be recognised should it turn up


def test_more_images_follow_and_fewer_change_nothing(release: Release, tmp_path: Path) -> None:
    few = release(5)
    before = {path: path.read_bytes() for path in (tmp_path / "out").rglob("*.png*")}
    assert release(5) == few and release(3) == few
    release(N)
    assert_complete(tmp_path, N)
    assert all(path.read_bytes() == content for path, content in before.items())
    whole = logged(tmp_path)
    for path in sorted((tmp_path / "out").rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()
    shutil.rmtree(tmp_path / "log")
    release(N)  # at once: the same images, judged the same

    def told(entries: list[Entry]) -> list[object]:
        return [(entry.kind, entry.subject, {**entry.details, "release": ""}) for entry in entries]

    assert told(logged(tmp_path)) == told(whole)


STAGES = {
    "sample": ("securegan.release.pipeline.whole_batches", 0),
    "screen": ("securegan.release.screening.Screen.__call__", 1),
    "encode": ("securegan.release.pipeline.picture", 40),
    "sign": ("securegan.security.provenance.sidecar.sign", 30),
    "write": ("securegan.release.pipeline.written", 65),
    "flush": ("securegan.release.pipeline.flush", 1),
    "rename": ("os.replace", 67),
    "log": ("securegan.security.provenance.log.Writer.commit", 2),
    "sign log": ("securegan.security.provenance.log.Log._sign", 3),
    "first log": ("securegan.security.provenance.log.Log._sign", 0),
    "frontier": ("securegan.security.provenance.log.Log._keep", 2),
    "last": ("securegan.release.pipeline.Pipeline._add", 35),
}


@pytest.mark.parametrize("done", [False, True], ids=["before", "after"])
@pytest.mark.parametrize(
    ("stage", "sealed"), [*((stage, False) for stage in STAGES), ("sign", True), ("rename", True), ("log", True)]
)
def test_killed_at_any_stage_and_started_again(
    release: Release, tmp_path: Path, killed: Callable[..., int], stage: str, done: bool, sealed: bool
) -> None:
    at, after = STAGES[stage]
    status = killed(at, after, lambda: release(sealed=sealed), done=done)
    assert os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL
    if not sealed and (tmp_path / "out" / "images").exists():
        for path in (tmp_path / "out" / "images").glob("[0-9]*.png"):
            assert_signed(path)  # at no moment is there an image without its sidecar
    release(sealed=sealed)
    assert_complete(tmp_path, N, sealed=sealed)


def test_a_full_disk_is_one_sentence_and_nothing_is_lost(
    release: Release, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write, calls = pipeline._write, iter(range(10**6))

    def full(folder: Path, files: Any) -> None:
        if next(calls) >= 35:
            raise OSError(28, "No space left on device")
        write(folder, files)

    monkeypatch.setattr(pipeline, "_write", full)
    with pytest.raises(UserError, match=r"No space left on device; the 32 images done so far are kept") as caught:
        release()
    assert str(caught.value).count(". ") == 0
    monkeypatch.undo()
    release()
    assert_complete(tmp_path, N)


def test_two_releases_into_one_folder_at_once_are_refused(release: Release, tmp_path: Path) -> None:
    with opened(tmp_path / "out", a_plan()), pytest.raises(UserError, match="in use by another release"):
        release()
    release(3)


@pytest.mark.parametrize(
    "changed", [{"seed": 1}, {"model": "d" * 64}, {"on_flagged": "reject"}, {"recipients": ["ab" * 16]}]
)
def test_another_plan_is_refused(release: Release, tmp_path: Path, changed: dict[str, object]) -> None:
    release(3)
    with pytest.raises(UserError, match=next(iter(changed))):
        release(4, **changed)


def test_a_folder_that_holds_something_else_is_refused(release: Release, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine.txt").touch()
    with pytest.raises(UserError, match="not empty"):
        release(1)
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["mine.txt"]


WRONG = {"model": 3, "seed": True, "label": -1, "averaged": 1, "detectors": [{"name": {}}], "recipients": None}


@pytest.mark.parametrize(
    "content", ["", "{}", "[]", '{"id": 3}', "[" * 10**5, '{"a": NaN}', "\\ud800", '{"a": "\\ud800"}']
)
def test_a_damaged_plan_is_named(release: Release, tmp_path: Path, content: str) -> None:
    release(1)
    (tmp_path / "out" / "release.json").write_text(content)
    with pytest.raises(UserError, match=r"release\.json is damaged"):
        release(2)


@pytest.mark.parametrize(
    "changed", [*({name: value} for name, value in WRONG.items()), {"id": "x"}, {"id": "AB" * 16}, {"more": 1}]
)
def test_a_plan_of_other_types_is_damaged(release: Release, tmp_path: Path, changed: dict[str, object]) -> None:
    release(1)
    path = tmp_path / "out" / "release.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changed}))
    with pytest.raises(UserError, match=rf"release\.json is damaged \({next(iter(changed))}"):
        release(2)


def test_a_plan_that_is_a_pipe_or_huge_is_refused_unread(release: Release, tmp_path: Path) -> None:
    release(1)
    path = tmp_path / "out" / "release.json"
    with path.open("wb") as file:
        file.truncate(2**40)
    with pytest.raises(UserError, match=r"release\.json cannot be read: it has more than"):
        release(2)
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(UserError, match=r"release\.json cannot be read: it is no regular file"):
        release(2)


def test_a_plan_with_a_key_twice_is_damaged(release: Release, tmp_path: Path) -> None:
    release(1)
    path = tmp_path / "out" / "release.json"
    path.write_text(path.read_text().replace('"seed": 0', '"seed": 0,\n "seed": 0'))
    with pytest.raises(UserError, match="a key stands twice"):
        release(2)


def test_rubble_goes_and_what_others_laid_there_stays(release: Release, tmp_path: Path) -> None:
    release(5)
    images = tmp_path / "out" / "images"
    rubble = [images / name for name in ("000007.png", "000007.png.sg.json", ".000002.png.abc", "000063.png")]
    kept = [images / "README.md", images / ".keep"]
    for path in (*rubble, *kept):
        path.touch()
    release(6)
    assert not any(path.exists() for path in rubble) and all(path.exists() for path in kept)


def test_notes_of_a_reviewer_stay_and_links_are_refused(release: Release, tmp_path: Path) -> None:
    release(20)
    kept = [tmp_path / "out" / "review" / name for name in ("99.reviewed", "2025.txt", "000099.png.note", ".notes")]
    for path in kept:
        path.write_text("mine")
    release(30)
    assert all(path.read_text() == "mine" for path in kept)
    victim = tmp_path / "victim"
    (tmp_path / "out" / "review").rename(victim)
    (victim / "000999.png").write_text("mine")
    (tmp_path / "out" / "review").symlink_to(victim)
    with pytest.raises(UserError, match="is a link"):
        release(40)
    assert (victim / "000999.png").read_text() == "mine"


def test_a_log_that_lacks_an_image_is_not_gone_on_with(release: Release, tmp_path: Path) -> None:
    release(5)
    own = json.loads((tmp_path / "out" / "release.json").read_text())["id"]
    strange = Entry(kind="release", subject="a" * 64, details={"release": own, "number": 6})
    a_log(tmp_path).append([strange], KEY)
    with pytest.raises(UserError, match="image 6 stands where 5 should"):
        release(8)


def test_a_log_that_was_cut_is_not_gone_on_with(release: Release, tmp_path: Path) -> None:
    release(5)
    path = tmp_path / "log" / "log.jsonl"
    path.write_bytes(b"".join(path.read_bytes().splitlines(keepends=True)[:3]))
    with pytest.raises(UserError, match="truncated to 3 entries"):
        release(8)


def test_releases_share_a_log(release: Release, tmp_path: Path) -> None:
    release(5)
    shutil.move(tmp_path / "out", tmp_path / "first")
    release(4)
    assert len(logged(tmp_path)) == 5 + 4 + 2
    shutil.rmtree(tmp_path / "out")
    shutil.move(tmp_path / "first", tmp_path / "out")
    assert release(6).all == 6


def test_a_log_changed_in_its_middle_is_not_gone_on_with(release: Release, tmp_path: Path) -> None:
    """The cache of the tree and the last entry are as they were: only reading it all tells."""
    release(20)
    path = tmp_path / "log" / "log.jsonl"
    lines = path.read_bytes().splitlines(keepends=True)
    digest = read_entry(lines[7][:-1]).subject or ""
    lines[7] = lines[7].replace(digest.encode(), digest[::-1].encode())
    path.write_bytes(b"".join(lines))
    kept = {each: each.read_bytes() for each in tmp_path.rglob("*") if each.is_file()}
    with pytest.raises(PolicyError, match="its entries are not those that were signed"):
        release(N)
    assert {each: each.read_bytes() for each in tmp_path.rglob("*") if each.is_file()} == kept


@pytest.mark.parametrize("before", [8, TOGETHER, TOGETHER + 8])
def test_a_log_brought_back_from_an_older_state_is_told_from_a_kill(
    release: Release, tmp_path: Path, before: int
) -> None:
    """A killed process leaves the images of two forwards without entries; with one more, the log was cut."""
    release(before)
    shutil.copytree(tmp_path / "log", tmp_path / "older")
    stop = before - before % TOGETHER + 2 * TOGETHER
    release(stop + 1)
    newest = shutil.move(tmp_path / "log", tmp_path / "newest")
    shutil.copytree(tmp_path / "older", tmp_path / "log")
    images = {path: path.read_bytes() for path in (tmp_path / "out").rglob("*.png*")}
    with pytest.raises(UserError, match=rf"0000{stop}\.png.* is there, but the log .* ends before image {before}"):
        release(stop + 5)
    assert {path: path.read_bytes() for path in (tmp_path / "out").rglob("*.png*")} == images
    for path in (tmp_path / "out").rglob(f"0000{stop}.png*"):
        path.unlink()
    release(stop + 5)  # as after a kill
    assert_complete(tmp_path, stop + 5)
    assert Path(newest).exists()


def test_a_log_without_a_word_of_the_release_has_lost_it(release: Release, tmp_path: Path) -> None:
    a_log(tmp_path)
    shutil.copytree(tmp_path / "log", tmp_path / "empty")
    release(5)
    shutil.rmtree(tmp_path / "log")
    shutil.move(tmp_path / "empty", tmp_path / "log")
    with pytest.raises(UserError, match="is missing or has no entry of it"):
        release(5)
    assert len(images_of(tmp_path)) + len(images_of(tmp_path, "review")) == 5


def test_a_log_older_than_this_machine_has_verified_is_not_gone_on_with(
    release: Release, tmp_path: Path, office: Any
) -> None:
    release(5)
    shutil.copytree(tmp_path / "log", tmp_path / "older")
    release(6)
    found, _ = a_log(tmp_path).checkpoint([KEY.public])
    office.memory.checkpoint(found.origin, found.size, found.root, "log")  # as securegan log verify does
    shutil.rmtree(tmp_path / "log")
    shutil.move(tmp_path / "older", tmp_path / "log")
    with pytest.raises(PolicyError, match="truncated to 6 entries, where 7 were signed before"):
        release(7)


def test_an_unfitted_detector_screens_nothing(make_run: Callable[..., Path], tmp_path: Path) -> None:
    found = load_watched(make_run(tmp_path / "run"))
    module, detectors = found.module, found.detectors
    module.attached["mahalanobis"].fitted.fill_(False)  # type: ignore[union-attr, operator]
    with pytest.raises(UserError, match="was not fitted"):
        Screen(module, detectors)


def test_a_score_that_is_no_number_is_flagged(watched: tuple[GenerativeModule, list[Detector]]) -> None:
    module, detectors = watched

    class Broken(type(detectors[0])):  # type: ignore[misc]
        threshold = 1.0
        fitted = True

        def scores(self, module: GenerativeModule, images: torch.Tensor) -> torch.Tensor:
            return torch.tensor([0.5, torch.nan, torch.inf, 2.0], dtype=torch.float64)

    flagged, _ = Screen(module, [Broken()])(torch.rand(4, 1, 32, 32))
    assert flagged.tolist() == [False, True, True, True]


def test_memory_holds_two_forwards_at_most(release: Release, monkeypatch: pytest.MonkeyPatch) -> None:
    """Streaming: however many are asked for, no more than the images of two forwards wait to be logged."""
    alive, most = set(), 0
    finish, add = pipeline.Pipeline._finish, pipeline.Pipeline._add

    def counted(self: Pipeline, image: Any) -> Entry:
        nonlocal most
        alive.add(image.number)
        most = max(most, len(alive))
        return finish(self, image)

    def forgotten(self: Pipeline, entry: Entry) -> None:
        alive.discard(self.counts.all)
        add(self, entry)

    monkeypatch.setattr(pipeline.Pipeline, "_finish", counted)
    monkeypatch.setattr(pipeline.Pipeline, "_add", forgotten)
    release(6 * TOGETHER)
    assert most <= 2 * TOGETHER
