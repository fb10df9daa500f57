"""One evaluation of a module: quality, every surface under attack, detection, and at the end the audit."""

import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from securegan.attacks.engine import Memory
from securegan.attacks.evasion.autoencoder import AutoencoderAttack
from securegan.attacks.evasion.base import EvasionAttack
from securegan.attacks.reconstruction import ReconstructionSurface
from securegan.attacks.supplies import Supplies
from securegan.attacks.surfaces import LabelSurface, Surface, SurfaceName
from securegan.attacks.threat import AnyNorm
from securegan.data.module import CHUNK, ImageDataModule
from securegan.detectors.base import Detector
from securegan.evaluation import distortion
from securegan.evaluation.audit import audit_surface
from securegan.evaluation.detection import JudgeDetector, adversarial_figures, generated_figures, unattacked_figures
from securegan.evaluation.lighter import at_epochs, without_worst_case
from securegan.evaluation.outcome import Outcome
from securegan.evaluation.protocol import Protocol
from securegan.evaluation.quality import NO_REFERENCE, Quality
from securegan.evaluation.radii import radius_figures
from securegan.evaluation.robustness import (
    FORGETFUL,
    Attacked,
    adaptive_figures,
    attack_surface,
    behind,
    robustness_figures,
)
from securegan.evaluation.sampling import generated, great_circle, latent_chunks
from securegan.evaluation.surfaces import build_surfaces, check_surfaces, inputs_of
from securegan.judges.judge import Judge
from securegan.metrics.masking import Check
from securegan.metrics.quality import FeatureExtractor
from securegan.models.base import GenerativeModule

SAMPLES = 64
PATHS, STEPS = 6, 8  # between latent codes, and images along each


class Evaluator:
    """Measures a module on a split; holds what stays the same over a run (judge, real statistics, protocol)."""

    def __init__(
        self,
        data: ImageDataModule,
        judge: Judge,
        extractors: Sequence[FeatureExtractor],
        attack: EvasionAttack | None,
        protocol: Protocol,
        seed: int,
        cache_dir: Path | None = None,
        surrogate: Surface | None = None,
    ) -> None:
        """Args:
        extractors: beside the judge.
        attack: None measures quality and detection alone.
        cache_dir: where the statistics of real images are kept; None keeps none.
        surrogate: of attacks that transfer; the judge, where it reads the data's classes, if None.
        """
        self.data, self.judge, self.attack, self.protocol, self.seed = data, judge, attack, protocol, seed
        self.quality = Quality(data, judge, [judge, *extractors], protocol, seed, cache_dir)
        self.memory: Memory = FORGETFUL
        self.surrogate = surrogate
        self._judge_detector: JudgeDetector | None = None

    def measure(self, module: GenerativeModule, split: str, detectors: Sequence[Detector], *, final: bool) -> Outcome:
        """All figures of ``split``; all ranks take part and get the same."""
        outcome = self.quality.measure(module, split, final=final)
        detector = detectors[0] if detectors else None
        attacked = self._attack_all(module, split, detectors, outcome, final=final)
        if detector is not None:
            watched = next((name for name in ("label", "authenticity", "reconstruction") if name in attacked), None)
            if watched is not None:
                outcome.merge(adversarial_figures(detector, attacked[watched], watched))
            else:
                limit = self.protocol.test_attack_images if final else self.protocol.epoch_attack_images or CHUNK
                outcome.merge(unattacked_figures(detector, module, self.data, split, limit, *self.noise, self.seed))
            outcome.merge(generated_figures(detector, module, self.protocol.generated))
            if self._judge_detector is None:
                rate = detector.false_positive_rate
                self._judge_detector = JudgeDetector(
                    self.judge, self.data, false_positive_rate=rate, device=module.device
                )
            outcome.merge(self._judge_detector.pass_rate(module, self.protocol.generated))
        outcome.examples.update(self._samples(module))
        if final:
            outcome.examples.update(self._paths(module))
        return outcome

    def _attack_all(
        self, module: GenerativeModule, split: str, detectors: Sequence[Detector], outcome: Outcome, *, final: bool
    ) -> dict[str, Attacked]:
        detector = detectors[0] if detectors else None
        limit = self.protocol.test_attack_images if final else self.protocol.epoch_attack_images
        if self.attack is None or not limit:
            return {}
        attack = self.attack if final else at_epochs(self.attack, self.protocol)
        surfaces = self.surfaces(module, detectors)
        done: dict[str, Attacked] = {}
        outcome.protocol["surfaces"] = {name: surface.criterion for name, surface in surfaces.items()}
        outcome.protocol["threat_models"] = {name: attack.threat(s).as_dict() for name, s in surfaces.items()}
        for name, surface in surfaces.items():
            n = limit
            if surface.space.name == "latent":
                n = min(limit, self.protocol.latent_attack_images) if final else max(1, limit // 2)
            chunks = list(inputs_of(surface, module, self.data, split, n))
            memory, coded = self.memory if final else FORGETFUL, surface.space.name == "latent"
            attack.prepare(surface, self._supplies(surface, module, memory))
            began = time.monotonic()
            done[name] = attack_surface(
                surface,
                attack,
                chunks,
                module,
                seed=self.seed,
                detector=detector,
                many_draws=final and coded,
                memory=memory,
            )
            outcome.seconds[name] = time.monotonic() - began
            scores = done[name].scores.get("adversarial")
            if name == "latent_detector":
                scores = None  # to be flagged is what the adversary wants there
            flagged = None if scores is None or detector is None else scores > detector.threshold
            outcome.merge(robustness_figures(surface, done[name], flagged))
            if final:
                factors = self.protocol.eps_factors
                outcome.merge(
                    radius_figures(surface, attack, done[name], chunks, factors, seed=self.seed, memory=memory)
                )
            if attack.adaptive and detector is not None and not coded:
                unaware = done[name]
                outcome.merge(
                    adaptive_figures(surface, attack, chunks, module, detector, unaware, seed=self.seed, memory=memory)
                )
            if final and self.protocol.check_images:
                full = self.protocol.audit == "full"
                images = self.protocol.check_images
                outcome.checks += self.audit(module, surface, split, images, full=full, detectors=detectors)
            towards = isinstance(attack, AutoencoderAttack) and attack.towards_image
            if final and towards and isinstance(surface, ReconstructionSurface):
                some = list(inputs_of(surface, module, self.data, split, min(n, distortion.IMAGES)))
                outcome.merge(distortion.distortion_figures(surface, attack, some, seed=self.seed))
            if name == "latent":
                self._latent_fidelity(module, attack, surface, outcome, final=final)
        return done

    def _supplies(self, surface: Surface, module: GenerativeModule, memory: Memory) -> Supplies:
        """What an attack on a surface of ``module`` may take: no codes, and the same images in every process."""
        surrogate = self.surrogate
        if surrogate is None and self.judge.task == "labels":
            surrogate = LabelSurface(self.judge.logits, (self.judge,), self.data.spec.class_names)
        for network in surrogate.victims if surrogate is not None else ():
            network.to(module.device)

        def images(split: str, limit: int) -> tuple[Tensor, Tensor]:
            chunks = list(inputs_of(surface, module, self.data, split, limit, shared=False))
            return torch.cat([chunk.x for chunk in chunks]), torch.cat([chunk.reference for chunk in chunks])

        return Supplies(memory, surrogate, images if surface.space.name == "pixels" else None, self.seed)

    def audit(
        self,
        module: GenerativeModule,
        surface: Surface,
        split: str,
        images: int,
        *,
        full: bool,
        detectors: Sequence[Detector] = (),
    ) -> list[Check]:
        """The audit of a surface on the first ``images`` of ``split`` (a quarter as many codes).

        Where the attack is adaptive, the surface behind the first of the ``detectors`` is audited too.
        """
        assert self.attack is not None
        n = images if surface.space.name == "pixels" else max(1, images // 4)
        chunks = list(inputs_of(surface, module, self.data, split, n))
        audited = [surface]
        if self.attack.adaptive and detectors and surface.space.name == "pixels":
            audited.append(behind(surface, module, detectors[0]))
        checks = [audit_surface(s, chunks, self.attack, self.judge, seed=self.seed, full=full) for s in audited]
        return [check for of_one in checks for check in of_one]

    def surfaces(self, module: GenerativeModule, detectors: Sequence[Detector]) -> dict[SurfaceName, Surface]:
        """The surfaces that the attack is asked for, of ``module`` as it is now; all ranks take part."""
        if self.attack is None:
            return {}
        names = check_surfaces(self.attack, module, detectors)
        aimed = self.attack.towards_image
        return build_surfaces(names, module, self.data, self.judge, detectors, towards_image=aimed)

    @property
    def noise(self) -> tuple[AnyNorm, float]:
        """Norm and radius of random noise on images: the attack's; where there is none, the data set's in L-inf."""
        return ("linf", self.data.spec.eps) if self.attack is None else (self.attack.norm, self.attack.eps)

    def _latent_fidelity(
        self, module: GenerativeModule, attack: EvasionAttack, surface: Surface, outcome: Outcome, *, final: bool
    ) -> None:
        """Fidelity of the same outputs under the latent attack (one restart, one objective: no worst case)."""
        total = self.protocol.generated if final else 1 + self.protocol.fidelity_epoch_images // 4
        lighter = without_worst_case(attack)

        def moved() -> Iterator[tuple[Tensor, Tensor, Tensor | None]]:
            for key, z, y in latent_chunks(module, total, "samples", in_shell=True):
                reference = torch.zeros(len(z), dtype=torch.int64, device=z.device) if y is None else y
                result = lighter(surface, z, reference, purpose=(self.seed, "latent-fidelity"), keys=key)
                yield key, generated(module, result.adversarial, y), y

        attacked = self.quality.fidelity_of(module, moved())
        outcome.arrays["fidelity_latent_attack"] = attacked.numpy()
        outcome.add_mean("quality/fidelity_latent_attack", attacked, NO_REFERENCE)

    def _samples(self, module: GenerativeModule) -> dict[str, np.ndarray]:
        """64 outputs, classes in turn where the data is labelled."""
        z, _ = module.latents(SAMPLES, "evaluation", "grid")
        k = module.spec.num_classes if module.conditional else 0
        y = torch.arange(SAMPLES, device=z.device) % k if k else None
        samples = {"samples": generated(module, z, y).float().cpu().numpy()}
        return samples if y is None else {**samples, "samples_labels": y.cpu().numpy()}

    def _paths(self, module: GenerativeModule) -> dict[str, np.ndarray]:
        """Outputs along paths between two codes each, of one class where the data is labelled."""
        ends, _ = module.latents(2 * PATHS, "evaluation", "paths")
        z = great_circle(ends[:PATHS], ends[PATHS:], STEPS).flatten(0, 1)
        k = module.spec.num_classes if module.conditional else 0
        y = torch.arange(PATHS, device=z.device).repeat_interleave(STEPS) % k if k else None
        paths = generated(module, z, y).float().cpu().numpy()
        return {"paths": paths.reshape(PATHS, STEPS, *paths.shape[1:])}
