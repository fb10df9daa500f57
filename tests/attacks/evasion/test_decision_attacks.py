"""Boundary Attack and HopSkipJump: how near they come, by closed form and beside another library at equal queries."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from securegan.attacks.evasion.base import EvasionAttack
from securegan.attacks.evasion.boundary import Boundary
from securegan.attacks.evasion.hopskipjump import HopSkipJump
from securegan.attacks.guarded import Guarded
from securegan.attacks.supplies import Supplies
from securegan.attacks.surfaces import LabelSurface

MAKE: dict[str, Callable[[int], EvasionAttack]] = {
    "boundary": lambda queries: Boundary(eps=0.5, queries=queries),
    "hopskipjump": lambda queries: HopSkipJump(eps=0.5, queries=queries),
    "hopskipjump linf": lambda queries: HopSkipJump(norm="linf", eps=0.1, queries=queries),
}

attacks = pytest.mark.parametrize("make", MAKE.values(), ids=MAKE)


def half_space() -> tuple[LabelSurface, Tensor, Tensor, dict[str, Tensor]]:
    """A linear decision between two classes, grey images, their labels and distances to the border by norm."""
    source = torch.Generator().manual_seed(0)
    weight = torch.randn(64, generator=source)
    x = 0.5 + 0.05 * torch.randn(16, 1, 8, 8, generator=source)

    def classify(images: Tensor) -> Tensor:
        score = (images.flatten(1) - 0.5) @ weight + 0.5 * weight.norm()
        return torch.stack([score, -score], 1)

    margin = (x.flatten(1) - 0.5) @ weight + 0.5 * weight.norm()
    distance = {"l2": margin / weight.norm(), "linf": margin / weight.abs().sum()}
    return LabelSurface(classify, (), "ab"), x, torch.zeros(16, dtype=torch.int64), distance


@attacks
def test_distances_shrink_towards_the_closed_form(make: Callable[[int], EvasionAttack]) -> None:
    surface, x, y, distance = half_space()
    results = {queries: make(queries)(surface, x, y, keys=torch.arange(16)) for queries in (200, 800, 4000)}
    ratios = [float((result.nearest / distance[make(1).norm]).median()) for result in results.values()]
    assert ratios[0] > ratios[1] > ratios[2] and ratios[0] > 1.2
    last = results[4000].nearest / distance[make(1).norm]
    assert last.min() > 0.999 and last.median() < 1.1 and last.max() < 1.25


@attacks
def test_the_radius_says_which_count(make: Callable[[int], EvasionAttack]) -> None:
    surface, x, y, _ = half_space()
    result = make(800)(surface, x, y, keys=torch.arange(16))
    assert torch.equal(result.success, result.nearest <= make(1).eps)
    assert 0 < result.success.sum() < 16 and result.nearest.isfinite().all()
    assert torch.equal(result.adversarial[~result.success], x[~result.success])


@attacks
def test_where_no_start_is_wrong_nothing_is_found(make: Callable[[int], EvasionAttack], images: Tensor) -> None:
    never = LabelSurface(lambda x: torch.eye(4)[0].expand(len(x), 4), (), "abcd")
    attack = make(1000)
    result = attack(never, images, torch.zeros(24, dtype=torch.int64), keys=torch.arange(24))
    assert not result.success.any() and result.nearest.isinf().all() and torch.equal(result.adversarial, images)
    assert (result.queries == 100 + 1).all()  # the starts that were tried, and the look at the input


@attacks
def test_a_given_start_is_taken(make: Callable[[int], EvasionAttack]) -> None:
    surface, x, y, _ = half_space()
    near = make(800)(surface, x, y, keys=torch.arange(16))
    again = make(15)(surface, x, y, keys=torch.arange(16), start=near.adversarial)
    assert (again.nearest <= near.nearest * (1 + 1e-5))[near.success].all()


@pytest.fixture
def framed(digits: tuple[Tensor, Tensor], digit_net: nn.Module) -> LabelSurface:
    """Reads a digit as the net does where its sides are black, as most digits are, and anything else as an 8."""

    def classify(x: Tensor) -> Tensor:
        bright = x[..., ::7].flatten(1).amax(1) > 0.2
        return torch.where(bright[:, None], 10 * torch.eye(10)[8], digit_net(x))

    return LabelSurface(classify, (digit_net,), "0123456789")


def supplied(attack: EvasionAttack, surface: LabelSurface, images: Tensor, labels: Tensor) -> EvasionAttack:
    attack.prepare(surface, Supplies(images=lambda split, limit: (images[:limit], labels[:limit])))
    return attack


@attacks
def test_a_target_as_which_noise_is_never_read_is_reached_from_clean_images(
    make: Callable[[int], EvasionAttack],
    framed: LabelSurface,
    digits: tuple[Tensor, Tensor],
    seen_digits: tuple[Tensor, Tensor],
) -> None:
    x, y = (part[digits[1] != 3][:12] for part in digits)
    without, attack = make(600), supplied(make(600), framed, *seen_digits)
    without.targeted = attack.targeted = 3
    lost = without(framed, x, y, keys=torch.arange(12))
    assert lost.nearest.isinf().all()
    result = attack(framed, x, y, keys=torch.arange(12))
    right = result.clean_right
    assert right.sum() >= 8 and result.nearest[right].isfinite().all()
    reached = make(600).norm == "linf" or (result.nearest[right] < 3).all()  # the mean digit of another class is at 5
    assert reached and (result.queries <= 601).all()
    attack.eps = 100.0
    found = attack(framed, x, y, keys=torch.arange(12))
    assert torch.equal(found.success, found.clean_right)
    assert (framed.logits(found.adversarial, y).argmax(1)[right] == 3).all()


@attacks
def test_a_decision_that_noise_cannot_change_is_changed_from_clean_images(
    make: Callable[[int], EvasionAttack],
    framed: LabelSurface,
    digits: tuple[Tensor, Tensor],
    seen_digits: tuple[Tensor, Tensor],
) -> None:
    """Noise, which is tried first without a target, is read as the right class."""
    x, y = (part[digits[1] == 8][:6] for part in digits)
    assert make(600)(framed, x, y, keys=torch.arange(6)).nearest.isinf().all()
    result = supplied(make(600), framed, *seen_digits)(framed, x, y, keys=torch.arange(6))
    assert result.clean_right.any() and result.nearest[result.clean_right].isfinite().all()
    assert (result.queries[result.clean_right] > 1 + 100).all()


@attacks
def test_behind_a_detector_the_start_is_a_clean_image_that_it_lets_pass(
    make: Callable[[int], EvasionAttack],
    framed: LabelSurface,
    digits: tuple[Tensor, Tensor],
    seen_digits: tuple[Tensor, Tensor],
) -> None:
    """Most images of other classes are flagged here, and the nearest are among them."""
    x, y = (part[digits[1] == 8][:6] for part in digits)
    pool, labels = seen_digits
    others = pool[labels != 8]
    amount = others.flatten(1).sum(1)

    def score(images: Tensor) -> Tensor:
        return images.flatten(1).sum(1).double()

    guarded = Guarded(framed, score, float(amount.quantile(0.2)), ())
    nearest = torch.cdist(x.flatten(1), others.flatten(1)).argmin(1)
    assert (score(others[nearest]) > guarded.threshold).any()
    attack = supplied(make(800), guarded, pool, labels)
    attack.eps = 100.0
    result = attack(guarded, x, y, keys=torch.arange(6))
    attacked = result.clean_right
    assert attacked.any() and torch.equal(result.success, attacked)
    assert (score(result.adversarial[attacked]) <= guarded.threshold).all()
    assert (framed.logits(result.adversarial, y).argmax(1)[attacked] != 8).all()


@attacks
def test_what_is_tried_as_a_start_is_the_nearest_image_of_the_target_and_counted(
    make: Callable[[int], EvasionAttack], digits: tuple[Tensor, Tensor]
) -> None:
    asked: list[Tensor] = []

    def never(x: Tensor) -> Tensor:
        """Reads everything as class 0."""
        asked.append(x)
        return torch.eye(10)[0].expand(len(x), 10)

    x, pool, labels = digits[0][:4], digits[0][50:150], digits[1][50:150]
    surface = LabelSurface(never, (), "0123456789")
    attack = supplied(make(30), surface, pool, labels)
    attack.targeted = 7
    result = attack(surface, x, torch.zeros(4, dtype=torch.int64), keys=torch.arange(4))
    sevens = pool[labels == 7]
    assert 3 < len(sevens) < 30
    order = (x[:, None] - sevens).flatten(2).norm(dim=2).argsort(1)
    tried = [batch for batch in asked if len(batch) == 4][-30:]
    for number in range(len(sevens)):
        assert torch.equal(tried[number], sevens[order[:, number]])
    assert (result.queries == 1 + 30).all()  # then noise, until nothing is left


@pytest.mark.peers
@pytest.mark.parametrize(
    ("attack", "steps"),
    [("boundary", 800), ("boundary", 2000), ("hopskipjump", 4), ("hopskipjump linf", 4), ("hopskipjump linf", 12)],
)
def test_as_near_as_foolbox_at_equal_queries(
    attack: str, steps: int, digit_net: nn.Module, digits: tuple[Tensor, Tensor]
) -> None:
    foolbox = pytest.importorskip("foolbox")
    with torch.no_grad():
        right = digit_net(digits[0]).argmax(1) == digits[1]
    x, y = (part[right][:40] for part in digits)
    asked = 0

    class Counted(nn.Module):
        def forward(self, images: Tensor) -> Tensor:
            nonlocal asked
            asked += len(images)
            return digit_net(images)

    norm = MAKE[attack](1).norm
    if attack == "boundary":
        peer = foolbox.attacks.BoundaryAttack(steps=steps)
    else:
        peer = foolbox.attacks.HopSkipJumpAttack(steps=steps, constraint=norm)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        found, _, _ = peer(foolbox.PyTorchModel(Counted().eval(), bounds=(0, 1)), x, y, epsilons=None)
    theirs = (found - x).flatten(1).norm(dim=1, p=torch.inf if norm == "linf" else 2).median()
    queries = asked // len(x) - 1
    surface = LabelSurface(digit_net, (digit_net,), "0123456789")
    ours = MAKE[attack](queries)(surface, x, y, keys=torch.arange(len(x)))
    assert ours.queries.max() <= queries + 1
    assert ours.nearest.median() < 1.1 * theirs
