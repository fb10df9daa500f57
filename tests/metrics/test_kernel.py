"""The kernel distance against its definition, torch-fidelity's and what must hold."""

import pytest
import torch

from securegan.errors import UserError
from securegan.metrics import kernel
from securegan.metrics.kernel import kernel_distance


def features(n: int, seed: int, dim: int = 12) -> torch.Tensor:
    return torch.randn(n, dim, generator=torch.Generator().manual_seed(seed))


def test_agrees_with_torch_fidelity_on_one_subset_of_all_images() -> None:
    kid = pytest.importorskip("torch_fidelity.metric_kid")
    a, b = features(150, 0), 1.4 * features(150, 1) + 0.2
    theirs = kid.kid_features_to_metric(a.double(), b.double(), kid_subsets=1, kid_subset_size=150, verbose=False)
    assert kernel_distance(a, b) == pytest.approx(theirs["kernel_inception_distance_mean"], rel=1e-9)


def test_the_definition_on_unequal_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    a, b = features(7, 0).double(), features(5, 1).double()
    k = lambda x, y: (x @ y / 12 + 1) ** 3  # noqa: E731
    own = [[k(x, y) for i, x in enumerate(s) for j, y in enumerate(s) if i != j] for s in (a, b)]
    cross = torch.stack([k(x, y) for x in a for y in b]).mean()
    expected = sum(float(torch.stack(pairs).mean()) for pairs in own) - 2 * float(cross)
    assert kernel_distance(a, b) == pytest.approx(expected, rel=1e-12)
    monkeypatch.setattr(kernel, "BLOCK", 2)
    assert kernel_distance(a, b) == pytest.approx(expected, rel=1e-12)


def test_it_is_unbiased_where_the_frechet_distance_is_not() -> None:
    small = torch.tensor([kernel_distance(features(20, 2 * i), features(20, 2 * i + 1)) for i in range(200)])
    assert abs(float(small.mean())) < 3 * float(small.std()) / 200**0.5
    assert kernel_distance(features(300, 0), features(300, 1) + 0.5) > 5 * float(small.std())


def test_one_image_is_refused() -> None:
    with pytest.raises(UserError, match="two images on each side, and there are 1 and 9"):
        kernel_distance(features(1, 0), features(9, 1))
