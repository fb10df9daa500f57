"""Where an adversary may move: pixels in [0, 1] or latents in the prior's shell, within a ball around each input.

A :class:`Ball` is made once an attack, for a batch; its projections hold exactly after float32 rounding, which
clamping to ``x - eps`` and ``x + eps`` does not (either sum may round outwards).
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Literal, Self

import torch
from scipy.stats import chi2
from torch import Tensor

from securegan.attacks.threat import AnyNorm, Norm

TOLERANCE = 1e-6  # relative slack of eps when a perturbation is judged valid


def magnitude(delta: Tensor, norm: AnyNorm) -> Tensor:
    """``(N,)`` norms of perturbations ``(N, ...)``; l0 counts the pixels of images ``(N, C, H, W)`` that are moved."""
    if norm == "l0":
        return (delta != 0).any(1).flatten(1).sum(1).to(delta.dtype)
    flat = delta.flatten(1)
    return flat.abs().amax(1) if norm == "linf" else flat.norm(dim=1)


def per_example(values: Tensor, like: Tensor) -> Tensor:
    """``values (N,)`` shaped to broadcast over ``like (N, ...)``."""
    return values.view(-1, *[1] * (like.dim() - 1))


def steepest(gradient: Tensor, norm: Norm) -> Tensor:
    """The unit step of steepest ascent in ``norm``: the sign, or the L2-normalised gradient."""
    if norm == "linf":
        return gradient.sign()
    return gradient / per_example(magnitude(gradient, norm).clamp_min(1e-12), gradient)


@dataclass(frozen=True)
class Ball(ABC):
    """Inputs within ``eps`` of ``origin`` that the space allows."""

    origin: Tensor
    eps: float
    norm: AnyNorm

    @abstractmethod
    def project(self, x: Tensor) -> Tensor:
        """``x`` moved into the ball and the space's bounds."""

    @abstractmethod
    def in_bounds(self, x: Tensor) -> Tensor:
        """``(N,)`` whether each ``x`` satisfies the space's own bounds."""

    @abstractmethod
    def __getitem__(self, index: Tensor) -> Self:
        """The ball of some of the examples."""

    def start(self, noise: Tensor) -> Tensor:
        """A random point of the ball from ``noise``, uniform in ``[-1, 1]`` for L-inf and standard normal for L2.

        L2: a normal direction at radius ``eps * u^(1/d)`` would concentrate at the border for image dimensions, so the
        border itself is taken.
        """
        return self.project(self.origin + self.eps * (noise if self.norm == "linf" else steepest(noise, "l2")))

    def distance(self, x: Tensor) -> Tensor:
        """``(N,)`` distances from the origin."""
        return magnitude(x.double() - self.origin.double(), self.norm).float()

    def valid(self, x: Tensor) -> Tensor:
        """``(N,)`` whether each ``x`` is within ``eps (1 + 1e-6)`` of its origin and inside the space."""
        near = magnitude(x.double() - self.origin.double(), self.norm) <= self.eps * (1 + TOLERANCE)
        return near & self.in_bounds(x) & x.flatten(1).isfinite().all(1)

    def _into_l2(self, x: Tensor) -> Tensor:
        """``x`` moved into the L2 ball, which is smaller by what rounding its values to float32 may add."""
        delta = x - self.origin
        size = delta.flatten(1).norm(dim=1)
        ulp = torch.finfo(torch.float32).eps * self.origin.flatten(1).abs().amax(1).add(self.eps).clamp_min(1)
        radius = (self.eps * (1 - TOLERANCE) - ulp / 2 * delta[0].numel() ** 0.5).clamp_min(0)
        return torch.where(
            per_example(size > radius, x), self.origin + delta * per_example(radius / size.clamp_min(1e-12), x), x
        )


def box_around(origin: Tensor, eps: float) -> tuple[Tensor, Tensor]:
    """The lowest and highest float32 values that lie within ``eps`` of ``origin`` exactly."""
    wide, radius = origin.double(), eps * (1 - 1e-12)  # the float64 sums may round outwards too
    low, high = (wide - radius).float(), (wide + radius).float()
    low = low.where(low.double() >= wide - radius, torch.nextafter(low, origin))
    high = high.where(high.double() <= wide + radius, torch.nextafter(high, origin))
    return low, high


@dataclass(frozen=True)
class BoxBall(Ball):
    """A ball cut by a box ``low <= x <= high`` (tensors of the origin's shape that already hold the L-inf radius)."""

    low: Tensor
    high: Tensor

    def project(self, x: Tensor) -> Tensor:
        if self.norm == "l2":
            x = self._into_l2(x)
        return torch.minimum(torch.maximum(x, self.low), self.high)

    def in_bounds(self, x: Tensor) -> Tensor:
        return ((x >= 0) & (x <= 1)).flatten(1).all(1)

    def __getitem__(self, index: Tensor) -> Self:
        return type(self)(self.origin[index], self.eps, self.norm, self.low[index], self.high[index])


@dataclass(frozen=True)
class FewPixels(Ball):
    """Images in ``[0, 1]`` that differ from the origin in at most ``eps`` pixels."""

    def project(self, x: Tensor) -> Tensor:
        """Keeps the pixels that are moved most, in the sum over channels."""
        x = x.clamp(0, 1)
        moved = (x - self.origin).abs().sum(1).flatten(1)
        kept = torch.zeros_like(moved, dtype=torch.bool)
        kept.scatter_(1, moved.topk(min(int(self.eps), moved.shape[1]), dim=1).indices, True)
        return torch.where(kept.view(len(x), 1, *x.shape[2:]), x, self.origin)

    def start(self, noise: Tensor) -> Tensor:
        """Pixels at random, each value of them moved to the end of ``[0, 1]`` that the noise's sign names."""
        rank = noise.abs().sum(1, keepdim=True).flatten(1).argsort(1).argsort(1)
        chosen = (rank < int(self.eps)).view(len(noise), 1, *noise.shape[2:])
        return torch.where(chosen, (noise > 0).to(noise.dtype), self.origin)

    def in_bounds(self, x: Tensor) -> Tensor:
        return ((x >= 0) & (x <= 1)).flatten(1).all(1)

    def __getitem__(self, index: Tensor) -> Self:
        return type(self)(self.origin[index], self.eps, self.norm)


class PixelSpace:
    """Images ``(N, C, H, W)`` in ``[0, 1]``."""

    name: Literal["pixels", "latent"] = "pixels"

    def project(self, x: Tensor) -> Tensor:
        """The nearest point that the space allows, at any distance from where a search began."""
        return x.clamp(0, 1)

    def ball(self, origin: Tensor, eps: float, norm: AnyNorm) -> Ball:
        """The ball of radius ``eps`` around images, cut by ``[0, 1]``."""
        if norm == "l0":
            return FewPixels(origin, eps, norm)
        if norm == "l2":
            return BoxBall(origin, eps, norm, torch.zeros_like(origin), torch.ones_like(origin))
        low, high = box_around(origin, eps)
        return BoxBall(origin, eps, norm, low.clamp_min(0), high.clamp_max(1))


@dataclass(frozen=True)
class ShellBall(Ball):
    """A ball around latent codes, cut by the shell ``inner <= ||z|| <= outer`` that holds 95 % of the prior."""

    inner: float
    outer: float

    def project(self, x: Tensor) -> Tensor:
        if self.norm == "l2":
            return self._into_shell(self._into_l2(x))
        low, high = box_around(self.origin, self.eps)
        moved = self._into_shell(torch.minimum(torch.maximum(x, low), high))
        return torch.minimum(torch.maximum(moved, low), high)  # the shell's own rounding

    def _into_shell(self, x: Tensor) -> Tensor:
        """The farthest point towards ``x`` on the segment from the origin that has not left the shell.

        Shrinking towards the origin never leaves a ball around it, so both constraints hold at the end.
        """
        z, d = self.origin.double(), x.double() - self.origin.double()
        a, b, c = (d * d).sum(1), (z * d).sum(1), (z * z).sum(1)
        safe = a.clamp_min(1e-30)
        leave = torch.full_like(a, torch.inf)
        disc_outer = (b * b - a * (c - self.outer**2)).clamp_min(0)
        leave = torch.minimum(leave, (-b + disc_outer.sqrt()) / safe)
        disc_inner = b * b - a * (c - self.inner**2)
        enters = (disc_inner > 0) & (b < 0)  # the segment runs into the inner ball
        leave = torch.where(enters, torch.minimum(leave, (-b - disc_inner.clamp_min(0).sqrt()) / safe), leave)
        factor = leave.clamp(0, 1) * (1 - 1e-7)
        moved = (z + d * per_example(factor, d)).to(x.dtype)
        return torch.where(per_example(leave >= 1, x), x, moved)

    def in_bounds(self, x: Tensor) -> Tensor:
        radius = x.double().norm(dim=1)
        return (radius >= self.inner * (1 - TOLERANCE)) & (radius <= self.outer * (1 + TOLERANCE))

    def __getitem__(self, index: Tensor) -> Self:
        return type(self)(self.origin[index], self.eps, self.norm, self.inner, self.outer)


class LatentSpace:
    """Latent codes ``(N, dim)`` of a standard normal prior, kept inside its 95 % shell."""

    name: Literal["pixels", "latent"] = "latent"

    def __init__(self, dim: int) -> None:
        self.inner, self.outer = (float(chi2.ppf(q, dim)) ** 0.5 for q in (0.025, 0.975))

    def project(self, x: Tensor) -> Tensor:
        """The nearest point that the space allows, at any distance from where a search began."""
        return self.into_shell(x)

    def ball(self, origin: Tensor, eps: float, norm: AnyNorm) -> ShellBall:
        """The ball of radius ``eps`` standard deviations around codes, cut by the shell."""
        if norm == "l0":
            raise ValueError("codes have no pixels to count")
        return ShellBall(origin, eps, norm, self.inner, self.outer)

    def into_shell(self, z: Tensor) -> Tensor:
        """Prior draws with the radius of the few outside moved to the shell's border; directions are kept."""
        radius = z.norm(dim=1, keepdim=True)
        return z * (radius.clamp(self.inner * (1 + 1e-6), self.outer * (1 - 1e-6)) / radius)
