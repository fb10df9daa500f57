"""The surface of an autoencoder: what it gives back suffers no more than what was put in.

Right is SSIM(r(x + d), r(x)) >= SSIM(x + d, x) - 0.05: a small change of the input may change the output by a little
more than itself. Only sound reconstructions can be spoiled: SSIM(r(x), x) must beat the mean image's by 0.1.

Beside that decision's margin an attack may ascend what the literature does, mu(x) and q(z|x) being the encoder's mean
and posterior, x_t a target image: ``latent`` -||mu(x + d) - mu(x_t)||^2 and ``output`` -||r(x + d) - r(x_t)||^2 (Kos et
al. 2018, arXiv 1702.06832), ``damage`` ||r(x + d) - r(x)||^2 (after Gondim-Ribeiro et al. 2018, arXiv 1806.04646) and
``encoder``, the symmetric KL divergence of q(z|x + d) and q(z|x) (Kuzina et al. 2021, arXiv 2103.06701).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor, nn

from securegan.attacks.spaces import PixelSpace
from securegan.attacks.surfaces import Assessment, Objective, Surface, SurfaceName
from securegan.metrics.ssim import ssim
from securegan.randomness import generator

SLACK = 0.05  # SSIM that an output may lose beyond what its input lost
SOUND = 0.1  # SSIM by which a reconstruction must beat the mean image
BESIDE = "\u00a0:\u00a0"  # between two numbers that belong on one line

Reconstruct = Callable[[Tensor, Tensor | None], Tensor]  # images, classes -> images
Encode = Callable[[Tensor], tuple[Tensor, Tensor]]  # images -> mean and log variance (N, latent_dim) of q(z|x)


@dataclass(frozen=True)
class TargetImages:
    """The images among which each input's target is chosen."""

    images: Tensor  # (M, C, H, W)
    labels: Tensor  # (M,), -1 where unlabelled
    seed: int

    def choose(self, labels: Tensor, keys: Tensor) -> Tensor:
        """``(N,)`` indices, by key alone; of another class than ``labels (N,)`` where there is one."""
        draws = [torch.rand((), generator=generator(self.seed, "target-image", key)).item() for key in keys.tolist()]
        others = self.labels[None] != labels[:, None]
        others |= ~others.any(1, keepdim=True)
        count = others.sum(1)
        place = (torch.tensor(draws, device=count.device) * count).long().minimum(count - 1)
        return ((others.cumsum(1) == place[:, None] + 1) & others).int().argmax(1)


class ReconstructionSurface(Surface):
    """Inputs are held before they are attacked (:meth:`hold`); the reference is an input's number among them."""

    name: SurfaceName = "reconstruction"
    objectives: tuple[Objective, ...] = ("margin",)
    flat_at_input = True
    start_share = 0.1  # noise of the full radius costs the input's own SSIM, which the search would first win back
    criterion = (
        f"SSIM(r(x + d), r(x)) is at least SSIM(x + d, x) - {SLACK}; only where SSIM(r(x), x) beats the mean image's "
        f"by {SOUND}"
    )

    def __init__(
        self,
        reconstruct: Reconstruct,
        mean_image: Tensor,
        victims: Sequence[nn.Module],
        judge: Callable[[Tensor], Tensor] | None = None,
        encode: Encode | None = None,
        targets: TargetImages | None = None,
    ) -> None:
        """Args:
        mean_image: ``(C, H, W)`` of the train split.
        judge: logits ``(N, K)`` of images, where an independent judge reads the data's labels.
        encode: needed by the objectives ``encoder`` and ``latent``.
        targets: needed by the objectives ``latent`` and ``output``.
        """
        super().__init__(victims)
        self.encode, self.targets = encode, targets
        coded: tuple[Objective, ...] = () if encode is None else ("encoder",)
        aimed: tuple[Objective, ...] = () if targets is None else ("output",)
        both: tuple[Objective, ...] = ("latent",) if coded and aimed else ()
        self.objectives = ("margin", "damage", *coded, *aimed, *both)
        self.space, self.reconstruct, self.judge = PixelSpace(), reconstruct, judge
        self.mean_image = mean_image
        self.originals = self.outputs_clean = mean_image.new_zeros(0, *mean_image.shape)
        self.labels = torch.zeros(0, dtype=torch.int64, device=mean_image.device)
        self.similarity = self.floor = mean_image.new_zeros(0)
        self.target = torch.zeros(0, dtype=torch.int64, device=mean_image.device)  # of each held input
        reads = () if judge is None else ("judge_reads", "judge_reads_attacked", "as_ignore_target")
        nears = () if targets is None else ("ssim_target", "ssim_target_clean")
        met = ("as_target",) if reads and nears else ()
        self.beside_names = ("ssim_input", "ssim_output", *reads, *met, *nears)

    def hold(self, images: Tensor, labels: Tensor, keys: Tensor | None = None) -> Tensor:
        """``(N,)`` references of ``images (N, C, H, W)`` with their classes ``(N,)`` (-1 where unlabelled).

        Targets are chosen by ``keys (N,)``, or by the references where there are none.
        """
        first = len(self.originals)
        numbers = torch.arange(first, first + len(images), device=images.device)
        if self.targets is not None:
            chosen = self.targets.choose(labels, numbers if keys is None else keys)
            self.target = torch.cat([self.target, chosen])
        with torch.no_grad():
            outputs = self.reconstruct(images, self._asked(labels))
            mean = self.mean_image.expand_as(images)
            self.similarity = torch.cat([self.similarity, ssim(outputs, images)])
            self.floor = torch.cat([self.floor, ssim(mean, images)])
        self.originals = torch.cat([self.originals, images])
        self.outputs_clean = torch.cat([self.outputs_clean, outputs])
        self.labels = torch.cat([self.labels, labels])
        return numbers

    @staticmethod
    def _asked(labels: Tensor) -> Tensor | None:
        return None if (labels < 0).any() else labels

    def assess(self, x: Tensor, reference: Tensor, objective: Objective) -> Assessment:
        lost = ssim(self.outputs(x, reference), self.outputs_clean[reference])
        margin = ssim(x, self.originals[reference]) - SLACK - lost
        sound = self.similarity[reference] >= self.floor[reference] + SOUND
        value = margin if objective == "margin" else self.value(x, reference, objective)
        return Assessment(value, margin.detach(), (margin.detach() <= 0) & sound)

    def value(self, x: Tensor, reference: Tensor, objective: Objective) -> Tensor:
        """``(N,)`` an objective of the literature alone, at less cost than with the decision."""
        if objective == "damage":
            return _squares(self.outputs(x, reference), self.outputs_clean[reference])
        if objective == "encoder" and self.encode is not None:
            with torch.no_grad():
                clean = self.encode(self.originals[reference])
            return symmetric_kl(self.encode(x), clean)
        if objective == "output":
            return -_squares(self.outputs(x, reference), self.aims(reference)["target_output"])
        if objective == "latent" and self.encode is not None:
            return -_squares(self.encode(x)[0], self.target_codes[self.target[reference]])
        raise ValueError(f"the objective {objective} is not one of {self.objectives}")

    def words(self, x: Tensor, reference: Tensor) -> list[str]:
        """``kept`` or ``lost`` and the two SSIM behind it: of the output to the clean one, of ``x`` to the input."""
        output = ssim(self.outputs(x, reference), self.outputs_clean[reference]).tolist()
        itself = ssim(x, self.originals[reference]).tolist()
        right = self.assess(x, reference, "margin").right.tolist()
        said = zip(right, output, itself, strict=True)
        return [f"{'kept' if kept else 'lost'} {near:.2f}{BESIDE}{own:.2f}" for kept, near, own in said]

    def outputs(self, x: Tensor, reference: Tensor) -> Tensor:
        return self.reconstruct(x, self._asked(self.labels[reference]))

    def aims(self, reference: Tensor) -> dict[str, Tensor]:
        """The targets, and what the autoencoder makes of them as of images of their own class."""
        if self.targets is None:
            return {}
        chosen = self.target[reference]
        return {"target": self.targets.images[chosen], "target_output": self.target_outputs[chosen]}

    @cached_property
    def target_outputs(self) -> Tensor:
        """``(M, C, H, W)``: what the autoencoder makes of every target image as one of its own class."""
        assert self.targets is not None
        with torch.no_grad():
            return self.reconstruct(self.targets.images, self._asked(self.targets.labels))

    @cached_property
    def target_codes(self) -> Tensor:
        """``(M, latent_dim)``: the encoder's means of every target image."""
        assert self.targets is not None and self.encode is not None
        with torch.no_grad():
            return self.encode(self.targets.images)[0]

    def beside(self, x: Tensor, adversarial: Tensor, reference: Tensor) -> dict[str, Tensor]:
        """Shares by the judge are of the inputs whose label it reads from the clean output; nan for others."""
        outputs, clean = self.outputs(adversarial, reference), self.outputs_clean[reference]
        values = {"ssim_input": ssim(adversarial, x), "ssim_output": ssim(outputs, clean)}
        if self.targets is not None:
            wanted = self.aims(reference)["target_output"]
            values |= {"ssim_target": ssim(outputs, wanted), "ssim_target_clean": ssim(clean, wanted)}
        if self.judge is not None:
            labels, read = self.labels[reference], self.judge(outputs).argmax(1)
            legible = self.judge(clean).argmax(1) == labels
            values |= {"judge_reads": legible.float(), "judge_reads_attacked": (read == labels).float()}
            values["as_ignore_target"] = (read != labels).float().where(legible, torch.nan)
            if self.targets is not None:
                target = self.targets.labels[self.target[reference]]
                values["as_target"] = (read == target).float().where(legible, torch.nan)
        return values


def symmetric_kl(one: tuple[Tensor, Tensor], other: tuple[Tensor, Tensor]) -> Tensor:
    """``(N,)`` mean of both KL divergences between diagonal Gaussians, each mean and log variance ``(N, d)``, nats."""
    (mean, log_variance), (mean_other, log_variance_other) = one, other
    apart, ratio = (mean - mean_other).square(), log_variance - log_variance_other
    scaled = apart * ((-log_variance).exp() + (-log_variance_other).exp())
    return 0.25 * (ratio.exp() + (-ratio).exp() - 2 + scaled).sum(1)


def _squares(a: Tensor, b: Tensor) -> Tensor:
    return (a - b).flatten(1).square().sum(1)
