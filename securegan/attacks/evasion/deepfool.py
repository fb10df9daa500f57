"""DeepFool (Moosavi-Dezfooli et al. 2016, arXiv 1511.04599, Algorithms 1 and 2), in L2 and L-inf, pixels and latents.

Each step goes to the nearest of the planes where the linearised logits of another class k and of the right class y
meet. With w_k = grad(f_k - f_y), that plane is |f_k - f_y| / ||w_k||_q away (q the dual norm), and the step there is
|f_k - f_y| / ||w_k||_2^2 w_k in L2 and |f_k - f_y| / ||w_k||_1 sign(w_k) in L-inf (section 3.3). The sum of the steps
is overshot by a small factor and moved into the space's bounds.

Where the decision is among two classes, is of another kind, or has a target, the margin is the one constraint.
"""

from typing import Annotated, Any

import torch
from annotated_types import Ge
from torch import Tensor

from securegan.attacks.engine import round_size
from securegan.attacks.evasion.base import EvasionAttack, Task
from securegan.attacks.spaces import per_example, steepest
from securegan.attacks.surfaces import Surface
from securegan.attacks.targets import TowardsClass
from securegan.attacks.threat import Norm, Radii
from securegan.configuration.types import NonNegativeFloat, PositiveInt

SLACK = 1e-4  # added to a step's length, as by the authors: rounding must not leave it short of the plane


class DeepFool(EvasionAttack):
    """The nearest wrong decision by linearisation; an example's search ends at its first wrong iterate."""

    name = "deepfool"
    minimal = True
    norm: Norm

    def __init__(
        self,
        radii: Radii | None = None,
        *,
        norm: Norm = "l2",
        steps: PositiveInt = 50,
        candidates: Annotated[PositiveInt, Ge(2)] = 10,
        overshoot: NonNegativeFloat = 0.02,
        **of_every_attack: Any,
    ) -> None:
        """Args:
        candidates: classes looked at: the right one and those most probable for the clean input beside it.
        overshoot: the share by which the sum of the steps is exceeded.
        of_every_attack: as of :class:`EvasionAttack`.
        """
        super().__init__(radii, norm, **of_every_attack)
        self.steps, self.candidates, self.overshoot = steps, candidates, overshoot

    def search(self, task: Task) -> None:
        surface, where = task.surface, task.open()
        live = torch.arange(round_size(len(where)), device=where.device) < len(where)
        where = where[torch.arange(len(live), device=where.device) % len(where)]
        origin, reference = task.inputs[where], task.reference[where]
        rivals = self._rivals(surface, origin, reference)
        x = task.beginning(where, self.norm)
        moved = x - origin
        for step in range(self.steps + 1):
            x = x.detach().requires_grad_(step < self.steps)
            gaps, right = _gaps(surface, x, reference, rivals)
            at = where[live]
            task.search.offer_near(at, x.detach()[live], task.ball[at].distance(x.detach()[live]), ~right[live])
            live &= right
            if step == self.steps or not live.any():
                return
            kept = live.int().argsort(descending=True, stable=True)[: round_size(int(live.sum()))]
            if len(kept) < len(live):
                live, where, origin, reference, moved = (t[kept] for t in (live, where, origin, reference, moved))
                rivals = None if rivals is None else rivals[kept]
                x = x.detach()[kept].requires_grad_(True)
                gaps, _ = _gaps(surface, x, reference, rivals)  # costs less than every gradient of what is dropped
            moved += self._nearest(x, gaps)
            x = surface.space.project(origin + (1 + self.overshoot) * moved)

    def _rivals(self, surface: Surface, x: Tensor, reference: Tensor) -> Tensor | None:
        """``(N, K)`` classes whose logits are looked at beside the right one's; None where the margin serves."""
        if isinstance(surface, TowardsClass) or surface.classes < 3:
            return None
        with torch.no_grad():
            logits = surface.logits(x, reference).scatter(1, reference[:, None], -torch.inf)
        return logits.topk(min(self.candidates, surface.classes) - 1, dim=1).indices

    def _nearest(self, x: Tensor, gaps: Tensor) -> Tensor:
        """The step from ``x`` to the nearest plane on which one of ``gaps (N, K)`` is zero once linearised."""
        best, nearest = torch.full_like(gaps[:, 0], torch.inf).detach(), torch.zeros_like(x).detach()
        for k in range(gaps.shape[1]):
            (gradient,) = torch.autograd.grad(gaps[:, k].sum(), x, retain_graph=k + 1 < gaps.shape[1])
            flat = gradient.flatten(1)
            size = flat.norm(dim=1) if self.norm == "l2" else flat.abs().sum(1)
            distance = gaps[:, k].detach().abs() / size.clamp_min(1e-12)
            closer = distance < best
            best = torch.where(closer, distance, best)
            nearest = torch.where(per_example(closer, x), gradient, nearest)
        return per_example(best + SLACK, x) * steepest(nearest, self.norm)


def _gaps(surface: Surface, x: Tensor, reference: Tensor, rivals: Tensor | None) -> tuple[Tensor, Tensor]:
    """``(N, K)`` differences that are negative where the decision is right, and ``(N,)`` whether it is."""
    if rivals is None:
        view = surface.assess(x, reference, "margin")
        return view.value[:, None], view.right
    logits = surface.logits(x, reference)
    true = reference[:, None]
    return logits.gather(1, rivals) - logits.gather(1, true), logits.argmax(1) == reference
