"""Results of attacks on disk: a long evaluation that was killed goes on where it stopped.

A result is found again by everything it came from: the attack and its settings, the weights behind the surface, the
inputs, and what the randomness is drawn for. A file that cannot be read counts as none. The results of attacks that
another one runs, such as a suite's members, are kept until its own is, which holds all that they found.
"""

import hashlib
import json
import shutil
from collections.abc import Sequence
from dataclasses import fields
from importlib.metadata import version
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from securegan.attacks.engine import Attack, Memory
from securegan.attacks.evasion.base import EvasionAttack
from securegan.attacks.surfaces import Surface
from securegan.attacks.threat import AttackResult
from securegan.runs.atomic import write_atomically

NAMES = [field.name for field in fields(AttackResult)]


class Journal(Memory):
    """Attack results in ``folder``, which is made when the first is kept."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._within: list[list[Path]] = []  # of each attack that is running, the outermost first: what it has kept

    def run(
        self,
        attack: Attack,
        surface: Surface,
        inputs: Tensor,
        reference: Tensor,
        *,
        purpose: Sequence[int | str],
        keys: Tensor | None,
        start: Tensor | None = None,
    ) -> AttackResult:
        """The result of the attack, from disk where it was kept."""
        path = self.folder / f"{_digest(attack, surface, [inputs, reference, keys, start], purpose)}.safetensors"
        if self._within:
            self._within[-1].append(path)
        if (kept := _read(path, inputs.device)) is not None:
            return kept
        self._within.append([])
        try:
            result = super().run(attack, surface, inputs, reference, purpose=purpose, keys=keys, start=start)
        finally:
            parts = self._within.pop()
        self.folder.mkdir(parents=True, exist_ok=True)
        tensors = {name: getattr(result, name).detach().cpu().contiguous() for name in NAMES}
        write_atomically(path, lambda temporary: save_file(tensors, temporary))
        for part in parts:
            part.unlink(missing_ok=True)
        return result

    def forget(self) -> None:
        """Remove everything: the evaluation has ended."""
        shutil.rmtree(self.folder, ignore_errors=True)


def _read(path: Path, device: torch.device) -> AttackResult | None:
    try:
        tensors = load_file(path, device=str(device))
        return AttackResult(**{name: tensors[name] for name in NAMES})
    except (OSError, SafetensorError, KeyError):
        return None


def _digest(attack: Attack, surface: Surface, tensors: Sequence[Tensor | None], purpose: Sequence[int | str]) -> str:
    settings = attack.settings() if isinstance(attack, EvasionAttack) else vars(attack)
    held: list[Tensor] = []
    said = [
        *(version(package) for package in ("securegan", "torch")),
        type(attack).__qualname__,
        settings,
        _identity(surface, held),
        list(purpose),
    ]
    found = hashlib.sha256(json.dumps(said, default=str).encode())
    states = [tensor for victim in surface.victims for tensor in victim.state_dict().values()]
    for tensor in [*tensors, *states, *held]:
        found.update(b"-" if tensor is None else _bytes(tensor))
    return found.hexdigest()[:32]


def _identity(surface: Surface, held: list[Tensor]) -> list[object]:
    """What a surface is beside its networks: its kind, its numbers and names; its tensors are added to ``held``."""
    said: list[object] = [type(surface).__qualname__]
    for name, value in sorted(vars(surface).items()):
        if isinstance(value, Tensor):
            held.append(value)
        elif isinstance(value, Surface):
            said.append(_identity(value, held))
        elif isinstance(value, bool | int | float | str | tuple) and name != "victims":
            said.append([name, value])
    return said


def _bytes(tensor: Tensor) -> bytes:
    plain = tensor.detach().cpu().contiguous()
    return str((plain.dtype, tuple(plain.shape))).encode() + plain.flatten().view(torch.uint8).numpy().tobytes()
