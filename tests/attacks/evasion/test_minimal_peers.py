"""Distances beside foolbox's, of the same budget on the same network."""

import pytest
import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn

from securegan.attacks.evasion.base import EvasionAttack
from securegan.attacks.evasion.cw import CarliniWagner
from securegan.attacks.evasion.deepfool import DeepFool
from securegan.attacks.surfaces import LabelSurface

pytestmark = pytest.mark.peers


@pytest.fixture(scope="module")
def digits() -> tuple[nn.Module, Tensor, Tensor]:
    """A network trained on 16x16 digits, and 48 others that it reads rightly."""
    held = load_digits()
    small = torch.from_numpy(held.images / 16).float()[:, None]
    images, labels = nn.functional.interpolate(small, size=16, mode="bilinear"), torch.from_numpy(held.target)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        victim = nn.Sequential(
            nn.Conv2d(1, 16, 3, stride=2, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(1024, 64), nn.ReLU(),
            nn.Linear(64, 10),
        )  # fmt: skip
    optimiser = torch.optim.Adam(victim.parameters(), 2e-3)
    for step in range(150):
        rows = torch.arange(64) + 64 * (step % 20)
        optimiser.zero_grad()
        nn.functional.cross_entropy(victim(images[rows]), labels[rows]).backward()
        optimiser.step()
    with torch.no_grad():
        right = victim(images).argmax(1) == labels
    chosen = (right & (torch.arange(len(right)) >= 1300)).nonzero().squeeze(1)[:48]
    return victim, images[chosen], labels[chosen]


CW = "L2CarliniWagnerAttack"
CASES = {
    "deepfool": (DeepFool(eps=0), "L2DeepFoolAttack", {}),
    "deepfool linf": (DeepFool(norm="linf", eps=0), "LinfDeepFoolAttack", {}),
    "cw 3x100": (
        CarliniWagner(eps=0, searches=3, steps=100),
        CW,
        {"binary_search_steps": 3, "steps": 100, "initial_const": 1.0},
    ),
    "cw 5x200": (CarliniWagner(eps=0, searches=5, steps=200), CW, {"binary_search_steps": 5, "steps": 200}),
}


@pytest.mark.parametrize(("attack", "name", "settings"), CASES.values(), ids=CASES)
def test_no_farther_than_foolbox(
    digits: tuple[nn.Module, Tensor, Tensor], attack: EvasionAttack, name: str, settings: dict[str, float]
) -> None:
    foolbox = pytest.importorskip("foolbox")
    victim, images, labels = digits
    found = attack(LabelSurface(victim, (victim,), "0123456789"), images, labels).nearest
    peer = getattr(foolbox.attacks, name)(**settings)
    moved, _, _ = peer(foolbox.PyTorchModel(victim.eval(), bounds=(0, 1)), images, labels, epsilons=None)
    change = (moved - images).flatten(1)
    theirs = change.norm(dim=1) if attack.norm == "l2" else change.abs().amax(1)
    with torch.no_grad():
        fooled = victim(moved).argmax(1) != labels
    assert found.isfinite().sum() >= fooled.sum()
    assert found.median() <= 1.02 * torch.where(fooled, theirs, torch.inf).median()
