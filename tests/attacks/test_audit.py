"""The audit exposes defences that hide gradients, each by the check meant for it, and accuses no honest network."""

import threading
from collections.abc import Callable, Iterator
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from securegan.attacks.audit import AttackAudit
from securegan.attacks.engine import start_noise
from securegan.attacks.evasion.base import EvasionAttack, Task
from securegan.attacks.evasion.few_pixel import FewPixel
from securegan.attacks.evasion.pgd import PGD
from securegan.attacks.guarded import Guarded
from securegan.attacks.probes import Part, PathPGD, RescaledSurface, found_by_noise, gradient_calls
from securegan.attacks.surfaces import Assessment, LabelSurface, Objective
from securegan.attacks.threat import Knowledge
from securegan.metrics.masking import Check

EPS = 0.15
CLASSES = "0123456789"

Decide = Callable[[Tensor], Tensor]


@pytest.fixture(scope="module")
def digits() -> tuple[Tensor, Tensor]:
    from sklearn.datasets import load_digits

    bunch = load_digits()
    order = torch.randperm(len(bunch.target), generator=torch.Generator().manual_seed(0))
    return torch.tensor(bunch.images, dtype=torch.float32)[order, None] / 16, torch.tensor(bunch.target)[order]


def trained(digits: tuple[Tensor, Tensor], seed: int, *, against: float = 0.0) -> nn.Sequential:
    """A small network, trained on the first 1,200 digits; ``against`` an attack of that radius."""
    images, labels = digits[0][:1200], digits[1][:1200]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        net = nn.Sequential(
            nn.Conv2d(1, 16, 3, padding=1),
            nn.BatchNorm2d(16),
            nn.ReLU(),
            nn.Conv2d(16, 32, 3, stride=2, padding=1),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(32 * 16, 10),
        )
    optimiser = torch.optim.Adam(net.parameters(), 3e-3)
    source = torch.Generator().manual_seed(seed)
    for _ in range(6 if against else 5):
        for chosen in torch.randperm(len(images), generator=source).split(64):
            x, y = images[chosen], labels[chosen]
            if against:
                moved = PGD(eps=against, steps=3, objectives=("ce",), restarts=1, early_drop=False)
                x = moved(surface_of(net), x, y, keys=chosen).adversarial
            optimiser.zero_grad()
            F.cross_entropy(net(x), y).backward()
            optimiser.step()
    return net.eval()


def surface_of(decide: Decide, *networks: nn.Module) -> LabelSurface:
    victims = networks or ((decide,) if isinstance(decide, nn.Module) else ())
    return LabelSurface(decide, victims, CLASSES)


@pytest.fixture(scope="module")
def net(digits: tuple[Tensor, Tensor]) -> nn.Sequential:
    return trained(digits, 0)


@pytest.fixture(scope="module")
def inputs(digits: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
    return digits[0][1200:1264], digits[1][1200:1264]


class Blind(torch.autograd.Function):
    """The identity, whose gradient is zero."""

    @staticmethod
    def forward(ctx: object, x: Tensor) -> Tensor:
        return x.clone()

    @staticmethod
    def backward(ctx: object, gradient: Tensor) -> Tensor:  # type: ignore[override]
        return torch.zeros_like(gradient)


def _leaking(net: nn.Sequential) -> Decide:
    """Batch norm that takes its statistics from the batch although the network is in evaluation mode."""
    norm = net[1]
    assert isinstance(norm, nn.BatchNorm2d)
    return lambda x: net[2:](F.batch_norm(net[0](x), None, None, norm.weight, norm.bias, training=True))


def _noisy(net: nn.Module) -> Decide:
    source = torch.Generator().manual_seed(0)
    return lambda x: net(x + 0.2 * torch.randn(x.shape, generator=source))


def _purified(net: nn.Module) -> Decide:
    """A step of gradient descent on the input before it is judged."""

    def decide(x: Tensor) -> Tensor:
        with torch.enable_grad():
            copy = x.detach().clone().requires_grad_(True)
            (gradient,) = torch.autograd.grad(net(copy).logsumexp(1).sum(), copy)
        return net(x - 0.01 * gradient)

    return decide


GRADIENTS, SCALE = "gradients are finite and not zero", "cross-entropy finds what the margin does"
UNBOUNDED, NOISE = "unbounded eps reaches 100 %", "best of 20 random draws <= gradient attack"
HELD = "what is found holds when judged again"
RISE = "the last 10 steps hardly move it"
DEFENCES: dict[str, tuple[Callable[[nn.Sequential], Decide], tuple[Objective, ...], set[str]]] = {
    "logits x100": (lambda net: lambda x: 100 * net(x), ("ce",), {GRADIENTS, SCALE, UNBOUNDED, NOISE, RISE}),
    "logits x100, margin beside": (lambda net: lambda x: 100 * net(x), ("ce", "margin"), {GRADIENTS, SCALE}),
    "zero backward": (lambda net: lambda x: net(Blind.apply(x)), ("ce", "margin"), {GRADIENTS, UNBOUNDED, NOISE, RISE}),
    "quantiser": (
        lambda net: lambda x: net((4 * x).round() / 4),
        ("ce", "margin"),
        {GRADIENTS, UNBOUNDED, NOISE, RISE},
    ),
    "random input": (_noisy, ("ce", "margin"), {"repeated forwards agree", HELD}),
    "leaking batch norm": (_leaking, ("ce", "margin"), {"neighbours in the batch do not matter"}),
    "softmax": (
        lambda net: lambda x: net(x).softmax(1),
        ("ce", "margin"),
        {"logits do not look like probabilities"},
    ),
    "purifier": (_purified, ("ce", "margin"), {"no gradients inside the forward"}),
}


def failed(checks: list[Check]) -> dict[str, str]:
    return {check.name: check.detail for check in checks if check.passed is False}


@pytest.mark.parametrize("name", DEFENCES)
def test_a_defence_that_hides_gradients_is_exposed(
    name: str, net: nn.Sequential, inputs: tuple[Tensor, Tensor]
) -> None:
    made, objectives, exposing = DEFENCES[name]
    checks = AttackAudit(surface_of(made(net), net), *inputs, PGD(eps=EPS, objectives=objectives)).run()
    assert exposing <= failed(checks).keys(), failed(checks)


def _clumps(net: nn.Sequential, digits: tuple[Tensor, Tensor]) -> tuple[Decide, float]:
    """How far an image's features lie from those of the nearest class, and what one clean image in twenty exceeds."""
    features, (images, labels) = net[:5], (part[:1200] for part in digits)

    def pooled(x: Tensor) -> Tensor:
        return F.avg_pool2d(features(x), 2).flatten(1)

    with torch.no_grad():
        known = pooled(images)
        centres = torch.stack([known[labels == k].mean(0) for k in range(10)])
        spread = (known - centres[labels]).std(0).clamp_min(0.05)

    def score(x: Tensor) -> Tensor:
        return torch.cdist(pooled(x) / spread, centres / spread).amin(1).double()

    with torch.no_grad():
        return score, float(score(digits[0][1300:1700]).quantile(0.95))


def _randomised(score: Decide) -> Decide:
    source = torch.Generator().manual_seed(0)
    return lambda x: score(x) * (1 + 0.01 * torch.randn(len(x), generator=source))


WATCHED: dict[str, tuple[Callable[[Decide, float], Decide], str]] = {
    "zero backward": (lambda score, threshold: lambda x: score(Blind.apply(x)), GRADIENTS),
    "rounded": (lambda score, threshold: lambda x: (score(x) / threshold * 8).round() * threshold / 8, GRADIENTS),
    "saturated": (
        lambda score, threshold: lambda x: threshold * 2 * torch.sigmoid(1e3 * (score(x) / threshold - 1)),
        GRADIENTS,
    ),
    "random": (lambda score, threshold: _randomised(score), "repeated forwards agree"),
    "of the batch": (
        lambda score, threshold: lambda x: score(x) * (1 + (x.mean() - 0.3)),
        "neighbours in the batch do not matter",
    ),
}


@pytest.mark.parametrize("name", WATCHED)
def test_a_detector_that_hides_its_gradients_is_exposed(
    name: str, digits: tuple[Tensor, Tensor], net: nn.Sequential, inputs: tuple[Tensor, Tensor]
) -> None:
    """The decision is honest: what is missing is the detector's gradient alone."""
    (score, threshold), (made, exposing) = _clumps(net, digits), WATCHED[name]
    system = Guarded(surface_of(net), made(score, threshold), threshold, (net,))
    found = failed(AttackAudit(system, inputs[0][:32], inputs[1][:32], PGD(eps=EPS)).run())
    assert exposing in found, found
    if exposing == GRADIENTS:
        missing = dict(part.split(" of 32 ")[::-1] for part in found[GRADIENTS].partition(": ")[2].split(", "))
        assert int(missing["detector's score"]) > 24 and int(missing["margin"]) < 3


def test_an_honest_detector_is_not_accused_and_what_is_not_judged_is_said(
    digits: tuple[Tensor, Tensor], net: nn.Sequential, inputs: tuple[Tensor, Tensor]
) -> None:
    score, threshold = _clumps(net, digits)
    system = Guarded(surface_of(net), score, threshold, (net,))
    checks = AttackAudit(system, *inputs, PGD(eps=EPS)).run()
    assert not failed(checks)
    assert {check.surface for check in checks} == {"label behind the detector"}
    plain = {check.name for check in AttackAudit(surface_of(net), *inputs, PGD(eps=EPS)).run()}
    assert plain <= {check.name for check in checks}  # nothing is left out in silence
    said = [check for check in checks if check.passed is None]
    assert len(said) == 4 and all("not judged behind a detector" in check.detail for check in said)
    (unaware,) = (check for check in checks if check.name == "attack unaware of the detector <= attack on both")
    assert unaware.passed


def test_an_attack_on_pixels_counted_looks_at_the_detector_too(
    digits: tuple[Tensor, Tensor], net: nn.Sequential, inputs: tuple[Tensor, Tensor]
) -> None:
    score, threshold = _clumps(net, digits)
    blind = Guarded(surface_of(net), lambda x: score(Blind.apply(x)), threshold, (net,))
    found = failed(AttackAudit(blind, inputs[0][:8], inputs[1][:8], FewPixel(eps=5)).run())
    assert found.keys() == {GRADIENTS}


class RandomSearch(EvasionAttack):
    """Keeps a random step where it brings the decision nearer to wrong."""

    name = "random_search"
    knowledge: Knowledge = "score"

    def search(self, task: Task) -> None:
        for step in range(150):
            where = task.open()
            x = task.search.best[where]
            noise = start_noise(x, "linf", (*task.purpose, step), task.keys_of(where))
            moved = task.ball[where].project(x + self.eps * noise.sign() * (noise.abs() > 0.8))
            with torch.no_grad():
                view = task.surface.assess(moved, task.reference[where], task.surface.objectives[0])
            task.search.offer(where, moved, view.margin, ~view.right)


def test_an_honest_network_passes_whatever_is_held_against_it(
    digits: tuple[Tensor, Tensor], net: nn.Sequential, inputs: tuple[Tensor, Tensor]
) -> None:
    other = surface_of(trained(digits, 1))
    black_box = RandomSearch(None, "linf", eps=EPS)
    checks = AttackAudit(surface_of(net), *inputs, PGD(eps=EPS), source=other, black_box=black_box).run()
    assert not failed(checks)
    passed = {check.name for check in checks if check.passed}
    exposing = {name for _, _, names in DEFENCES.values() for name in names}
    assert exposing | {"black box <= white box", "transfer from the judge <= white box"} <= passed
    assert {"eps 0 changes nothing", "grey images leave chance", "FGSM <= PGD"} <= passed


@pytest.mark.parametrize(("steps", "compared"), [(5, "20 steps"), (30, "30 steps")])
def test_an_attack_of_more_steps_is_audited_with_them(
    net: nn.Sequential, inputs: tuple[Tensor, Tensor], steps: int, compared: str
) -> None:
    """Else who raises them where twice the steps gained would never see the check pass."""
    checks = AttackAudit(surface_of(net), inputs[0][:8], inputs[1][:8], PGD(eps=EPS, steps=steps)).run()
    (check,) = (check for check in checks if check.name == "more steps are never weaker")
    assert compared in check.detail and f"{2 * int(compared[:2])} steps" in check.detail


@pytest.mark.parametrize("seed", range(3))
def test_a_network_that_withstands_is_not_accused(
    seed: int, digits: tuple[Tensor, Tensor], net: nn.Sequential, inputs: tuple[Tensor, Tensor]
) -> None:
    hard = surface_of(trained(digits, seed, against=EPS))
    assert not failed(AttackAudit(hard, *inputs, PGD(eps=EPS), seed=seed).run())
    survived = [1 - PGD(eps=EPS)(s, *inputs).success.float().mean() for s in (hard, surface_of(net))]
    assert survived[0] > 0.4 > survived[1]  # it does withstand


def test_a_black_box_that_finds_more_is_a_violation(net: nn.Sequential, inputs: tuple[Tensor, Tensor]) -> None:
    blind = surface_of(lambda x: net(Blind.apply(x)), net)
    checks = AttackAudit(blind, *inputs, PGD(eps=EPS), black_box=RandomSearch(None, "linf", eps=EPS)).run()
    assert "black box <= white box" in failed(checks)


def test_the_full_audit_draws_more_and_rescales(
    net: nn.Sequential, inputs: tuple[Tensor, Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("securegan.attacks.audit.ALL_DRAWS", 300)
    x, y = inputs[0][:24], inputs[1][:24]
    honest = AttackAudit(surface_of(net), x, y, PGD(eps=EPS), full=True).run()
    assert not failed(honest)
    names = {check.name for check in honest}
    assert {"best of 300 random draws <= gradient attack", "twice the restarts gain at most a point"} <= names
    assert {f"logits {change} gain nothing" for change in ("times 0.01", "times 10", "times 100", "plus 100")} <= names
    loud = surface_of(lambda x: 100 * net(x), net)
    assert "logits times 0.01 gain nothing" in failed(
        AttackAudit(loud, x, y, PGD(eps=EPS, objectives=("ce",)), full=True).run()
    )


def test_nothing_is_passed_where_nothing_can_be_judged(net: nn.Sequential, inputs: tuple[Tensor, Tensor]) -> None:
    (check,) = AttackAudit(surface_of(net), *inputs, PGD(eps=0.0)).run()
    assert check.passed is None and "radius is 0" in check.detail
    wrong = (net(inputs[0]).argmax(1) + 1) % 10
    attacks = [c for c in AttackAudit(surface_of(net), inputs[0], wrong, PGD(eps=EPS)).run() if "<=" in c.name]
    assert attacks and all(check.passed is None for check in attacks)


def test_it_works_in_inference_mode_and_leaves_no_trace(net: nn.Sequential, inputs: tuple[Tensor, Tensor]) -> None:
    net.train()
    state, random = {k: v.clone() for k, v in net.state_dict().items()}, torch.get_rng_state()
    with torch.inference_mode():
        checks = AttackAudit(surface_of(net), inputs[0][:16], inputs[1][:16], PGD(eps=EPS)).run()
    assert checks and net.training
    net.eval()
    assert all(torch.equal(value, state[name]) for name, value in net.state_dict().items())
    assert torch.equal(torch.get_rng_state(), random) and all(p.requires_grad for p in net.parameters())


def test_processes_together_measure_what_one_does(net: nn.Sequential, inputs: tuple[Tensor, Tensor]) -> None:
    x, y = inputs[0][:20], inputs[1][:20]
    seen: list[Tensor] = []

    def gather(rows: Tensor, keys: Tensor) -> Tensor:
        seen.append(rows)
        return rows

    keys = torch.arange(20)
    for part in (keys, keys[:8], keys[8:], keys[:0]):
        AttackAudit(surface_of(net), x[part], y[part], PGD(eps=EPS), keys=part, gather=gather).run()
    whole, first, second, none = seen
    assert none.shape == (0, whole.shape[1])
    torch.testing.assert_close(torch.cat([first, second]), whole, equal_nan=True, rtol=1e-3, atol=1e-3)


def test_random_draws_depend_on_the_key_alone(net: nn.Sequential, inputs: tuple[Tensor, Tensor]) -> None:
    whole = Part(*inputs, torch.arange(64))
    some = torch.tensor([3, 60, 17])
    found = found_by_noise(surface_of(net), whole, 2 * EPS, "linf", 260, ("test",))
    assert 0 < found.sum() < 64
    assert torch.equal(found_by_noise(surface_of(net), whole[some], 2 * EPS, "linf", 260, ("test",)), found[some])
    fewer = found_by_noise(surface_of(net), whole, 2 * EPS, "linf", 20, ("test",))
    assert fewer.sum() < found.sum()


def test_rescaled_logits_decide_the_same(net: nn.Sequential, inputs: tuple[Tensor, Tensor]) -> None:
    plain = surface_of(net)
    moved = RescaledSurface(plain, factor=10, shift=100)
    views = [surface.assess(*inputs, "margin") for surface in (plain, moved)]
    assert torch.equal(views[0].right, views[1].right)
    torch.testing.assert_close(10 * views[0].margin, views[1].margin, rtol=1e-3, atol=1e-3)


class Corridor(LabelSurface):
    """The objective rises with the brightness; the decision is wrong on a stretch of the way alone."""

    def assess(self, x: Tensor, reference: Tensor, objective: Objective) -> Assessment:
        level = x.flatten(1).mean(1)
        return Assessment(level, level.detach(), ~((level > 0.55) & (level < 0.62)).detach())


def test_a_success_on_the_way_is_kept_and_told() -> None:
    surface = Corridor(nn.Identity(), (), CLASSES)
    attack = PathPGD(eps=0.3, steps=20, restarts=1, objectives=("margin",), random_start=False, early_drop=False)
    result = attack(surface, torch.full((3, 1, 4, 4), 0.5), torch.zeros(3, dtype=torch.int64))
    assert result.success.all() and not attack.path.last_wrong.any()
    level = result.adversarial.mean((1, 2, 3))
    assert ((level > 0.55) & (level < 0.62)).all()


def test_how_far_a_search_rose_at_its_end() -> None:
    """Eight steps of 0.0375 reach the border of 0.3; the last ten of twenty gain nothing more."""
    surface = Corridor(nn.Identity(), (), CLASSES)
    x, y = torch.tensor([0.65, 0.2]).view(2, 1, 1, 1).expand(2, 1, 4, 4), torch.zeros(2, dtype=torch.int64)
    for steps, late in ((20, 0.0), (11, 0.3 * 2.5 * 10 / 11 - (0.3 * 2.5 - 0.3))):
        attack = PathPGD(eps=0.3, steps=steps, restarts=1, objectives=("margin",), random_start=False)
        attack(surface, x, y)
        gained, total = attack.gains()
        assert total.tolist() == pytest.approx([0.3, 0.3], abs=1e-5)
        assert gained.tolist() == pytest.approx([min(0.3, max(0.0, late))] * 2, abs=0.04 if late else 1e-6)


@pytest.fixture
def tracer() -> Iterator[SimpleNamespace]:
    import sys

    before = sys.getprofile()
    yield SimpleNamespace(get=sys.getprofile)
    sys.setprofile(before)


def test_calls_for_gradients_are_seen_however_they_are_made(tracer: SimpleNamespace) -> None:
    from torch.autograd import grad as imported

    x = torch.ones(2, requires_grad=True)
    before = tracer.get()
    for call in (
        lambda: imported((x * x).sum(), x),
        lambda: torch.autograd.grad((x * x).sum(), x),
        lambda: (x * x).sum().backward(),
        lambda: torch.func.grad(lambda v: (v * v).sum())(x.detach()),
    ):
        with gradient_calls() as calls:
            call()
        assert calls
    with gradient_calls() as calls:
        other = threading.Thread(target=lambda: (x * x).sum().backward())
        other.start()
        other.join()
        (x * x).sum()
    assert not calls
    with pytest.raises(ZeroDivisionError), gradient_calls():
        _ = 1 / 0
    assert tracer.get() is before
