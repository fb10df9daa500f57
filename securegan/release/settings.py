"""The ``security`` group of a run's configuration: what is signed and sealed of it, and what it must find signed."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from securegan.configuration.types import PositiveInt
from securegan.errors import ConfigError
from securegan.release.plan import Flagged

if TYPE_CHECKING:
    from securegan.release.keys import ReleaseKeys
    from securegan.security.provenance.trust import Trust


class Security:
    """Signed checkpoints, and a released set of samples: screened, signed, logged and, if asked, sealed.

    Names of keys stand here, never keys: those lie in a key ring outside of the run.
    """

    def __init__(
        self,
        *,
        images: PositiveInt = 64,
        on_flagged: Flagged = "review",
        sign_with: str = "release",
        log_with: str | None = None,
        encrypt: bool = False,
        encrypt_to: Sequence[str] = ("reader",),
        keys: str | None = None,
        log: str | None = None,
        require_signed: bool = False,
        trust: str | None = None,
    ) -> None:
        """Args:
        images: sampled for the set in the run's ``release/``, with those that its detectors flag.
        on_flagged: flagged images are laid into ``release/review`` or not written.
        sign_with: name or kid of an Ed25519 key, for checkpoints and images.
        log_with: the same for the log, which speaks for images when another key that signed them is compromised; the
            key of ``sign_with`` where it is not given.
        encrypt: seal the images.
        encrypt_to: names or kids of keys, or PEM files of somebody's X25519 key.
        keys: folder of the key ring; ``$SECUREGAN_KEYS`` or ``~/.config/securegan/keys`` where it is not given.
        log: folder of a log for several runs; each has its own where it is not given.
        require_signed: load no checkpoint, of this run or another, that no trusted key has signed.
        trust: the trust store that says whose; this machine's own where it is not given.
        """
        if encrypt and not encrypt_to:
            raise ConfigError("security.encrypt_to=[] is not allowed with security.encrypt=true: expected a key.")
        self.images, self.on_flagged, self.sign_with = images, on_flagged, sign_with
        self.log_with = log_with
        self.encrypt_to = tuple(encrypt_to) if encrypt else ()
        self.keys = None if keys is None else Path(keys).expanduser()
        self.log = None if log is None else Path(log).expanduser()
        self.require_signed = require_signed
        self._trust = None if trust is None else Path(trust).expanduser()

    def find_keys(self) -> "ReleaseKeys":
        """The keys, before anything is trained. Raises UserError or PolicyError where one is missing or out of use."""
        from securegan.release.keys import ReleaseKeys

        found = ReleaseKeys.find(self.keys, self.sign_with, self.encrypt_to, self.log_with)
        found.ring.find(self.sign_with).require("sign", "checkpoint")
        return found

    def trust(self) -> "Trust | None":
        """Who must have signed what is loaded; None where nobody must."""
        from securegan.security.provenance.requirement import given_store

        return given_store(self._trust) if self.require_signed else None
