"""C2PA manifests inside PNG, JPEG and WebP files, by c2pa-python (``pip install 'securegan[c2pa]'``).

Beside our sidecar and saying the same, for software that knows C2PA. A manifest counts if its state is ``Trusted``:
``Valid`` alone is what anybody's own certificate gives. Nothing is fetched: no manifest from elsewhere, no OCSP. Some
bytes of a file (padding, labels, checksums) can be changed and it stays ``Trusted``; pixels and claims cannot.
"""

import json
from dataclasses import dataclass
from io import BytesIO
from typing import Any

from cryptography.x509 import load_pem_x509_certificates
from pydantic import ValidationError

from securegan.errors import UserError
from securegan.security.provenance.files import MAX_IMAGE
from securegan.security.provenance.pixels import BadPixels, digest_of_image
from securegan.security.provenance.signing import Signer
from securegan.security.provenance.statement import ImageOrigin

TRUSTED = "Trusted"
SOURCE = "http://cv.iptc.org/newscodes/digitalsourcetype/"
ORIGIN = "securegan.origin"  # our assertion: what the sidecar's predicate says
SOFT_BINDING = "securegan.watermark.1"  # our name for the watermark's algorithm; it is on no list of C2PA's
OFFLINE = {"remote_manifest_fetch": False, "ocsp_fetch": False}


@dataclass(frozen=True)
class Credentials:
    """``state`` as the library calls it, or why there is none; ``origin`` only where it is trusted."""

    state: str
    origin: ImageOrigin | None = None

    @property
    def trusted(self) -> bool:
        return self.origin is not None


def embed(data: bytes, title: str, signer: Signer, chain: str, origin: ImageOrigin) -> bytes:
    """The image file with a signed manifest in it; its pixels are the same.

    Args: chain: PEM of the signer's certificate, and of those between it and the anchor. Raises UserError.
    """
    c2pa = _library()
    created = {"action": "c2pa.created", "digitalSourceType": SOURCE + origin.source}
    assertions: list[dict[str, Any]] = [
        {"label": "c2pa.actions.v2", "data": {"actions": [created]}},
        {"label": ORIGIN, "data": origin.model_dump(exclude_none=True)},
    ]
    if origin.watermark is not None:
        blocks = [{"scope": {}, "value": origin.watermark.id}]
        assertions.append({"label": "c2pa.soft-binding", "data": {"alg": SOFT_BINDING, "blocks": blocks}})
    manifest = {"claim_generator_info": [{"name": "securegan"}], "title": title, "assertions": assertions}
    signed = BytesIO()
    try:
        with (
            c2pa.Context.from_dict({"verify": OFFLINE, "builder": {"thumbnail": {"enabled": False}}}) as context,
            c2pa.Signer.from_callback(signer.sign, c2pa.C2paSigningAlg.ED25519, chain, None) as library_signer,
            c2pa.Builder(json.dumps(manifest), context=context) as builder,
        ):
            builder.sign(library_signer, _media_type(data), BytesIO(data), signed)
    except c2pa.C2paError as error:
        raise UserError(f"{title} cannot be given a C2PA manifest: {error}.") from error
    return signed.getvalue()


def read(data: bytes, anchors: str) -> Credentials:
    """What the manifest inside an image file says, where it is trusted.

    Args: anchors: PEM of the certificates that are believed.
    Raises UserError where the library is missing, or they are none.
    """
    c2pa = _library()
    try:
        load_pem_x509_certificates(anchors.encode())
    except ValueError as error:
        raise UserError(f"the anchors hold no certificate: {error}.") from error
    settings = {"verify": OFFLINE | {"verify_trust": True}, "trust": {"trust_anchors": anchors}}
    try:
        with (
            c2pa.Context.from_dict(settings) as context,
            c2pa.Reader(_media_type(data), BytesIO(data), context=context) as reader,
        ):
            if not reader.is_embedded():
                return Credentials("the manifest is elsewhere")
            state, report = str(reader.get_validation_state()), json.loads(reader.json())
    except (c2pa.C2paError, UserError, ValueError) as error:
        return Credentials(f"none: {error}")
    if state != TRUSTED:
        return Credentials(state)
    try:
        digest_of_image(data)  # a file that others cannot open shows nothing that could be trusted
        return Credentials(state, _origin(report["manifests"][report["active_manifest"]]["assertions"]))
    except BadPixels as error:
        return Credentials(f"{state}, but the image {error}")
    except (ValidationError, KeyError, TypeError, ValueError):
        return Credentials(f"{state}, but it does not say what SecureGAN says of an image")


def _origin(assertions: list[dict[str, Any]]) -> ImageOrigin:
    """Our assertion, which the standard one must not contradict."""
    labels = [each["label"] for each in assertions]
    if labels.count(ORIGIN) != 1 or labels.count("c2pa.actions.v2") != 1:
        raise ValueError("not one assertion of each kind")
    origin = ImageOrigin.model_validate(assertions[labels.index(ORIGIN)]["data"])
    action = assertions[labels.index("c2pa.actions.v2")]["data"]["actions"][0]
    if action["action"] != "c2pa.created" or action["digitalSourceType"] != SOURCE + origin.source:
        raise ValueError("it contradicts itself")
    return origin


def _media_type(data: bytes) -> str:
    """By the content. Raises UserError where it is none of the three, or too large."""
    if len(data) > MAX_IMAGE:
        raise UserError(f"an image of more than {MAX_IMAGE // 2**20} MiB gets no C2PA manifest.")
    if data.startswith(b"\x89PNG\r\n\x1a\n"):
        return "image/png"
    if data.startswith(b"\xff\xd8\xff"):
        return "image/jpeg"
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "image/webp"
    raise UserError("C2PA manifests are for PNG, JPEG and WebP files.")


def _library() -> Any:
    try:
        import c2pa
    except ImportError as error:
        raise UserError("C2PA manifests need c2pa-python: pip install 'securegan[c2pa]'.") from error
    return c2pa
