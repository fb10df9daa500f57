"""Does a victim withstand attacks, or does it only hide its gradients? The audit of a surface.

After Carlini et al. 2019 (arXiv 1902.06705, section 5), the checks of AutoAttack (Croce & Hein 2020, arXiv 2003.01690)
and the Indicators of Attack Failure (Pintor et al. 2022, arXiv 2106.09947). Every attack here is a cold, independent
run on the same inputs; none starts from another's result.

    for check in AttackAudit(LabelSurface(net, [net], names), images, labels, PGD(eps=8/255)).run():
        print(check)
"""

from collections.abc import Callable
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from securegan.attacks.engine import Attack
from securegan.attacks.evasion.base import EvasionAttack
from securegan.attacks.evasion.fgsm import FGSM
from securegan.attacks.evasion.pgd import PGD
from securegan.attacks.evidence import BROKEN, LOGITS, LOST, Evidence
from securegan.attacks.guarded import SHARES, Guarded
from securegan.attacks.probes import (
    Part,
    PathPGD,
    RescaledSurface,
    asks_for_gradients,
    broken_gradient,
    found_by_noise,
    from_logits,
    like_probabilities,
    margins,
    swayed,
    unrepeatable,
)
from securegan.attacks.surfaces import Objective, Surface
from securegan.attacks.threat import AttackResult, Norm
from securegan.metrics.masking import Check

STEPS = 20  # of the audit's attacks, or as many more as the audited one takes
DRAWS, ALL_DRAWS = 20, 10_000
GREY = 0.5  # the L-inf radius within which every image can be turned grey
FACTORS = (0.01, 10.0, 100.0)
SHIFT = 100.0
TOGETHER = 128  # inputs attacked at once

WATCHED, UNAWARE = f"{BROKEN}detector's score", f"{LOST}unaware"

Rows = dict[str, Tensor]
Gather = Callable[[Tensor, Tensor], Tensor]


class AttackAudit:
    """The checks on one surface's inputs: :meth:`run`.

    Latents have no unbounded radius: the prior's shell holds. Of a decision behind a detector both are looked at, and
    the attacks are those of an adversary who knows of both, within smaller radii too, as they are for the figures.
    """

    def __init__(
        self,
        surface: Surface,
        x: Tensor,
        reference: Tensor,
        attack: EvasionAttack,
        *,
        full: bool = False,
        source: Surface | None = None,
        black_box: EvasionAttack | None = None,
        keys: Tensor | None = None,
        seed: int = 0,
        gather: Gather | None = None,
    ) -> None:
        """Args:
        surface: the decision that is said to withstand.
        x: ``(N, ...)`` inputs in the surface's space.
        reference: ``(N,)`` the right decisions, as the surface defines them.
        attack: the one behind the figures: its norm, radius and, of PGD, objectives and steps (20 at the least) are
            audited.
        full: 10,000 random draws instead of 20, restarts, rescaled logits and ten forwards as well.
        source: the same decision of an independent network, whose adversarial images must not transfer too well.
        black_box: an attack without gradients, of the same norm and radius, that must not find more.
        keys: ``(N,)`` int64 identities of the inputs, by which random numbers are drawn; their order if not given.
        seed: of everything random.
        gather: brings the rows ``(n, K)`` of all processes into the order of their keys ``(n,)``; every process must
            then audit the same surface, be it with no input.
        """
        self.surface, self.full, self.seed = surface, full, seed
        self.guarded = surface if isinstance(surface, Guarded) else None
        self.inputs = Part(x, reference, torch.arange(len(x)) if keys is None else keys)
        self.attack, self.source, self.black_box, self.gather = attack, source, black_box, gather
        self.eps = attack.threat(surface).eps
        self.counted = attack.norm == "l0"
        self.norm: Norm = "l2" if attack.norm == "l2" else "linf"
        asked = attack.objectives if isinstance(attack, PGD) else PGD(eps=0).objectives
        self.steps = max(STEPS, attack.steps) if isinstance(attack, PGD) else STEPS
        self.objectives = tuple(o for o in asked if o in surface.objectives) or surface.objectives[:1]

    def run(self) -> list[Check]:
        """All checks that the surface, its space and the attack's norm allow."""
        name = self.surface.name if self.guarded is None else f"{self.surface.name} behind the detector"
        if self.eps == 0:
            return [Check("gradient masking", name, None, "the radius is 0: nothing was attacked")]
        draws = ALL_DRAWS if self.full else DRAWS
        found = Evidence(self._measured(), name, self.objectives, self.eps, self.steps, draws)
        if self.counted:
            said = "the attack counts pixels, which gradients do not"
            return [*found.victim_checks(), Check("gradient attacks", name, None, said)]
        return [*found.victim_checks(), *found.strength_checks(), *found.knowledge_checks()]

    @cached_property
    def columns(self) -> tuple[str, ...]:
        """What is measured of every input; ``lost NAME`` is whether an attack overturned it."""
        found = ["right", "reference", "unrepeatable", "swayed", "dynamic"]
        found += [f"{BROKEN}{objective}" for objective in self.surface.objectives]
        found += [WATCHED] if self.guarded is not None else []
        if from_logits(self.surface):
            found.append("probabilities")
        if not self.counted:
            found += [f"{LOST}double", "unheld", "silent", "late", "total", *self._attacks]
            found += [UNAWARE] if self.guarded is not None else []
        return tuple(found)

    @cached_property
    def _attacks(self) -> dict[str, Callable[[Part], Tensor]]:
        """``(n,)`` which of a part's inputs each attack overturns, under ``lost NAME``."""

        def by(attack: EvasionAttack, surface: Surface | None = None) -> Callable[[Part], Tensor]:
            return lambda part: self._lost(attack, part, surface or self.surface)

        found: dict[str, Callable[[Part], Tensor]] = {o: by(self._pgd(objectives=(o,))) for o in self._alone}
        found |= {
            "still": by(self._pgd(eps=0.0, steps=2)),
            "fgsm": by(FGSM(eps=self.eps, latent_eps=self.eps, norm=self.norm)),
            "noise": self._noise,
        }
        if self.guarded is None:
            found |= {"half": by(self._pgd(eps=self.eps / 2)), "wide": by(self._pgd(eps=self.eps * 2))}
        if self._grey:
            found["grey"] = by(self._pgd(eps=GREY))
        if self.surface.space.name == "pixels" and self.guarded is None:
            found["unbounded"] = by(self._pgd(eps=self._unbounded(), steps=3 * self.steps))
        if self.source is not None:
            found["transfer"] = self._transfer
        if self.black_box is not None:
            found["black box"] = by(self.black_box)
        if self.full:
            found["restarts"] = by(self._pgd(restarts=2))
        if self.full and from_logits(self.surface):
            found |= {
                f"{LOGITS}times {factor:g}": by(self._pgd(), RescaledSurface(self.surface, factor=factor))
                for factor in FACTORS
            }
            found[f"{LOGITS}plus {SHIFT:g}"] = by(self._pgd(), RescaledSurface(self.surface, shift=SHIFT))
        return {f"{LOST}{name}": attack for name, attack in found.items()}

    @property
    def _alone(self) -> tuple[Objective, ...]:
        """Objectives to run apart: the attack's, and cross-entropy and margin where both are there."""
        both: tuple[Objective, ...] = ("ce", "margin") if from_logits(self.surface) else ()
        return tuple(dict.fromkeys((*self.objectives, *both)))

    @property
    def _grey(self) -> bool:
        """Whether the check within L-inf 0.5 says something: it is wider than the attack, and chance is defined."""
        pixels = self.surface.space.name == "pixels" and self.surface.classes > 1
        return pixels and self.norm == "linf" and self.eps < GREY

    def _measured(self) -> Rows:
        """Every column of all inputs, of all processes in the order of their keys."""
        keys = self.inputs.keys
        indices = [index for index in torch.arange(len(keys)).split(TOGETHER) if len(index)]
        with torch.inference_mode(False):  # tensors made in that mode take part in no gradient
            parts = [self._row(self.inputs[index]) for index in indices]
        rows = torch.cat(parts) if parts else torch.zeros(0, len(self.columns), dtype=torch.float64)
        rows = rows if self.gather is None else self.gather(rows, keys)
        return dict(zip(self.columns, rows.unbind(1), strict=True))

    def _row(self, part: Part) -> Tensor:
        """``(n, K)`` of one part, on the CPU."""
        surface, purpose = self.surface, self._purpose
        seen: tuple[Surface, ...] = (surface,) if self.guarded is None else (self.guarded.inner, self.guarded.watch)
        forwards = 10 if self.full else 2
        found: Rows = {
            "right": margins(surface, part).right,
            "reference": part.reference,
            "unrepeatable": torch.stack([unrepeatable(each, part, forwards) for each in seen]).any(0),
            "swayed": torch.stack([swayed(each, part) for each in seen]).any(0),
            "dynamic": torch.stack([asks_for_gradients(each, part) for each in seen]).any(0),
        }
        for objective in surface.objectives:
            found[f"{BROKEN}{objective}"] = broken_gradient(surface, part, objective, self.eps, self.norm, purpose)
        if from_logits(surface):
            found["probabilities"] = like_probabilities(surface, part)
        if not self.counted:
            found |= self._path(part)
            found |= {name: attack(part) for name, attack in self._attacks.items()}
        if self.guarded is not None:
            found |= self._watched(self.guarded, part)
        return torch.stack([found[name].detach().double().cpu() for name in self.columns], 1)

    def _path(self, part: Part) -> Rows:
        """The attack with twice the steps, and how it went; with ``full`` fooled examples are searched to the end."""
        attack = PathPGD(**self._settings(steps=2 * self.steps), early_drop=not self.full)
        result = self._outcome(attack, part, self.surface)
        again = margins(self.surface, Part(result.adversarial, part.reference, part.keys)).right
        late, total = attack.gains()
        silent = result.success & ~attack.path.last_wrong
        lost = self._within_less(self._pgd(steps=2 * self.steps), part, self.surface, result.success)
        columns = (lost, result.success & again, silent, late, total)
        return dict(zip((f"{LOST}double", "unheld", "silent", "late", "total"), columns, strict=True))

    def _watched(self, guarded: Guarded, part: Part) -> Rows:
        """The detector's gradient where it is needed, and what gets past it by chance: at the end of an attack that is
        unaware of it (where none is run, at the inputs).
        """
        moved, found = part, {}
        if not self.counted:
            result = self._outcome(self._pgd(), part, guarded.inner)
            moved = Part(result.adversarial, part.reference, part.keys)
            found[UNAWARE] = result.success & ~margins(guarded, moved).right
        found[WATCHED] = broken_gradient(guarded.watch, moved, "margin", self.eps, self.norm, self._purpose)
        return found

    @property
    def _purpose(self) -> tuple[int | str, ...]:
        return self.seed, "audit", self.surface.name

    def _settings(self, **other: Any) -> dict[str, Any]:
        eps = other.pop("eps", self.eps)
        plain = {"norm": self.norm, "steps": self.steps, "restarts": 1, "objectives": self.objectives}
        return {**plain, "eps": eps, "latent_eps": eps, **other}

    def _pgd(self, **other: Any) -> PGD:
        return PGD(**self._settings(**other))

    def _unbounded(self) -> float:
        """A radius that holds every image: the whole range in L-inf, the diagonal in L2."""
        return 1.0 if self.norm == "linf" else float(self.inputs.x[0].numel() ** 0.5) if len(self.inputs.x) else 1.0

    def _outcome(self, attack: Attack, part: Part, surface: Surface) -> AttackResult:
        return attack(surface, part.x, part.reference, purpose=self._purpose, keys=part.keys)

    def _lost(self, attack: EvasionAttack, part: Part, surface: Surface) -> Tensor:
        """``(n,)`` which of a part's inputs the attack overturns."""
        return self._within_less(attack, part, surface, self._outcome(attack, part, surface).success)

    def _within_less(self, attack: EvasionAttack, part: Part, surface: Surface, lost: Tensor) -> Tensor:
        """``(n,)`` those ``lost`` within the radius; behind the detector also those lost within shares of it."""
        for share in SHARES[1:] if surface is self.guarded else ():
            if len(left := (~lost).nonzero().squeeze(1)):
                lost = lost.index_put((left,), self._outcome(attack.at(share), part[left], surface).success)
        return lost

    def _noise(self, part: Part) -> Tensor:
        draws = ALL_DRAWS if self.full else DRAWS
        return found_by_noise(self.surface, part, self.eps, self.norm, draws, (*self._purpose, "noise"))

    def _transfer(self, part: Part) -> Tensor:
        """Which inputs are lost to images made against the other network, moved to the end of every search."""
        assert self.source is not None
        attack = PGD(**self._settings(objectives=("ce",)), early_drop=False)
        moved = self._outcome(attack, part, self.source).adversarial
        return ~margins(self.surface, Part(moved, part.reference, part.keys)).right
