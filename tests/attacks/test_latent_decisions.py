"""The surfaces of codes against scores of the output, on a generator whose scores are known."""

import torch
from torch import Tensor, nn

from securegan.attacks.evasion.pgd import PGD
from securegan.attacks.latent_decisions import LatentAuthenticitySurface, LatentDetectorSurface
from securegan.attacks.spaces import LatentSpace

DIM = 16


class Generator(nn.Module):
    """Images whose mean brightness is an increasing function of the code's first coordinate."""

    def forward(self, z: Tensor, y: Tensor) -> Tensor:
        return z[:, :1, None, None].sigmoid().expand(-1, 1, 4, 4)


def codes() -> Tensor:
    return LatentSpace(DIM).into_shell(torch.randn(40, DIM, generator=torch.Generator().manual_seed(0)))


def bright(images: Tensor) -> Tensor:
    return images.double().mean((1, 2, 3))


def test_codes_below_the_threshold_are_pushed_above_it_within_ball_and_shell() -> None:
    z, reference = codes(), torch.zeros(40, dtype=torch.int64)
    for kind in (LatentAuthenticitySurface, LatentDetectorSurface):
        surface = kind(Generator(), bright, 0.6, DIM, ())
        result = PGD(eps=0, latent_eps=0.5, steps=10, restarts=1)(surface, z, reference, keys=torch.arange(40))
        before, after = bright(surface.images(z, reference)), bright(surface.images(result.adversarial, reference))
        assert torch.equal(result.clean_right, before <= 0.6)
        assert result.success.any() and (after[result.success] > 0.6).all()
        could = before.logit() + 0.49 > torch.tensor(0.6).logit()  # the radius moves the first coordinate by 0.5
        assert (result.success >= (could & result.clean_right)).float().mean() > 0.9
        assert not (result.success & (before.logit() + 0.51 < torch.tensor(0.6).logit())).any()
        assert result.valid.all() and (result.adversarial - z).abs().max() <= 0.5 * (1 + 1e-6)


def test_the_decision_is_in_words() -> None:
    z, reference = codes(), torch.zeros(40, dtype=torch.int64)
    surface = LatentDetectorSurface(Generator(), bright, 0.5, DIM, ())
    words = surface.words(z, reference)
    assert [word == "flagged" for word in words] == (z[:, 0] > 0).tolist() and set(words) == {"flagged", "passed"}
