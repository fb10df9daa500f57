"""Attack results on disk: found again by what they came from, and by nothing less."""

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from securegan.attacks.engine import Attack
from securegan.attacks.evasion.apgd import APGD
from securegan.attacks.evasion.base import Task
from securegan.attacks.evasion.pgd import PGD
from securegan.attacks.evasion.suite import Suite
from securegan.attacks.supplies import Supplies
from securegan.attacks.surfaces import AuthenticitySurface, LabelSurface
from securegan.attacks.threat import AttackResult
from securegan.runs.journal import NAMES, Journal


class Counted:
    """A linear classifier of two classes that counts the images it sees."""

    def __init__(self) -> None:
        self.net = nn.Sequential(nn.Flatten(), nn.Linear(16, 2))
        for parameter in self.net.parameters():
            nn.init.normal_(parameter, generator=torch.Generator().manual_seed(0))
        self.seen = 0
        self.surface = LabelSurface(self._count, (self.net,), "ab")

    def _count(self, x: Tensor) -> Tensor:
        self.seen += len(x)
        return self.net(x)


@pytest.fixture
def counted() -> Counted:
    return Counted()


IMAGES = torch.rand(6, 1, 4, 4, generator=torch.Generator().manual_seed(1))


def attacked(
    journal: Journal, counted: Counted, attack: Attack, images: Tensor = IMAGES, **asked: object
) -> AttackResult:
    truth = counted.net(IMAGES).argmax(1)
    settings: dict[str, object] = {"purpose": (0, "attack"), "keys": torch.arange(6), **asked}
    return journal.run(attack, counted.surface, images, truth, **settings)  # type: ignore[arg-type]


def test_the_same_attack_is_read_and_not_run(tmp_path: Path, counted: Counted) -> None:
    journal, attack = Journal(tmp_path / "attacks"), PGD(eps=0.1, steps=3)
    first = attacked(journal, counted, attack)
    seen = counted.seen
    again = attacked(Journal(tmp_path / "attacks"), counted, PGD(eps=0.1, steps=3))
    assert counted.seen == seen > 0
    for name in NAMES:
        before, after = getattr(first, name), getattr(again, name)
        assert before.dtype == after.dtype and torch.equal(before, after)
    journal.forget()
    assert not (tmp_path / "attacks").exists()


@pytest.mark.parametrize("change", ["eps", "steps", "images", "keys", "purpose", "weights", "start"])
def test_whatever_else_goes_in_is_another_attack(tmp_path: Path, counted: Counted, change: str) -> None:
    journal = Journal(tmp_path / "attacks")
    attacked(journal, counted, PGD(eps=0.1, steps=3))
    seen = counted.seen
    other: dict[str, object] = {}
    if change == "weights":
        with torch.no_grad():
            next(iter(counted.net.parameters())).mul_(1.0001)
    elif change == "images":
        other["images"] = IMAGES + 1e-3
    elif change == "keys":
        other["keys"] = torch.arange(6) + 1
    elif change == "purpose":
        other["purpose"] = (1, "attack")
    elif change == "start":
        other["start"] = IMAGES
    attack = PGD(eps=0.2 if change == "eps" else 0.1, steps=4 if change == "steps" else 3)
    attacked(journal, counted, attack, **other)  # type: ignore[arg-type]
    assert counted.seen > seen


def test_a_damaged_file_counts_as_none(tmp_path: Path, counted: Counted) -> None:
    journal, attack = Journal(tmp_path / "attacks"), PGD(eps=0.1, steps=3)
    first = attacked(journal, counted, attack)
    (file,) = (tmp_path / "attacks").iterdir()
    file.write_bytes(file.read_bytes()[:-40])
    assert torch.equal(attacked(journal, counted, attack).adversarial, first.adversarial)


def test_surfaces_that_differ_in_a_threshold_or_a_tensor_are_told_apart(tmp_path: Path, counted: Counted) -> None:
    journal = Journal(tmp_path / "attacks")
    score = lambda x: counted.surface.classify(x)[:, 0]  # noqa: E731
    real = torch.ones(6, dtype=torch.int64)
    for threshold in (-9.0, -8.0, -9.0):
        surface = AuthenticitySurface(score, threshold, (counted.net,))
        journal.run(PGD(eps=0.1, steps=2), surface, IMAGES, real, purpose=("t",), keys=None)
    assert len(list((tmp_path / "attacks").iterdir())) == 2


class Killed(Exception):
    pass


def suite_of(journal: Journal, counted: Counted) -> Suite:
    suite = Suite(eps=0.02, attacks=["fgsm", "pgd", "apgd_ce"], steps=3, restarts=1)
    suite.prepare(counted.surface, Supplies(journal))
    return suite


def test_a_suites_members_are_kept_until_the_suite_is(tmp_path: Path, counted: Counted) -> None:
    folder = tmp_path / "attacks"
    journal = Journal(folder)
    first = attacked(journal, counted, suite_of(journal, counted))
    assert len(list(folder.iterdir())) == 1
    seen = counted.seen
    journal = Journal(folder)
    assert torch.equal(attacked(journal, counted, suite_of(journal, counted)).adversarial, first.adversarial)
    assert counted.seen == seen


def test_a_suite_killed_half_way_goes_on_where_it_stopped_and_leaves_one_result(
    tmp_path: Path, counted: Counted, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = suite_of(Journal(tmp_path / "whole"), counted)
    before = counted.seen
    expected = attacked(Journal(tmp_path / "whole"), counted, whole)
    needed = counted.seen - before

    def killed(self: APGD, task: Task) -> None:
        raise Killed

    journal, folder = Journal(tmp_path / "attacks"), tmp_path / "attacks"
    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(APGD, "search", killed)
        attacked(journal, counted, suite_of(journal, counted))
    assert len(list(folder.iterdir())) == 2  # of the members that ended
    attacked(journal, counted, PGD(eps=0.1, steps=3))  # the journal is fit for use, and keeps what is not the suite's
    before, journal = counted.seen, Journal(folder)
    result = attacked(journal, counted, suite_of(journal, counted))
    assert 0 < counted.seen - before < needed
    assert all(torch.equal(getattr(result, name), getattr(expected, name)) for name in NAMES)
    assert len(list(folder.iterdir())) == 2
