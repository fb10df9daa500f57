"""The LightningDataModule of every data set: prepared once, split once, read as batches.

The constructor's keyword-only parameters are the configuration group ``data``; a data set is a subclass that says how
it is prepared (:meth:`ImageDataModule.load`) and what its usual pixel radius is.
"""

from collections.abc import Callable, Iterator
from hashlib import blake2b
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
import pytorch_lightning as pl
import torch
from annotated_types import Ge, Gt, Le, Lt
from numpy.typing import NDArray
from torch import distributed as dist
from torch.utils.data import DataLoader, Dataset

from securegan.configuration.types import NonNegativeInt, PositiveInt, Radius
from securegan.data.augment import Augmentation
from securegan.data.bad_files import BadFiles
from securegan.data.batch import SPLITS, Batch, DataSpec
from securegan.data.records import Prepared, Records
from securegan.data.sampler import GlobalBatchSampler
from securegan.data.splits import make_splits, take_subset
from securegan.errors import ConfigError
from securegan.randomness import generator

Poison = Callable[[Batch], Batch]
Share = Annotated[float, Gt(0), Lt(1)]
CHUNK = 128  # images read at once for figures


class ImageDataModule(pl.LightningDataModule):
    """Images with labels in four disjoint splits; subclasses implement :meth:`load`."""

    data_name: ClassVar[str]
    usual_eps: ClassVar[float]

    def __init__(
        self,
        cache_dir: Path,
        seed: int,
        *,
        path: str | None = None,
        size: Annotated[int, Ge(8), Le(1024)] = 32,
        channels: Literal["auto", 1, 3] = "auto",
        batch_size: PositiveInt = 64,
        num_workers: NonNegativeInt = 0,
        max_images: PositiveInt | None = None,
        split_seed: int = 0,
        calibrate: Share = 0.1,
        validate: Share = 0.1,
        test: Share = 0.2,
        flip: bool = False,
        rotation: Annotated[float, Ge(0), Le(180)] = 0.0,
        scaling: Annotated[float, Ge(0), Lt(1)] = 0.0,
        eps: Radius | None = None,
        on_bad: Literal["skip", "refuse"] = "skip",
    ) -> None:
        """Settings of the data; nothing is read before :meth:`prepare_data` or :meth:`setup`.

        Args:
            cache_dir: where prepared data and downloads are kept, for any number of runs.
            seed: of the run: batch order and augmentation. The splits depend on ``split_seed`` alone.
            path: a folder or a zip file of images, where the data set takes one.
            size: of the prepared images, in pixels.
            channels: 1 or 3; ``auto`` is 1 where all images are grey.
            batch_size: images in a global batch, over all processes.
            num_workers: loader processes for training batches; 0 reads in the training process.
            max_images: at most so many images over all splits, every split keeping its share.
            split_seed: of the carved splits; the same for all runs that are to be compared.
            calibrate: share of the images for thresholds, where the source gives no such split itself.
            validate: share for choosing checkpoints, likewise.
            test: share for every figure reported, likewise.
            flip: mirror half of the training images.
            rotation: turn training images by up to so many degrees either way.
            scaling: enlarge or shrink training images by up to this share.
            eps: pixel radius of attacks on these data; by default the usual one of the data set.
            on_bad: leave unusable files out and report them, or refuse to start.

        Raises:
            ConfigError: the shares leave nothing to train on.
        """
        super().__init__()
        if calibrate + validate + test >= 1:
            raise ConfigError(
                f"data.calibrate={calibrate}, data.validate={validate} and data.test={test} leave nothing to train on: "
                f"expected a sum below 1."
            )
        self.cache_dir, self.seed, self.path = Path(cache_dir), seed, path
        self.size, self.channels, self.on_bad = size, channels, on_bad
        self.batch_size, self.num_workers, self.max_images = batch_size, num_workers, max_images
        self.split_seed, self.fractions = split_seed, {"calibrate": calibrate, "validate": validate, "test": test}
        self.augmentation = Augmentation(flip, rotation, scaling)
        self.eps = self.usual_eps if eps is None else eps
        self.poison: Poison | None = None
        self._epoch = 0
        self._sampler: GlobalBatchSampler | None = None
        self._prepared: Prepared | None = None
        self._splits: dict[str, NDArray[np.int64]] = {}

    def load(self) -> Prepared:
        """Prepare the data set, or open what was prepared before; safe in several processes at once."""
        raise NotImplementedError

    def describe(self) -> str:
        """The data set's name in reports."""
        return self.data_name

    def prepare_data(self) -> None:
        self._ready()

    def setup(self, stage: str | None = None) -> None:
        self._ready()

    def _ready(self) -> Prepared:
        """The prepared data with their splits made, on the first call."""
        if self._prepared is None:
            prepared = self.load()
            splits = make_splits(
                prepared.labels, prepared.given, prepared.groups, fractions=self.fractions, seed=self.split_seed
            )
            if self.max_images is not None:
                splits = take_subset(splits, prepared.labels, self.max_images)
            self._splits = splits
            self._spec = self._describe_all(prepared)
            self._prepared = prepared
        return self._prepared

    def _describe_all(self, prepared: Prepared) -> DataSpec:
        hasher = blake2b(repr((prepared.digest, self.size, prepared.class_names)).encode(), digest_size=16)
        for split in SPLITS:
            hasher.update(split.encode() + self._splits[split].astype("<i8").tobytes())
        names = prepared.class_names
        labels = prepared.labels[self._splits["train"]]
        counts = np.bincount(labels[labels >= 0], minlength=len(names))
        return DataSpec(
            self.describe(),
            prepared.channels,
            self.size,
            len(names),
            names,
            float(self.eps),
            hasher.hexdigest(),
            tuple((counts / max(1, counts.sum())).tolist()),
        )

    @property
    def spec(self) -> DataSpec:
        """The description of the data; prepares them on first use."""
        self._ready()
        return self._spec

    @property
    def bad(self) -> BadFiles:
        """The files that were skipped or converted; prepares the data on first use."""
        return self._ready().bad

    def split_size(self, split: str) -> int:
        """Number of images of ``split``."""
        return len(self._members(split))

    def chunk(self, split: str, start: int, stop: int) -> Batch:
        """Images ``start`` to ``stop`` (exclusive) of ``split``, or to its end; neither augmented nor poisoned.

        A split's order is fixed and random, so its first images are a fair sample. Raises ValueError for a range that
        is not one.
        """
        if not 0 <= start <= stop:
            raise ValueError(f"chunk needs 0 <= start <= stop, got {start} and {stop}")
        members, prepared = self._members(split), self._ready()
        return read_batch(prepared.records, prepared.labels, members[start:stop])

    def chunks(self, split: str, limit: int | None = None, *, shared: bool = True) -> Iterator[tuple[int, Batch]]:
        """This rank's ``(number, chunk)`` of the first ``limit`` images; together the ranks see every image once.

        Where they are not ``shared`` among the ranks, each sees all of them.
        """
        total = self.split_size(split) if limit is None else min(limit, self.split_size(split))
        rank, world_size = _place() if shared else (0, 1)
        for number in range(rank, -(-total // CHUNK), world_size):
            yield number, self.chunk(split, number * CHUNK, min((number + 1) * CHUNK, total))

    def _members(self, split: str) -> NDArray[np.int64]:
        if split not in SPLITS:
            raise ValueError(f"there is no split '{split}': expected one of {', '.join(SPLITS)}")
        self._ready()
        return self._splits[split]

    def train_dataloader(self) -> "DataLoader[Batch]":
        """This process' shares of the global batches, in an order of the seed and the epoch, with poison applied.

        The trainer must run with ``use_distributed_sampler=False``. Raises ConfigError where the batch does not fit.
        """
        prepared, members = self._ready(), self._members("train")
        rank, world_size = _place()
        sampler = GlobalBatchSampler(len(members), self.batch_size, self.seed, rank=rank, world_size=world_size)
        sampler.set_epoch(self._epoch)
        self._sampler = sampler
        return DataLoader(
            TrainingImages(prepared.records, prepared.labels, members, self.poison),
            batch_sampler=sampler,
            collate_fn=_as_read,
            num_workers=self.num_workers,
            persistent_workers=self.num_workers > 0,
            pin_memory=torch.cuda.is_available(),
            generator=generator(self.seed, "loader"),  # without one the loader draws from torch's global generator
        )

    def set_epoch(self, epoch: int) -> None:
        """Use the order of ``epoch`` for the next pass over the training images."""
        self._epoch = epoch
        if self._sampler is not None:
            self._sampler.set_epoch(epoch)

    def augment(self, batch: Batch, images_seen: int, rank: int) -> Batch:
        """The batch with its images augmented as (seed, images seen, rank) determine; itself where that is off."""
        if not self.augmentation.active:
            return batch
        return batch._replace(images=self.augmentation(batch.images, self.seed, "augment", images_seen, rank))


class TrainingImages(Dataset[Batch]):
    """The train split for a loader that asks for whole batches by position."""

    def __init__(
        self, records: Records, labels: NDArray[np.int64], members: NDArray[np.int64], poison: Poison | None
    ) -> None:
        self.records, self.labels, self.members, self.poison = records, labels, members, poison

    def __len__(self) -> int:
        return len(self.members)

    def __getitem__(self, position: int) -> Batch:
        return self.__getitems__([position])

    def __getitems__(self, positions: list[int]) -> Batch:
        batch = read_batch(self.records, self.labels, self.members[positions])
        return batch if self.poison is None else self.poison(batch)


def read_batch(records: Records, labels: NDArray[np.int64], indices: NDArray[np.int64]) -> Batch:
    """The batch of the images at ``indices`` of the whole data set."""
    images = torch.from_numpy(records.read(indices)).to(torch.float32).div_(255)
    return Batch(images, torch.from_numpy(labels[indices]), torch.from_numpy(indices.copy()))


def _as_read(batch: Any) -> Batch:
    """Collation of what ``__getitems__`` has already made a batch."""
    return batch


def _place() -> tuple[int, int]:
    """This process' rank, and how many there are."""
    return (dist.get_rank(), dist.get_world_size()) if dist.is_available() and dist.is_initialized() else (0, 1)
