"""What an audit measured of every input, and the checks that it supports; see :mod:`securegan.attacks.audit`."""

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from securegan.metrics.masking import (
    Check,
    at_chance,
    at_most,
    finds_all_of,
    gains_little,
    never_weaker,
    not_weaker,
    reaches_all,
    settled,
)

LOST, BROKEN = "lost ", "broken "  # columns: lost to an attack; without a gradient of an objective
LOGITS = "logits "  # attacks on the same decision with its logits rescaled
FEW, SOME = 0.01, 0.05  # shares of inputs that a fault may have

CAUTIONS = {
    "unrepeatable": "differ: a randomised victim needs an attack in expectation over its randomness",
    "dynamic": "meet a forward that asks for gradients: a dynamic defence needs an attack through it",
    "swayed": "are judged otherwise among others",
    "probabilities": "lie in [0, 1] and sum to one: give the attack the values before the softmax",
}


BEHIND_A_DETECTOR = {  # what is not judged there, and why
    "larger eps is never weaker": "not judged behind a detector: the attack on both tries smaller radii by itself",
    "unbounded eps reaches 100 %": "not judged behind a detector, which may rightly flag all that lies far away",
    "grey images leave chance": "not judged behind a detector, which may rightly flag grey images",
    "logits do not look like probabilities": "not judged behind a detector, nor is their scale: see the decision alone",
}


@dataclass(frozen=True)
class Evidence:
    """Rows of all inputs, float64 ``(N,)`` a column."""

    rows: dict[str, Tensor]
    surface: str
    objectives: tuple[str, ...]  # whose runs together are the attack
    eps: float
    steps: int  # of the attack; ``lost double`` had twice as many
    draws: int  # of random noise

    @cached_property
    def right(self) -> Tensor:
        """``(N,)`` bool: the clean decision was right."""
        return self.rows["right"].bool()

    @cached_property
    def lost(self) -> dict[str, Tensor]:
        """Success of each attack, among the inputs that are right."""
        names = [name for name in self.rows if name.startswith(LOST)]
        return {name.removeprefix(LOST): self.rows[name][self.right].bool() for name in names}

    @property
    def base(self) -> Tensor:
        """Success of the attack's objectives together."""
        return torch.stack([self.lost[objective] for objective in self.objectives]).any(0)

    def victim_checks(self) -> list[Check]:
        """What forwards and gradients alone show."""
        checks = [self._gradients(), self._none("unrepeatable", "repeated forwards agree")]
        if self.rows["unrepeatable"].any():
            said = "repeated forwards differ by themselves"
            checks.append(Check("neighbours in the batch do not matter", self.surface, None, said))
        else:
            checks.append(self._none("swayed", "neighbours in the batch do not matter"))
        checks.append(self._none("dynamic", "no gradients inside the forward"))
        if "probabilities" in self.rows:
            checks.append(self._none("probabilities", "logits do not look like probabilities"))
        return checks

    def _none(self, column: str, name: str) -> Check:
        fault = self.rows[column].bool()
        if column == "probabilities":
            fault = fault & fault.all()  # a row may look so by chance
        return at_most(
            fault, f"inputs {CAUTIONS[column]}" if fault.any() else "inputs", name=name, surface=self.surface
        )

    def _gradients(self) -> Check:
        """Of inputs that are right: cross-entropy rounds to a flat end where a net is very sure, the margin never."""
        parts = []
        for column in self.rows:
            if column.startswith(BROKEN):
                objective = column.removeprefix(BROKEN)
                fault = self.rows[column][self.right].bool()
                parts.append(at_most(fault, objective, name="", surface="", most=SOME if objective == "ce" else FEW))
        judged = None if any(part.passed is None for part in parts) else all(part.passed for part in parts)
        detail = f"without one: {', '.join(part.detail for part in parts)}" if judged is not None else parts[0].detail
        return Check("gradients are finite and not zero", self.surface, judged, detail)

    def strength_checks(self) -> list[Check]:
        """More radius, steps and restarts are never weaker; the search had come to rest; what is found holds."""
        surface, lost, base = self.surface, self.lost, self.base
        radii = [f"eps {factor * self.eps:.3g}" for factor in (0.5, 1, 2)]
        numbers = [f"{steps} steps" for steps in (self.steps, 2 * self.steps)]
        checks = [
            at_most(lost["still"], "inputs were lost", name="eps 0 changes nothing", surface=surface, most=FEW),
            not_weaker(base, lost["fgsm"], name="FGSM <= PGD", surface=surface),
            never_weaker([base, lost["double"]], numbers, name="more steps are never weaker", surface=surface),
            gains_little(base, lost["double"], name="twice the steps gain at most a point", surface=surface),
            settled(self.rows["late"], self.rows["total"], name="the last 10 steps hardly move it", surface=surface),
            self._held(),
        ]
        if "half" in lost:
            wider = [lost["half"], base, lost["wide"]]
            checks.insert(3, never_weaker(wider, radii, name="larger eps is never weaker", surface=surface))
        if "unaware" in lost:
            checks += [Check(name, surface, None, why) for name, why in BEHIND_A_DETECTOR.items()]
        if "restarts" in lost:
            name = "twice the restarts gain at most a point"
            checks.append(gains_little(base, lost["restarts"], name=name, surface=surface))
        if "grey" in lost:
            kept = self.right.clone()
            kept[self.right] = ~lost["grey"]
            checks.append(at_chance(kept, self.rows["reference"], name="grey images leave chance", surface=surface))
        if "unbounded" in lost:
            checks.append(reaches_all(lost["unbounded"], name="unbounded eps reaches 100 %", surface=surface))
        return checks

    def _held(self) -> Check:
        silent = int(self.rows["silent"].sum())
        said = "inputs are judged right again" + (f"; {silent} were wrong on the way alone, and kept" if silent else "")
        unheld = self.rows["unheld"][self.right].bool()
        return at_most(unheld, said, name="what is found holds when judged again", surface=self.surface, most=FEW)

    def knowledge_checks(self) -> list[Check]:
        """Who knows less finds less, and the scale of the logits hides nothing."""
        lost, base = self.lost, self.base
        white = base | lost["double"] | lost.get("restarts", base)
        weaker = {
            "unaware": "attack unaware of the detector <= attack on both",
            "noise": f"best of {self.draws:,} random draws <= gradient attack",
            "transfer": "transfer from the judge <= white box",
            "black box": "black box <= white box",
        }
        checks = [
            finds_all_of(white, lost[key], name=name, surface=self.surface)
            for key, name in weaker.items()
            if key in lost
        ]
        if {"ce", "margin"} <= lost.keys():
            name = "cross-entropy finds what the margin does"
            checks.append(gains_little(lost["ce"], lost["margin"], name=name, surface=self.surface, most=SOME))
        return checks + [
            gains_little(base, success, name=f"{name} gain nothing", surface=self.surface)
            for name, success in lost.items()
            if name.startswith(LOGITS)
        ]
