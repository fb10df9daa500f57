"""A decision and the detector that watches it, attacked together by an adversary who knows of both.

The system is right where the decision is right or the detector flags. The objective is selective (Bryniarski et al.
2022, arXiv 2106.15023): while the decision is right its own objective is ascended, and once it is wrong the detector's
score is descended, so that neither gradient spoils the other's step. A wrong decision is always worth more than a right
one: attacks that compare values, such as APGD, would go back otherwise.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from securegan.attacks.spaces import LatentSpace, PixelSpace
from securegan.attacks.surfaces import Assessment, Objective, Surface, SurfaceName

WON = 1e3  # above every objective of a decision that is right, so that going back to it is never a gain
START_SHARE = 0.1  # noise of the full radius is what a detector flags first
SHARES = (1.0, 0.5, 0.25, 0.125)  # of the radius, each searched: the nearer to the input, the less is flagged


class Watch(Surface):
    """The detector alone, right where it flags."""

    objectives: tuple[Objective, ...] = ("margin",)
    criterion = "the detector flags the image"

    def __init__(
        self,
        name: SurfaceName,
        space: PixelSpace | LatentSpace,
        score: Callable[[Tensor], Tensor],
        threshold: float,
        victims: Sequence[nn.Module],
    ) -> None:
        super().__init__(victims)
        self.name, self.space, self.score, self.threshold = name, space, score, threshold
        self.scale = max(abs(threshold), 1e-12)  # brings scores to about 1, as margins of decisions are

    def assess(self, x: Tensor, reference: Tensor, objective: Objective) -> Assessment:
        room = self.threshold - self.score(x)
        unseen = (room / self.scale).float()
        return Assessment(unseen, unseen.detach(), room.detach() < 0)

    def words(self, x: Tensor, reference: Tensor) -> list[str]:
        return ["flagged" if f else "passed" for f in (self.score(x) > self.threshold).tolist()]


class Guarded(Surface):
    """``inner``, a surface in pixels, behind a detector."""

    def __init__(
        self, inner: Surface, score: Callable[[Tensor], Tensor], threshold: float, watchers: Sequence[nn.Module]
    ) -> None:
        """Args:
        score: differentiable, ``(N,)`` of images ``(N, C, H, W)``.
        threshold: scores above it are flagged.
        watchers: the networks that the score looks with.
        """
        super().__init__(tuple(dict.fromkeys((*inner.victims, *watchers))))
        self.inner, self.score, self.threshold = inner, score, threshold
        self.name, self.space, self.objectives = inner.name, inner.space, inner.objectives
        self.start_share, self.flat_at_input = min(inner.start_share, START_SHARE), inner.flat_at_input
        self.criterion = f"{inner.criterion}, or the detector flags the image"
        self.watch = Watch(self.name, self.space, score, threshold, self.victims)

    def assess(self, x: Tensor, reference: Tensor, objective: Objective) -> Assessment:
        view, watched = self.inner.assess(x, reference, objective), self.watch.assess(x, reference, "margin")
        value = torch.where(view.right, view.value, watched.value + WON)
        margin = torch.minimum(view.margin, watched.margin)
        return Assessment(value, margin, view.right | watched.right)

    def words(self, x: Tensor, reference: Tensor) -> list[str]:
        flagged = (self.score(x) > self.threshold).tolist()
        return ["flagged" if f else word for f, word in zip(flagged, self.inner.words(x, reference), strict=True)]
