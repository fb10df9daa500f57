"""X.509 certificates of our own authority, which C2PA wants of who signs; nobody else's software trusts it."""

from datetime import UTC, datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from securegan.errors import UserError
from securegan.security.provenance.signing import PublicKey, Signer

ORGANISATION = "SecureGAN"
AUTHORITY = "SecureGAN root"


def authority(root: Signer, days: int = 3650) -> str:
    """The root's own certificate (PEM): the anchor that a verifier of C2PA manifests is given."""
    key = Ed25519PublicKey.from_public_bytes(root.public.raw)
    usage = (x509.BasicConstraints(ca=True, path_length=0), _usage(signs=False, certifies=True))
    builder = _builder(f"{AUTHORITY} {root.kid[:8]}", f"{AUTHORITY} {root.kid[:8]}", key, days)
    for extension in usage:
        builder = builder.add_extension(extension, critical=True)
    builder = builder.add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
    return root.certify(builder).public_bytes(Encoding.PEM).decode()


def certificate(root: Signer, public: PublicKey, name: str, days: int = 365) -> str:
    """The certificate (PEM) of a key that signs images, under the root's. Raises UserError for a bad name."""
    key, above = (Ed25519PublicKey.from_public_bytes(each.raw) for each in (public, root.public))
    try:
        builder = _builder(name, f"{AUTHORITY} {root.kid[:8]}", key, days)
    except ValueError as error:
        raise UserError(f"a certificate cannot bear the name '{name}': {error}.") from error
    builder = builder.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
    builder = builder.add_extension(_usage(signs=True, certifies=False), critical=True)
    for extension in (
        x509.ExtendedKeyUsage([ExtendedKeyUsageOID.EMAIL_PROTECTION]),  # which C2PA asks for
        x509.AuthorityKeyIdentifier.from_issuer_public_key(above),
        x509.SubjectKeyIdentifier.from_public_key(key),
    ):
        builder = builder.add_extension(extension, critical=False)
    return root.certify(builder).public_bytes(Encoding.PEM).decode()


def _builder(name: str, issuer: str, key: Ed25519PublicKey, days: int) -> x509.CertificateBuilder:
    start = datetime.now(UTC) - timedelta(minutes=5)  # by which clocks may differ
    builder = x509.CertificateBuilder().subject_name(_named(name)).issuer_name(_named(issuer)).public_key(key)
    builder = builder.serial_number(x509.random_serial_number())
    return builder.not_valid_before(start).not_valid_after(start + timedelta(days=days))


def _named(name: str) -> x509.Name:
    organisation = x509.NameAttribute(NameOID.ORGANIZATION_NAME, ORGANISATION)
    return x509.Name([organisation, x509.NameAttribute(NameOID.COMMON_NAME, name)])


def _usage(*, signs: bool, certifies: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=signs,
        key_cert_sign=certifies,
        crl_sign=certifies,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )
