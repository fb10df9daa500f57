"""The Inception extractor against torch-fidelity itself, with random weights made on the spot."""

from itertools import pairwise
from pathlib import Path
from urllib.error import URLError

import pytest
import torch
from sklearn.datasets import load_digits
from torchvision.transforms.v2.functional import gaussian_blur

import securegan.metrics.inception as module
from securegan.errors import UserError
from securegan.metrics.inception import REFERENCE_FILE, Inception, load_inception
from securegan.metrics.kernel import kernel_distance
from securegan.metrics.manifold import manifold_scores
from securegan.metrics.moments import Moments
from securegan.metrics.quality import InceptionScore, frechet_distance

peer = pytest.importorskip("torch_fidelity.feature_extractor_inceptionv3")


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Random weights: the batch norms keep the features' scale through the depth, the head has opinions."""
    path = tmp_path_factory.mktemp("weights") / "random.pth"
    with torch.random.fork_rng(devices=[]), pytest.MonkeyPatch.context() as patch:
        torch.default_generator.manual_seed(0)
        patch.setattr(peer, "load_state_dict_from_url", lambda *_, **__: {})
        patch.setattr(torch.nn.Module, "load_state_dict", lambda *_, **__: None)
        network = peer.FeatureExtractorInceptionV3("random", ["2048"])
    for layer in network.modules():
        if isinstance(layer, torch.nn.BatchNorm2d):
            layer.running_var.fill_(0.2)
    with torch.no_grad():
        network.fc.weight.mul_(100)
    torch.save(network.state_dict(), path)
    return path


@pytest.fixture(scope="module")
def inception(weights: Path) -> Inception:
    state = torch.random.get_rng_state()
    loaded = load_inception(weights, weights.parent)
    assert torch.equal(torch.random.get_rng_state(), state)
    return loaded


def pictures(n: int, seed: int, channels: int = 3) -> torch.Tensor:
    drawn = torch.rand(n, channels, 8, 8, generator=torch.Generator().manual_seed(seed))
    return torch.nn.functional.interpolate(drawn, size=32, mode="bilinear") ** (1 + seed)


def test_extracts_what_torch_fidelity_extracts(inception, weights, monkeypatch):
    monkeypatch.setattr(module, "CPU_PART", 2)
    images = pictures(3, 0)  # more than one part
    reference = peer.FeatureExtractorInceptionV3("x", ["2048", "logits_unbiased"], str(weights))
    expected = reference((images * 255).round().to(torch.uint8))
    features, logits = inception.train().extract(images)
    torch.testing.assert_close(features, expected[0], rtol=1e-4, atol=1e-6)  # memory formats sum in another order
    torch.testing.assert_close(logits, expected[1], rtol=1e-4, atol=1e-4)
    assert features.shape == (3, inception.feature_dim)
    assert logits.shape == (3, inception.num_logits)
    assert features.dtype == torch.float32
    assert features.std() > 1e-3


def test_grey_images_are_repeated_and_other_channels_refused(inception):
    grey = pictures(1, 0, channels=1)
    torch.testing.assert_close(inception.extract(grey)[0], inception.extract(grey.repeat(1, 3, 1, 1))[0])
    with pytest.raises(UserError, match="1 or 3 channels, and these have 4"):
        inception.extract(torch.rand(1, 4, 32, 32))


def test_only_the_reference_weights_may_carry_the_name(inception):
    assert inception.key == f"inception_{inception.digest[:8]}"
    assert Inception(inception.network, "6726825d" + "0" * 56).key == "inception"


@pytest.mark.parametrize("stage", [64, 192, 768])
def test_an_earlier_stage_carries_its_features_in_its_name(stage, weights):
    extractor = load_inception(weights, weights.parent, stage=stage)
    images = pictures(2, 0)
    features, logits = extractor.extract(images)
    reference = peer.FeatureExtractorInceptionV3("x", [str(stage)], str(weights))
    expected = reference((images * 255).round().to(torch.uint8))[0]
    torch.testing.assert_close(features, expected, rtol=1e-4, atol=1e-6)
    assert features.shape == (2, extractor.feature_dim) == (2, stage) and logits.shape == (2, extractor.num_logits)
    assert extractor.key.endswith(f"_{stage}") and extractor.num_logits == 0


def test_wrong_files_are_a_users_mistake(tmp_path, weights):
    with pytest.raises(UserError, match="there are no Inception weights"):
        load_inception(None, tmp_path)
    with pytest.raises(UserError, match="cannot be read"):
        load_inception(tmp_path / "missing.pth", tmp_path)
    damaged = tmp_path / REFERENCE_FILE
    damaged.write_bytes(weights.read_bytes())
    with pytest.raises(UserError, match="damaged"):
        load_inception(None, tmp_path)
    other = tmp_path / "other.pth"
    torch.save({"layer.weight": torch.ones(3)}, other)
    with pytest.raises(UserError, match="does not hold Inception weights"):
        load_inception(other, tmp_path)


def test_pickled_code_in_a_weights_file_never_runs(tmp_path):
    trap, sprung = tmp_path / "trap.pth", tmp_path / "sprung"

    class Trap:
        def __reduce__(self):
            return Path.touch, (sprung,)

    torch.save({"layer": Trap()}, trap)
    with pytest.raises(UserError, match="does not hold"):
        load_inception(trap, tmp_path)
    assert not sprung.exists()


class Answer:
    """What urlopen gives."""

    def __init__(self, content: bytes, fails: bool = False) -> None:
        self.blocks, self.fails = [content, b""], fails

    def read(self, _size: int) -> bytes:
        if self.fails:
            raise TimeoutError("timed out")
        return self.blocks.pop(0)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        return None


@pytest.mark.parametrize("kind", ["no network", "stalls", "damaged"])
def test_failed_download_is_one_sentence_and_leaves_nothing(tmp_path, monkeypatch, kind):
    def urlopen(*_, **__):
        if kind == "no network":
            raise URLError("no route to host")
        return Answer(b"not the weights", fails=kind == "stalls")

    monkeypatch.setattr(module, "urlopen", urlopen)
    with pytest.raises(UserError, match="damaged" if kind == "damaged" else "could not be downloaded") as caught:
        load_inception(None, tmp_path, download=True)
    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_download_is_kept_and_used(tmp_path, monkeypatch, weights):
    content = weights.read_bytes()
    digest = module.sha256(content).hexdigest()
    monkeypatch.setattr(module, "REFERENCE_PREFIX", digest[:8])
    monkeypatch.setattr(module, "urlopen", lambda *_, **__: Answer(content))
    assert load_inception(None, tmp_path, download=True).key == "inception"
    monkeypatch.setattr(module, "urlopen", None)  # the second time needs no network
    assert load_inception(None, tmp_path).digest == digest


def test_every_score_equals_torch_fidelitys(inception, weights):
    torch_fidelity = pytest.importorskip("torch_fidelity")
    from torch_fidelity.metric_kid import kernel_mmd

    exponents = torch.linspace(-3, 1, 12).exp2()[:, None, None, None]  # of two sets that overlap in part
    sets = pictures(12, 0) ** exponents, pictures(12, 1) ** (2 * exponents)

    class AsDataset(torch.utils.data.Dataset):
        def __init__(self, images):
            self.images = (images * 255).round().to(torch.uint8)

        def __len__(self):
            return len(self.images)

        def __getitem__(self, row):
            return self.images[row]

    theirs = torch_fidelity.calculate_metrics(
        input1=AsDataset(sets[0]),
        input2=AsDataset(sets[1]),
        cuda=False,
        fid=True,
        isc=True,
        isc_splits=1,
        kid=True,
        kid_subsets=1,
        kid_subset_size=12,
        prc=True,
        feature_extractor="inception-v3-compat",
        feature_layer_prc="2048",
        samples_shuffle=False,
        batch_size=6,
        save_cpu_ram=True,
        verbose=False,
        feature_extractor_weights_path=str(weights),
    )
    (fake, logits), (real, _) = (inception.extract(images) for images in sets)
    ours = frechet_distance(*(Moments(2048).update(features) for features in (fake, real)))
    assert ours == pytest.approx(theirs["frechet_inception_distance"], rel=1e-3)
    score = InceptionScore(1008).update(logits).compute()
    assert score > 1.1 and score == pytest.approx(theirs["inception_score_mean"], rel=1e-3)
    # Torch-fidelity sums kernels in float32; of a distance as small as this, some 2e-4 of a kernel, its own formula in
    # float64 leaves a thousandth less, and that is what ours is.
    single, kid = theirs["kernel_inception_distance_mean"], kernel_distance(real, fake)
    exact = kernel_mmd(*(features.double().numpy() for features in (fake, real)))
    assert kid == pytest.approx(exact, rel=1e-3) and kid == pytest.approx(single, rel=1e-2)
    assert abs(kid - exact) < 0.01 * abs(single - exact)
    manifold = manifold_scores(real, fake)
    assert 0 < manifold.precision < 1 and 0 < manifold.recall < 1
    assert (manifold.precision, manifold.recall) == pytest.approx((theirs["precision"], theirs["recall"]), rel=1e-3)


def test_distance_of_real_digits_rises_with_their_blur(weights):
    extractor = load_inception(weights, weights.parent, stage=64)
    digits = torch.tensor(load_digits().images[:20] / 16, dtype=torch.float32)[:, None]
    blurred = [digits, *(gaussian_blur(digits, [5, 5], [sigma, sigma]) for sigma in (0.4, 0.7, 2.0))]
    moments = [Moments(64).update(extractor.extract(images)[0]) for images in blurred]
    found = [frechet_distance(moments[0], other) for other in moments]
    assert found[0] == pytest.approx(0, abs=1e-6 * float(moments[0].covariance().trace()))
    assert all(1.2 * less < more for less, more in pairwise(found))
