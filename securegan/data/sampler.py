"""The order in which training images are read: a function of the seed and the epoch, the same for any world size."""

from collections.abc import Iterator

from torch.utils.data import Sampler

from securegan.errors import ConfigError
from securegan.randomness import permutation


class GlobalBatchSampler(Sampler[list[int]]):
    """One rank's slices of the epoch's global batches; the last partial global batch is dropped.

    The union of all ranks' slices of a batch is the global batch, whatever the number of ranks.
    """

    def __init__(self, n: int, batch_size: int, seed: int, *, rank: int = 0, world_size: int = 1) -> None:
        """Args: n: training images; batch_size: of all ranks together. Raises ConfigError where it does not fit."""
        if batch_size % world_size:
            raise ConfigError(
                f"data.batch_size={batch_size} is not allowed with {world_size} processes: expected a multiple of "
                f"{world_size}, because every process takes an equal share of each batch."
            )
        if batch_size > n:
            raise ConfigError(
                f"data.batch_size={batch_size} is not allowed: expected at most {n}, the number of training images."
            )
        self.n, self.batch_size, self.seed = n, batch_size, seed
        self.rank, self.share = rank, batch_size // world_size
        self.epoch = 0

    @property
    def sampler(self) -> "GlobalBatchSampler":
        """Itself: Lightning sets the epoch on ``batch_sampler.sampler`` before each epoch, also after a resume."""
        return self

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def __len__(self) -> int:
        return self.n // self.batch_size

    def __iter__(self) -> Iterator[list[int]]:
        order = permutation(self.n, self.seed, "order", self.epoch)
        for batch in range(len(self)):
            start = batch * self.batch_size + self.rank * self.share
            yield order[start : start + self.share].tolist()
