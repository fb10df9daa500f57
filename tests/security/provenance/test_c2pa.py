"""C2PA manifests: only Trusted counts, nothing is fetched, and no pixel or claim can be changed."""

import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from io import BytesIO
from zlib import crc32

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from securegan.errors import UserError
from securegan.security.provenance import c2pa
from securegan.security.provenance.certificates import authority, certificate
from securegan.security.provenance.pixels import digest_of_image
from securegan.security.provenance.signing import Signer
from securegan.security.provenance.statement import ImageOrigin, Watermark

library = pytest.importorskip("c2pa")
ROOT, SIGNER = Signer(b"r" * 32), Signer(b"c" * 32)
ANCHORS, CHAIN = authority(ROOT), certificate(ROOT, SIGNER.public, "release")
SAID = ImageOrigin(time="2026-11-21T00:00:00Z", seed=5, watermark=Watermark(id="mark", extractor="a" * 64))


@pytest.fixture(scope="module")
def signed() -> bytes:
    from PIL import Image

    file = BytesIO()
    Image.effect_noise((8, 8), 100).convert("RGB").save(file, "PNG")
    return c2pa.embed(file.getvalue(), "a.png", SIGNER, CHAIN, SAID)


@pytest.mark.parametrize(("form", "options"), [("PNG", {}), ("JPEG", {}), ("WEBP", {"lossless": True})])
def test_an_image_carries_what_its_sidecar_says(form: str, options: dict, picture, encoded) -> None:
    plain = encoded(picture(0, 32), form, **options)
    data = c2pa.embed(plain, "a", SIGNER, CHAIN, SAID)
    found = c2pa.read(data, ANCHORS)
    assert found == c2pa.Credentials("Trusted", SAID) and found.trusted
    assert digest_of_image(data) == digest_of_image(plain)


def test_only_trusted_is_accepted(signed: bytes, image: bytes) -> None:
    """Another anchor, or none: the signature is Valid, as anybody's is, and nothing is believed."""
    stranger = Signer(b"x" * 32)
    found = c2pa.read(signed, authority(stranger))
    assert found.state == "Valid" and not found.trusted and found.origin is None
    with pytest.raises(UserError, match="hold no certificate"):
        c2pa.read(signed, "")
    forged = c2pa.embed(image, "a.png", stranger, certificate(stranger, stranger.public, "release"), SAID)
    assert c2pa.read(forged, ANCHORS).state == "Valid" and not c2pa.read(forged, ANCHORS).trusted
    assert c2pa.read(forged, authority(stranger)).trusted


def test_a_certificate_that_another_key_signs_with_is_refused(image: bytes) -> None:
    thief = Signer(b"t" * 32)
    try:
        data = c2pa.embed(image, "a.png", thief, CHAIN, SAID)
    except UserError:
        return
    assert not c2pa.read(data, ANCHORS).trusted


def flipped(signed: bytes, place: int) -> bytes:
    """A bit flipped, and the checksum of the PNG chunk that holds the manifest made right again."""
    changed = bytearray(signed)
    changed[place] ^= 1
    start = signed.index(b"caBX")
    end = start + 4 + int.from_bytes(signed[start - 4 : start])
    if start <= place < end:
        changed[end : end + 4] = crc32(changed[start:end]).to_bytes(4)
    return bytes(changed)


def test_no_accepted_change_of_pixels_or_claims(signed: bytes) -> None:
    """Every fifth byte (every one in the slow run): what is still trusted says and shows the same."""
    pixels, accepted = digest_of_image(signed), 0
    for place in range(0, len(signed), 5):
        changed = flipped(signed, place)
        found = c2pa.read(changed, ANCHORS)
        if found.trusted:
            accepted += 1
            assert found.origin == SAID and digest_of_image(changed) == pixels
    assert accepted < len(signed)


@pytest.mark.slow
def test_no_accepted_change_of_pixels_or_claims_in_any_byte(signed: bytes, capsys: pytest.CaptureFixture[str]) -> None:
    pixels, accepted = digest_of_image(signed), 0
    for place in range(len(signed)):
        changed = flipped(signed, place)
        found = c2pa.read(changed, ANCHORS)
        if found.trusted:
            accepted += 1
            assert found.origin == SAID and digest_of_image(changed) == pixels
    with capsys.disabled():
        refused = len(signed) - accepted
        print(f"\nC2PA: {len(signed)} bytes flipped, {refused} refused, {accepted} of no effect on pixels and claims")


def test_truncation_at_every_length_is_refused(signed: bytes) -> None:
    pixels = digest_of_image(signed)
    for length in range(0, len(signed), 97):
        found = c2pa.read(signed[:length], ANCHORS)
        assert not found.trusted or digest_of_image(signed[:length]) == pixels


def test_a_manifest_moved_to_another_image_is_refused(signed: bytes, picture, encoded) -> None:
    start = signed.index(b"caBX") - 4
    end = start + 12 + int.from_bytes(signed[start : start + 4])
    other = encoded(picture(9))
    moved = other[:33] + signed[start:end] + other[33:]
    assert c2pa.read(moved, ANCHORS).state == "Invalid"


def test_images_without_a_manifest(image: bytes, signed: bytes) -> None:
    assert c2pa.read(image, ANCHORS).state.startswith("none: ManifestNotFound")
    for data in (b"", b"GIF89a", b"\x89PNG\r\n\x1a\n", signed[:40], b"RIFF\0\0\0\0WEBP"):
        assert not c2pa.read(data, ANCHORS).trusted
    with pytest.raises(UserError, match="PNG, JPEG and WebP"):
        c2pa.embed(b"BM", "a.bmp", SIGNER, CHAIN, SAID)
    with pytest.raises(UserError, match="cannot be given"):
        c2pa.embed(image, "a.png", SIGNER, "no certificate", SAID)


def test_remote_fetches_are_off(image: bytes) -> None:
    asked = []

    class Server(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_error(404)

        def log_message(self, *_: object) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Server)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        made = BytesIO()
        action = {"action": "c2pa.created", "digitalSourceType": c2pa.SOURCE + "trainedAlgorithmicMedia"}
        actions = {"label": "c2pa.actions.v2", "data": {"actions": [action]}}
        builder = library.Builder({"claim_generator_info": [{"name": "x"}], "assertions": [actions]})
        builder.set_no_embed()
        builder.set_remote_url(f"http://127.0.0.1:{server.server_port}/manifest.c2pa")
        signer = library.Signer.from_callback(SIGNER.sign, library.C2paSigningAlg.ED25519, CHAIN, None)
        builder.sign(signer, "image/png", BytesIO(image), made)
        assert b"manifest.c2pa" in made.getvalue()
        assert not c2pa.read(made.getvalue(), ANCHORS).trusted and not asked
    finally:
        server.shutdown()
        server.server_close()


def test_a_manifest_that_is_not_in_the_file_is_refused(signed: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    """However it was found: it may be another one tomorrow."""
    assert c2pa.read(signed, ANCHORS).trusted
    monkeypatch.setattr(library.Reader, "is_embedded", lambda reader: False)
    assert c2pa.read(signed, ANCHORS) == c2pa.Credentials("the manifest is elsewhere")


def test_claims_said_twice_or_not_at_all_are_refused(signed: bytes, image: bytes) -> None:
    """By a trusted key: which of two a reader takes is its own choice."""
    action = {"action": "c2pa.created", "digitalSourceType": c2pa.SOURCE + SAID.source}
    actions = {"label": "c2pa.actions.v2", "data": {"actions": [action]}}
    ours = {"label": c2pa.ORIGIN, "data": SAID.model_dump(exclude_none=True)}
    other = {"label": c2pa.ORIGIN, "data": SAID.model_copy(update={"seed": 6}).model_dump(exclude_none=True)}

    def read(*assertions: dict) -> c2pa.Credentials:
        made = BytesIO()
        settings = {"builder": {"thumbnail": {"enabled": False}}}
        manifest = {"claim_generator_info": [{"name": "x"}], "assertions": list(assertions)}
        with library.Context.from_dict(settings) as context, library.Builder(manifest, context=context) as builder:
            signer = library.Signer.from_callback(SIGNER.sign, library.C2paSigningAlg.ED25519, CHAIN, None)
            builder.sign(signer, "image/png", BytesIO(image), made)
        return c2pa.read(made.getvalue(), ANCHORS)

    assert read(actions, ours) == c2pa.Credentials("Trusted", SAID)
    for assertions in ((actions, ours, other), (actions, ours, ours), (actions,), (actions, other, ours)):
        found = read(*assertions)
        assert not found.trusted and found.state.startswith("Trusted, but")


def test_without_the_library_it_says_what_to_install(image: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "c2pa", None)
    with pytest.raises(UserError, match=r"pip install 'securegan\[c2pa\]'"):
        c2pa.read(image, ANCHORS)
    code = "import sys; import securegan.security.provenance.c2pa; print('c2pa' in sys.modules)"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "False"


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=40)
@given(place=st.integers(0, 11_000), junk=st.binary(min_size=1, max_size=20))
def test_fuzz_bytes_written_over_a_signed_image_change_no_pixel_or_claim(place: int, junk: bytes, signed) -> None:
    changed = signed[:place] + junk + signed[place + len(junk) :]
    found = c2pa.read(changed, ANCHORS)
    assert not found.trusted or (found.origin == SAID and digest_of_image(changed) == digest_of_image(signed))
