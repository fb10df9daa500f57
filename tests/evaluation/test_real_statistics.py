"""Statistics of real images: what is kept on disk is what was computed, and nothing that goes wrong there is fatal."""

from pathlib import Path

import pytest
import torch
from torch import Tensor

from securegan.data.digits import Digits
from securegan.evaluation.real_statistics import RealStatistics, real_statistics
from securegan.metrics.moments import Moments


class Pooled:
    """An extractor that counts what it is asked for: 16 average intensities, ten logits."""

    key, feature_dim, num_logits = "pooled", 16, 10

    def __init__(self, digest: str = "a") -> None:
        self.digest, self.images = digest, 0

    def to(self, device: torch.device, /) -> "Pooled":
        return self

    def extract(self, images: Tensor) -> tuple[Tensor, Tensor]:
        self.images += len(images)
        features = torch.nn.functional.adaptive_avg_pool2d(images, 4).flatten(1)
        return features, features[:, :10]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Digits:
    made = Digits(tmp_path_factory.mktemp("cache"), 0)
    made.prepare_data()
    return made


def statistics(data: Digits, extractor: Pooled, cache: Path | None, cap: int = 200) -> RealStatistics:
    return real_statistics(data, extractor, "test", classes=10, cap=cap, cache_dir=cache, device=torch.device("cpu"))


def same(a: RealStatistics, b: RealStatistics) -> bool:
    pairs = zip(
        [*a.moments.state_dict().values(), *a.within.state_dict().values(), a.kept],
        [*b.moments.state_dict().values(), *b.within.state_dict().values(), b.kept],
        strict=True,
    )
    return a.beside == b.beside and all(torch.equal(x, y) for x, y in pairs)


def test_a_second_run_reads_the_file_and_gets_the_same(data: Digits, tmp_path: Path) -> None:
    extractor = Pooled()
    made = statistics(data, extractor, tmp_path)
    seen, n = extractor.images, data.split_size("test")
    assert seen == n and same(made, statistics(data, extractor, tmp_path)) and extractor.images == seen
    everything = data.chunk("test", 0, n)
    features = Pooled().extract(everything.images)[0]
    torch.testing.assert_close(made.moments.covariance(), Moments(16).update(features).covariance())
    assert torch.equal(made.kept, features[:200]) and made.within.n == n
    assert {"floor_fid", "floor_kid", "floor_precision", "real_is"} <= made.beside.keys()


@pytest.mark.parametrize("change", ["extractor", "cap", "no cache"])
def test_another_question_is_computed_anew(data: Digits, tmp_path: Path, change: str) -> None:
    statistics(data, Pooled(), tmp_path)
    other = Pooled("b" if change == "extractor" else "a")
    cache = None if change == "no cache" else tmp_path
    statistics(data, other, cache, cap=100 if change == "cap" else 200)
    assert other.images == data.split_size("test")


@pytest.mark.parametrize("damage", ["cut", "changed", "empty"])
def test_a_damaged_file_is_made_anew(data: Digits, tmp_path: Path, damage: str) -> None:
    made = statistics(data, Pooled(), tmp_path)
    (file,) = (tmp_path / "statistics").iterdir()
    content = bytearray(file.read_bytes())
    content[-20] ^= 1
    file.write_bytes({"cut": content[:-9], "changed": content, "empty": b""}[damage])
    with pytest.warns(UserWarning, match="damaged and made anew"):
        assert same(made, statistics(data, Pooled(), tmp_path))
    extractor = Pooled()
    assert same(made, statistics(data, extractor, tmp_path)) and extractor.images == 0


def test_a_cache_that_cannot_be_written_is_done_without(data: Digits, tmp_path: Path) -> None:
    (tmp_path / "statistics").write_text("a file where the folder should be")
    with pytest.warns(UserWarning, match="cannot be kept"):
        assert statistics(data, Pooled(), tmp_path).moments.n == data.split_size("test")
