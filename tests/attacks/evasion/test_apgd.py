"""Auto-PGD: the schedule of the paper, its strength beside PGD's, and agreement with the authors' own code."""

import copy
from functools import cache
from typing import Any

import pytest
import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.nn import functional as F

from securegan.attacks.evasion.apgd import APGD, AutoStep, checkpoints
from securegan.attacks.evasion.pgd import PGD
from securegan.attacks.spaces import LatentSpace, PixelSpace
from securegan.attacks.surfaces import AuthenticitySurface, LabelSurface, LatentSurface
from securegan.attacks.threat import Norm
from securegan.errors import ConfigError

RADII: dict[Norm, float] = {"linf": 0.12, "l2": 0.6}


@cache
def digits() -> tuple[LabelSurface, Tensor, Tensor]:
    """A convolutional net trained for seconds on digits (8x8), and 128 images it has not seen."""
    pixels, labels = load_digits(return_X_y=True)
    images = torch.tensor(pixels, dtype=torch.float32).view(-1, 1, 8, 8) / 16
    truth = torch.tensor(labels)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        net = nn.Sequential(
            nn.Conv2d(1, 16, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(16, 32, 3, stride=2, padding=1),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(512, 10),
        )
    optimizer = torch.optim.Adam(net.parameters(), 3e-3)
    for step in range(150):
        rows = torch.arange(64) * 23 % 1500 + step % 23
        noisy = images[rows] + 0.1 * torch.randn(64, 1, 8, 8, generator=torch.Generator().manual_seed(step))
        optimizer.zero_grad()
        F.cross_entropy(net(noisy), truth[rows]).backward()
        optimizer.step()
    net.eval()
    return LabelSurface(net, (net,), "0123456789"), images[1600:1728], truth[1600:1728]


def robust(attack: Any) -> int:
    surface, images, truth = digits()
    result = attack(surface, images, truth, keys=torch.arange(128))
    return int((result.clean_right & ~result.success).sum())


def test_checkpoints_are_the_papers() -> None:
    """Section 3.2: 22, 41, 57, ... of a hundred steps, the periods 3 shorter each time and never under 6."""
    assert sorted(checkpoints(100)) == [22, 41, 57, 70, 80, 87, 93, 99]
    assert sorted(checkpoints(10)) == [3, 5, 6, 7, 8, 9, 10]
    assert checkpoints(1) == {1}


def test_step_sizes_are_halved_example_by_example_and_the_best_point_is_where_it_goes_on() -> None:
    """One example's objective always rises, the second's falls at every step, the third's never changes."""
    origin = torch.full((3, 1, 2, 2), 0.5)
    step = AutoStep(PixelSpace().ball(origin, 0.25, "linf"), "linf", 100)
    x, sizes = origin, []
    gradient = torch.ones_like(origin)
    for count in range(100):
        value = torch.tensor([float(count), -float(count), 0.0])
        start = x
        x = step.move(x, value, gradient if count else -gradient)
        if count == 0:
            assert torch.allclose(x, origin - 0.25)  # a whole step of 2 eps, cut by the ball
        sizes.append((step.eta / 0.25).tolist())
        if count in checkpoints(100):  # the second went back to its start, from which the first gradient leads down
            assert torch.equal(step.best[1], origin[1]) and not torch.equal(start[1], origin[1])
            assert (x[1] < start[1]).all()
    rising, falling, constant = ([row[n] for row in sizes] for n in range(3))
    assert set(rising) == {2.0}
    assert [falling.index(2.0 / 2**k) for k in range(9)] == [0, 22, 41, 57, 70, 80, 87, 93, 99]
    assert constant == falling


def test_rises_without_a_new_best_halve_the_step_at_every_other_checkpoint() -> None:
    """Condition 2 alone: the objective rises in every step but the first, and never reaches the start's."""
    origin = torch.full((1, 1, 2, 2), 0.5)
    step = AutoStep(PixelSpace().ball(origin, 0.25, "linf"), "linf", 100)
    halved, last = [], 2 * 0.25
    for count in range(100):
        value = torch.tensor([100.0 if count == 0 else float(count) - 50])
        step.move(origin, value, torch.ones_like(origin))
        if float(step.eta) < last:
            halved.append(count)
            last = float(step.eta)
    assert halved == [22, 57, 80, 93]


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_it_is_no_weaker_than_pgd_at_equal_steps(norm: Norm) -> None:
    common: dict[str, Any] = {"norm": norm, "eps": RADII[norm], "steps": 30, "restarts": 1}
    plain, auto = (robust(make(**common, objectives=("ce",))) for make in (PGD, APGD))
    assert 0 < auto <= plain < 128


def test_target_classes_only_add_and_are_left_out_below_three_classes() -> None:
    alone = APGD(eps=0.12, steps=10, objectives=("ce",))
    aimed = APGD(eps=0.12, steps=10, objectives=("ce",), target_classes=9)
    surface, images, truth = digits()
    keys = torch.arange(128)
    before, after = (attack(surface, images, truth, keys=keys) for attack in (alone, aimed))
    assert (after.success >= before.success).all()
    assert (after.queries >= before.queries)[after.clean_right & ~after.success].all()
    lasting = after.clean_right & ~after.success
    assert (after.queries[lasting] == 1 + 11 + 1 + 9 * 11).all()
    two = AuthenticitySurface(lambda x: x.flatten(1).mean(1), 0.5, ())
    result = APGD(eps=0.01, steps=10, target_classes=9)(two, images[:8], torch.zeros(8, dtype=torch.int64))
    assert (result.queries <= 1 + 11).all()


def test_a_target_and_target_classes_cannot_both_be_asked_for() -> None:
    with pytest.raises(ConfigError, match=r"target_classes=2 cannot stand beside attack\.targeted=next"):
        APGD(eps=0.1, target_classes=2, targeted="next")


def test_a_search_begins_where_an_earlier_one_ended() -> None:
    seen: list[Tensor] = []
    surface, images, truth = digits()

    def recorded(x: Tensor) -> Tensor:
        seen.append(x.detach().clone())
        return surface.classify(x)

    start = (images + 0.05).clamp(0, 1)
    APGD(eps=0.06, steps=1, objectives=("ce",))(LabelSurface(recorded, (), "0123456789"), images, truth, start=start)
    right = surface.classify(images).argmax(1) == truth
    assert torch.allclose(seen[1][: int(right.sum())], start[right], atol=1e-6)


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_latent_codes_stay_in_the_ball_and_the_shell(norm: Norm) -> None:
    generate = nn.Linear(8, 4)
    torch.nn.init.orthogonal_(generate.weight, generator=torch.Generator().manual_seed(0))
    torch.nn.init.zeros_(generate.bias)
    surface = LatentSurface(lambda z, y: generate(z), lambda image: image, 8, (generate,), "abcd")
    space = LatentSpace(8)
    z = space.into_shell(torch.randn(50, 8, generator=torch.Generator().manual_seed(0)))
    attack = APGD(eps=0.1, norm=norm, latent_eps=0.4, steps=10, target_classes=3)
    with torch.no_grad():
        truth = generate(z).argmax(1)
    result = attack(surface, z, truth)
    assert result.valid.all() and 0 < result.success.sum() < 50
    assert 0.39 < result.distance.max() <= 0.4 * (1 + 1e-6)
    radius = result.adversarial.norm(dim=1)
    assert (radius >= space.inner * (1 - 1e-6)).all() and (radius <= space.outer * (1 + 1e-6)).all()


def theirs(name: str, norm: Norm, **settings: Any) -> int:
    """Robust examples after the authors' attack, the images it gives back judged by us."""
    module = pytest.importorskip("autoattack.autopgd_base", reason="of the authors' package autoattack")
    surface, images, truth = digits()
    net = copy.deepcopy(surface.victims[0])
    kind = {"linf": "Linf", "l2": "L2"}[norm]
    attack = getattr(module, name)(net, n_iter=50, norm=kind, eps=RADII[norm], seed=0, device="cpu", **settings)
    with torch.random.fork_rng(devices=[]):
        found = attack.perturb(images, truth)
    with torch.no_grad():
        return int((net(found).argmax(1) == truth).sum())


@pytest.mark.peers
@pytest.mark.parametrize("norm", ["linf", "l2"])
@pytest.mark.parametrize("objective", ["ce", "dlr"])
def test_robust_accuracy_is_that_of_the_authors_code(norm: Norm, objective: Any) -> None:
    ours = robust(APGD(norm=norm, eps=RADII[norm], steps=50, objectives=(objective,), restarts=3))
    other = theirs("APGDAttack", norm, loss=objective, n_restarts=3)
    print(f"{norm} {objective}: robust {ours} of 128 beside {other}")
    assert 20 < other < 110 and abs(ours - other) <= 2


@pytest.mark.peers
@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_robust_accuracy_towards_target_classes_is_that_of_the_authors_code(norm: Norm) -> None:
    ours = robust(APGD(norm=norm, eps=RADII[norm], steps=50, objectives=("ce",), target_classes=9))
    other = theirs("APGDAttack_targeted", norm, n_target_classes=9)
    print(f"{norm} targeted: robust {ours} of 128 beside {other}")
    assert 20 < other < 110 and abs(ours - other) <= 2
