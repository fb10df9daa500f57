"""Surfaces: one decision of a model each that an adversary can push on.

A surface owns its space, a differentiable objective per example (higher is nearer to success) and the yes/no
judgement. The reference beside an input says what the right decision is: a label, whether the image is real, or the
class that was asked of the generator.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from securegan.attacks.spaces import LatentSpace, PixelSpace

Objective = Literal["ce", "margin", "dlr", "latent", "output", "damage", "encoder"]
OF_AUTOENCODERS: tuple[Objective, ...] = ("latent", "output", "damage", "encoder")
TOWARDS_IMAGE: tuple[Objective, ...] = ("latent", "output")  # which need a target image
SurfaceName = Literal[
    "label",
    "authenticity",
    "reconstruction",
    "latent",
    "latent_authenticity",
    "latent_label",
    "latent_detector",
]


class Assessment(NamedTuple):
    """One forward's view of N inputs."""

    value: Tensor  # (N,) the objective to ascend, differentiable
    margin: Tensor  # (N,) how wrong the decision is, comparable across objectives; positive is wrong
    right: Tensor  # (N,) bool


def label_margin(logits: Tensor, labels: Tensor) -> Tensor:
    """``max_{j != y} logit_j - logit_y``, shift-invariant (Carlini & Wagner 2017, f_6)."""
    true = logits.gather(1, labels[:, None]).squeeze(1)
    others = logits.scatter(1, labels[:, None], -torch.inf)
    return others.amax(1) - true


def dlr(logits: Tensor, labels: Tensor) -> Tensor:
    """Difference of logits ratio, blind to shift and scale (Croce & Hein 2020, arXiv 2003.01690, eq. 6).

    With fewer than three classes there is no third logit to divide by, and the margin is given.
    """
    margin = label_margin(logits, labels)
    if logits.shape[1] < 3:
        return margin
    ordered = logits.topk(3, dim=1).values
    return margin / (ordered[:, 0] - ordered[:, 2]).clamp_min(1e-12)


class Surface(ABC):
    """One decision; ``victims`` are the networks behind it."""

    name: SurfaceName
    space: PixelSpace | LatentSpace
    objectives: tuple[Objective, ...]  # those that differ on this surface
    criterion: str  # when the decision is right, in one sentence
    classes: int = 0  # among which the decision is the argmax of logits; 0 where it is of another kind
    start_share = 1.0  # of the way to a random point of the ball where searches start
    flat_at_input = False  # whether the objective has no gradient where nothing is perturbed yet
    beside_names: tuple[str, ...] = ()  # of what :meth:`beside` gives

    def __init__(self, victims: Sequence[nn.Module]) -> None:
        self.victims = tuple(victims)

    @abstractmethod
    def assess(self, x: Tensor, reference: Tensor, objective: Objective) -> Assessment:
        """Objective, margin and judgement of inputs ``x (N, ...)`` against ``reference (N,)``."""

    def logits(self, x: Tensor, reference: Tensor) -> Tensor:
        """``(N, classes)`` logits whose argmax is the decision, right where it is the reference; needs ``classes``."""
        raise NotImplementedError(f"the decision {self.name} is not one among classes")

    @abstractmethod
    def words(self, x: Tensor, reference: Tensor) -> list[str]:
        """The decision on each input, for a reader."""

    def images(self, x: Tensor, reference: Tensor) -> Tensor:
        """What a person sees of ``x``: itself in pixels, the generated image in latents."""
        return x

    def outputs(self, x: Tensor, reference: Tensor) -> Tensor | None:
        """What the model makes of an image ``x``, where that is an image too."""
        return None

    def aims(self, reference: Tensor) -> dict[str, Tensor]:
        """``(N, C, H, W)`` per name: the images that an attack would have the outputs resemble, where there are any."""
        return {}

    def beside(self, x: Tensor, adversarial: Tensor, reference: Tensor) -> dict[str, Tensor]:
        """``(N,)`` floats per name in ``beside_names``: what a reader wants to know of an attack beside its success."""
        return {}


class LabelSurface(Surface):
    """The class head's argmax is the label."""

    name: SurfaceName = "label"
    objectives: tuple[Objective, ...] = ("ce", "margin", "dlr")
    criterion = "the class head's most probable class is the label"

    def __init__(
        self, classify: Callable[[Tensor], Tensor], victims: Sequence[nn.Module], class_names: Sequence[str]
    ) -> None:
        super().__init__(victims)
        self.space, self.classify, self.class_names = PixelSpace(), classify, tuple(class_names)
        self.classes = len(self.class_names)

    def logits(self, x: Tensor, reference: Tensor) -> Tensor:
        return self.classify(x)

    def assess(self, x: Tensor, reference: Tensor, objective: Objective) -> Assessment:
        return assess_classes(self.classify(x), reference, objective)

    def words(self, x: Tensor, reference: Tensor) -> list[str]:
        return [self.class_names[int(k)] for k in self.classify(x).argmax(1)]


def assess_classes(logits: Tensor, labels: Tensor, objective: Objective) -> Assessment:
    """The assessment of a classifier's ``logits (N, K)``."""
    margin = label_margin(logits if objective == "margin" else logits.detach(), labels)
    if objective == "margin":
        value = margin
    elif objective == "dlr":
        value = dlr(logits, labels)
    else:
        value = F.cross_entropy(logits, labels, reduction="none")
    return Assessment(value, margin.detach(), logits.argmax(1) == labels)


class AuthenticitySurface(Surface):
    """Real is called real and generated is called generated, at a threshold; the reference is 1 for real images.

    Cross-entropy and margin have the same gradient direction on one logit, so the margin alone is offered.
    """

    name: SurfaceName = "authenticity"
    objectives: tuple[Objective, ...] = ("margin",)
    classes = 2
    criterion = (
        "real is called real and generated is called generated, at the calibration split's equal-error threshold"
    )

    def __init__(self, score: Callable[[Tensor], Tensor], threshold: float, victims: Sequence[nn.Module]) -> None:
        super().__init__(victims)
        self.space, self.score, self.threshold = PixelSpace(), score, threshold

    def logits(self, x: Tensor, reference: Tensor) -> Tensor:
        half = (self.score(x) - self.threshold) / 2
        return torch.stack([-half, half], 1)

    def assess(self, x: Tensor, reference: Tensor, objective: Objective) -> Assessment:
        above = self.score(x) - self.threshold
        margin = torch.where(reference.bool(), -above, above)
        return Assessment(margin, margin.detach(), (above.detach() > 0) == reference.bool())

    def words(self, x: Tensor, reference: Tensor) -> list[str]:
        return ["real" if above else "generated" for above in (self.score(x) > self.threshold).tolist()]


class LatentSurface(Surface):
    """The judge reads the intended class from G(z + d); the reference is the class."""

    name: SurfaceName = "latent"
    objectives: tuple[Objective, ...] = ("ce", "margin", "dlr")
    criterion = "an independent judge reads the class that was asked for; z + d stays in the prior's 95 % shell"

    def __init__(
        self,
        generate: Callable[[Tensor, Tensor], Tensor],
        judge: Callable[[Tensor], Tensor],
        latent_dim: int,
        victims: Sequence[nn.Module],
        class_names: Sequence[str],
    ) -> None:
        super().__init__(victims)
        self.space, self.generate, self.judge = LatentSpace(latent_dim), generate, judge
        self.class_names = tuple(class_names)
        self.classes = len(self.class_names)

    def logits(self, x: Tensor, reference: Tensor) -> Tensor:
        return self.judge(self.generate(x, reference))

    def assess(self, x: Tensor, reference: Tensor, objective: Objective) -> Assessment:
        return assess_classes(self.logits(x, reference), reference, objective)

    def words(self, x: Tensor, reference: Tensor) -> list[str]:
        return [self.class_names[int(k)] for k in self.judge(self.images(x, reference)).argmax(1)]

    def images(self, x: Tensor, reference: Tensor) -> Tensor:
        return self.generate(x, reference)


class LatentDriftSurface(Surface):
    """For unlabelled data: the judge's features of G(z + d) stay as near to the clean outputs' centre as theirs.

    The distance is Euclidean after whitening by the clean outputs' mean and standard deviations; the limit is their
    95th percentile. The reference is ignored.
    """

    name: SurfaceName = "latent"
    objectives: tuple[Objective, ...] = ("margin",)
    criterion = (
        "the judge's features of the output are no farther from the clean outputs' centre than the 95th percentile of "
        "clean outputs; z + d stays in the prior's 95 % shell"
    )

    def __init__(
        self,
        generate: Callable[[Tensor], Tensor],
        features: Callable[[Tensor], Tensor],
        clean_features: Tensor,
        latent_dim: int,
        victims: Sequence[nn.Module],
    ) -> None:
        super().__init__(victims)
        self.space, self.generate, self.features = LatentSpace(latent_dim), generate, features
        self.centre, self.scale = clean_features.mean(0), clean_features.std(0).clamp_min(1e-6)
        self.limit = float(self._distance(clean_features).quantile(0.95))

    def _distance(self, features: Tensor) -> Tensor:
        return ((features - self.centre) / self.scale).norm(dim=1)

    def assess(self, x: Tensor, reference: Tensor, objective: Objective) -> Assessment:
        margin = self._distance(self.features(self.generate(x))) - self.limit
        return Assessment(margin, margin.detach(), margin.detach() <= 0)

    def words(self, x: Tensor, reference: Tensor) -> list[str]:
        distances = self._distance(self.features(self.generate(x))).tolist()
        return [f"{distance:.1f} of {self.limit:.1f}" for distance in distances]

    def images(self, x: Tensor, reference: Tensor) -> Tensor:
        return self.generate(x)
