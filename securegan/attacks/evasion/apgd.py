"""Auto-PGD (Croce & Hein 2020, arXiv 2003.01690, algorithm 1), in L-inf and L2, pixels and latents.

z = P(x_k + eta * steepest(grad L(x_k))),  x_{k+1} = P(x_k + a (z - x_k) + (1 - a) (x_k - x_{k-1})) with a = 0.75, from
eta = 2 eps; at checkpoints eta is halved, and the search resumes from the best point so far, wherever the loss rose in
fewer than 0.75 of the steps since the last one, or neither eta nor the best loss changed since then. All of that is
decided example by example. The targeted runs are APGD-T of AutoAttack (section 5).
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from securegan.attacks.engine import Step, ascend
from securegan.attacks.evasion.base import EvasionAttack, Task, objectives_on
from securegan.attacks.spaces import Ball, per_example, steepest
from securegan.attacks.surfaces import Objective, Surface
from securegan.attacks.targets import TowardsClass
from securegan.attacks.threat import Norm, Radii
from securegan.configuration.types import NonNegativeInt, PositiveInt
from securegan.errors import ConfigError

MOMENTUM = 0.75  # the share of the new step; the rest is that of the last one
RISING = 0.75  # rho: of the steps between checkpoints, the share that must raise the loss


def checkpoints(steps: int) -> frozenset[int]:
    """After how many of ``steps`` steps their size is judged (section 3.2).

    p_0 = 0, p_1 = 0.22, p_{j+1} = p_j + max(p_j - p_{j-1} - 0.03, 0.06), times ``steps`` and rounded up.
    """
    hundredths: list[int] = []
    period = 22
    while sum(hundredths) + period <= 100:
        hundredths.append(period)
        period = max(period - 3, 6)
    return frozenset(-(-sum(hundredths[: j + 1]) * steps // 100) for j in range(len(hundredths)))


class AutoStep(Step):
    """The steps of algorithm 1, each example's of its own size ``eta (N,)``."""

    def __init__(self, ball: Ball, norm: Norm, steps: int) -> None:
        n, device = len(ball.origin), ball.origin.device
        self.ball, self.norm, self.checkpoints = ball, norm, checkpoints(steps)
        self.taken, self.since = 0, 0  # steps so far, and since the last checkpoint
        self.before = self.best = self.best_gradient = ball.origin
        self.eta = torch.full((n,), 2 * ball.eps, device=device)
        self.value = self.best_value = torch.full((n,), -torch.inf, device=device)
        self.best_at_checkpoint = self.best_value
        self.rises = torch.zeros(n, dtype=torch.int64, device=device)
        self.halved = torch.zeros(n, dtype=torch.bool, device=device)  # at the last checkpoint

    def keep(self, index: Tensor) -> None:
        self.ball = self.ball[index]
        for name, kept in vars(self).items():
            if isinstance(kept, Tensor):
                setattr(self, name, kept[index])

    def move(self, x: Tensor, value: Tensor, gradient: Tensor) -> Tensor:
        if not self.taken:
            self.before = x
            self._remember(~self.halved, x, value, gradient)
            self.best_at_checkpoint = self.best_value
        else:
            self.rises = self.rises + (value > self.value)
            self._remember(value > self.best_value, x, value, gradient)
            if self.taken in self.checkpoints:
                x, gradient = self._judge(x, gradient)
        self.value = value
        x, self.before = self._next(x, gradient), x
        self.taken, self.since = self.taken + 1, self.since + 1
        return x

    def _remember(self, better: Tensor, x: Tensor, value: Tensor, gradient: Tensor) -> None:
        chosen = per_example(better, x)
        self.best = torch.where(chosen, x, self.best)
        self.best_gradient = torch.where(chosen, gradient, self.best_gradient)
        self.best_value = torch.where(better, value, self.best_value)

    def _judge(self, x: Tensor, gradient: Tensor) -> tuple[Tensor, Tensor]:
        """Halve where conditions 1 or 2 hold, and go back to the best point there."""
        stuck = ~self.halved & (self.best_value == self.best_at_checkpoint)
        self.halved = (self.rises < RISING * self.since) | stuck
        self.eta = torch.where(self.halved, self.eta / 2, self.eta)
        self.best_at_checkpoint, self.rises, self.since = self.best_value, torch.zeros_like(self.rises), 0
        back = per_example(self.halved, x)
        return torch.where(back, self.best, x), torch.where(back, self.best_gradient, gradient)

    def _next(self, x: Tensor, gradient: Tensor) -> Tensor:
        z = self.ball.project(x + per_example(self.eta, x) * steepest(gradient, self.norm))
        if not self.taken:
            return z
        return self.ball.project(x + MOMENTUM * (z - x) + (1 - MOMENTUM) * (x - self.before))


class APGD(EvasionAttack):
    """Auto-PGD with restarts over objectives and, if asked, over target classes; no step size is to be chosen."""

    name = "apgd"
    norm: Norm

    def __init__(
        self,
        radii: Radii | None = None,
        *,
        norm: Norm = "linf",
        steps: PositiveInt = 100,
        objectives: Sequence[Objective] = ("ce", "dlr"),
        restarts: PositiveInt = 1,
        target_classes: NonNegativeInt = 0,
        early_drop: bool = True,
        **of_every_attack: Any,
    ) -> None:
        """Args:
        objectives: none where target classes alone are aimed at.
        restarts: random starts of each objective and of each target class.
        target_classes: that many of the most probable wrong classes of the clean input are aimed at too, one by one,
            with the targeted DLR; any wrong decision counts. Surfaces with fewer than three classes go without.
        early_drop: search no longer for examples that are fooled.
        of_every_attack: as of :class:`EvasionAttack`.

        Raises:
        ConfigError: ``target_classes`` is given beside ``targeted``, whose target is fixed already; neither objectives
            nor target classes are given.
        """
        super().__init__(radii, norm, **of_every_attack)
        if not (objectives or target_classes):
            raise ConfigError(
                "attack.objectives=[] leaves APGD nothing to do: give objectives or attack.target_classes."
            )
        if target_classes and self.targeted is not None:
            raise ConfigError(
                f"attack.target_classes={target_classes} cannot stand beside attack.targeted={self.targeted}, "
                "which names the one class to be reached."
            )
        self.steps, self.objectives, self.restarts = steps, tuple(objectives), restarts
        self.target_classes, self.early_drop = target_classes, early_drop

    def search(self, task: Task) -> None:
        for restart in range(self.restarts):
            for objective in objectives_on(task.surface, self.objectives) if self.objectives else ():
                self._climb(task, task.surface, task.reference, objective, restart)
        if self.target_classes and self.targeted is None and task.surface.classes > 2:
            self._towards_each(task)

    def _towards_each(self, task: Task) -> None:
        """APGD-T: the likeliest wrong classes of the clean inputs, one after the other."""
        where = task.open(early_drop=self.early_drop)
        if not len(where):
            return
        surface, wanted = TowardsClass(task.surface, only=False), min(self.target_classes, task.surface.classes - 1)
        with torch.no_grad():
            logits = task.surface.logits(task.inputs[where], task.reference[where])
        task.search.queries[where] += 1
        likely = logits.scatter(1, task.reference[where, None], -torch.inf).topk(wanted, dim=1).indices
        for rank in range(wanted):
            reference = task.reference.clone()
            reference[where] = surface.encode(task.reference[where], likely[:, rank])
            for restart in range(self.restarts):
                self._climb(task, surface, reference, "dlr", restart, "towards", rank)

    def _climb(
        self,
        task: Task,
        surface: Surface,
        reference: Tensor,
        objective: Objective,
        restart: int,
        *parts: int | str,
    ) -> None:
        where = task.open(early_drop=self.early_drop)
        if not len(where):
            return
        ball = task.ball[where]
        if task.start is not None and restart == 0:
            x = ball.project(task.start[where])
        else:
            x = task.random_start(where, self.norm, objective, *parts, restart)
        ascend(
            surface,
            AutoStep(ball, self.norm, self.steps),
            x,
            reference[where],
            task.search,
            where,
            objective=objective,
            steps=self.steps,
            early_drop=self.early_drop,
        )
