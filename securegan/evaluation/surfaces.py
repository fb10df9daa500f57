"""The surfaces that a model offers, with their thresholds set on the calibration split, and each surface's inputs."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, cast

import torch
from torch import Tensor

from securegan.attacks.evasion.base import EvasionAttack
from securegan.attacks.latent_decisions import LatentAuthenticitySurface, LatentDetectorSurface, LatentLabelSurface
from securegan.attacks.reconstruction import ReconstructionSurface, TargetImages
from securegan.attacks.shield import shielded
from securegan.attacks.surfaces import (
    AuthenticitySurface,
    LabelSurface,
    LatentDriftSurface,
    LatentSurface,
    Surface,
    SurfaceName,
)
from securegan.data.module import ImageDataModule
from securegan.detectors.base import Detector
from securegan.errors import ConfigError, near_match
from securegan.evaluation.real_statistics import mean_image
from securegan.evaluation.sampling import authenticity, generated, image_chunks, latent_chunks
from securegan.judges.judge import Judge
from securegan.metrics.detection import equal_error_threshold
from securegan.metrics.distributed import gather_rows
from securegan.models.base import GenerativeModule

TARGET_IMAGES = 256  # of the calibration split, among which each input's target is chosen


@dataclass(frozen=True)
class Inputs:
    """A chunk of a surface's inputs."""

    keys: Tensor  # (n,) int64, the order in which one process would see them
    x: Tensor
    reference: Tensor  # (n,)


def check_surfaces(
    attack: EvasionAttack, module: GenerativeModule, detectors: Sequence[Detector] = ()
) -> tuple[SurfaceName, ...]:
    """The surfaces to attack: those asked for, or all that the model offers by itself and the attack suits.

    Raises ConfigError for one that is asked for and not offered on these data or not suited, and where none is left.
    """
    there = tuple(cast(SurfaceName, name) for name in module.surfaces())
    possible = (*there, *_on_request(module, detectors))
    for name in attack.surfaces or ():
        if name not in possible:
            raise ConfigError(
                f"attack.surfaces={name} is not possible with this model{_why_not(name, module)}: "
                f"expected some of {list(possible)}." + near_match(name, possible)
            )
    unsuited = {name: _unsuited(attack, name, module) for name in attack.surfaces or there}
    suited = tuple(name for name, why in unsuited.items() if why is None)
    if not suited and not attack.surfaces:
        raise ConfigError(f"attack={attack.name} is not possible with this model: {next(iter(unsuited.values()))}.")
    for name, reason in unsuited.items():
        if reason is not None and attack.surfaces:
            raise ConfigError(f"attack.surfaces={name} is not possible: {reason}; expected some of {list(suited)}.")
    if attack.adaptive:
        _check_adaptive(attack, module, suited, detectors)
    return suited


def _unsuited(attack: EvasionAttack, name: SurfaceName, module: GenerativeModule) -> str | None:
    """Why the attack is not for this surface of the model; None where it is."""
    reason = attack.unsuited(*_kind(name, module))
    if reason is None and attack.only_on is not None and name not in attack.only_on:
        return f"{attack.name} attacks {' and '.join(attack.only_on)} alone"
    return reason


def _check_adaptive(
    attack: EvasionAttack, module: GenerativeModule, names: Sequence[SurfaceName], detectors: Sequence[Detector]
) -> None:
    if not detectors:
        raise ConfigError(
            "attack.adaptive=true needs a detector that is attacked as well: choose one, such as detector=mahalanobis."
        )
    if all(_kind(name, module)[0] == "latent" for name in names):
        raise ConfigError(f"attack.adaptive=true attacks images, and the surfaces {list(names)} are of codes.")
    if (reason := attack.unsuited("pixels", 0)) is not None:
        raise ConfigError(
            "attack.adaptive=true is not possible: a decision behind a detector is not one among classes, and "
            f"{reason}."
        )


def _on_request(module: GenerativeModule, detectors: Sequence[Detector]) -> tuple[SurfaceName, ...]:
    """The surfaces that are attacked only where they are asked for: codes against what else looks at outputs."""
    there: dict[SurfaceName, bool] = {
        "latent_authenticity": "authenticity" in module.surfaces(),
        "latent_label": "label" in module.surfaces() and module.conditional,
        "latent_detector": bool(detectors),
    }
    return tuple(name for name, offered in there.items() if offered)


def _why_not(name: SurfaceName, module: GenerativeModule) -> str:
    if name in ("label", "latent_label") and not module.spec.num_classes:
        return " (the data are unlabelled)"
    return " (the run has no detector)" if name == "latent_detector" else ""


def _kind(name: SurfaceName, module: GenerativeModule) -> tuple[Literal["pixels", "latent"], int]:
    """The space of a surface and the number of classes it decides among, before it is built."""
    classes = {
        "label": module.spec.num_classes,
        "authenticity": 2,
        "reconstruction": 0,
        "latent": module.spec.num_classes if module.conditional else 0,
        "latent_authenticity": 0,
        "latent_label": module.spec.num_classes,
        "latent_detector": 0,
    }
    return "latent" if name.startswith("latent") else "pixels", classes[name]


def build_surfaces(
    names: tuple[SurfaceName, ...],
    module: GenerativeModule,
    data: ImageDataModule,
    judge: Judge,
    detectors: Sequence[Detector] = (),
    *,
    towards_image: bool = False,
) -> dict[SurfaceName, Surface]:
    """The named surfaces of ``module`` as it is now; all ranks take part (thresholds are calibrated).

    Where reconstructions are to be pushed ``towards_image``, their targets come from the calibration split.
    """
    made: dict[SurfaceName, Surface] = {}
    for name in names:
        if name == "label":
            classes = module.spec.class_names
            made[name] = LabelSurface(module.class_logits, module.observers("discriminator"), classes)
        elif name == "authenticity":
            threshold = authenticity_threshold(module, data)
            made[name] = AuthenticitySurface(module.authenticity_logits, threshold, module.observers("discriminator"))
        elif name == "reconstruction":
            made[name] = _reconstruction_surface(module, data, judge, towards_image=towards_image)
        elif name == "latent":
            made[name] = _latent_surface(module, judge)
        else:
            made[name] = _latent_decision(name, module, data, detectors)
    return made


def _reconstruction_surface(
    module: GenerativeModule, data: ImageDataModule, judge: Judge, *, towards_image: bool
) -> Surface:
    targets = None
    if towards_image:
        pool = data.chunk("calibrate", 0, TARGET_IMAGES)
        targets = TargetImages(pool.images.to(module.device), pool.labels.to(module.device), module.seed)
    return ReconstructionSurface(
        module.reconstruct,
        mean_image(data, module.device),
        (*module.victims(), judge),
        judge.logits if judge.task == "labels" and module.spec.num_classes > 0 else None,
        module.encode,
        targets,
    )


def _latent_surface(module: GenerativeModule, judge: Judge) -> Surface:
    victims = (*module.victims(), judge)
    if module.conditional:
        return LatentSurface(module.generate, judge.logits, module.latent_dim, victims, module.spec.class_names)
    features = [torch.zeros(0, judge.feature_dim, device=module.device)]
    keys = [torch.zeros(0, dtype=torch.int64)]
    for key, z, _ in latent_chunks(module, 1000, "latent-limit", in_shell=True):
        features.append(judge.extract(generated(module, z, None))[0])
        keys.append(key)
    clean = gather_rows(torch.cat(features), torch.cat(keys))
    return LatentDriftSurface(lambda z: module.generate(z, None), judge.features, clean, module.latent_dim, victims)


def _latent_decision(
    name: SurfaceName, module: GenerativeModule, data: ImageDataModule, detectors: Sequence[Detector]
) -> Surface:
    def generate(z: Tensor, reference: Tensor) -> Tensor:
        return module.generate(z, reference if module.conditional else None)

    dim, victims = module.latent_dim, module.victims()
    if name == "latent_label":
        return LatentLabelSurface(generate, module.class_logits, dim, victims, module.spec.class_names)
    if name == "latent_authenticity":
        threshold = authenticity_threshold(module, data)
        return LatentAuthenticitySurface(generate, module.authenticity_logits, threshold, dim, victims)
    return LatentDetectorSurface(generate, score_of(detectors[0], module), detectors[0].threshold, dim, victims)


def score_of(detector: Detector, module: GenerativeModule) -> Callable[[Tensor], Tensor]:
    """The detector's score of images, differentiable; to be called where the module is shielded."""
    return lambda images: detector.scores_of_features(module.features(images))


def authenticity_threshold(module: GenerativeModule, data: ImageDataModule) -> float:
    """The equal-error threshold between the calibration split and as many generated images."""
    real = [torch.zeros(0, device=module.device)]
    for _, batch in data.chunks("calibrate"):
        real.append(authenticity(module, batch.images.to(module.device)))
    fake = [torch.zeros(0, device=module.device)]
    for _, images, _ in image_chunks(module, data.split_size("calibrate"), "authenticity-threshold"):
        fake.append(authenticity(module, images))
    return float(equal_error_threshold(gather_rows(torch.cat(real)), gather_rows(torch.cat(fake))))


def inputs_of(
    surface: Surface, module: GenerativeModule, data: ImageDataModule, split: str, limit: int, *, shared: bool = True
) -> Iterator[Inputs]:
    """This rank's chunks of at most ``limit`` inputs; images not ``shared`` among the ranks are seen by each.

    Label: the split's first images (their order is a seeded shuffle). Authenticity: as many generated ones beside.
    Reconstruction: the split's first images, held by the surface. Latent: codes inside the prior's shell with the
    classes asked for.
    """
    device = module.device
    if surface.space.name == "latent":
        for keys, z, y in latent_chunks(module, limit, f"latent-{split}", in_shell=True):
            yield Inputs(keys, z, torch.zeros(len(z), dtype=torch.int64, device=device) if y is None else y)
        return
    for number, batch in data.chunks(split, limit, shared=shared):
        keys = batch.index
        x = batch.images.to(device)
        if isinstance(surface, ReconstructionSurface):
            with shielded(surface.victims):
                yield Inputs(keys, x, surface.hold(x, batch.labels.to(device), keys))
            continue
        real = torch.ones(len(x), dtype=torch.int64, device=device)
        yield Inputs(keys, x, batch.labels.to(device) if surface.name == "label" else real)
        if surface.name == "authenticity":
            z, y = module.latents(len(x), "evaluation", f"authenticity-{split}", number)
            yield Inputs(keys + 2**32, generated(module, z, y), torch.zeros_like(real))
