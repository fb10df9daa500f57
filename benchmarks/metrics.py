"""Quality scores at the same weights: seconds of our pass beside torch-fidelity's ``calculate_metrics``, as a ratio.

Both read the same images, held in memory, through an Inception network with random weights made on the spot, and give
FID, IS, KID, precision and recall (in the 2048 pooled features; KID over one subset of all images, IS in one split).
Their rounds are interleaved in one process; the medians and the ratio are printed. The scores of both stand beside, and
ours again without the channels-last memory format, since a faster pass must not move a score.
Run with ``python benchmarks/metrics.py [--images 100] [--rounds 3] [--threads 1]``; writes ``benchmarks/metrics.json``.
"""

import argparse
import logging
import statistics
import sys
import tempfile
import time
import warnings
from pathlib import Path
from unittest.mock import patch

import torch
import torch_fidelity
from torch import Tensor
from torch.utils.data import Dataset
from torch_fidelity import feature_extractor_inceptionv3 as peer

from securegan.data.module import CHUNK
from securegan.metrics import inception as ours
from securegan.metrics.inception import Inception, load_inception
from securegan.metrics.kernel import kernel_distance
from securegan.metrics.manifold import manifold_scores
from securegan.metrics.moments import Moments
from securegan.metrics.quality import InceptionScore, frechet_distance
from securegan.runs.atomic import write_json
from securegan.runs.folder import environment

THEIR_NAMES = {
    "fid": "frechet_inception_distance",
    "is": "inception_score_mean",
    "kid": "kernel_inception_distance_mean",
    "precision": "precision",
    "recall": "recall",
}
SIDE = 32


class Pictures(Dataset[Tensor]):
    """Images ``(N, 3, H, W)`` in ``[0, 1]`` as the 8-bit images that torch-fidelity reads."""

    def __init__(self, images: Tensor) -> None:
        self.images = images.mul(255).round().to(torch.uint8)

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, row: int) -> Tensor:
        return self.images[row]


def pictures(n: int, seed: int) -> Tensor:
    """``(n, 3, SIDE, SIDE)`` smooth images, darker for another seed, in steps of 8 bits."""
    drawn = torch.rand(n, 3, 8, 8, generator=torch.Generator().manual_seed(seed))
    images = torch.nn.functional.interpolate(drawn, size=SIDE, mode="bilinear") ** (1 + seed)
    return images.mul(255).round().div(255)


def write_weights(path: Path) -> None:
    """Random weights, the batch norms set so that features keep their scale through the depth."""
    with (
        patch.object(peer, "load_state_dict_from_url", lambda *_, **__: {}),
        patch.object(torch.nn.Module, "load_state_dict", lambda *_, **__: None),
    ):
        torch.manual_seed(0)
        network = peer.FeatureExtractorInceptionV3("random", ["2048"])
    for layer in network.modules():
        if isinstance(layer, torch.nn.BatchNorm2d):
            layer.running_var.fill_(0.2)  # type: ignore[union-attr]
    network.fc.weight.mul_(100)  # or every posterior is uniform
    torch.save(network.state_dict(), path)


def our_scores(extractor: Inception, real: Tensor, fake: Tensor) -> dict[str, float]:
    """As an evaluation makes them: streamed moments, kept features for the others."""
    score, moments, kept = InceptionScore(extractor.num_logits), [], []
    for side, images in enumerate((fake, real)):
        found = [extractor.extract(part) for part in images.split(CHUNK)]
        moment = Moments(extractor.feature_dim)
        for features, logits in found:
            moment.update(features)
            if side == 0:
                score.update(logits)
        moments.append(moment)
        kept.append(torch.cat([features for features, _ in found]))
    manifold = manifold_scores(kept[1], kept[0])
    return {
        "fid": frechet_distance(*moments),
        "is": score.compute(),
        "kid": kernel_distance(kept[1], kept[0]),
        "precision": manifold.precision,
        "recall": manifold.recall,
    }


def their_scores(weights: Path, real: Tensor, fake: Tensor) -> dict[str, float]:
    found = torch_fidelity.calculate_metrics(
        input1=Pictures(fake),
        input2=Pictures(real),
        cuda=False,
        fid=True,
        isc=True,
        isc_splits=1,
        kid=True,
        kid_subsets=1,
        kid_subset_size=len(real),
        prc=True,
        feature_extractor="inception-v3-compat",
        feature_layer_prc="2048",
        samples_shuffle=False,
        batch_size=64,
        save_cpu_ram=True,  # otherwise it starts data-loader processes, which a data set in memory does not need
        verbose=False,
        feature_extractor_weights_path=str(weights),
    )
    return {name: float(found[theirs]) for name, theirs in THEIR_NAMES.items()}


def without_channels_last(extractor: Inception, real: Tensor, fake: Tensor) -> dict[str, float]:
    with patch.object(ours, "CPU_FORMAT", torch.contiguous_format):
        return our_scores(Inception(extractor.network, extractor.digest), real, fake)


def main() -> None:
    """Interleaved rounds; prints images a second, the ratio and the scores, and writes the results."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=100, help="of each side")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    chosen = parser.parse_args()
    torch.set_num_threads(chosen.threads)
    warnings.simplefilter("ignore")  # torch-fidelity's
    logging.disable(logging.WARNING)
    start = time.monotonic()
    real, fake = pictures(chosen.images, 0), pictures(chosen.images, 1)
    seconds: dict[str, list[float]] = {"securegan": [], "torch-fidelity": []}
    scores: dict[str, dict[str, float]] = {}
    with tempfile.TemporaryDirectory() as place:
        weights = Path(place) / "random.pth"
        write_weights(weights)
        for _ in range(chosen.rounds):
            for name in seconds:
                begun = time.perf_counter()  # both load their network within the time
                if name == "securegan":
                    scores[name] = our_scores(load_inception(weights, Path(place)), real, fake)
                else:
                    scores[name] = their_scores(weights, real, fake)
                seconds[name].append(time.perf_counter() - begun)
        plain = load_inception(weights, Path(place))
        scores["securegan, contiguous"] = without_channels_last(plain, real, fake)
    rates = {name: [2 * chosen.images / one for one in found] for name, found in seconds.items()}
    ratios = [one / other for one, other in zip(rates["securegan"], rates["torch-fidelity"], strict=True)]
    medians = {name: statistics.median(found) for name, found in rates.items()}
    for name, rate in medians.items():
        print(f"{name:15s} {rate:6.2f} images a second")
    print(f"ratio of a round: {statistics.median(ratios):.2f} (median of {chosen.rounds})")
    rows = []
    for name, found in scores.items():
        moved = {key: abs(scores["securegan"][key] / value - 1) if value else 0.0 for key, value in found.items()}
        speed = {"speed/images_per_second": rates[name]} if name in rates else {}
        ratio = {"speed/ratio_to_torch_fidelity": ratios} if name == "securegan" else {}
        figures = {f"quality/{key}": [value] for key, value in found.items()}
        print(f"{name:22s} " + ", ".join(f"{key} {value:.6g}" for key, value in found.items()))
        if name != "securegan":
            print(f"{'':22s} ours differ by at most {100 * max(moved.values()):.4f} %")
        rows.append(
            {
                "setting": {"library": name, "images": 2 * chosen.images, "side": SIDE, "threads": chosen.threads},
                "metrics": {**speed, **ratio, **figures},
                "n": chosen.images,
                "seeds": [0],
            }
        )
    results = {
        "command": " ".join(["python benchmarks/metrics.py", *sys.argv[1:]]),
        "seconds": round(time.monotonic() - start),
        "rows": rows,
    }
    write_json(Path(__file__).with_suffix(".json"), {**environment(), **results})


if __name__ == "__main__":
    main()
