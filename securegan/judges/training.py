"""Training a judge on the train split: fixed seed, light augmentation, a bounded number of steps.

Everything random is a function of the seed and the step, so two trainings on one machine give the same digest, and
torch's global generator is left as it was.
"""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from securegan.data.batch import Batch, DataSpec
from securegan.errors import UserError
from securegan.judges.judge import ROTATIONS, Judge, Task
from securegan.judges.network import JudgeNetwork
from securegan.judges.precision import full_float32
from securegan.randomness import integers, permutation, seed_of

SEED = 0  # a judge belongs to its data set, not to a run
BATCH = 64
EPOCHS = 15  # for small data sets; large ones stop at the budget of images
IMAGE_BUDGET = 96_000  # images seen at up to 64 px; halved for every doubling of the size beyond
MAX_IMAGES = 50_000  # of the train split held in memory, as 8 bits, at up to 64 px; fewer of larger ones
LEARNING_RATE, WEIGHT_DECAY = 4e-3, 1e-3
SHIFT = 1 / 16  # of the image's side, in every direction
READ = 512  # images read at a time


class JudgedData(Protocol):
    """What a judge needs of a data set; :class:`securegan.data.module.ImageDataModule` has it."""

    @property
    def spec(self) -> DataSpec:
        """What the data look like."""

    def split_size(self, split: str) -> int:
        """Images in ``split``."""

    def chunk(self, split: str, start: int, stop: int) -> Batch:
        """Images ``start`` to ``stop`` of ``split``, without augmentation."""


def train_judge(data: JudgedData, device: torch.device | None = None) -> Judge:
    """A judge of ``data``, on the CPU, trained on its train split and measured on its validate split.

    Args:
        data: a prepared data set; its labels are the task, or four quarter turns where it has none.
        device: where to train; the current GPU if there is one, else the CPU.

    Raises:
        UserError: where the train split has no image to learn from.
    """
    spec = data.spec
    device = device or torch.device("cuda" if torch.cuda.is_available() else "cpu")
    task: Task = "labels" if spec.num_classes else "rotation"
    large = 2 ** max(0, math.ceil(math.log2(spec.size / 64)))
    images, labels = _load(data, "train", MAX_IMAGES // large**2)
    if not len(images):
        raise UserError(f"the judge of '{spec.name}' needs labelled training images, and the train split has none.")
    with torch.random.fork_rng(devices=[]):  # torch.manual_seed would reach the GPUs' generators as well
        torch.default_generator.manual_seed(seed_of("judge", SEED))
        network = JudgeNetwork(spec.channels, spec.size, spec.num_classes or ROTATIONS)
    steps = max(1, min(math.ceil(EPOCHS * len(images) / BATCH), IMAGE_BUDGET // large // BATCH))
    with torch.enable_grad(), _repeatable(one_thread=large == 1), full_float32(device.type):
        _fit(network.to(device).train(), images, labels, task, steps)
    judge = Judge(network, task, math.nan)
    judge.accuracy = measure_accuracy(judge, data, "validate")
    return judge.cpu()


def measure_accuracy(judge: Judge, data: JudgedData, split: str) -> float:
    """The share of labelled images (or of turned ones) of ``split`` the judge reads rightly; nan where none is."""
    right = seen = 0
    device = next(judge.parameters()).device
    for start in range(0, data.split_size(split), READ):
        batch = data.chunk(split, start, min(start + READ, data.split_size(split)))
        images, labels = batch.images, batch.labels
        if judge.task == "rotation":
            images, labels = _turned(images, torch.arange(ROTATIONS).repeat_interleave(len(images)))
        known = labels >= 0
        if known.any():
            with torch.no_grad():
                read = judge.logits(images[known].to(device)).argmax(dim=1).cpu()
            right += int((read == labels[known]).sum())
            seen += len(read)
    return right / seen if seen else math.nan


def _fit(network: JudgeNetwork, images: Tensor, labels: Tensor, task: Task, steps: int) -> None:
    device = next(network.parameters()).device
    optimiser = torch.optim.AdamW(network.parameters(), weight_decay=WEIGHT_DECAY)
    warm_up = 0.3 if steps == 5 else 0.2  # a fifth of five is the one step that OneCycleLR divides by zero for
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, LEARNING_RATE, total_steps=steps, pct_start=warm_up)
    per_epoch = max(1, len(images) // BATCH)
    order = torch.empty(0)
    for step in range(steps):
        if step % per_epoch == 0:
            order = permutation(len(images), "judge", SEED, "order", step // per_epoch)
        rows = order[step % per_epoch * BATCH :][:BATCH]
        inputs, targets = images[rows].float() / 255, labels[rows]
        if task == "rotation":
            inputs, targets = _turned(inputs, integers(ROTATIONS, len(inputs), "judge", SEED, "turn", step))
        inputs = _shifted(inputs, step)
        loss = F.cross_entropy(network.head(network(inputs.to(device))), targets.to(device))
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()


@contextmanager
def _repeatable(one_thread: bool) -> Iterator[None]:
    """Makes cuDNN pick the same algorithm every time, and the CPU sum in one order whatever its number of cores.

    One thread costs little: layers this small gain less than twice from two, and lose tenfold on a busy machine.
    """
    cudnn, threads = torch.backends.cudnn, torch.get_num_threads()
    before = cudnn.deterministic, cudnn.benchmark
    cudnn.deterministic, cudnn.benchmark = True, False
    torch.set_num_threads(1 if one_thread else threads)
    try:
        yield
    finally:
        cudnn.deterministic, cudnn.benchmark = before
        torch.set_num_threads(threads)


def _load(data: JudgedData, split: str, limit: int) -> tuple[Tensor, Tensor]:
    """Up to ``limit`` images ``(N, C, H, W)`` uint8 and labels of ``split``, picked without regard to order."""
    size, spec = data.split_size(split), data.spec
    picked = torch.zeros(size, dtype=torch.bool)
    picked[permutation(size, "judge", SEED, "subset")[:limit]] = True
    images = torch.empty(min(limit, size), spec.channels, spec.size, spec.size, dtype=torch.uint8)
    labels = torch.empty(len(images), dtype=torch.int64)
    n = 0
    for start in range(0, size, READ):
        batch = data.chunk(split, start, min(start + READ, size))
        kept = picked[start : start + READ]
        if spec.num_classes:
            kept = kept & (batch.labels >= 0)
        rows = slice(n, n + int(kept.sum()))
        images[rows] = batch.images[kept].mul(255).round().clamp(0, 255).to(torch.uint8)
        labels[rows] = batch.labels[kept]
        n = rows.stop
    return images[:n], labels[:n]


def _turned(images: Tensor, turns: Tensor) -> tuple[Tensor, Tensor]:
    """Image ``i`` (cycling through the ``images``) by ``turns[i]`` quarter turns, and the turns as labels."""
    versions = torch.stack([images.rot90(turn, dims=(2, 3)) for turn in range(ROTATIONS)])
    return versions[turns, torch.arange(len(turns)) % len(images)], turns


def _shifted(images: Tensor, step: int) -> Tensor:
    """Every image moved by up to a sixteenth of its side, its border pixels repeated."""
    n, _, height, width = images.shape
    reach = max(1, round(SHIFT * min(height, width)))
    down, right = integers(2 * reach + 1, 2 * n, "judge", SEED, "shift", step).view(2, n, 1) - reach
    rows = (torch.arange(height) + down).clamp(0, height - 1)
    columns = (torch.arange(width) + right).clamp(0, width - 1)
    picked = images.permute(0, 2, 3, 1)[torch.arange(n)[:, None, None], rows[:, :, None], columns[:, None, :]]
    return picked.permute(0, 3, 1, 2).contiguous()
