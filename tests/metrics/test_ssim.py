"""SSIM against torchmetrics and a plain loop; the highest SSIM against all pairs."""

import math

import pytest
import torch

from securegan.metrics import ssim as module
from securegan.metrics.ssim import fidelity, highest_ssim, ssim

GENERATOR = torch.Generator().manual_seed(3)


def images(n: int, channels: int = 3, height: int = 32, width: int = 32) -> torch.Tensor:
    coarse = torch.rand(n, channels, 6, 6, generator=GENERATOR)
    smooth = torch.nn.functional.interpolate(coarse, size=(height, width), mode="bicubic").clamp(0, 1)
    return (smooth + 0.1 * torch.rand(n, channels, height, width, generator=GENERATOR)).clamp(0, 1)


@pytest.mark.parametrize(("channels", "height", "width"), [(1, 32, 32), (3, 48, 33)])
def test_agrees_with_torchmetrics(channels, height, width):
    peer = pytest.importorskip("torchmetrics.functional.image").structural_similarity_index_measure
    a, b = images(4, channels, height, width), images(4, channels, height, width)
    b[0] = a[0] * 0.9 + 0.05
    expected = peer(a, b, data_range=1.0, sigma=1.5, reduction="none")
    torch.testing.assert_close(ssim(a, b), expected, atol=2e-5, rtol=1e-4)


def test_small_images_use_seven_pixels():
    """A plain loop over the pixels of 16-pixel images, reflected at the borders."""
    a, b = images(1, 1, 16, 16).double(), images(1, 1, 16, 16).double()
    window = torch.tensor([math.exp(-(i**2) / 4.5) for i in range(-3, 4)], dtype=torch.float64)
    window = torch.outer(window, window) / window.sum() ** 2
    padded = [torch.nn.functional.pad(x, (3, 3, 3, 3), mode="reflect")[0, 0] for x in (a, b)]
    values = []
    for row in range(16):
        for column in range(16):
            p, q = (x[row : row + 7, column : column + 7] for x in padded)
            mp, mq = (window * p).sum(), (window * q).sum()
            vp, vq = (window * (p - mp) ** 2).sum(), (window * (q - mq) ** 2).sum()
            cov = (window * (p - mp) * (q - mq)).sum()
            top = (2 * mp * mq + 1e-4) * (2 * cov + 9e-4)
            values.append(top / ((mp**2 + mq**2 + 1e-4) * (vp + vq + 9e-4)))
    torch.testing.assert_close(ssim(a, b)[0], torch.stack(values).mean())


def test_bounds_symmetry_and_gradient():
    a, b = images(3), images(3)
    torch.testing.assert_close(ssim(a, a), torch.ones(3))
    torch.testing.assert_close(ssim(a, b), ssim(b, a))
    assert (ssim(a, 1 - a) < ssim(a, b).clamp(min=0.2)).all()
    small = images(1, 1, 8, 8).double().requires_grad_()
    assert torch.autograd.gradcheck(lambda x: ssim(x, images(1, 1, 8, 8).double() * 0 + 0.4), small)


def test_half_precision_and_autocast_are_computed_in_float32():
    a, b = images(2), images(2)
    plain = ssim(a, b), highest_ssim(a, b)
    assert ssim(a.half(), b.half()).dtype == torch.float32
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(ssim(a, b), plain[0]) and torch.equal(highest_ssim(a, b), plain[1])


def test_highest_equals_all_pairs_whatever_the_chunks(monkeypatch):
    a, refs = images(7), images(5)
    table = torch.stack([ssim(a, ref.expand_as(a)) for ref in refs], dim=1)
    torch.testing.assert_close(highest_ssim(a, refs), table.amax(1))
    for elements in (1, 3 * 32 * 32 * 2, 3 * 32 * 32 * 11):
        monkeypatch.setattr(module, "CPU_PAIR_ELEMENTS", elements)
        torch.testing.assert_close(highest_ssim(a, refs), table.amax(1))
    assert highest_ssim(a[:0], refs).shape == (0,)


def test_labels_restrict_and_a_missing_class_is_nan():
    a, refs = images(4, 1), images(3, 1)
    refs[0] = a[0]
    labels, ref_labels = torch.tensor([0, 1, 2, 0]), torch.tensor([1, 0, 0])
    best = highest_ssim(a, refs, labels, ref_labels)
    torch.testing.assert_close(best[0], highest_ssim(a[:1], refs[1:])[0])  # its own copy is of another class
    torch.testing.assert_close(best[1], ssim(a[1:2], refs[:1])[0])
    assert best[2].isnan() and best[0] < 0.99
    torch.testing.assert_close(highest_ssim(a, refs)[0], torch.tensor(1.0))


def test_fidelity_works_at_64_pixels():
    a, refs = images(2, 1, 128, 128), images(3, 1, 128, 128)
    pooled = [torch.nn.functional.avg_pool2d(x, 2) for x in (a, refs)]
    torch.testing.assert_close(fidelity(a, refs), highest_ssim(*pooled))
    small = images(2, 1), images(3, 1)
    torch.testing.assert_close(fidelity(*small), highest_ssim(*small))
