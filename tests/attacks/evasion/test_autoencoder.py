"""The attacks on autoencoders: what each drives, how far, and what every evasion attack keeps to."""

import copy
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from securegan.attacks.evasion.autoencoder import AutoencoderAttack
from securegan.attacks.evasion.pgd import PGD
from securegan.attacks.evasion.vae_damage import VAEDamage
from securegan.attacks.evasion.vae_latent import VAELatent
from securegan.attacks.evasion.vae_output import VAEOutput
from securegan.attacks.reconstruction import ReconstructionSurface, TargetImages, symmetric_kl
from securegan.attacks.surfaces import LabelSurface, Objective
from securegan.errors import ConfigError

N, SIDE = 12, 16


def smooth(n: int, seed: int) -> Tensor:
    coarse = torch.rand(n, 1, 4, 4, generator=torch.Generator().manual_seed(seed))
    return nn.functional.interpolate(coarse, size=SIDE, mode="bilinear")


IMAGES, POOL = smooth(N, 0), smooth(20, 1)
LABELS, POOL_LABELS = torch.arange(N) % 3, torch.arange(20) % 3


class Network(nn.Module):
    """An autoencoder of smooth images: its code holds block means, with batch norm to disturb."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(1)
        self.spread = nn.Parameter(torch.linspace(-1, 1, 16).view(1, 16))

    def encode(self, x: Tensor) -> tuple[Tensor, Tensor]:
        mean = nn.functional.avg_pool2d(self.norm(x), 4).flatten(1)
        return mean, mean * self.spread

    def forward(self, x: Tensor, labels: Tensor | None) -> Tensor:
        code = self.encode(x)[0].view(-1, 1, 4, 4)
        return nn.functional.interpolate(code, size=SIDE, mode="bilinear").clamp(0, 1)


@pytest.fixture
def network() -> Network:
    return Network()


def surface_of(network: Network) -> ReconstructionSurface:
    judge = lambda x: x.flatten(1)[:, :3]  # noqa: E731
    targets = TargetImages(POOL, POOL_LABELS, 0)
    mean = torch.zeros(1, SIDE, SIDE)
    return ReconstructionSurface(network, mean, (network,), judge, network.encode, targets)


def held(network: Network, keys: Tensor | None = None) -> tuple[ReconstructionSurface, Tensor]:
    made = surface_of(network)
    network.eval()
    reference = made.hold(IMAGES, LABELS, keys)
    network.train()
    return made, reference


Make = Callable[[float], AutoencoderAttack]
ATTACKS: dict[str, Make] = {
    "latent": lambda eps: VAELatent(eps=eps, steps=15),
    "output": lambda eps: VAEOutput(eps=eps, steps=15),
    "damage": lambda eps: VAEDamage(eps=eps, steps=15),
    "encoder": lambda eps: VAEDamage(eps=eps, steps=15, objective="encoder", restarts=2),
    "latent l2": lambda eps: VAELatent(eps=8 * eps, norm="l2", steps=15),
}
attacks = pytest.mark.parametrize("make", ATTACKS.values(), ids=ATTACKS)


def value(made: ReconstructionSurface, x: Tensor, reference: Tensor, objective: Objective) -> Tensor:
    made.victims[0].eval()
    with torch.no_grad():
        return made.value(x, reference, objective)


@attacks
def test_the_objective_rises_with_the_radius_and_nothing_leaves_the_ball(make: Make, network: Network) -> None:
    made, reference = held(network)
    reached = [value(made, IMAGES, reference, make(1).objective)]
    for eps in (0.0, 0.02, 0.1):
        attack = make(eps)
        result = attack(made, IMAGES, reference, keys=torch.arange(N))
        assert result.clean_right.all() and result.valid.all()
        moved = (result.adversarial.double() - IMAGES.double()).flatten(1)
        size = moved.abs().amax(1) if attack.norm == "linf" else moved.norm(dim=1)
        assert (
            size <= attack.eps * (1 + 1e-6)
        ).all() and 0 <= result.adversarial.min() <= result.adversarial.max() <= 1
        if not eps:
            assert torch.equal(result.adversarial, IMAGES)
        reached.append(value(made, result.adversarial, reference, attack.objective))
    assert torch.equal(reached[0], reached[1])
    assert (reached[2] > reached[1]).all() and (reached[3] > reached[2]).all()


@attacks
def test_an_example_depends_on_its_key_alone_and_its_target_too(make: Make, network: Network) -> None:
    made, reference = held(network, torch.arange(100, 100 + N))
    whole = make(0.05)(made, IMAGES, reference, keys=torch.arange(100, 100 + N)).adversarial
    some = torch.tensor([7, 2, 9])
    network.eval()
    again = surface_of(network)
    part = make(0.05)(again, IMAGES[some], again.hold(IMAGES[some], LABELS[some], 100 + some), keys=100 + some)
    assert torch.equal(again.target, made.target[some])
    torch.testing.assert_close(part.adversarial, whole[some], atol=1e-5, rtol=0)


@attacks
@pytest.mark.parametrize("around", [torch.no_grad, torch.inference_mode])
def test_no_trace_is_left_where_lightning_validates(make: Make, around: Callable[[], object], network: Network) -> None:
    made, reference = held(network)
    state, random = copy.deepcopy(network.state_dict()), torch.get_rng_state()
    with around():  # type: ignore[attr-defined]
        result = make(0.1)(made, IMAGES, reference)
    assert not torch.equal(result.adversarial, IMAGES)
    assert all(torch.equal(tensor, state[name]) for name, tensor in network.state_dict().items())
    assert network.training and network.norm.training and network.spread.requires_grad and network.spread.grad is None
    assert torch.equal(torch.get_rng_state(), random)


def test_without_bounds_the_code_and_the_output_become_the_targets(network: Network) -> None:
    for attack in (VAELatent(eps=1.0, steps=200), VAEOutput(eps=1.0, steps=200)):
        made, reference = held(network)
        moved = attack(made, IMAGES, reference, keys=torch.arange(N)).adversarial
        before, after = (value(made, x, reference, attack.objective) for x in (IMAGES, moved))
        assert (after > 0.02 * before).all()
        beside = made.beside(IMAGES, moved, reference)
        assert (beside["ssim_target"] > beside["ssim_target_clean"]).all()
        assert beside["ssim_target"].mean() > 0.9


def test_targets_are_of_another_class_and_spread_over_the_pool(network: Network) -> None:
    targets = TargetImages(POOL, POOL_LABELS, 0)
    chosen = targets.choose(torch.arange(400) % 3, torch.arange(400))
    assert (POOL_LABELS[chosen] != torch.arange(400) % 3).all()
    assert len(chosen.unique()) == len(POOL)
    assert not torch.equal(chosen, TargetImages(POOL, POOL_LABELS, 1).choose(torch.arange(400) % 3, torch.arange(400)))
    unlabelled = TargetImages(POOL, torch.full((20,), -1), 0).choose(torch.full((400,), -1), torch.arange(400))
    assert len(unlabelled.unique()) == len(POOL)


def test_the_judges_shares_are_of_what_it_read_before(network: Network) -> None:
    made, reference = held(network)
    moved = VAEOutput(eps=0.5, steps=40)(made, IMAGES, reference, keys=torch.arange(N)).adversarial
    found = made.beside(IMAGES, moved, reference)
    assert set(found) == set(made.beside_names)
    read = made.judge(made.outputs(moved, reference)).argmax(1)  # type: ignore[misc]
    legible = found["judge_reads"] == 1
    assert legible.any() and not legible.all()
    assert torch.equal(found["as_ignore_target"].isnan(), ~legible) and torch.equal(
        found["as_target"].isnan(), ~legible
    )
    assert torch.equal(found["as_ignore_target"][legible] == 1, (read != LABELS)[legible])
    target = POOL_LABELS[made.target]
    assert torch.equal(found["as_target"][legible] == 1, (read == target)[legible])
    assert (found["as_target"][legible] <= found["as_ignore_target"][legible]).all()


def test_symmetric_kl_agrees_with_torch() -> None:
    draw = torch.Generator().manual_seed(0)
    one, other = ((torch.randn(5, 4, generator=draw), torch.randn(5, 4, generator=draw)) for _ in range(2))
    normals = [torch.distributions.Normal(mean, (0.5 * log_variance).exp()) for mean, log_variance in (one, other)]
    kl = torch.distributions.kl_divergence
    expected = 0.5 * (kl(*normals) + kl(*reversed(normals))).sum(1)
    torch.testing.assert_close(symmetric_kl(one, other), expected)


def test_a_search_from_an_earlier_end_is_no_weaker(network: Network) -> None:
    made, reference = held(network)
    near = VAELatent(eps=0.05, steps=20)(made, IMAGES, reference, keys=torch.arange(N)).adversarial
    wide = VAELatent(eps=0.1, steps=1, alpha=1e-6)(
        made, IMAGES, reference, keys=torch.arange(N), start=near
    ).adversarial
    assert (value(made, wide, reference, "latent") >= value(made, near, reference, "latent")).all()


def test_only_reconstructions_are_attacked_and_no_class_is_aimed_at(network: Network) -> None:
    attack = VAELatent(eps=0.1)
    assert attack.unsuited("pixels", 0) is None
    assert attack.unsuited("pixels", 10) and attack.unsuited("latent", 0)
    with pytest.raises(TypeError, match="not the surface label"):
        attack(LabelSurface(lambda x: x.flatten(1)[:, :3], (), "abc"), IMAGES, IMAGES.flatten(1)[:, :3].argmax(1))
    with pytest.raises(ConfigError, match=r"attack\.targeted"):
        VAELatent(eps=0.1, targeted="next")


def test_pgd_takes_the_objectives_too_and_says_whether_it_needs_targets(network: Network) -> None:
    assert PGD(eps=0.1, objectives=["latent"]).towards_image and not PGD(eps=0.1).towards_image
    made, reference = held(network)
    attack = PGD(eps=0.1, steps=10, restarts=1, objectives=["output"], early_drop=False)
    assert attack.unsuited("pixels", 10) and attack.unsuited("latent", 0) and attack.unsuited("pixels", 0) is None
    moved = attack(made, IMAGES, reference).adversarial
    assert (value(made, moved, reference, "output") >= value(made, IMAGES, reference, "output")).all()
    alone = ReconstructionSurface(network, torch.zeros(1, SIDE, SIDE), (network,))
    assert alone.objectives == ("margin", "damage")
    assert alone.beside_names == ("ssim_input", "ssim_output")


class Linear(Network):
    """As its parent, through a layer that autocast would compute in bfloat16."""

    def __init__(self) -> None:
        super().__init__()
        self.last = nn.Linear(16, 16, bias=False)
        with torch.no_grad():
            self.last.weight.copy_(torch.eye(16) + 0.01)

    def encode(self, x: Tensor) -> tuple[Tensor, Tensor]:
        mean, spread = super().encode(x)
        return self.last(mean), spread


@attacks
def test_under_bfloat16_everything_is_computed_and_judged_in_float32(make: Make) -> None:
    surface, reference = held(Linear())
    plain = make(0.1)(surface, IMAGES, reference, keys=torch.arange(N))
    with torch.autocast("cpu", torch.bfloat16):
        low = make(0.1)(surface, IMAGES, reference, keys=torch.arange(N))
    assert (plain.distance > 0.05).any() and torch.equal(plain.success, low.success)
    assert torch.equal(plain.adversarial, low.adversarial)
