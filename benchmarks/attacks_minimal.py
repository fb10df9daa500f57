"""Minimal-norm attacks at the same victim, images and budget: CPU seconds of ours beside foolbox's, as a ratio.

The victim is a small network trained on the spot on scikit-learn's digits, resized, with their paper made exactly
black. Rounds are interleaved in one process after one that is not counted. Beside the seconds stand the share of images
fooled and the median distance (of all images; inf where one is not fooled), since a faster attack must not be a weaker
one. Foolbox's Carlini & Wagner is run from its own first c, 0.001, and from 1, which suits these logits better; ours
with three quarters of the steps too, at which its distances are still the shorter ones.
Run with ``python benchmarks/attacks_minimal.py [--images 64] [--rounds 5] [--threads 1]``; writes
``benchmarks/attacks_minimal.json``. Needs foolbox.
"""

import argparse
import logging
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.nn import functional as F

from securegan.attacks.evasion.base import EvasionAttack
from securegan.attacks.evasion.cw import CarliniWagner
from securegan.attacks.evasion.deepfool import DeepFool
from securegan.attacks.surfaces import LabelSurface
from securegan.runs.atomic import write_json
from securegan.runs.folder import environment

try:
    import foolbox
except ModuleNotFoundError:
    print("foolbox is not installed: there is nothing to compare with")
    sys.exit(0)

TRAINED = 1300  # of the 1797 digits; the victim is attacked on others that it reads rightly
EPOCHS = 6

Finder = Callable[[nn.Module, Tensor, Tensor], Tensor]  # victim, images, labels -> (N,) distances, inf where not fooled


@dataclass
class Case:
    """The same attack by both, as often as is asked for."""

    name: str
    side: int
    finders: dict[str, Finder]
    seconds: dict[str, list[float]] = field(default_factory=dict)
    distances: dict[str, Tensor] = field(default_factory=dict)


def digits(side: int) -> tuple[Tensor, Tensor]:
    """``(1797, 1, side, side)`` in ``[0, 1]``, and the labels."""
    held = load_digits()
    images = torch.from_numpy(held.images / 16).float()[:, None]
    images = F.interpolate(images, size=side, mode="bilinear")
    return images.where(images >= 0.08, 0.0), torch.from_numpy(held.target)


def trained(side: int) -> tuple[nn.Module, Tensor, Tensor]:
    """A network, and the held-out images that it reads rightly with their labels."""
    images, labels = digits(side)
    torch.manual_seed(0)
    victim = nn.Sequential(
        *(nn.Conv2d(1, 16, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Conv2d(16, 32, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Flatten(), nn.Linear(2 * side**2, 64), nn.ReLU(), nn.Linear(64, 10)),
    )
    optimiser = torch.optim.Adam(victim.parameters(), 2e-3)
    for _ in range(EPOCHS):
        for rows in torch.randperm(TRAINED).split(64):
            optimiser.zero_grad()
            F.cross_entropy(victim(images[rows]), labels[rows]).backward()
            optimiser.step()
    victim.eval()
    images, labels = images[TRAINED:], labels[TRAINED:]
    with torch.no_grad():
        right = victim(images).argmax(1) == labels
    return victim, images[right], labels[right]


def ours(attack: EvasionAttack) -> Finder:
    def find(victim: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
        return attack(LabelSurface(victim, (victim,), "0123456789"), images, labels).nearest

    return find


def theirs(attack: foolbox.attacks.base.MinimizationAttack, norm: str) -> Finder:
    def find(victim: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
        moved, _, _ = attack(foolbox.PyTorchModel(victim, bounds=(0, 1)), images, labels, epsilons=None)
        with torch.no_grad():
            fooled = victim(moved).argmax(1) != labels
        change = (moved - images).flatten(1)
        distance = change.norm(dim=1) if norm == "l2" else change.abs().amax(1)
        return torch.where(fooled, distance, torch.inf)

    return find


def carlini_wagner(side: int, searches: int, steps: int) -> Case:
    peer = foolbox.attacks.L2CarliniWagnerAttack
    finders = {
        "securegan": ours(CarliniWagner(eps=0, searches=searches, steps=steps)),
        "securegan, 3/4 of the steps": ours(CarliniWagner(eps=0, searches=searches, steps=steps * 3 // 4)),
        "foolbox": theirs(peer(searches, steps), "l2"),
        "foolbox, first c 1": theirs(peer(searches, steps, initial_const=1.0), "l2"),
    }
    return Case(f"C&W L2 {searches}x{steps}", side, finders)


def cases() -> list[Case]:
    """Every comparison."""
    small, large = 16, 28
    deepfool = [
        Case(f"DeepFool {norm}", side, {"securegan": ours(DeepFool(norm=norm, eps=0)), "foolbox": theirs(peer(), norm)})
        for side in (small, large)
        for norm, peer in (("l2", foolbox.attacks.L2DeepFoolAttack), ("linf", foolbox.attacks.LinfDeepFoolAttack))
    ]
    return [*deepfool, carlini_wagner(small, 5, 100), carlini_wagner(small, 9, 200), carlini_wagner(large, 5, 100)]


def measure(case: Case, victim: nn.Module, images: Tensor, labels: Tensor, rounds: int) -> None:
    for counted in [False] + [True] * rounds:
        for name, find in case.finders.items():
            begun = time.process_time()
            case.distances[name] = find(victim, images, labels)
            if counted:
                case.seconds.setdefault(name, []).append(time.process_time() - begun)


def rows_of(case: Case, threads: int) -> list[dict[str, object]]:
    """Prints a case, and gives its rows of the results."""
    rows: list[dict[str, object]] = []
    for name, seconds in case.seconds.items():
        distance = case.distances[name]
        ratios = [one / other for one, other in zip(seconds, case.seconds["foolbox"], strict=True)]
        metrics = {
            "speed/cpu_seconds": seconds,
            "robustness/fooled": [float(distance.isfinite().float().mean())],
            "robustness/median_distance": [float(distance.median())],
        }
        beside = ""
        if name != "foolbox":
            metrics["speed/ratio_to_foolbox"] = ratios
            beside = f", {statistics.median(ratios):.2f} of foolbox's time"
        fooled, median = metrics["robustness/fooled"][0], metrics["robustness/median_distance"][0]
        print(
            f"{case.name:15s} {case.side:2d}  {name:27s} {statistics.median(seconds):6.2f} s  "
            f"fooled {fooled:.3f}  distance {median:.4f}{beside}"
        )
        setting = {"attack": case.name, "library": name, "side": case.side, "threads": threads}
        rows.append({"setting": setting, "metrics": metrics, "n": len(distance), "seeds": [0]})
    return rows


def main() -> None:
    """Every case in turn; prints and writes the results."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    chosen = parser.parse_args()
    torch.set_num_threads(chosen.threads)
    logging.disable(logging.WARNING)
    start = time.monotonic()
    rows: list[dict[str, object]] = []
    victims = {side: trained(side) for side in (16, 28)}
    for case in cases():
        victim, images, labels = victims[case.side]
        measure(case, victim, images[: chosen.images], labels[: chosen.images], chosen.rounds)
        rows += rows_of(case, chosen.threads)
    results = environment()
    try:
        results["versions"]["foolbox"] = version("foolbox")
    except PackageNotFoundError:  # it is on the path without having been installed
        results["versions"]["foolbox"] = foolbox.__version__
    results |= {
        "command": " ".join(["python benchmarks/attacks_minimal.py", *sys.argv[1:]]),
        "seconds": round(time.monotonic() - start),
        "rows": rows,
    }
    write_json(Path(__file__).with_suffix(".json"), results)


if __name__ == "__main__":
    main()
