"""The keys of a release: who signs it and its log, and for whom it is sealed."""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from securegan.errors import UserError
from securegan.security.envelope.recipients import PublicKey as SealingKey
from securegan.security.envelope.recipients import Recipient, RingKey
from securegan.security.errors import AuthenticationError, PolicyError
from securegan.security.keys.key import Key
from securegan.security.keys.ring import KeyRing
from securegan.security.provenance.log import Log
from securegan.security.provenance.note import Checkpoint
from securegan.security.provenance.signing import PublicKey, Signer, log_keys_of, signer_of
from securegan.security.spelling import as_text

PURPOSE: Final = "image"


@dataclass(frozen=True)
class ReleaseKeys:
    """Found and fit for their purposes; holds no secret but the signer's, which shows none."""

    ring: KeyRing
    signer: Signer
    keeper: Signer  # of the log; a key of its own lets the log speak for images when the signer's is compromised
    signed_before: tuple[PublicKey, ...]  # other keys of the ring that sign logs: it may have been rotated
    recipients: tuple[Recipient, ...]
    kids: tuple[str, ...]  # of the recipients
    counted: tuple[Key, ...]  # those of them that lie in the ring

    @classmethod
    def find(
        cls, folder: Path | None, sign_with: str, encrypt_to: Sequence[str] = (), log_with: str | None = None
    ) -> "ReleaseKeys":
        """The keys of the ring in ``folder``, by default the user's.

        Args:
            folder: of the key ring.
            sign_with: name or kid of an Ed25519 key.
            encrypt_to: names, kids, or PEM files of somebody's X25519 key, of which the ring may know more.
            log_with: as sign_with, of the log; the same key where it is not given.

        Raises UserError where one is missing, or PolicyError where it must not be used so.
        """
        ring = KeyRing.open(folder)
        signer, keeper = signer_of(ring, sign_with, PURPOSE), signer_of(ring, log_with or sign_with, "log")
        recipients: list[Recipient] = []
        kids, counted = [], []
        for name in encrypt_to:
            theirs = SealingKey.from_file(Path(name)) if Path(name).suffix == ".pem" else None
            own = ring.find(name) if theirs is None else _of_kid(ring, theirs.kid)
            if own is None:
                assert theirs is not None
                recipients.append(theirs)
                kids.append(theirs.kid)
                continue
            own.require("seal", PURPOSE)
            recipients.append(RingKey(ring, own))
            kids.append(own.kid)
            counted.append(own)
        return cls(
            ring,
            signer,
            keeper,
            log_keys_of(ring),
            tuple(recipients),
            tuple(sorted(kids)),
            tuple(counted),
        )

    def check(self) -> None:
        """Raises PolicyError where a key has expired, or was revoked or replaced, since it was found."""
        ring = KeyRing.open(self.ring.folder)
        ring.find(self.signer.kid).require("sign", PURPOSE)
        ring.find(self.keeper.kid).require("sign", "log")
        for kid in self.kids:
            if (key := _of_kid(ring, kid)) is not None:
                key.require("seal", PURPOSE)

    def are_for(self, kids: Sequence[str]) -> bool:
        """Whether the recipients are those of ``kids``, or keys that took the place of those under their names."""
        return {self._who(kid) for kid in kids} == {self._who(kid) for kid in self.kids}

    def _require_unstolen(self, log: Log) -> None:
        """Raises PolicyError where the log is under a key that the ring holds for compromised."""
        for held in self.ring:
            if "log" in held.purposes and held.reason == "compromised" and held.public:
                with suppress(AuthenticationError):
                    log.checkpoint([PublicKey(held.public)])
                    at = "" if held.revoked_at is None else f" on {as_text(held.revoked_at)}"
                    raise PolicyError(
                        f"{log.checkpoint_path} is refused: it is under the key {held}, which was revoked{at} "
                        "(compromised), and whoever has that can sign any log: begin a new "
                        "release, with another --out and another log."
                    )

    def _who(self, kid: str) -> str:
        key = _of_kid(self.ring, kid)
        return kid if key is None else f"key {key.name}"

    def require_keeper(self, log: Log) -> Checkpoint:
        """The log's newest checkpoint. Raises UserError where the log would go over to a key of another name.

        A key that took the place of one of its own name goes on with that one's log.
        """
        try:
            checkpoint, key = log.checkpoint([self.keeper.public, *self.signed_before])
        except AuthenticationError:
            self._require_unstolen(log)
            raise
        before, now = (self.ring.find(kid) for kid in (key.kid, self.keeper.kid))
        if before.name != now.name:
            raise UserError(
                f"the log {log.folder} is under the key {before}, not {now}: name {before.name} as the log's key "
                "(--log-with, security.log_with), or take another log."
            )
        return checkpoint


def recipients_of(ring: KeyRing, kids: Sequence[str]) -> list[str]:
    """The names of a release's recipients in a ring, whose newest keys it goes on under; else ``encrypt_to``'s.

    Raises UserError where the ring lacks one.
    """
    names = []
    for kid in kids:
        key = _of_kid(ring, kid)
        if key is None:
            raise UserError(
                f"the release is sealed for the key {kid}, which the key ring {ring.folder} lacks: name all that it is "
                "sealed for with --encrypt-to, that one by its PEM file."
            )
        names.append(key.name)
    return list(dict.fromkeys(names))


def _of_kid(ring: KeyRing, kid: str) -> Key | None:
    return next((key for key in ring if key.kid == kid), None)
