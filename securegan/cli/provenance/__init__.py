"""Commands on signatures: ``verify``, ``sign``, ``trust`` and ``log``."""

from securegan.cli.parser import Commands
from securegan.cli.provenance import audit_log, trust_store, verifying


def add(commands: Commands) -> None:
    """The commands of this package."""
    verifying.add(commands)
    trust_store.add(commands.add_parser("trust", help="whose signatures count: make, change or show a trust store"))
    audit_log.add(commands.add_parser("log", help="the audit log: show, prove, export or verify it"))
