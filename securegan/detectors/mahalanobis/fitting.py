"""Fit a :class:`LayeredMahalanobis` on any network's features: moments on the train split, threshold on calibration."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from securegan.data.module import CHUNK, ImageDataModule
from securegan.detectors.mahalanobis.torch_model import LayeredMahalanobis, LayerGaussians, pool
from securegan.metrics.detection import conformal_threshold
from securegan.metrics.distributed import all_sum, gather_rows
from securegan.metrics.moments import ClassMoments

STANDARDISED_ON = 2048  # images from whose log distances a layer's centre and scale are taken

Features = Callable[[Tensor], Sequence[Tensor]]  # images (N, C, H, W) -> feature maps; leaves no trace


def fit_layers(
    model: LayeredMahalanobis,
    features: Features,
    data: ImageDataModule,
    *,
    device: torch.device,
    shrinkage: float,
    false_positive_rate: float,
    max_images: int,
) -> None:
    """Fit ``model`` in place; every rank ends with the same values, equal to one process's up to rounding."""
    labelled = data.spec.num_classes > 0
    moments = [ClassMoments(max(1, data.spec.num_classes), dim) for dim in model.dims]
    kept: list[list[Tensor]] = []
    for number, batch in data.chunks("train", max_images):
        pooled = [f.cpu() for f in pool(features(batch.images.to(device)))]
        labels = batch.labels if labelled else torch.zeros_like(batch.labels)
        for layer_moments, values in zip(moments, pooled, strict=True):
            layer_moments.update(values, labels)
        if number * CHUNK < STANDARDISED_ON:
            kept.append(pooled)
    for index, layer in enumerate(model.gaussians()):
        layer.fit(moments[index].reduce(), shrinkage)
        values = torch.cat([pooled[index] for pooled in kept]) if kept else torch.zeros(0, model.dims[index])
        _standardise(layer, values.to(device))
    model.threshold.fill_(_calibrated_threshold(model, features, data, device, false_positive_rate))
    model.fitted.fill_(True)


def _standardise(layer: LayerGaussians, pooled: Tensor) -> None:
    logs = layer.distances(pooled.double()).clamp_min(1e-12).log()
    n, total, squares = all_sum(torch.stack([torch.full_like(logs.sum(), len(logs)), logs.sum(), logs.square().sum()]))
    layer.centre.copy_(total / n)
    layer.scale.copy_((squares / n - (total / n).square()).clamp_min(1e-12).sqrt())


def _calibrated_threshold(
    model: LayeredMahalanobis, features: Features, data: ImageDataModule, device: torch.device, rate: float
) -> float:
    scores, keys = [torch.zeros(0, dtype=torch.float64)], [torch.zeros(0, dtype=torch.int64)]
    for _, batch in data.chunks("calibrate"):
        scores.append(model(pool(features(batch.images.to(device)))).cpu())
        keys.append(batch.index)
    return float(conformal_threshold(gather_rows(torch.cat(scores), torch.cat(keys)), rate))
