"""Cost of the attacks beside their peers': CPU seconds and ratios at equal settings, with the success of both.

Every case attacks the same net, images and labels with ours and with a peer, in interleaved rounds of one process; CPU
time (of all threads) is what is reported, because wall time on a shared machine says more about the neighbours. Ours
includes the clean decision before and the judgement of every iterate; a peer's is the bare call, and what it gives back
is judged outside the time. The images are scikit-learn's digits, 3x32x32, at contrasts where 8/255 does what it does to
nets for photographs: nothing withstands it undefended, and most of a defended net's decisions do. The nets are trained
on the spot: two convolutions of 16 and 32 (``small``) or 64 and 128 channels (``wide``), and the small one against PGD
(``robust``).
Run with ``python benchmarks/attacks.py [--cases pgd apgd] [--rounds 5] [--threads 1]``, torchattacks and autoattack
installed; writes ``benchmarks/attacks.json``, where the rows of cases that were not run stay.
"""

import argparse
import json
import statistics
import sys
import time
import warnings
from collections.abc import Callable
from functools import cache, partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.nn import functional as F

from securegan.attacks.evasion.apgd import APGD
from securegan.attacks.evasion.base import EvasionAttack
from securegan.attacks.evasion.pgd import PGD
from securegan.attacks.surfaces import LabelSurface
from securegan.runs.atomic import write_json
from securegan.runs.folder import environment

N, HELD_OUT, NOISE = 128, 297, 0.01
EPS, ALPHA = 8 / 255, 2 / 255
CHANNELS = {"small": (16, 32), "wide": (64, 128), "robust": (16, 32)}
CONTRAST = {"small": 0.12, "wide": 0.12, "robust": 0.3}

Net = Literal["small", "wide", "robust"]
Row = dict[str, Any]
Attacked = Callable[[], Tensor]  # gives the images as they are after the attack


@cache
def pictures(contrast: float) -> tuple[Tensor, Tensor]:
    """All digits as ``(1797, 3, 32, 32)`` grey on grey with noise, and their labels."""
    pixels, labels = load_digits(return_X_y=True)
    small = torch.tensor(pixels, dtype=torch.float32).view(-1, 1, 8, 8) / 16
    images = 0.5 + contrast * (F.interpolate(small, size=32, mode="bilinear").repeat(1, 3, 1, 1) - 0.5)
    noise = torch.randn(images.shape, generator=torch.Generator().manual_seed(0))
    return (images + NOISE * noise).clamp(0, 1), torch.tensor(labels)


@cache
def trained(kind: Net) -> LabelSurface:
    """Seconds of training at a fixed seed; ``robust`` on PGD's images."""
    narrow, broad = CHANNELS[kind]
    torch.manual_seed(0)
    first = nn.Conv2d(3, narrow, 3, padding=1)
    with torch.no_grad():  # as if the images were normalised
        first.weight.div_(CONTRAST[kind])
        first.bias.sub_(first.weight.sum((1, 2, 3)) / 2)  # type: ignore[union-attr]
    net = nn.Sequential(
        first,
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(narrow, broad, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(broad * 64, 10),
    )
    surface = LabelSurface(net, (net,), "0123456789")
    images, labels = (part[:-HELD_OUT] for part in pictures(CONTRAST[kind]))
    optimizer = torch.optim.Adam(net.parameters(), 2e-3)
    steps, size = {"small": (120, 64), "wide": (60, 32), "robust": (300, 32)}[kind]
    training = PGD(eps=EPS, steps=4, restarts=1, objectives=("ce",), early_drop=False)
    for step in range(steps):
        rows = torch.randint(len(images), (size,), generator=torch.Generator().manual_seed(step))
        x, y = images[rows], labels[rows]
        if kind == "robust" and step > 60:
            x = training(surface, x, y, purpose=("benchmark", step)).adversarial
        optimizer.zero_grad()
        F.cross_entropy(net(x), y).backward()
        optimizer.step()
    net.eval()
    return surface


def attacked(kind: Net) -> tuple[Tensor, Tensor]:
    """``N`` held-out images that the net gets right, and their labels: every contender has as many to attack."""
    images, labels = (part[-HELD_OUT:] for part in pictures(CONTRAST[kind]))
    with torch.no_grad():
        right = (trained(kind).classify(images).argmax(1) == labels).nonzero().squeeze(1)[:N]
    assert len(right) == N
    return images[right], labels[right]


def robust_accuracy(surface: LabelSurface, images: Tensor, labels: Tensor) -> float:
    with torch.no_grad():
        return float((surface.classify(images).argmax(1) == labels).float().mean())


def ours(attack: EvasionAttack, kind: Net) -> Attacked:
    surface, (images, labels) = trained(kind), attacked(kind)
    return lambda: attack(surface, images, labels).adversarial


def compared(case: str, net: Net, contenders: dict[str, Attacked], against: str, rounds: int) -> list[Row]:
    """Interleaved rounds of every contender, and their ratios to the one named ``against``."""
    surface, (images, labels) = trained(net), attacked(net)
    seconds: dict[str, list[float]] = {name: [] for name in contenders}
    robust: dict[str, float] = {}
    farthest: dict[str, float] = {}
    for turn in range(rounds + 1):  # the first, which warms up, is not counted
        for name, run in contenders.items():
            begun = time.process_time()
            found = run()
            if turn:
                seconds[name].append(time.process_time() - begun)
            robust[name] = robust_accuracy(surface, found, labels)
            farthest[name] = float((found - images).abs().max())
    rows = []
    for name, found_seconds in seconds.items():
        ratios = [mine / other for mine, other in zip(found_seconds, seconds[against], strict=True)]
        median = statistics.median(found_seconds)
        print(
            f"{case:5s} {net:7s} {name:28s} {1000 * median:8.0f} ms  ratio {statistics.median(ratios):.2f}  "
            f"robust accuracy {robust[name]:.3f}  farthest {255 * farthest[name]:.3f}/255",
            flush=True,
        )
        rows.append(
            {
                "setting": {"case": case, "net": net, "attack": name, "against": against},
                "metrics": {
                    "speed/cpu_seconds": found_seconds,
                    "speed/ratio": ratios,
                    "robustness/robust_accuracy": [robust[name]],
                },
                "n": N,
                "seeds": [0],
            }
        )
    return rows


def pgd(rounds: int) -> list[Row]:
    """PGD-10 from one random start in L-inf, eps 8/255 and steps of 2/255, beside torchattacks' PGD."""
    import torchattacks

    rows = []
    for net in ("small", "wide", "robust"):
        surface, (images, labels) = trained(net), attacked(net)
        theirs = torchattacks.PGD(surface.victims[0], eps=EPS, alpha=ALPHA, steps=10, random_start=True)
        settings: dict[str, Any] = {"eps": EPS, "alpha": ALPHA, "steps": 10, "restarts": 1, "objectives": ("ce",)}
        contenders = {
            "torchattacks": partial(theirs, images, labels),
            "securegan, every step": ours(PGD(**settings, early_drop=False), net),
            "securegan": ours(PGD(**settings), net),
            "securegan, every step, bfloat16": ours(PGD(**settings, early_drop=False, gradients="bfloat16"), net),
            "securegan, bfloat16": ours(PGD(**settings, gradients="bfloat16"), net),
        }
        rows += compared("pgd", net, contenders, "torchattacks", rounds)
    return rows


def apgd(rounds: int) -> list[Row]:
    """APGD-CE with 50 steps from one random start in L-inf, eps 8/255, beside the authors' code."""
    from autoattack.autopgd_base import APGDAttack

    rows = []
    for net in ("small", "robust"):
        surface, (images, labels) = trained(net), attacked(net)
        theirs = APGDAttack(surface.victims[0], n_iter=50, norm="Linf", eps=EPS, loss="ce", seed=0, device="cpu")
        settings: dict[str, Any] = {"eps": EPS, "steps": 50, "objectives": ("ce",)}
        contenders = {
            "autoattack": partial(theirs.perturb, images, labels),
            "securegan, every step": ours(APGD(**settings, early_drop=False), net),
            "securegan": ours(APGD(**settings), net),
        }
        rows += compared("apgd", net, contenders, "autoattack", rounds)
    return rows


CASES: dict[str, Callable[[int], list[Row]]] = {"pgd": pgd, "apgd": apgd}
PEERS = {"pgd": "torchattacks", "apgd": "autoattack"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cases", nargs="+", choices=[*CASES], default=[*CASES])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    chosen = parser.parse_args()
    torch.set_num_threads(chosen.threads)
    warnings.simplefilter("ignore")  # the peers'
    for case in [case for case in chosen.cases if find_spec(PEERS[case]) is None]:
        print(f"{PEERS[case]} is not installed: {case} is left out")
        chosen.cases.remove(case)
    if not chosen.cases:
        return
    start, path = time.monotonic(), Path(__file__).with_suffix(".json")
    before = json.loads(path.read_text())["rows"] if path.exists() else []
    rows = [row for row in before if row["setting"]["case"] not in chosen.cases]
    for case in chosen.cases:
        rows += CASES[case](chosen.rounds)
    results = {
        "command": " ".join(["python benchmarks/attacks.py", *sys.argv[1:]]),
        "seconds": round(time.monotonic() - start),
        "rows": rows,
    }
    write_json(path, {**environment(), **results})


if __name__ == "__main__":
    main()
