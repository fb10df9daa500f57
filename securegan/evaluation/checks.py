"""The gradient-masking checks that apply to a gradient attack (Carlini et al. 2019; see ``metrics/masking``).

Every attack here is a cold, independent run on the same inputs; none starts from another's result.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from securegan.attacks.engine import Attack, random_perturbation, start_noise
from securegan.attacks.evasion.base import EvasionAttack
from securegan.attacks.evasion.fgsm import FGSM
from securegan.attacks.evasion.pgd import PGD
from securegan.attacks.shield import shielded
from securegan.attacks.surfaces import LabelSurface, Surface
from securegan.attacks.threat import Norm
from securegan.evaluation.surfaces import Inputs
from securegan.judges.judge import Judge
from securegan.metrics.distributed import gather_rows
from securegan.metrics.masking import Check, gains_little, never_weaker, not_weaker, reaches_all

NOISE_DRAWS = 20


class MaskingChecks:
    """Runs the checks on one surface's inputs; all ranks take part.

    Latents have no unbounded radius: the prior's shell holds.
    """

    def __init__(self, surface: Surface, chunks: Sequence[Inputs], attack: EvasionAttack, seed: int) -> None:
        self.surface, self.chunks, self.seed = surface, chunks, seed
        self.eps = attack.threat(surface).eps
        self.counted = attack.norm == "l0"
        self.norm: Norm = "l2" if attack.norm == "l2" else "linf"
        self.objectives = attack.objectives if isinstance(attack, PGD) else PGD(eps=0).objectives

    def run(self, judge: Judge | None) -> list[Check]:
        """All checks; ``judge`` is the independent network of the transfer check where it reads the same labels."""
        name = self.surface.name
        if self.eps == 0:
            return [Check("gradient masking", name, None, "the radius is 0: nothing was attacked")]
        if self.counted:
            return [Check("gradient masking", name, None, "the attack counts pixels, which gradients do not")]
        base, double = self._attack(self._pgd(self.eps, 20)), self._attack(self._pgd(self.eps, 40))
        half, wide = self._attack(self._pgd(self.eps / 2, 20)), self._attack(self._pgd(self.eps * 2, 20))
        checks = [
            not_weaker(
                base, self._noise(), name=f"best of {NOISE_DRAWS} random draws <= gradient attack", surface=name
            ),
            not_weaker(
                base,
                self._attack(self._fgsm()),
                name="FGSM <= PGD",
                surface=name,
            ),
            never_weaker([base, double], ["20 steps", "40 steps"], name="more steps are never weaker", surface=name),
            never_weaker(
                [half, base, wide],
                [f"eps {factor * self.eps:.3g}" for factor in (0.5, 1, 2)],
                name="larger eps is never weaker",
                surface=name,
            ),
            gains_little(base, double, name="twice the steps gain at most 5 points", surface=name),
            self._gradients(),
            self._repeatable(),
        ]
        if self.surface.space.name == "pixels":
            unbounded = self._attack(self._pgd(self._unbounded(), 60))
            checks.append(reaches_all(unbounded, name="unbounded eps reaches 100 %", surface=name))
        if judge is not None and judge.task == "labels" and name == "label":
            transfer = self._transfer(judge)
            checks.append(not_weaker(base, transfer, name="transfer from the judge <= white box", surface=name))
        return checks

    def _pgd(self, eps: float, steps: int) -> PGD:
        return PGD(
            latent_eps=eps,
            eps=eps,
            norm=self.norm,
            steps=steps,
            restarts=1,
            objectives=self.objectives,
        )

    def _fgsm(self) -> FGSM:
        return FGSM(eps=self.eps, latent_eps=self.eps, norm=self.norm)

    def _unbounded(self) -> float:
        """A radius that holds every image: the whole range in L-inf, the diagonal in L2."""
        return 1.0 if self.norm == "linf" else float(self.chunks[0].x[0].numel() ** 0.5) if self.chunks else 1.0

    def _attack(self, attack: Attack) -> Tensor:
        """``(N,)`` success among the inputs that are right before, in key order."""
        return self._collect(lambda chunk: self._right_only(chunk, *self._outcome(attack, chunk)))

    def _outcome(self, attack: Attack, chunk: Inputs) -> tuple[Tensor, Tensor]:
        purpose = (self.seed, "checks", self.surface.name)
        result = attack(self.surface, chunk.x, chunk.reference, purpose=purpose, keys=chunk.keys)
        return result.clean_right, result.success

    @staticmethod
    def _right_only(chunk: Inputs, right: Tensor, success: Tensor) -> tuple[Tensor, Tensor]:
        right = right.cpu()
        return chunk.keys[right], success.cpu()[right]

    def _collect(self, one: Callable[[Inputs], tuple[Tensor, Tensor]]) -> Tensor:
        keys, masks = [torch.zeros(0, dtype=torch.int64)], [torch.zeros(0, dtype=torch.bool)]
        for chunk in self.chunks:
            key, mask = one(chunk)
            keys.append(key)
            masks.append(mask)
        return gather_rows(torch.cat(masks), torch.cat(keys))

    def _noise(self) -> Tensor:
        """Success of the best of several random perturbations of the full radius."""

        def one(chunk: Inputs) -> tuple[Tensor, Tensor]:
            ball = self.surface.space.ball(chunk.x, self.eps, self.norm)
            with shielded(self.surface.victims), torch.no_grad():
                right = self.surface.assess(chunk.x, chunk.reference, self.surface.objectives[0]).right
            wrong = torch.zeros_like(right)
            for draw in range(NOISE_DRAWS):
                noise = start_noise(chunk.x, self.norm, (self.seed, "checks-noise", draw), chunk.keys)
                wrong |= random_perturbation(self.surface, chunk.x, chunk.reference, ball, noise)[1]
            return self._right_only(chunk, right, wrong)

        return self._collect(one)

    def _transfer(self, judge: Judge) -> Tensor:
        """Success on the victim of images made against the judge."""
        source = LabelSurface(judge.logits, (judge,), [str(k) for k in range(judge.num_classes)])

        def one(chunk: Inputs) -> tuple[Tensor, Tensor]:
            purpose = (self.seed, "checks-transfer")
            attack = PGD(eps=self.eps, norm=self.norm, steps=20, restarts=1, early_drop=False)
            moved = attack(source, chunk.x, chunk.reference, purpose=purpose, keys=chunk.keys).adversarial
            with shielded(self.surface.victims), torch.no_grad():
                right = self.surface.assess(chunk.x, chunk.reference, "ce").right
                wrong = ~self.surface.assess(moved, chunk.reference, "ce").right
            return self._right_only(chunk, right, wrong)

        return self._collect(one)

    def _gradients(self) -> Check:
        """The share of inputs whose gradient of the margin or cross-entropy is zero or not finite."""

        def one(chunk: Inputs) -> tuple[Tensor, Tensor]:
            broken = torch.zeros(len(chunk.x), dtype=torch.bool)
            for objective in self.surface.objectives:
                with shielded(self.surface.victims):
                    x = chunk.x.detach().clone()
                    if self.surface.flat_at_input:
                        noise = start_noise(x, self.norm, (self.seed, "checks-gradients"), chunk.keys)
                        x = self.surface.space.ball(x, self.eps, self.norm).start(noise)
                    x = x.requires_grad_(True)
                    value = self.surface.assess(x, chunk.reference, objective).value.sum()
                    (gradient,) = torch.autograd.grad(value, x)
                flat = gradient.flatten(1)
                broken |= (~flat.isfinite().all(1) | (flat == 0).all(1)).cpu()
            return chunk.keys, broken

        share = float(self._collect(one).double().mean())
        return Check(
            "gradients are finite and not zero", self.surface.name, share <= 0.01, f"{share:.3f} of inputs are not"
        )

    def _repeatable(self) -> Check:
        """Two forwards of the same input agree; a randomised victim needs expectation over transformation."""

        def one(chunk: Inputs) -> tuple[Tensor, Tensor]:
            with shielded(self.surface.victims), torch.no_grad():
                first, second = (
                    self.surface.assess(chunk.x, chunk.reference, self.surface.objectives[0]).margin for _ in range(2)
                )
            return chunk.keys, (first != second).cpu()

        differ = int(self._collect(one).sum())
        return Check("repeated forwards agree", self.surface.name, differ == 0, f"{differ} inputs differ")
