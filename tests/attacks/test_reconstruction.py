"""The reconstruction surface: its criterion, on autoencoders whose behaviour is known."""

import pytest
import torch
from torch import Tensor, nn

from securegan.attacks.evasion.pgd import PGD
from securegan.attacks.reconstruction import SLACK, ReconstructionSurface
from securegan.metrics.ssim import ssim

IMAGES = torch.nn.functional.interpolate(
    torch.rand(6, 1, 8, 8, generator=torch.Generator().manual_seed(0)), size=32, mode="bilinear"
)
LABELS = torch.zeros(6, dtype=torch.int64)


class Amplifier(nn.Module):
    """Gives back its input with the fine detail made ``gain`` times as strong."""

    def __init__(self, gain: float) -> None:
        super().__init__()
        self.gain = gain

    def forward(self, x: Tensor, labels: Tensor | None) -> Tensor:
        smooth = torch.nn.functional.avg_pool2d(x, 3, 1, 1, count_include_pad=False)
        return smooth + self.gain * (x - smooth)


def surface(gain: float) -> ReconstructionSurface:
    network = Amplifier(gain)
    return ReconstructionSurface(network, IMAGES.mean(0), (network,))


def attacked(gain: float, eps: float = 0.1) -> tuple[ReconstructionSurface, Tensor, Tensor]:
    made = surface(gain)
    reference = made.hold(IMAGES, LABELS)
    result = PGD(eps=eps, steps=10, restarts=1)(made, IMAGES, reference, purpose=("t",), keys=torch.arange(6))
    return made, result.adversarial, result.success


def test_identity_cannot_be_spoiled() -> None:
    made, _, success = attacked(1.0)
    assert made.assess(IMAGES, made.hold(IMAGES, LABELS), "margin").right.all() and not success.any()


def test_amplifier_of_detail_is_spoiled_and_the_criterion_says_why() -> None:
    made, adversarial, success = attacked(4.0)
    assert success.float().mean() > 0.8
    moved, clean = made.reconstruct(adversarial, None), made.reconstruct(IMAGES, None)
    assert (ssim(moved, clean)[success] < ssim(adversarial, IMAGES)[success] - SLACK).all()
    beside = made.beside(IMAGES, adversarial, torch.arange(6))
    assert (beside["ssim_output"] < beside["ssim_input"])[success].all() and set(beside) == set(made.beside_names)


def test_what_was_never_given_back_cannot_be_lost() -> None:
    made = surface(1.0)
    made.reconstruct = lambda x, labels: IMAGES.mean(0).expand_as(x)  # no better than the mean image
    reference = made.hold(IMAGES, LABELS)
    assert not made.assess(IMAGES, reference, "margin").right.any()


def test_references_number_all_that_is_held() -> None:
    made = surface(4.0)
    first, second = made.hold(IMAGES[:2], LABELS[:2]), made.hold(IMAGES[2:], LABELS[2:])
    assert torch.cat([first, second]).tolist() == list(range(6))
    assert made.assess(IMAGES[2:], second, "margin").margin.allclose(torch.full((4,), -SLACK), atol=1e-5)


def test_the_words_say_whether_the_output_is_kept_and_by_which_two_similarities() -> None:
    made = surface(4.0)
    reference = made.hold(IMAGES, LABELS)
    noise = torch.rand(IMAGES.shape, generator=torch.Generator().manual_seed(1)) - 0.5
    found = set()
    for x in (IMAGES, IMAGES + 0.02 * noise, IMAGES + 0.3 * noise):
        view = made.assess(x, reference, "margin")
        for word, right, margin in zip(made.words(x, reference), view.right, view.margin, strict=True):
            said, numbers = word.split(" ")
            output, itself = map(float, numbers.split("\u00a0:\u00a0"))
            assert said == ("kept" if right else "lost")
            assert itself - SLACK - output == pytest.approx(float(margin), abs=0.011)
            found.add(said)
    assert found == {"kept", "lost"}
