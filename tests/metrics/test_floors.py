"""The scores that real images get against each other."""

import torch

from securegan.metrics.floors import floors


def features(n: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(n, 8, generator=torch.Generator().manual_seed(seed))


def test_they_approach_the_perfect_scores_with_n_and_depend_on_the_seed_alone() -> None:
    many = features(4000)
    large, small = floors(many, 1), floors(many[:200], 1)
    assert large == floors(many, 1) and large != floors(many, 2)
    assert large["fid"] < small["fid"] and abs(large["kid"]) < 0.01
    assert large["precision"] > 0.8 and large["recall"] > 0.8 and large["coverage"] > 0.9
    assert 0.9 < large["density"] < 1.1


def test_what_few_images_cannot_give_is_left_out() -> None:
    assert floors(features(3), 1) == {}
    assert set(floors(features(5), 1)) == {"fid", "kid"}
