"""The losses of the game against the published formulae, and which images a relativistic one pairs."""

import pytest
import torch
from torch.nn import functional as F

from securegan.models.gan.losses import discriminator_loss, discriminator_losses, generator_loss, paired_loss

LOGITS, REAL = torch.tensor([2.0, -1.0]), torch.tensor([True, False])


def test_losses_of_one_image_are_the_published_formulae() -> None:
    log_d, log_not = torch.sigmoid(LOGITS).log(), (1 - torch.sigmoid(LOGITS)).log()
    assert torch.allclose(discriminator_loss(LOGITS, REAL, "nonsaturating"), -torch.stack([log_d[0], log_not[1]]))
    assert torch.allclose(generator_loss(LOGITS, "nonsaturating"), -log_d)
    assert torch.allclose(discriminator_loss(LOGITS, REAL, "hinge"), torch.tensor([0.0, 0.0]))
    assert torch.allclose(discriminator_loss(LOGITS, ~REAL, "hinge"), torch.tensor([3.0, 2.0]))
    assert torch.allclose(generator_loss(LOGITS, "hinge"), -LOGITS)
    assert torch.allclose(discriminator_loss(LOGITS, REAL, "wasserstein"), torch.tensor([-2.0, -1.0]))
    assert torch.allclose(generator_loss(LOGITS, "wasserstein"), -LOGITS)


def test_no_image_has_a_relativistic_loss_of_its_own() -> None:
    with pytest.raises(ValueError, match="pairs"):
        discriminator_loss(LOGITS, REAL, "relativistic")
    with pytest.raises(ValueError, match="pairs"):
        generator_loss(LOGITS, "relativistic")


def test_a_pair_is_judged_by_its_difference_alone() -> None:
    real, fake = torch.tensor([1.0, 5.0, -2.0]), torch.tensor([0.5, 7.0, 1.0])
    expected = -torch.sigmoid(real - fake).log()
    assert torch.allclose(paired_loss(real, fake), expected)
    assert torch.allclose(paired_loss(real + 100, fake + 100), expected, atol=1e-5)
    assert torch.allclose(paired_loss(fake, real), -torch.sigmoid(fake - real).log(), atol=1e-6)


def test_the_shorter_side_is_read_again_from_its_start() -> None:
    real, fake = torch.tensor([1.0, 2.0, 3.0, 4.0, 5.0]), torch.tensor([0.0, 10.0])
    again = torch.tensor([0.0, 10.0, 0.0, 10.0, 0.0])
    assert torch.equal(paired_loss(real, fake), F.softplus(again - real))
    assert torch.equal(paired_loss(fake, real), F.softplus(real - again))


def test_clean_parts_pair_with_clean_and_perturbed_with_perturbed() -> None:
    def part(level: float, real: bool, weight: float) -> tuple[torch.Tensor, bool, float]:
        return torch.full((2,), level), real, weight

    clean = [part(1.0, True, 1.0), part(-1.0, False, 1.0)]
    twins = [part(10.0, True, 0.2), part(7.0, False, 0.1)]
    got = discriminator_losses([*clean, *twins], "relativistic")
    expected = [F.softplus(torch.tensor(-2.0)), 0.15 * F.softplus(torch.tensor(-3.0))]
    assert torch.allclose(torch.stack(got), torch.stack(expected))
    alone = discriminator_losses([*clean, twins[0]], "relativistic")
    assert torch.allclose(alone[1], 0.2 * F.softplus(torch.tensor(-11.0)))  # against the clean generated ones
    with pytest.raises(ValueError, match="real and generated"):
        discriminator_losses(clean[:1], "relativistic")


def test_other_losses_are_the_weighted_means_of_their_parts() -> None:
    parts = [(torch.tensor([0.0, 2.0]), True, 1.0), (torch.tensor([-3.0]), False, 0.5)]
    assert [float(x) for x in discriminator_losses(parts, "hinge")] == [0.5, 0.0]
    assert [float(x) for x in discriminator_losses(parts, "wasserstein")] == [-1.0, -1.5]
