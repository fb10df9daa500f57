"""The two ways in which something protected is refused."""

from securegan.errors import UserError


class AuthenticationError(UserError):
    """What was given is not what somebody with the key made; one message for every cause, so that none is learnt.

    A wrong key, a changed, truncated, reordered or spliced text: whoever forges learns no more than that it failed.
    """

    def __init__(self, what: object) -> None:
        super().__init__(f"{what} is refused: it was changed, is not complete, or is under another key.")


class PolicyError(UserError):
    """Refused for a fact that anybody can see: a version, an unknown or revoked key, a purpose, a size."""
