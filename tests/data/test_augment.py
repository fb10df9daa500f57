"""Augmentation: a function of its key, geometry as stated, and no trace in torch's global generator."""

import pytest
import torch

from securegan.data.augment import Augmentation

IMAGES = torch.rand(8, 3, 16, 16, generator=torch.Generator().manual_seed(0))
ALL = Augmentation(flip=True, rotation=20, scaling=0.2)


def test_the_key_alone_decides_and_the_global_generator_is_untouched() -> None:
    before = torch.random.get_rng_state()
    first = ALL(IMAGES, 0, "augment", 640, 1)
    torch.rand(1)
    assert torch.equal(first, ALL(IMAGES, 0, "augment", 640, 1))
    torch.random.set_rng_state(before)
    ALL(IMAGES, 0, "augment", 640, 1)
    assert torch.equal(torch.random.get_rng_state(), before)


@pytest.mark.parametrize("key", [(1, "augment", 640, 1), (0, "augment", 704, 1), (0, "augment", 640, 0)])
def test_another_seed_count_or_rank_gives_other_pixels(key: tuple[int | str, ...]) -> None:
    assert not torch.equal(ALL(IMAGES, 0, "augment", 640, 1), ALL(IMAGES, *key))


def test_pixels_stay_in_range_and_the_input_is_left_alone() -> None:
    copy = IMAGES.clone()
    out = ALL(IMAGES, 0)
    assert out.shape == IMAGES.shape and out.dtype == torch.float32 and out.min() >= 0 and out.max() <= 1
    assert torch.equal(IMAGES, copy)


def test_nothing_asked_changes_nothing() -> None:
    assert Augmentation()(IMAGES, 0) is IMAGES


def test_flip_mirrors_about_half_of_the_images_exactly() -> None:
    images = torch.rand(400, 1, 4, 4, generator=torch.Generator().manual_seed(1))
    out = Augmentation(flip=True)(images, 0)
    mirrored = (out == images.flip(-1)).flatten(1).all(1)
    assert ((out == images).flatten(1).all(1) ^ mirrored).all()
    assert 150 < mirrored.sum() < 250


def test_rotation_stays_within_its_angle_about_the_centre() -> None:
    """A bar from the centre to the right edge: its far end moves up or down by the sine of the angle."""
    images = torch.zeros(64, 1, 65, 65)
    images[:, :, 31:34, 33:] = 1
    out = Augmentation(rotation=20)(images, 0)
    column = out[:, 0, :, 32 + 24]
    height = (column * torch.arange(65.0)).sum(1) / column.sum(1) - 32
    angle = torch.rad2deg(torch.atan2(height, torch.tensor(24.0)))
    assert angle.abs().max() < 20.5 and angle.abs().max() > 10 and angle.min() < 0 < angle.max()
    assert (out[:, 0, 32, 32] - images[0, 0, 32, 32]).abs().max() < 0.6


def test_scaling_stays_within_its_factor() -> None:
    images = torch.zeros(64, 1, 65, 65)
    images[:, :, 16:49, 16:49] = 1  # a square of 33 pixels
    width = Augmentation(scaling=0.25)(images, 0)[:, 0, 32].sum(1) / 33
    assert 0.74 < width.min() < 0.9 and 1.1 < width.max() < 1.26
