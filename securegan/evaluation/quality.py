"""Quality of generated images, from one pass of features of the judge (and Inception where given), and fidelity.

FID and IS stream over all images; KID, precision, recall, density and coverage are of the first ``kept_features`` on
each side. Real images are of the split that is evaluated; the floors are the scores between two halves of them.
"""

from collections.abc import Iterable, Sequence
from pathlib import Path

import torch
from torch import Tensor

from securegan.data.module import ImageDataModule
from securegan.evaluation.outcome import Outcome
from securegan.evaluation.protocol import Protocol
from securegan.evaluation.real_statistics import RealStatistics, mean_image, real_statistics
from securegan.evaluation.sampling import image_chunks, reconstructed
from securegan.judges.judge import Judge
from securegan.metrics.distributed import gather_rows
from securegan.metrics.diversity import diversity, repeats
from securegan.metrics.kernel import kernel_distance
from securegan.metrics.manifold import WIDE_NEIGHBOURS, manifold_scores
from securegan.metrics.moments import ClassMoments, Moments
from securegan.metrics.quality import FeatureExtractor, InceptionScore, frechet_distance
from securegan.metrics.robustness import wilson
from securegan.metrics.ssim import fidelity, ssim
from securegan.models.base import GenerativeModule

PICTURES = 16  # of reconstructions in a report
OF_REAL = ("recall", "coverage")  # shares of the real images; the other scores are of the outputs
NO_REFERENCE = "their class has no image among the references"  # why a fidelity is not a number


class Quality:
    """Scores the averaged generator against one split; real features are computed once and kept as moments."""

    def __init__(
        self,
        data: ImageDataModule,
        judge: Judge,
        extractors: Sequence[FeatureExtractor],
        protocol: Protocol,
        seed: int,
        cache_dir: Path | None = None,
    ) -> None:
        """Args: extractors: all that score, the judge among them; cache_dir: where real statistics are kept."""
        self.cache_dir = cache_dir
        self.data, self.judge, self.extractors, self.protocol, self.seed = data, judge, extractors, protocol, seed
        self._real: dict[tuple[str, str], RealStatistics] = {}
        labelled = judge.task == "labels" and data.spec.num_classes > 0
        self._read_classes = data.spec.num_classes if labelled else 0

    def measure(self, module: GenerativeModule, split: str, *, final: bool) -> Outcome:
        """FID, IS, fidelity, the judge's reading of the class asked for, and diversity; all ranks take part."""
        details: dict[str, object] = {}
        outcome = Outcome(protocol={"quality": details})
        for extractor in self.extractors:
            extractor.to(module.device)
        total, cap = self.protocol.generated, self.protocol.kept_features
        fakes = {e.key: Moments(e.feature_dim) for e in self.extractors}
        scores = {e.key: InceptionScore(e.num_logits) for e in self.extractors}
        kept = {e.key: [torch.zeros(0, e.feature_dim)] for e in self.extractors}
        order = [torch.zeros(0, dtype=torch.int64)]
        read: list[Tensor] = [torch.zeros(0, dtype=torch.bool)]
        within = ClassMoments(self._read_classes, self.judge.feature_dim)
        for keys, images, y in image_chunks(module, total, "samples"):
            order.append(keys[keys < cap])
            for extractor in self.extractors:
                features, logits = extractor.extract(images)
                fakes[extractor.key].update(features)
                scores[extractor.key].update(logits)
                kept[extractor.key].append(features.cpu()[keys < cap])
                if extractor.key == "judge" and self._read_classes and y is not None:
                    within.update(features, y)
                    read.append((logits.argmax(1) == y).cpu())
        for extractor in self.extractors:
            real, key = self._real_statistics(extractor, split, module.device), extractor.key
            fake = fakes[key].reduce()
            outcome.metrics[f"quality/fid_{key}"] = frechet_distance(real.moments, fake)
            outcome.n[f"quality/fid_{key}"] = total
            score = scores[key].reduce()
            if extractor.num_logits:
                outcome.metrics[f"quality/is_{key}"], outcome.n[f"quality/is_{key}"] = score.compute(), total
            shown = gather_rows(torch.cat(kept[key]), torch.cat(order))
            for name, value in _unstreamed(real.kept, shown).items():
                of = real.kept if name in OF_REAL else shown
                outcome.metrics[f"quality/{name}_{key}"], outcome.n[f"quality/{name}_{key}"] = value, len(of)
            details.update({f"{name}_{key}": value for name, value in real.beside.items()})
            details.update({f"digest_{key}": extractor.digest, "n_real": real.moments.n, "n_real_kept": len(real.kept)})
            if key == "judge":
                outcome.metrics["quality/diversity"] = diversity(fake, real.moments)
                if self._read_classes and repeats(real.within) and repeats(seen := within.reduce()):
                    outcome.metrics["quality/diversity_within_classes"] = diversity(seen, real.within)
        reads = gather_rows(torch.cat(read))
        if len(reads):
            key = "quality/class_accuracy_judge"
            outcome.metrics[key], outcome.n[key] = float(reads.double().mean()), len(reads)
            outcome.interval[key] = wilson(int(reads.sum()), len(reads))
        outcome.merge(self.fidelity(module, final=final))
        if "reconstruction" in module.surfaces():
            outcome.merge(self.reconstruction(module, split))
        return outcome

    def reconstruction(self, module: GenerativeModule, split: str) -> Outcome:
        """SSIM of real images of ``split`` to their reconstructions, and to the mean image."""
        mean = mean_image(self.data, module.device)
        similar, floor = [torch.zeros(0)], [torch.zeros(0)]
        keys = [torch.zeros(0, dtype=torch.int64)]
        outcome = Outcome()
        for _, batch in self.data.chunks(split, 1000):
            images = batch.images.to(module.device)
            made = reconstructed(module, images, batch.labels.to(module.device))
            similar.append(ssim(made, images).cpu())
            floor.append(ssim(mean.expand_as(images), images).cpu())
            keys.append(batch.index)
            if "reconstructions" not in outcome.examples:
                outcome.examples["reconstructed"] = images[:PICTURES].float().cpu().numpy()
                outcome.examples["reconstructions"] = made[:PICTURES].float().cpu().numpy()
        order = torch.cat(keys)
        for name, values in (("ssim", similar), ("ssim_mean_image", floor)):
            outcome.add_mean(f"quality/reconstruction_{name}", gather_rows(torch.cat(values), order), "of nothing")
        return outcome

    def _real_statistics(self, extractor: FeatureExtractor, split: str, device: torch.device) -> RealStatistics:
        if (extractor.key, split) not in self._real:
            self._real[extractor.key, split] = real_statistics(
                self.data,
                extractor,
                split,
                classes=self._read_classes if extractor.key == "judge" else 0,
                cap=self.protocol.kept_features,
                cache_dir=self.cache_dir,
                device=device,
            )
        return self._real[extractor.key, split]

    def references(self, device: torch.device) -> tuple[Tensor, Tensor | None]:
        """The fixed held-out real images (of the validation split) that fidelity compares with."""
        n = min(self.protocol.fidelity_references, self.data.split_size("validate"))
        batch = self.data.chunk("validate", 0, n)
        return batch.images.to(device), batch.labels.to(device) if self.data.spec.num_classes else None

    def fidelity_of(self, module: GenerativeModule, images: Iterable[tuple[Tensor, Tensor, Tensor | None]]) -> Tensor:
        """``(N,)`` fidelity of this rank's ``(keys, images, labels or None)``, gathered in the order of the keys."""
        references, reference_labels = self.references(module.device)
        values, keys = [torch.zeros(0)], [torch.zeros(0, dtype=torch.int64)]
        for key, chunk, labels in images:
            values.append(fidelity(chunk, references, labels, reference_labels).cpu())
            keys.append(key)
        return gather_rows(torch.cat(values), torch.cat(keys))

    def fidelity(self, module: GenerativeModule, *, final: bool) -> Outcome:
        """Highest SSIM of outputs to held-out real images, beside the figure of other real images."""
        outcome = Outcome()
        references, _ = self.references(module.device)
        outcome.protocol["fidelity"] = {"references": len(references), "of": "validate", "other_real_of": "calibrate"}
        total = self.protocol.generated if final else min(self.protocol.generated, self.protocol.fidelity_epoch_images)
        clean = self.fidelity_of(module, image_chunks(module, total, "samples"))
        outcome.arrays["fidelity_clean"] = clean.numpy()
        outcome.add_mean("quality/fidelity", clean, NO_REFERENCE)
        others = (
            (batch.index, batch.images.to(module.device), batch.labels.to(module.device))
            for _, batch in self.data.chunks("calibrate", 1000 if final else 256)
        )
        real = self.fidelity_of(module, others)
        outcome.arrays["fidelity_real"] = real.numpy()
        outcome.add_mean("quality/fidelity_real", real, NO_REFERENCE)
        return outcome


def _unstreamed(real: Tensor, fake: Tensor) -> dict[str, float]:
    """KID, precision, recall, density and coverage, as far as there are images enough."""
    if min(len(real), len(fake)) < 2:
        return {}
    found = {"kid": kernel_distance(real, fake)}
    if min(len(real), len(fake)) > WIDE_NEIGHBOURS:
        found |= manifold_scores(real, fake)._asdict()
    return found
