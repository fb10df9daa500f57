"""What every black-box attack must keep to: it asks for decisions or scores alone, counts every question, and no more
questions are asked than were granted.
"""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from securegan.attacks.evasion.base import EvasionAttack
from securegan.attacks.evasion.boundary import Boundary
from securegan.attacks.evasion.few_pixel import FewPixel
from securegan.attacks.evasion.genattack import GenAttack
from securegan.attacks.evasion.hopskipjump import HopSkipJump
from securegan.attacks.evasion.square import Square
from securegan.attacks.surfaces import Assessment, LabelSurface, LatentSurface, Objective

# Each attack within a number of queries, at a radius that some examples of the shared victim withstand for long.
WITHIN: dict[str, Callable[[int], EvasionAttack]] = {
    "square": lambda queries: Square(eps=0.06, queries=queries),
    "square l2": lambda queries: Square(norm="l2", eps=0.3, queries=queries),
    "square restarts": lambda queries: Square(eps=0.06, queries=queries // 2, restarts=2),
    "boundary": lambda queries: Boundary(eps=0.5, queries=queries),
    "hopskipjump": lambda queries: HopSkipJump(eps=0.5, queries=queries, probes=20),
    "hopskipjump linf": lambda queries: HopSkipJump(norm="linf", eps=0.1, queries=queries, probes=20),
    "genattack": lambda queries: GenAttack(eps=0.06, queries=queries),
    "few_pixel": lambda queries: FewPixel(eps=2, queries=queries, population=30),
}

attacks = pytest.mark.parametrize("within", WITHIN.values(), ids=WITHIN)


class Oracle(LabelSurface):
    """Answers without gradients, counts its answers, and says no more than the attack's knowledge allows."""

    def __init__(self, victim: nn.Module, knowledge: str) -> None:
        super().__init__(victim, (victim,), "abcd")
        self.knowledge, self.answers = knowledge, 0

    def assess(self, x: Tensor, reference: Tensor, objective: Objective) -> Assessment:
        assert not torch.is_grad_enabled() and not x.requires_grad
        self.answers += len(x)
        _, margin, right = super().assess(x, reference, objective)
        nothing = torch.full_like(margin, torch.nan)
        return Assessment(nothing, margin if self.knowledge == "score" else nothing, right)

    def logits(self, x: Tensor, reference: Tensor) -> Tensor:
        raise AssertionError("logits are no answer")


@attacks
def test_every_question_is_counted_and_none_is_asked_beyond_the_budget(
    within: Callable[[int], EvasionAttack], victim: nn.Module, images: Tensor, truth: Tensor
) -> None:
    truth[0] = (truth[0] + 1) % 4  # wrong already: looked at once and left alone
    attack, keys = within(90), torch.arange(24)
    together = attack(LabelSurface(victim, (victim,), "abcd"), images, truth, keys=keys)
    assert together.queries[0] == 1 and together.queries.max() <= 90 + 1
    assert (together.queries[1:] > 45)[~together.success[1:]].all()  # what is granted is used
    for n in range(4):
        oracle = Oracle(victim, attack.knowledge)
        alone = attack(oracle, images[n : n + 1], truth[n : n + 1], keys=keys[n : n + 1])
        assert alone.queries[0] == oracle.answers == together.queries[n]


@attacks
def test_it_needs_no_more_than_its_knowledge(
    within: Callable[[int], EvasionAttack], victim: nn.Module, images: Tensor, truth: Tensor
) -> None:
    attack, keys = within(90), torch.arange(24)
    assert attack.knowledge in {"score", "decision"}
    plain = attack(LabelSurface(victim, (victim,), "abcd"), images, truth, keys=keys)
    told_little = attack(Oracle(victim, attack.knowledge), images, truth, keys=keys)
    assert torch.equal(plain.adversarial, told_little.adversarial) and torch.equal(plain.success, told_little.success)


@attacks
def test_more_queries_find_more(
    within: Callable[[int], EvasionAttack], victim: nn.Module, images: Tensor, truth: Tensor
) -> None:
    surface, keys = LabelSurface(victim, (victim,), "abcd"), torch.arange(24)
    few, some, many = (within(queries)(surface, images, truth, keys=keys) for queries in (4, 60, 600))
    rates = [int(result.success.sum()) for result in (few, some, many)]
    assert rates == sorted(rates) and rates[0] < rates[-1]


@attacks
def test_restarts_and_purposes_draw_anew_and_keys_alone_decide(
    within: Callable[[int], EvasionAttack], victim: nn.Module, images: Tensor, truth: Tensor
) -> None:
    attack, surface, same = within(30), LabelSurface(victim, (victim,), "abcd"), torch.arange(6)
    twins, labels = images[:1].repeat(6, 1, 1, 1), truth[:1].repeat(6)

    def run(keys: Tensor, purpose: str = "attack") -> Tensor:
        task_result = attack(surface, twins, labels, keys=keys, purpose=(purpose,))
        return torch.cat([task_result.adversarial.flatten(1), task_result.nearest[:, None]], 1)

    assert torch.equal(run(same), run(same))
    assert torch.equal(run(torch.zeros(6, dtype=torch.int64))[0], run(same)[0])
    assert not torch.equal(run(same), run(same, "another purpose"))


@attacks
def test_latents_stay_in_the_shell(within: Callable[[int], EvasionAttack]) -> None:
    attack, generate = within(300), nn.Linear(8, 4)
    torch.nn.init.orthogonal_(generate.weight)
    surface = LatentSurface(lambda z, y: generate(z), lambda image: image, 8, (generate,), "abcd")
    if attack.unsuited("latent", surface.classes):
        pytest.skip("of images alone")
    z = surface.space.into_shell(torch.randn(16, 8, generator=torch.Generator().manual_seed(0)))  # type: ignore[union-attr]
    with torch.no_grad():
        y = generate(z).argmax(1)
    result = attack(surface, z, y, keys=torch.arange(16))
    assert result.success.float().mean() > 0.5 and result.valid.all()
    assert (result.distance <= attack.latent_eps * (1 + 1e-6)).all()
    with torch.no_grad():
        assert (generate(result.adversarial).argmax(1) != y)[result.success].all()
