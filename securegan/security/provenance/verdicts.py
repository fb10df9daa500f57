"""What verification says of a file, and which of it is acceptable."""

from enum import StrEnum


class Verdict(StrEnum):
    """One word for scripts; what is not acceptable comes after the first two."""

    BYTE_EXACT = "byte-exact"
    PIXELS_EXACT = "pixels-exact"
    MODIFIED = "modified"
    UNKNOWN_SIGNER = "unknown signer"
    REVOKED = "revoked"
    EXPIRED = "expired"
    NOT_YET_VALID = "not yet valid"
    WRONG_PURPOSE = "wrong purpose"
    REFUSED = "refused"  # the signature does not verify, or what it signs is not understood
    UNSIGNED = "unsigned"
    MISSING = "missing"  # a signature without its file

    @property
    def acceptable(self) -> bool:
        """Whether what was signed is what is there, by a key trusted for it."""
        return self in (Verdict.BYTE_EXACT, Verdict.PIXELS_EXACT)
