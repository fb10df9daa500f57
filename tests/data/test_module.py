"""The data module: what a batch is, in which order it comes, and what training leaves untouched."""

import json
from collections.abc import Callable
from dataclasses import asdict, replace
from itertools import chain
from pathlib import Path

import pytest
import pytorch_lightning as pl
import torch
from sklearn.datasets import load_digits
from torch import nn

from securegan.configuration.schema import parameters_of
from securegan.data.batch import SPLITS, Batch, DataSpec
from securegan.data.digits import Digits
from securegan.data.folder import Folder
from securegan.data.module import ImageDataModule
from securegan.data.sampler import GlobalBatchSampler
from securegan.data.torchvision_sets import CIFAR10, MNIST, FashionMNIST
from securegan.errors import ConfigError, UserError


@pytest.fixture
def digits(tmp_path: Path) -> Callable[..., Digits]:
    return lambda seed=0, **settings: Digits(tmp_path, seed, **{"size": 8, **settings})


def test_digits_are_scikit_learns(digits: Callable[..., Digits]) -> None:
    module, truth = digits(), load_digits()
    assert (module.spec.name, module.spec.channels, module.spec.size, module.spec.num_classes) == ("digits", 1, 8, 10)
    for split in SPLITS:
        batch = module.chunk(split, 0, 10_000)
        expected = torch.from_numpy(truth.images[batch.index.numpy()]).float() / 16
        assert (batch.images[:, 0] - expected).abs().max() <= 0.5 / 255 + 1e-6
        assert batch.labels.tolist() == truth.target[batch.index.numpy()].tolist()


def test_the_description_knows_the_train_splits_class_shares_and_survives_json(digits: Callable[..., Digits]) -> None:
    module = digits()
    counts = torch.bincount(module.chunk("train", 0, 10_000).labels, minlength=10)
    assert module.spec.class_shares == tuple((counts.double() / counts.sum()).tolist())
    assert not module.spec.balanced  # by a few images
    written = json.loads(json.dumps(asdict(module.spec)))
    assert DataSpec.from_json(written) == module.spec
    del written["class_shares"]  # as older runs have it
    assert DataSpec.from_json(written) == replace(module.spec, class_shares=())
    assert DataSpec.from_json(written).balanced
    with pytest.raises(KeyError):
        DataSpec.from_json({"name": "cut"})


def test_digits_are_interpolated_between_pixel_centres(digits: Callable[..., Digits]) -> None:
    small, large = digits().chunk("test", 0, 20).images, digits(size=32).chunk("test", 0, 20).images
    expected = torch.nn.functional.interpolate(small, (32, 32), mode="bilinear", align_corners=False)
    assert (large - expected).abs().max() <= 1.01 / 255
    assert digits(size=32, channels=3).spec.channels == 3


def test_a_batch_is_float_images_int64_labels_and_indices(digits: Callable[..., Digits]) -> None:
    batch = next(iter(digits().train_dataloader()))
    assert isinstance(batch, Batch)
    assert batch.images.shape == (64, 1, 8, 8) and batch.images.dtype == torch.float32
    assert batch.labels.dtype == batch.index.dtype == torch.int64
    assert batch.images.min() >= 0 and batch.images.max() <= 1


def test_splits_are_disjoint_and_independent_of_the_runs_seed(digits: Callable[..., Digits]) -> None:
    first, second = digits(seed=0), digits(seed=1)
    members = [set(first.chunk(split, 0, 10_000).index.tolist()) for split in SPLITS]
    assert sum(map(len, members)) == len(set.union(*members)) == 1797
    assert first.spec == second.spec
    assert digits(split_seed=1).spec.digest != first.spec.digest != digits(max_images=500).spec.digest


def test_chunk_is_stable_and_cut_at_the_end(digits: Callable[..., Digits]) -> None:
    module = digits(flip=True, rotation=20)
    n = module.split_size("test")
    whole, part = module.chunk("test", 0, n + 100), module.chunk("test", 5, 9)
    assert len(whole.images) == n and torch.equal(whole.images[5:9], part.images)
    assert len(module.chunk("test", n, n + 1).images) == 0
    for wrong in ((-1, 2), (3, 2)):
        with pytest.raises(ValueError, match="0 <= start <= stop"):
            module.chunk("test", *wrong)
    with pytest.raises(ValueError, match="expected one of train, calibrate, validate, test"):
        module.chunk("val", 0, 1)


def order(module: ImageDataModule) -> list[list[int]]:
    return [batch.index.tolist() for batch in module.train_dataloader()]


def test_the_order_is_a_function_of_seed_and_epoch(digits: Callable[..., Digits]) -> None:
    module = digits()
    first = order(module)
    assert first == order(module) == order(digits())
    module.set_epoch(1)
    second = order(module)
    assert second != first
    module.set_epoch(0)
    assert order(module) == first != order(digits(seed=1))
    assert (
        len({index for batch in first for index in batch}) == len(first) * 64 == module.split_size("train") // 64 * 64
    )


def test_set_epoch_reaches_a_loader_already_made(digits: Callable[..., Digits]) -> None:
    module = digits()
    loader = module.train_dataloader()
    first = [batch.index.tolist() for batch in loader]
    module.set_epoch(1)
    assert [batch.index.tolist() for batch in loader] != first


@pytest.mark.parametrize("workers", [0, 2])
def test_loading_leaves_the_global_generator_and_the_order_alone(digits: Callable[..., Digits], workers: int) -> None:
    module, state = digits(num_workers=workers, max_images=300, batch_size=32), torch.random.get_rng_state()
    assert order(module) == order(digits(max_images=300, batch_size=32))
    module.augment(module.chunk("train", 0, 4), 0, 0)
    assert torch.equal(torch.random.get_rng_state(), state)


@pytest.mark.parametrize("world_size", [1, 2, 4])
def test_ranks_share_out_the_same_global_batches(world_size: int) -> None:
    def epoch(rank: int, world_size: int) -> list[list[int]]:
        sampler = GlobalBatchSampler(103, 12, 7, rank=rank, world_size=world_size)
        sampler.set_epoch(3)
        return list(sampler)

    alone = epoch(0, 1)
    ranks = [epoch(rank, world_size) for rank in range(world_size)]
    assert len(alone) == 103 // 12
    assert alone == [list(chain(*shares)) for shares in zip(*ranks, strict=True)]
    assert {len(share) for batches in ranks for share in batches} == {12 // world_size}


def test_chunks_are_shared_among_the_ranks_unless_all_must_see_them(
    digits: Callable[..., Digits], monkeypatch: pytest.MonkeyPatch
) -> None:
    module = digits()
    alone = [batch.index.tolist() for _, batch in module.chunks("train", 300)]
    monkeypatch.setattr("securegan.data.module._place", lambda: (1, 2))
    assert [batch.index.tolist() for _, batch in module.chunks("train", 300)] == alone[1::2]
    assert [batch.index.tolist() for _, batch in module.chunks("train", 300, shared=False)] == alone


def test_the_loader_takes_rank_and_world_size_from_torch(
    digits: Callable[..., Digits], monkeypatch: pytest.MonkeyPatch
) -> None:
    alone = order(digits())
    monkeypatch.setattr("torch.distributed.is_initialized", lambda: True)
    monkeypatch.setattr("torch.distributed.get_world_size", lambda: 2)
    shares = []
    for rank in (0, 1):
        monkeypatch.setattr("torch.distributed.get_rank", lambda rank=rank: rank)
        shares.append(order(digits()))
    assert alone == [first + second for first, second in zip(*shares, strict=True)]


def test_a_batch_that_does_not_fit_is_refused(digits: Callable[..., Digits]) -> None:
    with pytest.raises(ConfigError, match=r"data\.batch_size=10 .* multiple of 4"):
        GlobalBatchSampler(100, 10, 0, rank=0, world_size=4)
    with pytest.raises(ConfigError, match=r"data\.batch_size=2000 is not allowed: expected at most 1078"):
        digits(batch_size=2000).train_dataloader()


def test_poison_meets_training_batches_only(digits: Callable[..., Digits]) -> None:
    module = digits()
    clean = module.chunk("train", 0, 8)
    module.poison = lambda batch: batch._replace(images=torch.ones_like(batch.images), labels=batch.labels * 0)
    batch = next(iter(module.train_dataloader()))
    assert (batch.images == 1).all() and (batch.labels == 0).all()
    assert torch.equal(module.chunk("train", 0, 8).images, clean.images)


def test_augmentation_follows_images_seen_and_rank(digits: Callable[..., Digits]) -> None:
    module, plain = digits(flip=True, rotation=15, scaling=0.1), digits()
    batch = module.chunk("train", 0, 8)
    assert plain.augment(batch, 0, 0) is batch
    first = module.augment(batch, 64, 0)
    assert torch.equal(first.images, module.augment(batch, 64, 0).images)
    assert not torch.equal(first.images, module.augment(batch, 128, 0).images)
    assert not torch.equal(first.images, module.augment(batch, 64, 1).images)
    assert torch.equal(first.labels, batch.labels) and torch.equal(first.index, batch.index)


def test_a_subset_is_balanced_and_keeps_shares(digits: Callable[..., Digits]) -> None:
    module = digits(max_images=200)
    assert [module.split_size(split) for split in SPLITS] == [120, 20, 20, 40]
    assert set(module.chunk("train", 0, 120).labels.bincount().tolist()) == {12}


def test_every_data_set_has_the_same_configuration_and_its_own_radius(tmp_path: Path) -> None:
    radii = {Digits: 32 / 255, Folder: 8 / 255, MNIST: 0.3, FashionMNIST: 0.1, CIFAR10: 8 / 255}
    for kind, radius in radii.items():
        assert kind(tmp_path, 0).eps == radius and kind(tmp_path, 0, eps=0.05).eps == 0.05
        own = parameters_of(kind).keys() - parameters_of(ImageDataModule).keys()
        gate = {"intake", "false_positive_rate", "require_signed", "trust"}  # for images from anyone
        assert own == (gate if kind is Folder else set())
        assert all(parameters_of(kind)[name] == found for name, found in parameters_of(ImageDataModule).items())


def test_impossible_settings_are_refused(digits: Callable[..., Digits], tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="leave nothing to train on"):
        digits(calibrate=0.4, validate=0.4, test=0.2)
    with pytest.raises(ConfigError, match=r"data\.path is missing"):
        Folder(tmp_path, 0).setup()
    with pytest.raises(ConfigError, match="not allowed with data=digits"):
        digits(path="somewhere").setup()
    with pytest.raises(UserError, match="max_images=2 is too few"):
        digits(max_images=2).setup()


class Recorder(pl.LightningModule):
    """Writes down which images it was given, and learns nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.unused = nn.Parameter(torch.zeros(1))
        self.seen: list[list[list[int]]] = []

    def on_train_epoch_start(self) -> None:
        self.seen.append([])

    def training_step(self, batch: Batch, batch_idx: int) -> None:
        self.seen[-1].append(batch.index.tolist())

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.0)


def test_lightning_keeps_the_sampler_and_sets_its_epoch(digits: Callable[..., Digits], tmp_path: Path) -> None:
    module, recorder = digits(max_images=300, batch_size=32), Recorder()
    trainer = pl.Trainer(
        max_epochs=2,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
        default_root_dir=tmp_path,
    )
    trainer.fit(recorder, datamodule=module)
    for epoch in (0, 1):
        module.set_epoch(epoch)
        assert recorder.seen[epoch] == order(module)
