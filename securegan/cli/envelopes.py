"""Commands on envelopes: ``seal``, ``open`` and ``rewrap``."""

import argparse
import os
import stat
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from securegan.cli.ending import ended_tidily
from securegan.cli.keys import add_ring, open_ring
from securegan.cli.parser import PROGRAM, Commands
from securegan.cli.terminal import complain, say
from securegan.errors import UserError
from securegan.security.envelope import SUFFIX

if TYPE_CHECKING:
    from securegan.security.envelope.header import Header
    from securegan.security.envelope.recipients import Identity, Password, Recipient
    from securegan.security.keys.ring import KeyRing

STREAM = Path("-")
PASSWORD = "SECUREGAN_PASSWORD"
VARIABLE = "env:"


def add(commands: Commands) -> None:
    """The commands of this module."""
    seal = commands.add_parser("seal", help="encrypt a file or a whole folder for keys or a password")
    seal.add_argument("path", type=Path, metavar="PATH", help="a file, a folder, or - for what is piped in")
    seal.add_argument("--out", type=Path, metavar="FILE", help=f"default: PATH{SUFFIX}; - for a pipe")
    _add_recipients(seal)
    seal.add_argument("--purpose", help="image, checkpoint, dataset, run or transport (default: as the key's, if one)")
    seal.add_argument(
        "--object", metavar="ID", help="a name that all versions share, for all to read (default: random)"
    )
    seal.add_argument("--version", type=int, default=0, metavar="N", help="older ones are refused once N was opened")
    seal.add_argument("--skip-links", action="store_true", help="leave links of a folder out instead of refusing it")
    _add_common(seal)
    seal.set_defaults(do=_seal)
    opened = commands.add_parser("open", help="decrypt what was sealed; exit code 1 where it was changed")
    opened.add_argument(
        "paths", type=Path, nargs="+", metavar="FILE", help="envelopes, folders of them, or - for what is piped in"
    )
    opened.add_argument(
        "--out", type=Path, metavar="PATH", help=f"default: FILE without {SUFFIX}; of several, a folder; - for a pipe"
    )
    add_opening(opened)
    _add_password(opened)
    opened.add_argument("--purpose", help="refuse an envelope for any other")
    opened.add_argument("--object", metavar="ID", help="refuse an envelope of any other")
    opened.add_argument("--at-least", type=int, default=0, metavar="N", help="refuse older versions")
    opened.add_argument("--older", action="store_true", help="open a version older than one that was opened before")
    opened.add_argument("--info", action="store_true", help="tell what anybody can read of it, unchecked, and no more")
    _add_common(opened)
    opened.set_defaults(do=_open)
    rewrap = commands.add_parser("rewrap", help="seal envelopes for other keys, their content as it is")
    rewrap.add_argument("paths", type=Path, nargs="+", metavar="FILE")
    _add_recipients(rewrap)
    rewrap.add_argument(
        "--key", action="append", default=[], metavar="KEY", help="that opens them (default: every key of the ring)"
    )
    rewrap.add_argument("--old-password-file", type=Path, metavar="FILE", help="the first line opens them")
    rewrap.add_argument(
        "--even-revoked", action="store_true", help="open by keys that are revoked, to save what is left"
    )
    rewrap.add_argument("--add", action="store_true", help="keep the recipients there are")
    add_ring(rewrap)
    rewrap.set_defaults(do=_rewrap)


def _add_recipients(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--to",
        action="append",
        default=[],
        metavar="KEY",
        help="name or kid, a file of a public or secret key, or env:NAME; may be given again",
    )
    _add_password(parser)


def add_opening(parser: argparse.ArgumentParser) -> None:
    """The options that say which keys open what is sealed."""
    parser.add_argument(
        "--key", action="append", default=[], metavar="KEY", help="as of seal --to (default: every key of the ring)"
    )
    parser.add_argument(
        "--even-revoked", action="store_true", help="open by keys that are revoked, to save what is left"
    )


def _add_password(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--password", action="store_true", help=f"asked for, unless ${PASSWORD} holds it")
    parser.add_argument("--password-file", type=Path, metavar="FILE", help="the first line of FILE is the password")


def _add_common(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--force", action="store_true", help="replace what is there")
    parser.add_argument("--backend", default="cryptography", help="cryptography or pycryptodome")
    add_ring(parser)


def _seal(arguments: argparse.Namespace) -> None:
    from securegan.security.envelope.backends import load_backend
    from securegan.security.envelope.files import facts_for, seal
    from securegan.security.envelope.recipients import RingKey

    path, ring = arguments.path, open_ring(arguments)
    recipients = _recipients(arguments, ring)
    purpose = arguments.purpose or _purpose(recipients)
    out = arguments.out or _beside(path, path.with_name(path.name + SUFFIX))
    seal(
        sys.stdin.buffer if path == STREAM else path,
        sys.stdout.buffer if out == STREAM else out,
        recipients,
        facts_for(purpose, arguments.object, arguments.version),
        backend=load_backend(arguments.backend),
        replace=arguments.force,
        skip_links=arguments.skip_links,
    )
    for one in recipients:
        if isinstance(one, RingKey):
            _count(ring, one)
    if out != STREAM:
        say(f"{path} is sealed in {out}, for the purpose {purpose}")


def _open(arguments: argparse.Namespace) -> None:
    from securegan.security.envelope.backends import load_backend
    from securegan.security.envelope.files import open_envelope, read_header
    from securegan.security.envelope.versions import Expected, Versions

    envelopes = _envelopes(arguments.paths)
    if arguments.info:
        for path in envelopes:
            for line in _told(read_header(_source(path))):
                say(line)
        return
    ring = open_ring(arguments)
    places = _places(envelopes, arguments.paths, arguments.out)
    identities = _identities(arguments, ring)
    expected = Expected(arguments.purpose, arguments.object, arguments.at_least)
    versions = None if arguments.older or not ring.folder.is_dir() else Versions(ring.folder / "seen.json", ring)
    backend = load_backend(arguments.backend)
    for path, out in zip(envelopes, places, strict=True):
        with ended_tidily():
            header = open_envelope(
                _source(path),
                sys.stdout.buffer if out == STREAM else out,
                identities,
                expected,
                versions=versions,
                backend=backend,
                replace=arguments.force,
            )
        if out != STREAM:
            say(
                f"{path} is whole, as its sealer made it, who could be anybody with {_sealers_of(header)}; "
                f"the {header.facts.form} in it is {out}"
            )


def _source(path: Path) -> "Path | BinaryIO":
    return sys.stdin.buffer if path == STREAM else path


def _envelopes(paths: Sequence[Path]) -> list[Path]:
    """Those named, and those that lie in folders named."""
    found: list[Path] = []
    for path in paths:
        within = [path]
        if path.is_dir():
            within = sorted(each for each in path.glob(f"[!.]*{SUFFIX}") if not each.is_dir())
        elif path != STREAM and not path.exists():
            raise UserError(f"{path} cannot be read: there is no such file.")
        if not within:
            raise UserError(f"there is no envelope (*{SUFFIX}) in {path}.")
        found += within
    if len(found) > 1 and STREAM in found:
        raise UserError("- is one envelope: it cannot be opened together with others.")
    return found


def _places(envelopes: Sequence[Path], paths: Sequence[Path], out: Path | None) -> list[Path]:
    """Where what is in each goes: of several, or of a folder, into the folder ``out``, which is made, or beside it."""
    if len(paths) == 1 and not paths[0].is_dir():
        (path,) = envelopes
        return [out or _beside(path, _plain(path) if path.suffix == SUFFIX else None)]
    if out == STREAM:
        raise UserError("what is in several envelopes does not go into one pipe: name a folder.")
    if strange := [path for path in envelopes if path.suffix != SUFFIX]:
        raise UserError(f"{strange[0]} does not end in {SUFFIX}: open it alone, with --out.")
    places = [_plain(path) if out is None else out / _plain(path).name for path in envelopes]
    if len(set(places)) < len(places):
        raise UserError("two of these envelopes have the same name: open their folders one by one.")
    if out is not None:
        try:
            out.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UserError(f"--out={out} cannot be made: {error.strerror}.") from error
    return places


def _plain(path: Path) -> Path:
    name = path.name.removesuffix(SUFFIX)
    if name in (".", ".."):
        raise UserError(f"{path} has no name without {SUFFIX}: open it alone, with --out.")
    return path.with_name(name)


def _rewrap(arguments: argparse.Namespace) -> None:
    from securegan.security.envelope.files import rewrap
    from securegan.security.envelope.recipients import Password, RingKey

    ring = open_ring(arguments)
    recipients = _recipients(arguments, ring)
    identities = opening(arguments, ring)
    if arguments.old_password_file is not None:
        identities = [Password(_first_line("--old-password-file", arguments.old_password_file)), *identities]
    for path in arguments.paths:
        header = rewrap(path, identities, recipients, add=arguments.add)
        say(f"{path} is now sealed for {_recipients_of(header)}")
    for one in recipients:
        if isinstance(one, RingKey):
            _count(ring, one, len(arguments.paths))


def _recipients(arguments: argparse.Namespace, ring: "KeyRing") -> "list[Recipient]":
    from securegan.security.envelope.recipients import PublicKey, RingKey, SecretKey

    found: list[Recipient] = []
    for name in arguments.to:
        path = Path(name)
        if name.startswith(VARIABLE):
            found.append(SecretKey.from_environment(name.removeprefix(VARIABLE)))
        elif _is_file(name, ring):
            public = path.read_bytes()[:10] == b"-----BEGIN"
            found.append(PublicKey.from_file(path) if public else SecretKey.from_file(path))
        else:
            found.append(RingKey(ring, ring.find(name)))
    password = _password(arguments, twice=True)
    found += [password] if password else []
    if not found:
        raise UserError("for whom? Name keys with --to, or give --password.")
    return found


def _identities(arguments: argparse.Namespace, ring: "KeyRing") -> "list[Identity]":
    password = _password(arguments, twice=False)
    if password and not arguments.key:
        return [password]
    return [*opening(arguments, ring), *([password] if password else [])]


def opening(arguments: argparse.Namespace, ring: "KeyRing") -> "list[Identity]":
    """The named keys, or the whole ring; of a name, those too that it has had before."""
    from securegan.security.envelope.recipients import Ring, SecretKey
    from securegan.security.keys.secret import read_secret

    if not arguments.key:
        return [Ring(ring, even_revoked=arguments.even_revoked)]
    found: list[Identity] = []
    for name in arguments.key:
        if name.startswith(VARIABLE):
            found += [SecretKey.from_environment(name.removeprefix(VARIABLE), kind) for kind in ("aes256", "x25519")]
        elif _is_file(name, ring):
            found += [SecretKey(read_secret(Path(name)), kind) for kind in ("aes256", "x25519")]
        else:
            key = ring.find(name)
            keys = [other for other in ring if other == key or (key.name == name and other.name == name)]
            found.append(Ring(ring, keys, even_revoked=arguments.even_revoked))
    return found


def _is_file(name: str, ring: "KeyRing") -> bool:
    """A key of the ring goes before a file of the same name."""
    return Path(name).is_file() and ("/" in name or all(name not in (key.name, key.kid) for key in ring))


def _password(arguments: argparse.Namespace, *, twice: bool) -> "Password | None":
    from securegan.security.envelope.passwords import require_strong
    from securegan.security.envelope.recipients import Password

    if arguments.password_file is not None:
        text = _first_line("--password-file", arguments.password_file)
    elif not arguments.password:
        return None
    else:
        text = os.environ.get(PASSWORD) or _asked(twice=twice)
    if twice:
        require_strong(text)
    return Password(text)


def _first_line(flag: str, path: Path) -> str:
    try:
        with path.open(encoding="utf-8") as file:
            mode = os.fstat(file.fileno()).st_mode
            if stat.S_ISREG(mode) and mode & 0o077:
                raise UserError(f"{flag}={path} is open to others: chmod 600 {path}, and change it if they read it.")
            return file.readline().rstrip("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{flag}={path} cannot be read as text.") from error


def _asked(*, twice: bool) -> str:
    from getpass import getpass

    if not sys.stdin.isatty():
        raise UserError(f"there is no terminal to ask for the password: set {PASSWORD}, or give --password-file.")
    text = getpass("Password: ")
    if twice and getpass("The same again: ") != text:
        raise UserError("the two passwords differ.")
    return text


def _purpose(recipients: "Sequence[Recipient]") -> str:
    """The only purpose that all keys of the ring have, or transport where they have that among others."""
    from securegan.security.envelope.header import ENVELOPES
    from securegan.security.envelope.recipients import RingKey

    allowed = [*ENVELOPES]
    for one in recipients:
        if isinstance(one, RingKey):
            allowed = [purpose for purpose in allowed if purpose in one.key.purposes]
    if len(allowed) == 1:
        return allowed[0]
    if "transport" in allowed:
        return "transport"
    raise UserError(
        f"for which purpose? Give --purpose {' or '.join(allowed)}."
        if allowed
        else "these keys do not go together: they have no purpose in common."
    )


def _beside(path: Path, out: Path | None) -> Path:
    if out is None or path == STREAM:
        raise UserError("where to? Give --out.")
    return out


def _count(ring: "KeyRing", recipient: object, envelopes: int = 1) -> None:
    """The envelope is there already: a ring that cannot be written is worth a word, not a failure."""
    from securegan.security.envelope.recipients import RingKey

    assert isinstance(recipient, RingKey)
    try:
        ring.count(recipient.key, envelopes)
    except UserError as error:
        complain(f"{PROGRAM}: not counted: {error}")


def _recipients_of(header: "Header") -> str:
    return ", ".join(f"key {stanza.kid[:8]}" if stanza.kid else "a password" for stanza in header.stanzas)


def _sealers_of(header: "Header") -> str:
    """What it takes to seal such an envelope; docs/encryption.md has the rest."""
    from securegan.security.envelope.header import HPKE

    return " or ".join(
        f"the public part of key {stanza.kid[:8]}"
        if stanza.type == HPKE and stanza.kid
        else f"key {stanza.kid[:8]}"
        if stanza.kid
        else "the password"
        for stanza in header.stanzas
    )


def _told(header: "Header") -> list[str]:
    from securegan.security.spelling import as_text

    facts = header.facts
    lines = {
        "holds": f"a {facts.form}",
        "purpose": facts.purpose,
        "object": facts.object_id,
        "version": facts.version or "none",
        "sealed": as_text(facts.created),
        "for": _recipients_of(header),
    }
    return [f"{name:8} {value}" for name, value in lines.items()]
