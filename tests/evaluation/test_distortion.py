"""The distortion curve of an attack, on autoencoders whose curve is known."""

import pytest
import torch
from torch import Tensor, nn

from securegan.attacks.evasion.vae_output import VAEOutput
from securegan.attacks.reconstruction import ReconstructionSurface, TargetImages
from securegan.evaluation.distortion import KEY, distortion_figures
from securegan.evaluation.surfaces import Inputs


def smooth(n: int, seed: int) -> Tensor:
    coarse = torch.rand(n, 1, 4, 4, generator=torch.Generator().manual_seed(seed))
    return nn.functional.interpolate(coarse, size=16, mode="bilinear")


class Steep(nn.Module):
    """Gives back its input where it is dark or bright, and exaggerates in between."""

    def __init__(self, gain: float) -> None:
        super().__init__()
        self.gain = gain

    def forward(self, x: Tensor, labels: Tensor | None) -> Tensor:
        return x if self.gain == 1 else ((x - 0.5) * self.gain).sigmoid()


def area(gain: float) -> float:
    network, images = Steep(gain), smooth(8, 0)
    targets = TargetImages(smooth(12, 1), torch.full((12,), -1), 0)
    surface = ReconstructionSurface(network, torch.zeros(1, 16, 16), (network,), targets=targets)
    chunks = [
        Inputs(torch.arange(first, first + 4), part, surface.hold(part, torch.full((4,), -1)))
        for first, part in ((0, images[:4]), (4, images[4:]))
    ]
    outcome = distortion_figures(surface, VAEOutput(eps=0.5, norm="l2", steps=20), chunks, seed=0)
    assert outcome.n[KEY] == 8
    curve = outcome.arrays["auddc_reconstruction"]
    assert curve[0] == pytest.approx(1) and abs(curve[-1]) < 1e-6 and (curve[1:] <= curve[:-1] + 1e-6).all()
    return outcome.metrics[KEY]


def test_the_identity_follows_its_input_in_proportion() -> None:
    assert area(1) == pytest.approx(0.5, abs=0.01)  # the straight way is the best one, and the attack finds it


def test_an_autoencoder_that_exaggerates_is_easier_to_move() -> None:
    assert 0 < area(12) < area(6) < 0.49


def test_without_a_radius_the_area_is_undefined_and_that_is_said() -> None:
    network = Steep(1)
    surface = ReconstructionSurface(network, torch.zeros(1, 16, 16), (network,))
    outcome = distortion_figures(surface, VAEOutput(eps=0.0), [], seed=0)
    assert not outcome.metrics and KEY in outcome.notes[0]
