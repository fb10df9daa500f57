"""The networks: what blocks compute, what classes change, what normalisation bounds, and that families are alike."""

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from securegan.data.batch import DataSpec
from securegan.errors import ConfigError
from securegan.models.gan.lightning_model import GAN
from securegan.models.networks.dcgan import DCGANDiscriminator
from securegan.models.networks.discriminator import normaliser
from securegan.models.networks.resnet import (
    ConditionalBatchNorm2d,
    DownConv2d,
    ResNetDiscriminator,
    ResNetGenerator,
    SelfAttention,
    UpConv2d,
)


def noise(*shape: int) -> Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(0))


def test_the_cheap_convolutions_are_those_of_the_papers() -> None:
    x = noise(2, 5, 8, 8)
    up, down = UpConv2d(5, 3), DownConv2d(5, 3)
    slow = F.conv2d(F.interpolate(x, scale_factor=2, mode="nearest"), up.weight, up.bias, padding=1)
    assert torch.allclose(up(x), slow, atol=1e-5)
    assert torch.allclose(down(x), F.avg_pool2d(F.conv2d(x, down.weight, down.bias, padding=1), 2), atol=1e-5)


def test_conditional_batch_norm_gives_each_class_its_own_moments() -> None:
    norm = ConditionalBatchNorm2d(2, 3)
    x, y = noise(30, 2, 4, 4) * 7 + 3, torch.arange(30) % 3
    start = norm(x, y)
    assert torch.allclose(start, F.batch_norm(x, None, None, training=True), atol=1e-5)
    with torch.no_grad():
        norm.offsets.weight[1] = torch.tensor([1.0, -0.5, 4.0, 5.0])  # type: ignore[union-attr, index]
    out = norm(x, y)
    assert torch.equal(out[y != 1], start[y != 1])
    expected = start[y == 1] * torch.tensor([2.0, 0.5])[:, None, None] + torch.tensor([4.0, 5.0])[:, None, None]
    assert torch.allclose(out[y == 1], expected, atol=1e-5)


def test_unlabelled_data_has_plain_batch_norm() -> None:
    plain = ConditionalBatchNorm2d(2, 0)
    assert [name for name, _ in plain.named_parameters()] == ["norm.weight", "norm.bias"]
    x = noise(4, 2, 4, 4)
    assert torch.allclose(plain(x, None), F.batch_norm(x, None, None, training=True), atol=1e-6)


def test_attention_starts_as_the_identity_and_then_sees_all_positions() -> None:
    torch.manual_seed(0)
    attention = SelfAttention(8, normaliser(False))
    x = noise(1, 8, 8, 8).requires_grad_(True)
    assert torch.equal(attention(x), x)
    with torch.no_grad():
        attention.gamma.fill_(1.0)
    (gradient,) = torch.autograd.grad(attention(x)[0, :, 0, 0].sum(), x)
    touched = gradient[0].abs().sum(0) > 0
    assert touched[0, 0] and touched[4:].any()  # far positions too; of each pool the largest alone


@pytest.mark.parametrize("size", [32, 64, 128, 256])
def test_residual_networks_of_every_size_halve_down_to_four_pixels(size: int) -> None:
    discriminator = ResNetDiscriminator(3, 1, size, 2, 4, 1, attention=8)
    generator = ResNetGenerator(8, 3, 1, size, 2, attention=8)
    images = generator(noise(2, 8), torch.tensor([0, 2]))
    assert images.shape == (2, 1, size, size) and images.min() >= 0 and images.max() <= 1
    output = discriminator(images)
    sides = [size >> level for level in range(1, (size // 4).bit_length())]
    assert sides[-1] == 4 and [f.shape[2] for f in output.features] == sides + sides[1:]
    assert sum(isinstance(module, SelfAttention) for module in discriminator.modules()) == 2  # either head's own


@pytest.mark.parametrize("family", [DCGANDiscriminator, ResNetDiscriminator])
def test_the_heads_share_their_first_blocks_alone(family: type[DCGANDiscriminator] | type[ResNetDiscriminator]) -> None:
    discriminator = family(3, 1, 32, 4, 6, 1)
    output = discriminator(noise(2, 1, 32, 32))
    assert output.class_logits is not None
    output.class_logits.sum().backward()
    reached = {id(p) for p in discriminator.parameters() if p.grad is not None}
    assert reached == {id(p) for p in discriminator.class_parameters()}
    assert all(p.grad is None for p in discriminator.blocks[1].parameters())
    assert {id(p) for p in discriminator.blocks[0].parameters()} <= reached


@pytest.mark.parametrize("family", [DCGANDiscriminator, ResNetDiscriminator])
def test_spectral_norm_can_be_switched_off(family: type[DCGANDiscriminator] | type[ResNetDiscriminator]) -> None:
    def largest(spectral: bool) -> list[float]:
        torch.manual_seed(0)
        discriminator = family(0, 3, 32, 8, 8, 0, spectral)
        for _ in range(30):  # power iterations
            discriminator(noise(1, 3, 32, 32))
        discriminator.eval()
        layers = [module for module in discriminator.modules() if isinstance(module, nn.Conv2d | nn.Linear)]
        return [torch.linalg.matrix_norm(layer.weight.flatten(1), 2).item() for layer in layers]

    assert largest(True) == pytest.approx([1.0] * len(largest(True)), abs=0.05)
    assert any(abs(norm - 1) > 0.2 for norm in largest(False))


def test_a_class_changes_a_trained_generators_images_but_not_a_new_ones() -> None:
    generator = ResNetGenerator(8, 3, 1, 32, 4).eval()
    z = noise(1, 8)
    assert torch.equal(generator(z, torch.tensor([0])), generator(z, torch.tensor([1])))
    nn.init.normal_(generator.blocks[0].norm1.offsets.weight)  # type: ignore[union-attr, arg-type]
    assert not torch.equal(generator(z, torch.tensor([0])), generator(z, torch.tensor([1])))
    with pytest.raises(ValueError, match="needs classes"):
        generator(z)


@pytest.mark.parametrize("settings", [{"attention": 16}, {"attention": 32, "network": "resnet"}])
def test_attention_without_its_feature_map_is_refused(settings: dict[str, object]) -> None:
    with pytest.raises(ConfigError, match=r"model\.attention=\d+ is not allowed"):
        GAN(DataSpec("test", 1, 32, 3, ("a", "b", "c"), 0.1, "d"), 0, **settings)  # type: ignore[arg-type]


@pytest.mark.parametrize("family", [DCGANDiscriminator, ResNetDiscriminator])
def test_a_projection_adds_what_the_label_reads_in_the_features(
    family: type[DCGANDiscriminator] | type[ResNetDiscriminator],
) -> None:
    torch.manual_seed(0)
    discriminator = family(3, 1, 32, 4, 4, 1, projection=True).eval()
    images, labels = noise(4, 1, 32, 32), torch.tensor([0, 1, 2, 1])
    assert discriminator.projection is not None
    inputs = discriminator.read(discriminator(images).features[2])
    expected = discriminator.authenticity(inputs)[:, 0] + (discriminator.projection(labels) * inputs).sum(1)
    assert torch.allclose(discriminator.authenticity_logits(images, labels), expected, atol=1e-5)
    assert torch.allclose(discriminator(images, labels).authenticity, expected, atol=1e-5)
    assert torch.equal(discriminator.authenticity_logits(images), discriminator(images).authenticity)
    bare = family(0, 1, 32, 4, 4, 1, projection=True)
    assert bare.projection is None and torch.isfinite(bare(images).authenticity).all()


def test_without_labels_the_logit_is_the_log_ratio_of_the_images_alone() -> None:
    """Two distributions over three images and four classes, whose exact ratios the heads are made to give."""
    p, q = noise(3, 4) + 0.1, noise(4, 3).T + 0.1
    p, q = p / p.sum(), q / q.sum()
    discriminator = DCGANDiscriminator(4, 1, 32, 4, 4, 0, spectral=False, projection=True)
    discriminator.read = nn.Identity()
    discriminator.authenticity = nn.Linear(3, 1)
    for parameter in discriminator.authenticity.parameters():
        nn.init.zeros_(parameter)
    discriminator.projection.weight = nn.Parameter((p / q).log().T)  # type: ignore[union-attr]
    images = torch.eye(3)  # features that pick an image's row
    logits = discriminator._real(images, None, p.log())
    assert torch.allclose(logits, (p.sum(1) / q.sum(1)).log(), atol=1e-6)
    joint = discriminator._real(images, torch.tensor([0, 1, 3]), None)
    assert torch.allclose(joint, (p / q).log()[torch.arange(3), torch.tensor([0, 1, 3])])
