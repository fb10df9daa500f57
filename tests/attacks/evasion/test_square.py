"""Square Attack: its moves stay on the ball's border, its schedule is the paper's, and it is as strong as its peer."""

import math
from collections.abc import Sequence

import pytest
import torch
from torch import Tensor, nn

from securegan.attacks.evasion.square import Square, bump
from securegan.attacks.surfaces import Assessment, LabelSurface, Objective
from securegan.attacks.threat import Norm


class Recorder(LabelSurface):
    """A decision that never falls; keeps what it is shown. The margin is the mean pixel, so that moves are accepted."""

    def __init__(self) -> None:
        super().__init__(nn.Identity(), (), "ab")
        self.seen: list[Tensor] = []

    def assess(self, x: Tensor, reference: Tensor, objective: Objective) -> Assessment:
        self.seen.append(x.clone())
        margin = x.flatten(1).double().mean(1).sub(2)
        return Assessment(margin, margin, torch.ones(len(x), dtype=torch.bool))


@pytest.fixture
def grey() -> Tensor:
    return 0.5 + 0.1 * torch.rand(3, 3, 12, 12, generator=torch.Generator().manual_seed(0))


def test_linf_starts_with_stripes_and_moves_one_square_to_the_border(grey: Tensor) -> None:
    recorder = Recorder()
    Square(eps=0.1, queries=200)(recorder, grey, torch.zeros(3, dtype=torch.int64), keys=torch.arange(3))
    start = recorder.seen[1] - grey
    assert torch.allclose(start.abs(), torch.tensor(0.1), atol=1e-6)
    assert torch.equal(start.sign(), start.sign()[:, :, :1].expand_as(start)) and 0.3 < (start > 0).float().mean() < 0.7
    best = recorder.seen[1]
    last_row = 0
    for x in recorder.seen[2:]:
        assert torch.allclose((x - grey).abs(), torch.tensor(0.1), atol=1e-6)
        for one, before, clean in zip(x, best, grey, strict=True):
            changed = ((one - before).abs() > 0.01).any(0).nonzero()
            if len(changed):
                (top, left), (bottom, right) = changed.amin(0).tolist(), changed.amax(0).tolist()
                assert max(bottom - top, right - left) < round(math.sqrt(0.8 * 144))
                sign = (one - clean)[:, top : bottom + 1, left : right + 1].sign().flatten(1)
                assert torch.equal(sign, sign[:, :1].expand_as(sign))
                last_row = max(last_row, top if top == bottom else 0)
        better = x.flatten(1).double().mean(1) > best.flatten(1).double().mean(1)
        best = torch.where(better[:, None, None, None], x, best)
    assert best.mean() > recorder.seen[1].mean() + 0.03
    assert last_row == 11  # small windows reach it


def test_l2_keeps_the_norm_and_gathers_it(grey: Tensor) -> None:
    recorder = Recorder()
    result = Square(norm="l2", eps=0.4, queries=300)(
        recorder, grey, torch.zeros(3, dtype=torch.int64), keys=torch.arange(3)
    )
    norms = torch.stack([(x - grey).flatten(1).norm(dim=1) for x in recorder.seen[1:]])
    assert torch.allclose(norms, torch.tensor(0.4), atol=1e-5)  # grey: nothing is cut off at black or white
    start, end = recorder.seen[1], result.adversarial
    assert (start != grey).flatten(1).float().mean() > 0.5
    assert (end.flatten(1).mean(1) > start.flatten(1).mean(1)).all()


def test_the_bump_is_the_papers() -> None:
    """Equation 4 at side 5: rings of 1, 1 + 1/4 and 1 + 1/4 + 1/9 in two halves of opposite sign."""
    shape = bump(5)
    assert shape.norm() == pytest.approx(1) and (shape[:2] > 0).all() and (shape[2:] < 0).all()
    inner, middle, outer = 1 + 1 / 4 + 1 / 9, 1 / 4 + 1 / 9, 1 / 9
    upper = torch.tensor([[outer, middle, middle, middle, outer], [outer, middle, inner, middle, outer]])
    assert torch.allclose(shape[:2] / shape[1, 2], upper / inner)


def test_windows_shrink_with_the_share_of_the_budget() -> None:
    """Side sqrt(p d), p halved at 0.1, 0.5, 2, 5, 10, 20, 40, 60 and 80 % of the budget."""
    shape = torch.Size((1, 3, 32, 32))
    for budget in (1000, 5000):
        attack = Square(eps=0.1, queries=budget)
        sides = [attack._side(int(share * budget), shape) for share in (0, 0.003, 0.015, 0.04, 0.09, 0.15, 0.3, 0.9)]
        assert sides == [round(math.sqrt(0.8 / 2**k * 1024)) for k in (0, 1, 2, 3, 4, 5, 6, 9)]
    odd = [Square(norm="l2", eps=1, queries=1000)._side(query, shape) for query in range(1000)]
    assert all(side % 2 == 1 and side >= 3 for side in odd)


def test_a_start_is_taken_up(surface: LabelSurface, images: Tensor, truth: Tensor) -> None:
    keys = torch.arange(24)
    wide = Square(eps=0.1, queries=300)(surface, images, truth, keys=keys)
    again = Square(eps=0.1, queries=1)(surface, images, truth, keys=keys, start=wide.adversarial)
    assert torch.equal(again.success, wide.success) and wide.success.any()


@pytest.mark.peers
@pytest.mark.parametrize(("norm", "eps"), [("linf", 0.12), ("l2", 0.6)])
def test_it_is_as_strong_as_autoattacks(
    norm: Norm, eps: float, digit_net: nn.Module, digits: tuple[Tensor, Tensor]
) -> None:
    """Robust accuracy over three seeds at equal queries, within 3 points of theirs once its windows are mended.

    Theirs never reach the last row and column (unless they are as large as the image), which costs them 8 points and
    more on images as small as these.
    """
    peer = pytest.importorskip("autoattack.square").SquareAttack
    x, y = digits

    class Mended(peer):  # type: ignore[misc, valid-type]
        def random_int(self, low: int = 0, high: int = 1, shape: Sequence[int] = (1,)) -> Tensor:
            return super().random_int(low, high + 1, shape)

    def theirs(library: type) -> float:
        rates = []
        with torch.random.fork_rng():
            for seed in range(3):
                attack = library(digit_net, norm=norm.replace("l", "L"), n_queries=299, eps=eps, seed=seed)
                rates.append(float((digit_net(attack.perturb(x, y)).argmax(1) == y).double().mean()))
        return sum(rates) / 3

    surface, keys = LabelSurface(digit_net, (digit_net,), "0123456789"), torch.arange(len(x))
    results = [Square(norm=norm, eps=eps, queries=300)(surface, x, y, keys=keys, purpose=(seed,)) for seed in range(3)]
    robust = sum(float((result.clean_right & ~result.success).double().mean()) for result in results) / 3
    assert 0.1 < robust < 0.9
    assert robust < theirs(peer) + 0.03 and abs(robust - theirs(Mended)) < 0.03
