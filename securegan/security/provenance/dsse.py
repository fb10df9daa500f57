"""DSSE, the envelope of a signed text (github.com/secure-systems-lab/dsse, protocol 1.0), with one signature.

The signature is over type and text together (PAE), so that nothing signed as one kind of text passes for another, and
over the very bytes: there is no canonical form to disagree on. The envelope has one layout, and any other is refused:
no byte of it can be changed, though JSON and base64 know many ways to write the same.
"""

import re
from base64 import b64encode
from typing import NamedTuple

from securegan.security.errors import AuthenticationError
from securegan.security.provenance.signing import PublicKey, Signer
from securegan.security.spelling import from_base64

LAYOUT = '{"payload":"%s","payloadType":"%s","signatures":[{"keyid":"%s","sig":"%s"}]}\n'
READ = re.compile(
    rb'\{"payload":"([A-Za-z0-9+/]*={0,2})","payloadType":"([a-z0-9.+/-]+)",'
    rb'"signatures":\[\{"keyid":"([0-9a-f]{32})","sig":"([A-Za-z0-9+/]{86}==)"\}\]\}\n'
)


def pae(kind: str, payload: bytes) -> bytes:
    """The pre-authentication encoding: what is signed."""
    named = kind.encode()
    return b"DSSEv1 %d %b %d %b" % (len(named), named, len(payload), payload)


def sign(kind: str, payload: bytes, signer: Signer) -> bytes:
    """The envelope of ``payload`` of the media type ``kind``."""
    signature = b64encode(signer.sign(pae(kind, payload))).decode()
    return (LAYOUT % (b64encode(payload).decode(), kind, signer.kid, signature)).encode()


class Envelope(NamedTuple):
    """An envelope of which nothing is verified yet; ``keyid`` is a hint where to look for the key, no more."""

    kind: str
    keyid: str
    unverified: bytes
    signature: bytes

    def payload(self, key: PublicKey, what: object) -> bytes:
        """The text, if ``key`` signed it and is the one it names. Raises AuthenticationError about ``what``."""
        if self.keyid != key.kid or not key.verifies(self.signature, pae(self.kind, self.unverified)):
            raise AuthenticationError(what)
        return self.unverified


def read(data: bytes, kind: str, what: object) -> Envelope:
    """The envelope of a text of the media type ``kind``. Raises AuthenticationError about ``what``."""
    found = READ.fullmatch(data)
    if found is None or found[2].decode() != kind:
        raise AuthenticationError(what)
    try:
        return Envelope(kind, found[3].decode(), from_base64(found[1]), from_base64(found[4]))
    except ValueError as error:
        raise AuthenticationError(what) from error
