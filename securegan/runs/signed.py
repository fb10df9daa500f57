"""Signed checkpoints: who vouches for a run's weights and for the configuration they are rebuilt with.

Beside each checkpoint lies ``epoch-N.sg.json``, a signed statement with the digests of its two files, of
``config.yaml`` and of ``data.json``. It is written before the index names the checkpoint, so that a run killed at any
moment has none unsigned.
"""

from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from securegan.runs.folder import CONFIG, SPEC, RunFolder
from securegan.security.durable import written
from securegan.security.errors import PolicyError
from securegan.security.provenance import dsse, statement
from securegan.security.provenance.authenticity import authenticate
from securegan.security.provenance.directory import LIMIT
from securegan.security.provenance.files import digest_file, read_regular
from securegan.security.provenance.sidecar import SUFFIX
from securegan.security.provenance.signing import Signer
from securegan.security.provenance.statement import DirectoryOrigin, Statement, Subject
from securegan.security.provenance.trust import Trust
from securegan.security.provenance.verdicts import Verdict

PURPOSE: Final = "checkpoint"
BESIDE = (CONFIG, SPEC)  # of the run folder


def require_trusted(signer: Signer | None, trust: Trust) -> None:
    """Raises PolicyError where checkpoints signed by ``signer`` now would not be loaded: before they are trained."""
    if signer is None:
        raise PolicyError("signatures are required, and this run would sign nothing: give security=signed.")
    key = trust.keys.get(signer.kid)
    verdict = Verdict.UNKNOWN_SIGNER if key is None else key.standing(PURPOSE, datetime.now(UTC))
    if verdict is not None:
        raise PolicyError(
            f"signatures are required, and those of this run would not count: {verdict} ({signer.kid} in the store "
            f"{trust.contents.name}); add its key with securegan trust add --for checkpoint."
        )


def signature_of(entry: Mapping[str, Any]) -> str:
    """The name of the file that vouches for an index' entry."""
    return Path(entry["file"]).stem + SUFFIX


def sign_checkpoint(folder: RunFolder, entry: Mapping[str, Any], signer: Signer, seed: int) -> None:
    """Vouch for a checkpoint whose files are complete, and for the configuration that ``folder`` holds."""
    files = [f"{folder.checkpoints.name}/{name}" for name in (entry["file"], entry["weights"]["file"])]
    digests = {name: folder.digest(name) for name in BESIDE} | {name: digest_file(folder.path / name) for name in files}
    subjects = tuple(Subject(name, digest) for name, digest in digests.items())
    origin = DirectoryOrigin(holds="checkpoint", model=entry["weights"]["sha256"], seed=seed)
    signed = dsse.sign(statement.PAYLOAD, Statement(subjects, origin).payload(), signer)
    with written(folder.checkpoints / signature_of(entry), replace=True, mode=0o644) as file:
        file.write(signed)


class Vouched:
    """What a trusted key signed of a checkpoint."""

    def __init__(self, folder: RunFolder, entry: Mapping[str, Any], trust: Trust) -> None:
        """Raises PolicyError where nobody who is trusted signed it together with the configuration of ``folder``."""
        run = folder.path
        path = folder.checkpoints / signature_of(entry)
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
        for name in BESIDE:
            self.check(name, folder.digest(name))

    def check(self, name: str, digest: str) -> None:
        """Raises PolicyError where ``digest`` (SHA-256) is not that of what was signed as the run's file ``name``."""
        if self.digests.get(name) != digest:
            raise PolicyError(f"{self.run / name} is refused: it is not what was signed.")
