"""DeepFool: its candidates, its overshoot, and its cost."""

import torch
from torch import Tensor, nn

from securegan.attacks.evasion.deepfool import DeepFool
from securegan.attacks.surfaces import LabelSurface


def planes() -> LabelSurface:
    """Class 0 leads class 1 by 0.02 and class 2 by 0.04 at grey; the plane of class 2 is the nearer one."""
    weight = torch.zeros(3, 16)
    weight[1, 0], weight[2, 1:] = 0.1, 0.2
    victim = nn.Sequential(nn.Flatten(), nn.Linear(16, 3))
    victim[1].weight.data = weight
    victim[1].bias.data = torch.tensor([0.02, 0.0, -0.02]) - 0.5 * weight.sum(1)
    return LabelSurface(victim, (victim,), "abc")


def test_only_the_candidates_are_looked_at() -> None:
    surface, x, y = planes(), torch.full((1, 1, 4, 4), 0.5), torch.zeros(1, dtype=torch.int64)
    every, two = (DeepFool(eps=1.0, candidates=n)(surface, x, y) for n in (3, 2))
    assert surface.classify(every.adversarial).argmax(1) == 2 and surface.classify(two.adversarial).argmax(1) == 1
    assert abs(every.nearest - 1.02 * 0.04 / (0.2 * 15**0.5)) < 2e-4 and abs(two.nearest - 1.02 * 0.2) < 2e-4


def test_the_overshoot_is_a_share_of_the_perturbation() -> None:
    surface, x, y = planes(), torch.full((1, 1, 4, 4), 0.5), torch.zeros(1, dtype=torch.int64)
    for norm in ("l2", "linf"):
        near, far = (DeepFool(norm=norm, eps=1.0, overshoot=share)(surface, x, y).nearest for share in (0.02, 0.2))  # type: ignore[arg-type]
        assert torch.allclose(far / near, torch.tensor(1.2 / 1.02), rtol=1e-3)


def test_a_batch_costs_as_many_passes_as_its_slowest_example(victim: nn.Module, images: Tensor, truth: Tensor) -> None:
    """And shrinks as examples are finished, of which none is looked at again."""
    rows: list[int] = []

    def recorded(x: Tensor) -> Tensor:
        rows.append(len(x))
        return victim(x)

    result = DeepFool(eps=10.0)(LabelSurface(recorded, (victim,), "abcd"), images, truth)
    assert result.success.all() and result.queries.min() < result.queries.max() < 20
    assert len(rows) <= 2 * result.queries.max() and rows[-1] < rows[0]
