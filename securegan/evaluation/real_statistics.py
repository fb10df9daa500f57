"""What generated images are compared with: statistics of a split's real images in an extractor's features.

They depend on the images and the extractor alone, so they are kept on disk under a name made of both; a reference
Inception's pass over a data set is made once.
"""

import json
import os
import warnings
from collections.abc import Sequence
from contextlib import suppress
from hashlib import sha256
from pathlib import Path
from typing import NamedTuple

import torch
import torch.distributed as dist
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from securegan.data.module import CHUNK, ImageDataModule
from securegan.metrics.distributed import all_sum, gather_rows, world
from securegan.metrics.floors import floors
from securegan.metrics.moments import ClassMoments, Moments
from securegan.metrics.quality import FeatureExtractor, InceptionScore

MEAN_OF = 10_000  # train images at most of a mean image
FORMAT = 2  # of the files; another number makes them anew


class RealStatistics(NamedTuple):
    """Of one split in one extractor's features."""

    moments: Moments
    within: ClassMoments  # of labelled data where asked for; otherwise of no classes
    kept: Tensor  # (n, F) float32 of the split's first images, for what cannot be streamed
    beside: dict[str, float]  # what stands beside the scores: floor_<score> of two halves, real_is where there is one


def real_statistics(
    data: ImageDataModule,
    extractor: FeatureExtractor,
    split: str,
    *,
    classes: int,
    cap: int,
    cache_dir: Path | None,
    device: torch.device,
) -> RealStatistics:
    """Statistics of ``split``, from ``cache_dir/statistics`` or computed now; all ranks take part.

    Args:
        data: prepared.
        extractor: on ``device``.
        split: of the data.
        classes: of the moments within classes; 0 for none.
        cap: features kept at most.
        cache_dir: None keeps nothing on disk. A damaged file is made anew, one that cannot be written is done without.
        device: where images are sent.
    """
    path = None if cache_dir is None else _path(data, extractor, split, classes, cap, cache_dir)
    found = _shared(_content(path) if path is not None and world()[0] == 0 else None)
    if found is not None:
        return _from_tensors(found, classes)
    made = _compute(data, extractor, split, classes, cap, device)
    if path is not None and world()[0] == 0:
        _keep(path, _to_bytes(made))
    return made


def _compute(
    data: ImageDataModule, extractor: FeatureExtractor, split: str, classes: int, cap: int, device: torch.device
) -> RealStatistics:
    dim = extractor.feature_dim
    moments, within = Moments(dim), ClassMoments(classes, dim)
    score = InceptionScore(extractor.num_logits)
    kept, keys = [torch.zeros(0, dim)], [torch.zeros(0, dtype=torch.int64)]
    for number, batch in data.chunks(split):
        features, logits = extractor.extract(batch.images.to(device))
        features = features.cpu()
        moments.update(features)
        score.update(logits)
        if classes:
            within.update(features, batch.labels)
        left = max(0, cap - number * CHUNK)
        kept.append(features[:left])
        keys.append(number * CHUNK + torch.arange(len(features[:left])))
    sample = gather_rows(torch.cat(kept), torch.cat(keys))
    beside = {f"floor_{name}": value for name, value in floors(sample, split).items()}
    whole = score.reduce()
    if extractor.num_logits:
        beside["real_is"] = whole.compute()
    return RealStatistics(moments.reduce(), within.reduce(), sample, beside)


def _path(
    data: ImageDataModule, extractor: FeatureExtractor, split: str, classes: int, cap: int, cache_dir: Path
) -> Path:
    parts = (FORMAT, data.spec.digest, split, extractor.key, extractor.digest, classes, cap)
    return cache_dir / "statistics" / f"{sha256(chr(31).join(map(str, parts)).encode()).hexdigest()[:24]}.safetensors"


def _content(path: Path) -> bytes | None:
    try:
        content = path.read_bytes()
    except OSError:
        return None
    try:
        tensors = load(content)
        header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])["__metadata__"]
        if header["digest"] == _digest(tensors):
            return content
    except (SafetensorError, KeyError, ValueError):
        pass
    warnings.warn(f"the real images' statistics in '{path}' are damaged and made anew", stacklevel=2)
    return None


def _shared(content: bytes | None) -> bytes | None:
    """Rank 0's file on every rank, so that all compute or none does."""
    if world()[1] == 1:
        return content
    box = [content]
    dist.broadcast_object_list(box, src=0)
    return box[0]


def _tensors(statistics: RealStatistics) -> dict[str, Tensor]:
    names = sorted(statistics.beside)
    return {
        **{f"moments.{name}": tensor for name, tensor in statistics.moments.state_dict().items()},
        **{f"within.{name}": tensor for name, tensor in statistics.within.state_dict().items()},
        "kept": statistics.kept,
        "beside": torch.tensor([statistics.beside[name] for name in names], dtype=torch.float64),
    }


def _to_bytes(statistics: RealStatistics) -> bytes:
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in _tensors(statistics).items()}
    return save(tensors, metadata={"digest": _digest(tensors), "beside": json.dumps(sorted(statistics.beside))})


def _digest(tensors: dict[str, Tensor]) -> str:
    digest = sha256()
    for name in sorted(tensors):
        digest.update(name.encode() + tensors[name].numpy().tobytes())
    return digest.hexdigest()


def _from_tensors(content: bytes, classes: int) -> RealStatistics:
    tensors = load(content)
    header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])["__metadata__"]
    dim = tensors["kept"].shape[1]
    moments, within = Moments(dim), ClassMoments(classes, dim)
    moments.load_state_dict(_under(tensors, "moments"))
    within.load_state_dict(_under(tensors, "within"))
    names: Sequence[str] = json.loads(header["beside"])
    return RealStatistics(moments, within, tensors["kept"], dict(zip(names, tensors["beside"].tolist(), strict=True)))


def _under(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(f"{prefix}."): t for name, t in tensors.items() if name.startswith(f"{prefix}.")}


def _keep(path: Path, content: bytes) -> None:
    partial = path.with_name(f"{path.name}.{os.getpid()}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        partial.write_bytes(content)
        os.replace(partial, path)
    except OSError as error:
        warnings.warn(
            f"the real images' statistics cannot be kept in '{path.parent}' ({error.strerror or error}); "
            "they will be computed again next time",
            stacklevel=2,
        )
        with suppress(OSError):
            partial.unlink(missing_ok=True)


def mean_image(data: ImageDataModule, device: torch.device) -> Tensor:
    """``(C, H, W)``: the mean of the train split's first images, which a reconstruction must beat."""
    total = torch.zeros(data.spec.channels, data.spec.size, data.spec.size, dtype=torch.float64)
    for _, batch in data.chunks("train", MEAN_OF):
        total += batch.images.double().sum(0)
    return (all_sum(total) / min(MEAN_OF, data.split_size("train"))).float().to(device)
