"""Splits: disjoint, complete, stratified, whole groups, the source's own respected, a function of the seed alone."""

import numpy as np
import pytest

from securegan.data.batch import SPLITS
from securegan.data.splits import make_splits, take_subset
from securegan.errors import UserError

FRACTIONS = {"calibrate": 0.1, "validate": 0.1, "test": 0.2}


def split(
    labels: np.ndarray, given: np.ndarray | None = None, groups: np.ndarray | None = None, seed: int = 0
) -> dict[str, np.ndarray]:
    none = np.full(len(labels), -1)
    return make_splits(
        labels, none if given is None else given, none if groups is None else groups, fractions=FRACTIONS, seed=seed
    )


def labels_of(*counts: int) -> np.ndarray:
    return np.random.default_rng(0).permutation(np.repeat(np.arange(len(counts)), counts))


@pytest.mark.parametrize("labels", [labels_of(100, 50, 33, 7), np.full(57, -1), labels_of(*[5] * 10)])
def test_splits_are_disjoint_and_complete(labels: np.ndarray) -> None:
    splits = split(labels)
    assert tuple(splits) == SPLITS
    assert sorted(np.concatenate(list(splits.values()))) == list(range(len(labels)))


def test_shares_hold_in_every_class_and_in_total() -> None:
    counts = (100, 50, 33, 17, 5, 5)
    labels = labels_of(*counts)
    splits = split(labels)
    for name, share in FRACTIONS.items():
        assert abs(len(splits[name]) - share * len(labels)) <= 1
        for label, count in enumerate(counts):
            assert abs((labels[splits[name]] == label).sum() - share * count) <= 1


def test_small_classes_together_still_give_their_share() -> None:
    """Ten classes of four: each alone rounds to no calibration image, together they owe four."""
    splits = split(labels_of(*[4] * 10))
    assert [len(splits[name]) for name in SPLITS] == [24, 4, 4, 8]


def test_the_seed_alone_decides() -> None:
    labels = labels_of(60, 60)
    first, second, other = split(labels), split(labels), split(labels, seed=1)
    for name in SPLITS:
        assert np.array_equal(first[name], second[name])
        assert not np.array_equal(np.sort(first[name]), np.sort(other[name]))


def test_a_prefix_of_a_split_is_a_fair_sample() -> None:
    labels = np.repeat([0, 1], 500)  # as class folders are listed
    assert abs(labels[split(labels)["test"][:100]].mean() - 0.5) < 0.15


def test_groups_stay_whole_and_shares_hold() -> None:
    """Clips as in the challenge: a real one and one to four fakes made from it."""
    random = np.random.default_rng(0)
    fakes = random.integers(1, 5, 200)
    groups = np.repeat(np.arange(200), fakes + 1)
    labels = np.concatenate([[1] + [0] * n for n in fakes])
    splits = split(labels, groups=groups)
    owners = [set(groups[members].tolist()) for members in splits.values()]
    assert sum(map(len, owners)) == len(set.union(*owners)) == 200
    for name, share in FRACTIONS.items():
        assert abs(len(splits[name]) / len(labels) - share) < 0.02


def test_given_splits_are_respected_and_the_rest_carved_from_train() -> None:
    labels = np.tile([0, 1], 100)
    given = np.where(np.arange(200) < 160, SPLITS.index("train"), SPLITS.index("test"))
    splits = split(labels, given)
    assert sorted(splits["test"]) == list(range(160, 200))
    assert [len(splits[name]) for name in SPLITS] == [128, 16, 16, 40]
    given[140:160] = SPLITS.index("validate")
    splits = split(labels, given)
    assert sorted(splits["validate"]) == list(range(140, 160))
    assert len(splits["calibrate"]) == 14 and len(splits["train"]) == 126


@pytest.mark.parametrize("n", [0, 1, 3, 4])
def test_too_few_images_are_an_error(n: int) -> None:
    with pytest.raises(UserError, match="too few to split"):
        split(np.full(n, -1))


def test_no_training_images_are_an_error() -> None:
    with pytest.raises(UserError, match="none is left for train"):
        split(np.zeros(40, dtype=int), given=np.repeat([2, 3], 20))


def test_a_class_without_training_images_is_an_error() -> None:
    labels, given = np.repeat([0, 1], 40), np.repeat([0, 3], 40)
    with pytest.raises(UserError, match="of 80 images in 2 classes, 1 have none to train on"):
        split(labels, given)


def test_every_class_keeps_an_image_to_train_on() -> None:
    labels = labels_of(100, 1, 2)
    assert set(labels[split(labels)["train"]]) == {0, 1, 2}


@pytest.mark.parametrize("limit", [40, 41, 77, 299])
def test_a_subset_keeps_shares_and_balances_classes(limit: int) -> None:
    labels = labels_of(200, 100)
    splits = split(labels)
    subset = take_subset(splits, labels, limit)
    assert sum(map(len, subset.values())) == limit
    for name in SPLITS:
        assert set(subset[name]) <= set(splits[name])
        assert abs(len(subset[name]) - limit * len(splits[name]) / 300) < 1
        counts = np.bincount(labels[subset[name]], minlength=2)
        available = np.bincount(labels[splits[name]], minlength=2)
        assert abs(counts[0] - counts[1]) <= 1 or counts[1] == available[1]


def test_a_large_limit_changes_nothing_and_a_tiny_one_is_refused() -> None:
    labels = labels_of(50, 50)
    splits = split(labels)
    assert all(np.array_equal(take_subset(splits, labels, 100)[name], splits[name]) for name in SPLITS)
    with pytest.raises(UserError, match="max_images=3"):
        take_subset(splits, labels, 3)
    assert [len(take_subset(splits, labels, 5)[name]) for name in SPLITS] == [2, 1, 1, 1]
