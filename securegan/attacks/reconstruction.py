"""The surface of an autoencoder: what it gives back suffers no more than what was put in.

Right is SSIM(r(x + d), r(x)) >= SSIM(x + d, x) - 0.05: a small change of the input may change the output by a little
more than itself. Only sound reconstructions can be spoiled: SSIM(r(x), x) must beat the mean image's by 0.1.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from securegan.attacks.spaces import PixelSpace
from securegan.attacks.surfaces import Assessment, Objective, Surface, SurfaceName
from securegan.metrics.ssim import ssim

SLACK = 0.05  # SSIM that an output may lose beyond what its input lost
SOUND = 0.1  # SSIM by which a reconstruction must beat the mean image

Reconstruct = Callable[[Tensor, Tensor | None], Tensor]  # images, classes -> images


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
    ) -> None:
        """Args:
        mean_image: ``(C, H, W)`` of the train split.
        judge: logits ``(N, K)`` of images, where an independent judge reads the data's labels.
        """
        super().__init__(victims)
        self.space, self.reconstruct, self.judge = PixelSpace(), reconstruct, judge
        self.mean_image = mean_image
        self.originals = self.outputs_clean = mean_image.new_zeros(0, *mean_image.shape)
        self.labels = torch.zeros(0, dtype=torch.int64, device=mean_image.device)
        self.similarity = self.floor = mean_image.new_zeros(0)
        reads = () if judge is None else ("judge_reads", "judge_reads_attacked")
        self.beside_names = ("ssim_input", "ssim_output", *reads)

    def hold(self, images: Tensor, labels: Tensor) -> Tensor:
        """``(N,)`` references of ``images (N, C, H, W)`` with their classes ``(N,)`` (-1 where unlabelled)."""
        first = len(self.originals)
        with torch.no_grad():
            outputs = self.reconstruct(images, self._asked(labels))
            mean = self.mean_image.expand_as(images)
            self.similarity = torch.cat([self.similarity, ssim(outputs, images)])
            self.floor = torch.cat([self.floor, ssim(mean, images)])
        self.originals = torch.cat([self.originals, images])
        self.outputs_clean = torch.cat([self.outputs_clean, outputs])
        self.labels = torch.cat([self.labels, labels])
        return torch.arange(first, first + len(images), device=images.device)

    @staticmethod
    def _asked(labels: Tensor) -> Tensor | None:
        return None if (labels < 0).any() else labels

    def assess(self, x: Tensor, reference: Tensor, objective: Objective) -> Assessment:
        outputs = self.outputs(x, reference)
        lost = ssim(outputs, self.outputs_clean[reference])
        margin = ssim(x, self.originals[reference]) - SLACK - lost
        sound = self.similarity[reference] >= self.floor[reference] + SOUND
        return Assessment(margin, margin.detach(), (margin.detach() <= 0) & sound)

    def words(self, x: Tensor, reference: Tensor) -> list[str]:
        like = ssim(self.outputs(x, reference), self.originals[reference]).tolist()
        return [f"SSIM {value:.2f}" for value in like]

    def outputs(self, x: Tensor, reference: Tensor) -> Tensor:
        return self.reconstruct(x, self._asked(self.labels[reference]))

    def beside(self, x: Tensor, adversarial: Tensor, reference: Tensor) -> dict[str, Tensor]:
        outputs = self.outputs(adversarial, reference)
        values = {
            "ssim_input": ssim(adversarial, x),
            "ssim_output": ssim(outputs, self.outputs_clean[reference]),
        }
        if self.judge is not None:
            labels = self.labels[reference]
            values["judge_reads"] = (self.judge(self.outputs_clean[reference]).argmax(1) == labels).float()
            values["judge_reads_attacked"] = (self.judge(outputs).argmax(1) == labels).float()
        return values
