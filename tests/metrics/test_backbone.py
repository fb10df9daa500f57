"""Torchvision's classifiers as extractors, with random weights made on the spot."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torchvision.models import get_model
from torchvision.models.feature_extraction import create_feature_extractor
from torchvision.transforms.v2 import functional as transforms

from securegan.errors import UserError
from securegan.metrics.backbone import Backbone, classifiers, load_backbone

CLASSES = 7


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A resnet18 of seven classes."""
    path = tmp_path_factory.mktemp("weights") / "resnet18.safetensors"
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(0)
        save_file(get_model("resnet18", num_classes=CLASSES).state_dict(), path)
    return path


@pytest.fixture(scope="module")
def resnet(weights: Path) -> Backbone:
    state = torch.random.get_rng_state()
    loaded = load_backbone("resnet18", weights)
    assert torch.equal(torch.random.get_rng_state(), state)
    return loaded


def pictures(n: int, side: int = 40, channels: int = 3) -> torch.Tensor:
    return torch.rand(n, channels, side, side, generator=torch.Generator().manual_seed(side))


@pytest.mark.parametrize("side", [40, 300])
def test_features_and_logits_are_torchvisions_own(resnet: Backbone, weights: Path, side: int) -> None:
    images = pictures(3, side)
    plain = get_model("resnet18", num_classes=CLASSES)
    from safetensors.torch import load_file

    plain.load_state_dict(load_file(weights))
    resized = transforms.resize(images.mul(255).round().div(255), [224, 224], antialias=True)
    given = transforms.normalize(resized, [0.485, 0.456, 0.406], [0.229, 0.224, 0.225])
    reference = create_feature_extractor(plain.eval(), {"flatten": "features", "fc": "logits"})
    with torch.no_grad():
        expected = reference(given)
    features, logits = resnet.train().extract(images)
    torch.testing.assert_close(features, expected["features"], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(logits, expected["logits"], rtol=1e-4, atol=1e-5)
    assert features.shape == (3, resnet.feature_dim) and logits.shape == (3, resnet.num_logits) == (3, CLASSES)
    assert features.dtype == torch.float32 and features.std() > 1e-3 and not features.requires_grad


def test_the_whole_image_is_read_at_eight_bits(resnet: Backbone) -> None:
    images = pictures(1)
    corner = images.clone()
    corner[..., :2, :2] = 1 - corner[..., :2, :2]
    assert not torch.allclose(resnet.extract(images)[0], resnet.extract(corner)[0])
    rounded = images.mul(255).round().div(255)
    assert torch.equal(resnet.extract(images)[0], resnet.extract(rounded)[0])
    mean = torch.tensor([0.485, 0.456, 0.406])[:, None, None].expand(1, 3, 9, 9)
    assert resnet.prepared(mean).abs().max() < 0.5 / 255 / 0.22


def test_interpolation_and_side_are_those_of_the_networks_weights(tmp_path: Path) -> None:
    save_file(get_model("efficientnet_b1", num_classes=2).state_dict(), path := tmp_path / "b1.safetensors")
    network = load_backbone("efficientnet_b1", path)
    assert (network.side, network.interpolation) == (240, "bilinear") and network.prepared(pictures(1)).shape[-1] == 240
    assert load_backbone("efficientnet_b1", path).num_logits == 2
    save_file(get_model("efficientnet_b0", num_classes=2).state_dict(), path := tmp_path / "b0.safetensors")
    assert load_backbone("efficientnet_b0", path).interpolation == "bicubic"


def test_grey_images_are_repeated_and_other_channels_refused(resnet: Backbone) -> None:
    grey = pictures(1, channels=1)
    torch.testing.assert_close(resnet.extract(grey)[0], resnet.extract(grey.repeat(1, 3, 1, 1))[0])
    with pytest.raises(UserError, match="1 or 3 channels, and these have 4"):
        resnet.extract(pictures(1, channels=4))


def test_a_saved_state_dict_is_the_same_network_under_another_digest(
    resnet: Backbone, weights: Path, tmp_path: Path
) -> None:
    torch.save(resnet.network.state_dict(), path := tmp_path / "resnet18.pth")
    other = load_backbone("resnet18", path)
    assert torch.equal(other.extract(pictures(2))[0], resnet.extract(pictures(2))[0])
    assert other.key == resnet.key == "resnet18" and other.digest != resnet.digest


def test_every_classifier_offered_ends_in_a_linear_layer() -> None:
    from securegan.metrics.backbone import head_of

    assert {"resnet18", "vgg16", "densenet121", "vit_b_16", "swin_t", "convnext_tiny"} <= set(classifiers())
    assert not {"inception_v3", "googlenet", "squeezenet1_0", "deeplabv3_resnet50"} & set(classifiers())
    with torch.device("meta"):
        for name in ("vgg11", "densenet121", "vit_b_16", "swin_t", "convnext_tiny", "mobilenet_v3_small"):
            network = get_model(name)
            assert network.get_submodule(head_of(network)).out_features == 1000


def test_wrong_names_and_files_are_a_users_mistake(tmp_path: Path, weights: Path) -> None:
    with pytest.raises(UserError, match=r"torchvision:resnet81 is not a classifier.*Did you mean 'resnet18'"):
        load_backbone("resnet81", weights)
    with pytest.raises(UserError, match="torchvision:inception_v3 is not a classifier"):
        load_backbone("inception_v3", weights)
    with pytest.raises(UserError, match="cannot be read"):
        load_backbone("resnet18", tmp_path / "missing.pth")
    with pytest.raises(UserError, match="does not hold weights of torchvision's resnet34"):
        load_backbone("resnet34", weights)
    torch.save([1, 2], listed := tmp_path / "list.pth")
    with pytest.raises(UserError, match="does not hold"):
        load_backbone("resnet18", listed)
    (damaged := tmp_path / "cut.safetensors").write_bytes(weights.read_bytes()[:999])
    with pytest.raises(UserError, match="not a safetensors file"):
        load_backbone("resnet18", damaged)


def test_pickled_code_in_a_weights_file_never_runs(tmp_path: Path) -> None:
    trap, sprung = tmp_path / "trap.pth", tmp_path / "sprung"

    class Trap:
        def __reduce__(self) -> tuple[object, tuple[Path]]:
            return Path.touch, (sprung,)

    torch.save({"fc.weight": Trap()}, trap)
    with pytest.raises(UserError, match="without running code"):
        load_backbone("resnet18", trap)
    assert not sprung.exists()
