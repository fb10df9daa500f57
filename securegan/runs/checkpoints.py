"""Checkpoints: the last epoch's and the chosen one, each known by its checksum.

Of each there are two files: ``.ckpt``, everything that training goes on from, and ``.safetensors``, the weights and the
detectors' statistics. Only a run that is continued reads the first, which is pickled (``weights_only``); sampling,
attacking, auditing and releasing read the second, whoever made it. ``checkpoints/index.json`` says which file is which;
it changes by one atomic rename after the new files are complete, so a process killed at any moment leaves the previous
state whole. Chosen is the best FID on the validation split among the last epochs (:meth:`Protocol.may_choose`) at which
every defence was at full strength.
"""

import hashlib
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from safetensors import SafetensorError
from safetensors.torch import load, save_file

from securegan.defenses.base import Defense
from securegan.errors import UserError
from securegan.evaluation.protocol import Protocol
from securegan.models.base import GenerativeModule, callbacks_of
from securegan.runs.atomic import write_atomically, write_json
from securegan.runs.folder import RunFolder, read_json
from securegan.runs.signed import Vouched, signature_of
from securegan.security.provenance.files import digest_file, open_regular
from securegan.security.provenance.requirement import required
from securegan.security.provenance.trust import Trust

INDEX = "index.json"
WEIGHTS = ".safetensors"
WEAK = "the last epoch was taken: the defences did not reach full strength."
UNSCORED = "the last epoch was taken: the selection figure is not a number."


class Checkpoints(pl.Callback):
    """Saves after every epoch; must be the last callback, so that the epoch's evaluation is in the file.

    The module is settled before, whether the epoch was evaluated or not: a file holds what its own samples come from.
    """

    def __init__(
        self,
        folder: Path,
        protocol: Protocol,
        latest_score: Callable[[], float | None],
        before_save: Callable[[], None],
        sign: Callable[[Mapping[str, Any]], None] | None = None,
    ) -> None:
        """Args:
        latest_score: the selection figure (lower is better) of the epoch just evaluated.
        before_save: called on rank 0 before a saved point counts, to write out what logs still hold.
        sign: called on rank 0 with the entry of a checkpoint whose files are complete, before the index names it.
        """
        self.sign = sign
        self.folder, self.protocol, self.latest_score = folder, protocol, latest_score
        self.before_save = before_save
        self.index: dict[str, Any] = read_index(folder) if (folder / INDEX).is_file() else {}  # of the run continued

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        assert isinstance(pl_module, GenerativeModule)
        pl_module.settle(trainer.datamodule)  # type: ignore[attr-defined]
        epoch = trainer.current_epoch
        self.folder.mkdir(parents=True, exist_ok=True)
        name = f"epoch-{epoch + 1:04d}.ckpt"
        try:
            trainer.save_checkpoint(self.folder / f"{name}.partial")  # every rank takes part
        except (OSError, RuntimeError) as error:
            (self.folder / f"{name}.partial").unlink(missing_ok=True)
            reason = str(error).splitlines()[0]
            raise UserError(
                f"{self.folder / name} could not be written ({reason}): the previous saved point is kept; check the "
                "disk's free space."
            ) from error
        if trainer.is_global_zero:
            self._register(trainer, pl_module, epoch, name)
        trainer.strategy.barrier()

    def _register(self, trainer: pl.Trainer, module: GenerativeModule, epoch: int, name: str) -> None:
        self.before_save()
        partial = self.folder / f"{name}.partial"
        entry = {"file": name, "epoch": epoch + 1, "sha256": digest_file(partial)}
        partial.replace(self.folder / name)
        entry["weights"] = save_weights(module, (self.folder / name).with_suffix(WEIGHTS))
        if self.sign is not None:
            self.sign(entry)
        self.index["last"] = entry
        epochs = trainer.max_epochs or 0
        full = all(d.full_strength(epoch) for d in callbacks_of(trainer) if isinstance(d, Defense))
        score = self.latest_score() if self.protocol.due(epoch, epochs - 1) else None
        usable = score is not None and math.isfinite(score)
        best = self.index.get("best")
        if usable and full and self.protocol.may_choose(epoch, epochs) and (best is None or score < best["score"]):
            self.index["best"] = {**entry, "score": score}
        elif best is None and epoch + 1 >= epochs:  # the last epoch, and none could be chosen
            self.index["best"] = {**entry, "score": score, "note": UNSCORED if full else WEAK}
        write_json(self.folder / INDEX, self.index)
        wanted = {
            name for kept in self.index.values() for name in (kept["file"], kept["weights"]["file"], signature_of(kept))
        }
        for file in self.folder.glob("epoch-*"):
            if file.name not in wanted:
                file.unlink(missing_ok=True)


def save_weights(module: GenerativeModule, path: Path) -> dict[str, Any]:
    """Write a module's weights, counters and detector statistics to the safetensors file ``path``; gives its entry."""
    tensors = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in module.state_dict().items()}
    write_atomically(path, lambda temporary: save_file(tensors, temporary))
    return {"file": path.name, "sha256": digest_file(path)}


def read_index(folder: Path) -> dict[str, Any]:
    """The entries ``last`` and ``best``; raises UserError where there is none or it is damaged."""
    path = folder / INDEX
    if not path.is_file():
        raise UserError(f"{folder} holds no saved point: the run ended before its first epoch did; start it anew.")
    try:
        index = dict(read_json(path))
        for entry in index.values():
            name = f"epoch-{entry['epoch']:04d}"
            for about, suffix in ((entry, ".ckpt"), (entry["weights"], WEIGHTS)):
                _ = about["sha256"]
                if about["file"] != name + suffix:
                    raise ValueError(f"{str(about['file'])[:80]!a} is not {name}{suffix}")
        return index
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path} is damaged ({error}): the run cannot be continued.") from error


def entry_of(folder: Path, which: str) -> dict[str, Any]:
    """The index' entry of the ``last`` or ``best`` checkpoint."""
    entry = read_index(folder).get(which)
    if entry is None:
        hint = ": none had been chosen when the run stopped; continue it, or give --checkpoint last"
        raise UserError(f"{folder} holds no '{which}' checkpoint{hint if which == 'best' else ''}.")
    return dict(entry)


def verified(run: RunFolder, which: str, trust: Trust | None = None) -> tuple[Path, dict[str, Any]]:
    """Path and entry of the ``last`` or ``best`` checkpoint that training goes on from, its checksum confirmed.

    Args: trust: who must have signed it, and the configuration of ``run``; None asks for nobody but whom the process'
    environment names (:func:`.requirement.required`).
    """
    entry = entry_of(run.checkpoints, which)
    path = run.checkpoints / entry["file"]
    if not path.is_file():
        raise UserError(f"the checkpoint {path} is missing: restore it or start a new run.")
    found = digest_file(path)
    if found != entry["sha256"]:
        raise UserError(f"the checkpoint {path} is damaged (its checksum differs): restore it or start a new run.")
    if trust := trust or required():
        Vouched(run, entry, trust).check(f"{run.checkpoints.name}/{path.name}", found)
    return path, entry


@dataclass(frozen=True)
class Weights:
    """The bytes of a safetensors file, which were checked, and the index entry that they were found by."""

    path: Path
    content: bytes
    entry: dict[str, Any]

    def load_into(self, module: GenerativeModule) -> None:
        """Weights, counters and the detectors' statistics. Raises UserError where they are not this model's."""
        try:
            tensors = load(self.content)
            module.load_state_dict(tensors)
        except (SafetensorError, RuntimeError, ValueError) as error:
            reason = str(error).splitlines()[0]
            raise UserError(
                f"the checkpoint {self.path} does not hold the weights of this run's model ({reason})."
            ) from error
        module.on_load_checkpoint({"state_dict": tensors})


def verified_weights(run: RunFolder, which: str = "best", trust: Trust | None = None) -> Weights:
    """The weights of the ``last`` or ``best`` checkpoint, read once: what was checked is what is loaded.

    Args: see :func:`verified`.
    """
    entry = entry_of(run.checkpoints, which)
    path = run.checkpoints / entry["weights"]["file"]
    trust = trust or required()
    vouched = None if trust is None else Vouched(run, entry, trust)
    try:
        with open_regular(path) as file:
            content = file.read()
    except OSError as error:
        raise UserError(f"the checkpoint {path} cannot be read ({error.strerror}): restore it.") from error
    found = hashlib.sha256(content).hexdigest()
    if found != entry["weights"]["sha256"]:
        raise UserError(f"the checkpoint {path} is damaged (its checksum differs): restore it or start a new run.")
    if vouched is not None:
        vouched.check(f"{run.checkpoints.name}/{path.name}", found)
    return Weights(path, content, entry)


def load_weights(
    module: GenerativeModule, run: RunFolder, which: str = "best", trust: Trust | None = None
) -> dict[str, Any]:
    """Load a checkpoint's weights and detector statistics into ``module``; gives the index entry.

    Args: see :func:`verified`.
    """
    weights = verified_weights(run, which, trust)
    weights.load_into(module)
    return weights.entry
