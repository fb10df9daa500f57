"""Signed checkpoints: who vouches for a run's weights and for the configuration they are rebuilt with.

Beside each checkpoint lies ``epoch-N.sg.json``, a signed statement with the digests of its two files, of
``config.yaml`` and of ``data.json``. It is written before the index names the checkpoint, so that a run killed at any
moment has none unsigned.
"""

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from securegan.errors import UserError
from securegan.security.durable import written
from securegan.security.errors import PolicyError
from securegan.security.provenance import dsse, statement
from securegan.security.provenance.authenticity import authenticate
from securegan.security.provenance.directory import LIMIT
from securegan.security.provenance.files import digest_file, read_regular
from securegan.security.provenance.memory import Memory
from securegan.security.provenance.sidecar import SUFFIX
from securegan.security.provenance.signing import Signer
from securegan.security.provenance.statement import DirectoryOrigin, Statement, Subject
from securegan.security.provenance.trust import Trust, read_store

PURPOSE: Final = "checkpoint"
BESIDE = ("config.yaml", "data.json")  # of the run folder


def trust_store(path: Path | None) -> Trust:
    """The trust store of a file, by default ``store.json`` where this machine remembers what it trusts."""
    memory = Memory()
    return read_store(path or memory.folder / "store.json", memory)


def signature_of(entry: Mapping[str, Any]) -> str:
    """The name of the file that vouches for an index' entry."""
    return Path(entry["file"]).stem + SUFFIX


def sign_checkpoint(run: Path, entry: Mapping[str, Any], signer: Signer, seed: int) -> None:
    """Vouch for a checkpoint of the run in ``run``, whose files are complete."""
    names = [*BESIDE, *(f"checkpoints/{name}" for name in (entry["file"], entry["weights"]["file"]))]
    subjects = tuple(Subject(name, digest_file(run / name)) for name in names)
    origin = DirectoryOrigin(holds="checkpoint", model=entry["weights"]["sha256"], seed=seed)
    signed = dsse.sign(statement.PAYLOAD, Statement(subjects, origin).payload(), signer)
    with written(run / "checkpoints" / signature_of(entry), replace=True, mode=0o644) as file:
        file.write(signed)


class Vouched:
    """What a trusted key signed of a checkpoint."""

    def __init__(self, run: Path, entry: Mapping[str, Any], trust: Trust) -> None:
        """Raises PolicyError where nobody, or nobody trusted, signed it."""
        path = run / "checkpoints" / signature_of(entry)
        try:
            signed = read_regular(path, LIMIT)
        except OSError as error:
            raise PolicyError(
                f"the checkpoint {entry['file']} of {run} is refused: signatures are required and it has none "
                f"({error.strerror})."
            ) from error
        try:
            _, found = authenticate(signed, trust, DirectoryOrigin, PURPOSE)
        except PolicyError as error:
            raise PolicyError(f"the checkpoint {entry['file']} of {run} is refused: {error}") from error
        self.run = run
        self.digests = {subject.name: subject.sha256 for subject in found.subjects}

    def check(self, name: str, content: bytes) -> None:
        """Raises PolicyError where ``content`` is not what was signed as the run's file ``name``."""
        if self.digests.get(name) != hashlib.sha256(content).hexdigest():
            raise PolicyError(f"{self.run / name} is refused: it is not what was signed.")

    def check_file(self, name: str) -> None:
        """The same of a file that lies there, of any size."""
        try:
            found = digest_file(self.run / name)
        except OSError as error:
            raise UserError(f"{self.run / name} cannot be read: {error.strerror}.") from error
        if self.digests.get(name) != found:
            raise PolicyError(f"{self.run / name} is refused: it is not what was signed.")
