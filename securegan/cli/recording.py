"""``--log``: an audit log that says what a command did to a key or to a trust store."""

import argparse
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal, TypeAlias

from securegan.cli.parser import Parser
from securegan.errors import UserError

Record: TypeAlias = Callable[..., object]


def recording(parser: Parser) -> None:
    """Which log, and which key signs it."""
    parser.add_argument("--log", type=Path, metavar="LOG", help="an audit log that is to say so")
    parser.add_argument("--log-key", metavar="KEY", help="that signs the log: its name or kid in the key ring")


@contextmanager
def recorded(arguments: argparse.Namespace, kind: Literal["key", "trust"]) -> Iterator[Record]:
    """``record(name, **details)`` adds an entry to the log that was named, if one was; it stands when the block ends.

    Before the block the log is locked and verified, and what is begun stands in it, signed and flushed: nothing is done
    that could not be logged. After it stands what came of it, or that it was refused; an entry without either was cut
    short. Where what was done cannot be written any more, the error says that it was done.
    Raises UserError, AuthenticationError or PolicyError.
    """
    if (arguments.log is None) != (arguments.log_key is None):
        raise UserError("--log and --log-key belong together: the log, and the key that signs it.")
    if arguments.log is None:
        yield lambda name, **details: None
        return
    from securegan.security.keys.ring import KeyRing
    from securegan.security.provenance.log import Entry, Log
    from securegan.security.provenance.signing import log_keys_of, signer_of

    ring = KeyRing.open(arguments.keys)
    signer = signer_of(ring, arguments.log_key, "log")
    audit_log, done = Log(arguments.log), list[str]()
    try:
        command = arguments.do.__name__.strip("_")
        begun = Entry(kind=kind, name=arguments.name, details={"event": "begun", "command": command})
        begun.line()
    except ValueError as error:
        raise UserError(f"a log cannot hold the name {arguments.name!r}.") from error
    if not audit_log.checkpoint_path.is_file():
        raise UserError(f"{arguments.log} is no audit log: securegan log new makes one.")

    def record(name: str, **details: str | int) -> None:
        done.append(f"{kind} {name} {details['event']}")
        log.append(Entry(kind=kind, name=name, details=details))

    try:
        with audit_log.writing(signer, log_keys_of(ring)) as log:
            log.append(begun)
            log.commit()
            try:
                yield record
            except UserError:
                log.append(begun.model_copy(update={"details": begun.details | {"event": "refused"}}))
                raise
    except UserError as error:
        if done:
            raise UserError(f"this WAS done, and the log does not say so ({', '.join(done)}): {error}") from error
        raise
