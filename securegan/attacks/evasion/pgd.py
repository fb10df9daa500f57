"""Projected gradient descent (Madry et al. 2018, arXiv 1706.06083, section 2.1), in L-inf and L2, pixels and latents.

x_{t+1} = P(x_t + alpha * steepest(grad L(x_t))), P the projection onto the ball and the space's bounds; the loss is
cross-entropy or the logit margin (Carlini & Wagner 2017), each from several random starts; an example is lost if any
iterate of any start and objective is judged wrong.
"""

from collections.abc import Sequence
from typing import Annotated

import torch
from annotated_types import MinLen
from torch import Tensor

from securegan.attacks.engine import Attack, Search, ascend, finish, start_noise
from securegan.attacks.shield import shielded
from securegan.attacks.surfaces import Objective, Surface, SurfaceName
from securegan.attacks.threat import AttackResult, Norm, ThreatModel
from securegan.configuration.types import PositiveInt, Radius
from securegan.errors import ConfigError

LATENT_EPS: dict[Norm, float] = {"linf": 0.5, "l2": 2.0}  # standard deviations of the prior


class PGD(Attack):
    """PGD with restarts over objectives, per-example best and early drop of fooled examples."""

    name = "pgd"

    def __init__(
        self,
        default_eps: float,
        *,
        norm: Norm = "linf",
        eps: Radius | None = None,
        latent_eps: Radius | None = None,
        steps: PositiveInt = 20,
        alpha: Radius | None = None,
        objectives: Annotated[Sequence[Objective], MinLen(1)] = ("ce", "margin"),
        random_start: bool = True,
        restarts: PositiveInt = 5,
        early_drop: bool = True,
        surfaces: Annotated[Sequence[SurfaceName], MinLen(1)] | None = None,
    ) -> None:
        """Args:
        default_eps: the data set's L-inf radius, taken where ``eps`` is not given.
        eps: radius in pixels of ``[0, 1]``.
        latent_eps: radius in the prior's standard deviations; 0.5 in L-inf and 2 in L2 where it is not given.
        alpha: step size in the space's unit; ``2.5 eps / steps`` where it is not given.
        restarts: random starts of each objective.
        surfaces: which to attack; all that the model offers where it is not given.
        """
        if norm == "l2" and eps is None:
            raise ConfigError("attack.norm=l2 needs attack.eps: the data set's radius is one of L-inf.")
        self.norm: Norm = norm
        self.eps = default_eps if eps is None else float(eps)
        self.latent_eps = LATENT_EPS[norm] if latent_eps is None else float(latent_eps)
        self.steps, self.alpha = steps, alpha
        self.objectives, self.surfaces = tuple(objectives), None if surfaces is None else tuple(surfaces)
        self.random_start, self.restarts, self.early_drop = random_start, restarts if random_start else 1, early_drop

    def check_radius(self) -> None:
        """Raises ConfigError where ``eps`` is more than any two images can differ by; no attack needs it.

        Not the constructor's: the checks of gradient masking double the radius.
        """
        if self.norm == "linf" and self.eps > 1:
            raise ConfigError(
                f"attack.eps={self.eps:g} is not allowed: images lie in [0, 1], so that a radius of 1 holds them all; "
                "grey levels are written as attack.eps=8/255."
            )

    def threat(self, surface: Surface) -> ThreatModel:
        return ThreatModel(self.norm, self._eps(surface), surface.space.name)

    def _eps(self, surface: Surface) -> float:
        return self.eps if surface.space.name == "pixels" else self.latent_eps

    def __call__(
        self,
        surface: Surface,
        inputs: Tensor,
        reference: Tensor,
        *,
        purpose: Sequence[int | str] = ("attack",),
        keys: Tensor | None = None,
    ) -> AttackResult:
        eps = self._eps(surface)
        alpha = self._alpha(eps)
        with shielded(surface.victims):
            inputs, reference = inputs.detach().clone().float(), reference.clone()
            ball = surface.space.ball(inputs, eps, self.norm)
            with torch.no_grad():
                clean = surface.assess(inputs, reference, surface.objectives[0])
            search = Search(
                inputs.clone(), clean.margin.clone(), ~clean.right, torch.ones_like(reference, dtype=torch.int64)
            )
            for restart in range(self.restarts):
                for objective in self._objectives(surface):
                    where = self._open(search, clean.right)
                    if not len(where):
                        break
                    x, some = inputs[where], ball[where]
                    if self.random_start or surface.flat_at_input:
                        named = None if keys is None else keys[where.to(keys.device)]
                        start = some.start(start_noise(x, self.norm, (*purpose, objective, restart), named))
                        x = start if surface.start_share == 1 else some.project(x.lerp(start, surface.start_share))
                    ascend(
                        surface,
                        some,
                        x,
                        reference[where],
                        search,
                        where,
                        objective=objective,
                        norm=self.norm,
                        alpha=alpha,
                        steps=self.steps,
                        early_drop=self.early_drop,
                    )
            return finish(search, ball, clean.right)

    def _alpha(self, eps: float) -> float:
        return 2.5 * eps / self.steps if self.alpha is None else float(self.alpha)

    def _open(self, search: Search, clean_right: Tensor) -> Tensor:
        """Indices still worth attacking."""
        return (clean_right & ~(search.fooled & self.early_drop)).nonzero().squeeze(1)

    def _objectives(self, surface: Surface) -> tuple[Objective, ...]:
        """The asked objectives that differ on this surface; its own first one where none of them does."""
        return tuple(o for o in self.objectives if o in surface.objectives) or surface.objectives[:1]
