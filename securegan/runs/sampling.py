"""Images of a run's trained generator, as files.

Image i of a seed is a function of the two: neither how many are asked for nor their order changes it.
"""

import csv
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from rich.progress import track
from torch import Tensor

from securegan.attacks.shield import shielded
from securegan.configuration.allowlist import build_each
from securegan.configuration.validate import validate
from securegan.detectors.base import Detector
from securegan.errors import UserError, near_match
from securegan.models.base import GenerativeModule
from securegan.models.building import build_model
from securegan.randomness import normal
from securegan.runs.atomic import require_empty, write_atomically
from securegan.runs.checkpoints import verified_weights
from securegan.runs.folder import RunFolder
from securegan.security.provenance.trust import Trust

TOGETHER = 32  # images of every forward, whatever is asked for: the rounding of a forward depends on its size
GRID = 64  # images of the overview
TABLE, OVERVIEW = "samples.csv", "grid.png"


@dataclass(frozen=True)
class Watched:
    """A run's networks as one of its checkpoints has them."""

    folder: RunFolder  # which holds the configuration they were built by
    entry: Mapping[str, Any]  # of the checkpoint in the index
    module: GenerativeModule
    detectors: list[Detector]


def load_module(path: Path, which: str = "best", trust: Trust | None = None) -> GenerativeModule:
    """The trained module of :func:`load_watched` alone."""
    return load_watched(path, which, trust).module


def load_watched(path: Path, which: str = "best", trust: Trust | None = None) -> Watched:
    """The trained module of the run in ``path`` with the weights of a checkpoint, and its detectors; needs no data.

    Args:
        path: a run folder.
        which: ``best``, the chosen checkpoint, or ``last``.
        trust: who must have signed it; None asks for nobody but whom the process' environment names.

    Raises:
        UserError: where ``path`` holds no run, no such checkpoint, or a damaged one; PolicyError where it is not signed
            as ``trust`` wants it.
    """
    folder = RunFolder.open(path)
    weights = verified_weights(folder, which, trust)  # first: nothing is built by a configuration that nobody signed
    config = folder.config()
    validate(config)
    module: GenerativeModule = build_model(config.model, folder.spec(), int(config.seed))
    detectors: list[Detector] = build_each(config.detector)
    for detector in detectors:
        detector.attach(module)  # its statistics lie in the checkpoint
    weights.load_into(module)
    return Watched(folder, weights.entry, module, detectors)


def moved(module: GenerativeModule, device: str) -> GenerativeModule:
    """``module`` on a device that the user names; raises UserError where there is none such."""
    try:
        return module.to(device)
    except (RuntimeError, AssertionError) as error:
        raise UserError(f"--device={device} cannot be used: {str(error).splitlines()[0]}") from error


def class_of(module: GenerativeModule, name: str) -> int:
    """The class with this name or, where no name is so, this number.

    Raises:
        UserError: where there is no such class, or the generator is not asked for classes.
    """
    spec = module.spec
    if spec.num_classes and not module.conditional:
        raise UserError(f"--class={name} is not possible: the run's generator was trained without classes.")
    if name in spec.class_names:
        return spec.class_names.index(name)
    if name.isdecimal() and int(name) < spec.num_classes:
        return int(name)
    if not spec.num_classes:
        raise UserError(f"--class={name} is not possible: the run's data ({spec.name}) have no classes.")
    raise UserError(
        f"--class={name} is not a class of the run's data: expected one of {', '.join(spec.class_names)}, or a number "
        f"below {spec.num_classes}.{near_match(name, spec.class_names)}"
    )


def whole_batches(
    module: GenerativeModule, first: int, stop: int, *, seed: int, label: int | None = None, averaged: bool = True
) -> Iterator[tuple[range, Tensor, Tensor | None]]:
    """The numbers, images ``(32, C, H, W)`` in ``[0, 1]`` and classes of every forward that makes one of ``first`` to
    ``stop`` (exclusive); on the module's device. What is asked for beside an image does not change its rounding.

    Args: see :func:`sample`.
    """
    classes = module.spec.num_classes if module.conditional else 0
    for start in range(first - first % TOGETHER, stop, TOGETHER):
        numbers = range(start, start + TOGETHER)
        z = torch.stack([normal((module.latent_dim,), seed, "sample", number) for number in numbers])
        y = torch.tensor([number % classes if label is None else label for number in numbers]) if classes else None
        with shielded(module.victims()), torch.no_grad():
            codes, wanted = z.to(module.device), None if y is None else y.to(module.device)
            images = module.generate(codes, wanted) if averaged else module.generate_raw(codes, wanted)
        yield numbers, images.float(), y


def sample(
    module: GenerativeModule, n: int, *, seed: int, label: int | None = None, averaged: bool = True
) -> Iterator[tuple[Tensor, Tensor | None]]:
    """Images ``(k, C, H, W)`` in ``[0, 1]`` with their classes ``(k,)``, on the CPU, ``n`` in all.

    Args:
        module: trained.
        n: how many.
        seed: of the latent codes.
        label: of all images; the classes in turn where it is not given. Only of a generator that is asked for classes.
        averaged: the generator's moving average, which every figure is about; otherwise the weights as trained.
    """
    for numbers, images, y in whole_batches(module, 0, n, seed=seed, label=label, averaged=averaged):
        wanted = min(n - numbers.start, len(numbers))
        yield images.cpu()[:wanted], None if y is None else y[:wanted]


def write_samples(
    module: GenerativeModule,
    folder: Path,
    n: int,
    *,
    seed: int,
    label: int | None = None,
    averaged: bool = True,
) -> None:
    """``n`` PNG files, their classes in samples.csv, and the first 64 side by side in grid.png.

    Raises:
        UserError: where ``folder`` holds something, or cannot be written.
    """
    require_empty(folder, "--out")
    names = module.spec.class_names
    rows: list[list[object]] = []
    shown: list[Tensor] = []
    parts = sample(module, n, seed=seed, label=label, averaged=averaged)
    for images, labels in track(parts, "sampling", total=math.ceil(n / TOGETHER), transient=True):
        for position, image in enumerate(images):
            file, number = f"{len(rows):06d}.png", len(rows)
            _write(image, folder / file)
            rows.append([file, number, seed, "" if labels is None else names[int(labels[position])]])
            if number < GRID:
                shown.append(image)
    _write(as_grid(torch.stack(shown)), folder / OVERVIEW)

    def write(temporary: Path) -> None:
        with temporary.open("w", newline="") as file:
            csv.writer(file).writerows([["file", "number", "seed", "class"], *rows])

    write_atomically(folder / TABLE, write)


def as_grid(images: Tensor) -> Tensor:
    """``(N, C, H, W)`` as one picture ``(C, rows H, columns W)``, as square as it goes, the rest black."""
    n, channels, height, width = images.shape
    columns = math.ceil(n**0.5)
    rows = math.ceil(n / columns)
    tiles = images.new_zeros(rows * columns, channels, height, width)
    tiles[:n] = images
    tiled = tiles.view(rows, columns, channels, height, width).permute(2, 0, 3, 1, 4)
    return tiled.reshape(channels, rows * height, columns * width)


def in_8_bits(images: Tensor) -> Tensor:
    """Images in ``[0, 1]`` as uint8, rounded: the pixels of the files."""
    return images.mul(255).round().clamp(0, 255).to(torch.uint8)


def picture(pixels: Tensor) -> Image.Image:
    """uint8 pixels ``(C, H, W)``, of 1 or 3 channels, as a picture."""
    plain = pixels.permute(1, 2, 0).numpy()
    return Image.fromarray(plain[:, :, 0] if plain.shape[2] == 1 else plain)


def _write(image: Tensor, path: Path) -> None:
    """One image ``(C, H, W)`` in ``[0, 1]`` as an 8-bit PNG."""
    shown = picture(in_8_bits(image))
    write_atomically(path, lambda temporary: shown.save(temporary, format="PNG"))
