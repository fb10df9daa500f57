"""Seeded, disjoint splits: stratified by label, whole groups kept together, the source's own splits respected."""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from securegan.data.batch import SPLITS
from securegan.errors import UserError
from securegan.randomness import permutation

Indices = NDArray[np.int64]
_CARVED = SPLITS[1:]  # train is what remains


def make_splits(
    labels: Indices, given: Indices, groups: Indices, *, fractions: Mapping[str, float], seed: int
) -> dict[str, Indices]:
    """Indices of every split, each in a seeded random order, so that any prefix is a fair sample.

    A split that the source names itself is taken as it is. The others are carved out of the rest: ``fractions`` (of
    calibrate, validate and test) of the images that are in no given split, or in the given train split.

    Args: labels, given, groups: ``(n,)``, as in :class:`securegan.data.records.Prepared`.
    Raises UserError where a split would be empty, or a class would have no training image.
    """
    split_of = given.copy()
    wanted = {split: fractions[split] for split in _CARVED if not (given == SPLITS.index(split)).any()}
    pool = np.flatnonzero(given <= 0)
    split_of[pool] = 0
    if len(pool) and wanted:
        split_of[pool] = _carve(labels[pool], groups[pool], wanted, seed)
    splits = {}
    for code, split in enumerate(SPLITS):
        members = np.flatnonzero(split_of == code)
        splits[split] = members[permutation(len(members), seed, "split order", split).numpy()]
    _check(splits, labels)
    return splits


def _carve(labels: Indices, groups: Indices, wanted: Mapping[str, float], seed: int) -> Indices:
    """The split (an index into SPLITS) of each image of the pool, ``(n,)``.

    Units (groups, or single images) are dealt out within each stratum (the labels a unit holds); what rounding leaves
    over in one stratum is carried to the next, so that shares are kept in total as well as in every class.
    """
    alone = np.where(groups < 0, groups.max(initial=-1) + 1 + np.arange(len(groups)), groups)
    _, unit_of, sizes = np.unique(alone, return_inverse=True, return_counts=True)
    lowest, highest = np.full(len(sizes), np.iinfo(np.int64).max), np.full(len(sizes), -1)
    np.minimum.at(lowest, unit_of, labels)
    np.maximum.at(highest, unit_of, labels)
    _, stratum = np.unique(np.stack([lowest, highest], axis=1), axis=0, return_inverse=True)
    shuffled = permutation(len(sizes), seed, "split").numpy()
    shuffled = shuffled[np.argsort(stratum[shuffled], kind="stable")]
    split_of_unit = np.zeros(len(sizes), dtype=np.int64)
    carry = dict.fromkeys(wanted, 0.0)
    for units in np.split(shuffled, np.cumsum(np.bincount(stratum))[:-1]):
        ends = np.concatenate([[0], np.cumsum(sizes[units])])  # images in the first k units
        taken = 0  # units dealt out so far; the last one always stays in train
        for split, fraction in wanted.items():
            due = fraction * ends[-1] + carry[split]
            stop = taken + int(np.argmin(np.abs(ends[taken : len(units)] - ends[taken] - due)))
            split_of_unit[units[taken:stop]] = SPLITS.index(split)
            carry[split] = due - (ends[stop] - ends[taken])
            taken = stop
    return split_of_unit[unit_of]


def take_subset(splits: Mapping[str, Indices], labels: Indices, max_images: int) -> dict[str, Indices]:
    """At most ``max_images`` images in all, each split keeping its share and as even a mix of classes as it can.

    The splits are in a seeded random order already, so the first images of each class are a random sample.
    Raises UserError where ``max_images`` leaves a split empty or a class without a training image.
    """
    total = sum(map(len, splits.values()))
    if max_images >= total:
        return dict(splits)
    if max_images < len(SPLITS):
        raise UserError(f"data.max_images={max_images} is too few: every one of {len(SPLITS)} splits needs an image.")
    exact = {split: max_images * len(members) / total for split, members in splits.items()}
    quota = {split: max(1, int(share)) for split, share in exact.items()}
    left = max_images - sum(quota.values())
    for split in sorted(exact, key=lambda split: quota[split] - exact[split])[: max(0, left)]:
        quota[split] += 1
    quota["train"] += min(0, left)  # where splits were raised to one image
    subset = {split: members[_evenly(labels[members], quota[split])] for split, members in splits.items()}
    _check(subset, labels)
    return subset


def _evenly(labels: Indices, n: int) -> Indices:
    """Positions of ``n`` of ``labels``, taken in turn from every class, in ascending order."""
    by_class = np.argsort(labels, kind="stable")
    _, counts = np.unique(labels, return_counts=True)
    turn = np.empty(len(labels), dtype=np.int64)
    turn[by_class] = np.concatenate([np.arange(count) for count in counts])
    return np.sort(np.argsort(turn, kind="stable")[:n])


def _check(splits: Mapping[str, Indices], labels: Indices) -> None:
    """Raise UserError where a split is empty, or a class of ``labels`` has no training image."""
    total = sum(map(len, splits.values()))
    empty = [split for split in SPLITS if not len(splits[split])]
    if empty:
        raise UserError(
            f"The data are too few to split: of {total} images none is left for {' and '.join(empty)}; give more "
            f"images, or larger shares (data.calibrate, data.validate, data.test)."
        )
    classes, trained = np.unique(labels), np.unique(labels[splits["train"]])
    if len(trained) < len(classes):
        raise UserError(
            f"The data are too few to split: of {total} images in {len(classes)} classes, "
            f"{len(classes) - len(trained)} have none to train on; give more images, or a larger data.max_images."
        )
