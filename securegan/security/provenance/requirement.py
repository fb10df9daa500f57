"""Whose signatures this process asks for: a store that the user named, the environment's, or this machine's own."""

import os
from pathlib import Path

from securegan.security.provenance.memory import Memory
from securegan.security.provenance.signing import PublicKey
from securegan.security.provenance.trust import Trust, as_mistake, read_store

REQUIRED = "SECUREGAN_REQUIRE_SIGNED"  # 1, or the path of a trust store


def required() -> Trust | None:
    """Who must have signed every run and export that this process loads; None where its environment asks for nobody.

    A run's own configuration can ask for somebody too, but whoever can change the run can change that.
    Raises UserError or PolicyError where the store cannot be used.
    """
    return given_store(None) if _wanted() not in ("", "0") else None


def given_store(
    path: Path | None, memory: Memory | None = None, root: PublicKey | None = None, name: str | None = None
) -> Trust:
    """:func:`.trust.read_store` of a file, or of the one that the environment names, or else of the machine's own.

    Raises UserError or PolicyError where it cannot be used, forged or not: no verdict was given by it yet.
    """
    memory = memory or Memory()
    named = None if _wanted() in ("", "0", "1") else Path(_wanted()).expanduser()
    with as_mistake():
        return read_store(path or named or memory.folder / "store.json", memory, root, name=name)


def _wanted() -> str:
    return os.environ.get(REQUIRED, "")
