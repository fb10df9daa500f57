"""Square Attack: CPU seconds and robust accuracy beside autoattack's ``SquareAttack`` at equal queries.

Both attack the same digits (enlarged to ``--side`` pixels) on a convolutional network trained on the spot, whose images
they must leave right to be counted robust. Their rounds are interleaved in one process on one seed each; the medians
and the ratio of a round are printed. Robust accuracy stands beside, over all rounds, since a faster attack must not be
a weaker one. ``autoattack, mended`` is theirs with windows that reach the last row and column.
Run with ``python benchmarks/attacks_black_box.py [--images 100] [--queries 500] [--rounds 5]`` where ``autoattack`` is
installed; writes ``benchmarks/attacks_black_box.json``.
"""

import argparse
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn

from securegan.attacks.evasion.square import Square
from securegan.attacks.surfaces import LabelSurface
from securegan.attacks.threat import Norm
from securegan.runs.atomic import write_json
from securegan.runs.folder import environment

try:
    from autoattack.square import SquareAttack
except ModuleNotFoundError:
    print("autoattack is not installed: there is nothing to compare with")
    sys.exit(0)

RADII: dict[Norm, float] = {"linf": 0.1, "l2": 2.0}
Attack = Callable[[Tensor, Tensor, int], Tensor]  # images, labels, seed -> adversarial images


class Mended(SquareAttack):  # type: ignore[misc]
    def random_int(self, low: int = 0, high: int = 1, shape: Sequence[int] = (1,)) -> Tensor:
        return super().random_int(low, high + 1, shape)


def trained(side: int) -> tuple[nn.Module, Tensor, Tensor]:
    """A frozen network, and images ``(N, 1, side, side)`` of which it reads every label."""
    loaded = load_digits()
    order = torch.randperm(len(loaded.images), generator=torch.Generator().manual_seed(0))
    x, y = torch.tensor(loaded.images, dtype=torch.float32)[order, None] / 16, torch.tensor(loaded.target)[order]
    x = nn.functional.interpolate(x, size=side, mode="bilinear")
    torch.manual_seed(0)
    network = nn.Sequential(
        nn.Conv2d(1, 16, 3, stride=2, padding=1),
        nn.ReLU(),
        nn.Conv2d(16, 32, 3, stride=2, padding=1),
        nn.ReLU(),
        nn.Conv2d(32, 32, 3, stride=2, padding=1),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(32 * (-(-side // 8)) ** 2, 10),
    )
    optimizer = torch.optim.Adam(network.parameters(), 2e-3)
    for _ in range(6):
        for batch in torch.randperm(1400).split(100):
            optimizer.zero_grad()
            nn.functional.cross_entropy(network(x[batch]), y[batch]).backward()
            optimizer.step()
    network.eval().requires_grad_(False)
    right = network(x[1400:]).argmax(1) == y[1400:]
    return network, x[1400:][right], y[1400:][right]


def contestants(network: nn.Module, norm: Norm, queries: int) -> dict[str, Attack]:
    """The attacks by name, of the same number of queries."""
    surface = LabelSurface(network, (network,), "0123456789")
    ours = Square(norm=norm, eps=RADII[norm], queries=queries)

    def peer(library: type) -> Attack:
        def attack(x: Tensor, y: Tensor, seed: int) -> Tensor:
            theirs = library(network, norm=norm.replace("l", "L"), n_queries=queries - 1, eps=RADII[norm], seed=seed)
            return theirs.perturb(x, y)

        return attack

    return {
        "securegan": lambda x, y, seed: ours(surface, x, y, purpose=(seed,), keys=torch.arange(len(x))).adversarial,
        "autoattack": peer(SquareAttack),
        "autoattack, mended": peer(Mended),
    }


def compare(norm: Norm, chosen: argparse.Namespace) -> list[dict[str, object]]:
    """Interleaved rounds in one norm; a row for each contestant."""
    network, x, y = trained(chosen.side)
    x, y = x[: chosen.images], y[: chosen.images]
    attacks = contestants(network, norm, chosen.queries)
    seconds: dict[str, list[float]] = {name: [] for name in attacks}
    robust: dict[str, list[float]] = {name: [] for name in attacks}
    for attack in attacks.values():  # warm up, uncounted
        attack(x[:8], y[:8], 0)
    for seed in range(chosen.rounds):
        for name, attack in attacks.items():
            begun = time.process_time()
            found = attack(x, y, seed)
            seconds[name].append(time.process_time() - begun)
            robust[name].append(float((network(found).argmax(1) == y).double().mean()))
    rows: list[dict[str, object]] = []
    for name in attacks:
        ratios = [one / other for one, other in zip(seconds[name], seconds["autoattack"], strict=True)]
        print(
            f"{norm:5s} {name:20s} {statistics.median(seconds[name]):6.2f} CPU seconds, "
            f"{statistics.median(ratios):.2f} of autoattack's; robust accuracy {statistics.mean(robust[name]):.3f}"
        )
        rows.append(
            {
                "setting": {"library": name, "norm": norm, "eps": RADII[norm], "queries": chosen.queries},
                "metrics": {
                    "speed/cpu_seconds": seconds[name],
                    "speed/ratio_to_autoattack": ratios,
                    "robustness/robust_accuracy": robust[name],
                },
                "n": len(x),
                "seeds": list(range(chosen.rounds)),
            }
        )
    return rows


def main() -> None:
    """Both norms; prints and writes the results."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=100)
    parser.add_argument("--side", type=int, default=28, help="pixels, of the enlarged digits")
    parser.add_argument("--queries", type=int, default=500)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    chosen = parser.parse_args()
    torch.set_num_threads(chosen.threads)
    start = time.monotonic()
    rows = [row for norm in RADII for row in compare(norm, chosen)]
    results = {
        "command": " ".join(["python benchmarks/attacks_black_box.py", *sys.argv[1:]]),
        "seconds": round(time.monotonic() - start),
        "rows": rows,
    }
    write_json(Path(__file__).with_suffix(".json"), {**environment(), **results})


if __name__ == "__main__":
    main()
