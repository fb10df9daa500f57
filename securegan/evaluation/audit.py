"""The audit of a surface over the ranks: :class:`~securegan.attacks.audit.AttackAudit` on all ranks' inputs."""

from collections.abc import Sequence

import torch

from securegan.attacks.audit import AttackAudit
from securegan.attacks.evasion.base import EvasionAttack
from securegan.attacks.evasion.square import Square
from securegan.attacks.surfaces import LabelSurface, Surface
from securegan.evaluation.surfaces import Inputs
from securegan.judges.judge import Judge
from securegan.metrics.distributed import gather_rows
from securegan.metrics.masking import Check

QUERIES = 1000  # of the black box


def audit_surface(
    surface: Surface,
    chunks: Sequence[Inputs],
    attack: EvasionAttack,
    judge: Judge,
    *,
    seed: int,
    full: bool = False,
) -> list[Check]:
    """The checks on this rank's ``chunks`` and those of the others; all ranks take part and get the same.

    The judge is the independent network of the transfer check, where it reads the same labels; the black box of the
    full audit is Square.
    """
    source = None
    if judge.task == "labels" and surface.name == "label":
        source = LabelSurface(judge.logits, (judge,), [str(k) for k in range(judge.num_classes)])
    black_box = None
    if full and surface.space.name == "pixels" and attack.norm != "l0":
        black_box = Square(norm=attack.norm, eps=attack.threat(surface).eps, queries=QUERIES)
    columns = ([c.x for c in chunks], [c.reference for c in chunks], [c.keys for c in chunks])
    x, reference, keys = (torch.cat(column) if column else torch.zeros(0, dtype=torch.int64) for column in columns)
    audit = AttackAudit(
        surface,
        x,
        reference,
        attack,
        full=full,
        source=source,
        black_box=black_box,
        keys=keys,
        seed=seed,
        gather=gather_rows,
    )
    return audit.run()
