"""An image and its sidecar: what is accepted, and everything that is not."""

import hashlib
import json
import os
import struct
import subprocess
import sys
import zlib
from base64 import b64decode, b64encode
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from securegan.errors import UserError
from securegan.security.provenance import dsse, sidecar, statement, strict_json
from securegan.security.provenance.pixels import MAX_PIXELS, digest_of, digest_of_image
from securegan.security.provenance.statement import ImageOrigin, Statement, Subject, Watermark
from securegan.security.provenance.trust import revoke
from securegan.security.provenance.verdicts import Verdict
from securegan.security.spelling import as_text


@pytest.fixture
def signed(party, lab, image: bytes) -> bytes:
    return sidecar.sign(image, "a.png", party.signer, lab.origin())


@pytest.fixture
def judged(party, lab, image: bytes) -> Callable[..., Verdict]:
    """The verdict on a sidecar (of the image, today, unless said otherwise)."""

    def judge(signature: bytes, data: bytes = image, trust=party.trust, **other: object) -> Verdict:
        return sidecar.judge(data, signature, trust, **({"now": lab.now} | other)).verdict

    return judge


@pytest.fixture
def forge(party, image: bytes) -> Callable[..., bytes]:
    """A sidecar, properly signed by a trusted key, of a statement that was changed first."""

    def make(change: Callable[[dict], object]) -> bytes:
        genuine = sidecar.sign(image, "a.png", party.signer, ImageOrigin(time="2026-11-21T00:00:00Z", seed=1))
        value = json.loads(b64decode(json.loads(genuine)["payload"]))
        payload = change(value)
        return dsse.sign(
            statement.PAYLOAD, payload if isinstance(payload, bytes) else strict_json.write(payload), party.signer
        )

    return make


def test_what_was_said_comes_back(party, lab, image: bytes) -> None:
    origin = ImageOrigin(
        time=lab.day(0), software="securegan 0.1.0", run="digits 7", model="1" * 64, config="2" * 64, dataset="3" * 64,
        seed=2**64 - 1, commit="4" * 40, index=12, watermark=Watermark(id="mark-1", extractor="5" * 64, epoch=2),
    )  # fmt: skip
    found = sidecar.judge(image, sidecar.sign(image, "a.png", party.signer, origin), party.trust, now=lab.now)
    assert found.verdict is Verdict.BYTE_EXACT and found.origin == origin and found.signer == party.key
    assert found.statement is not None and found.statement.subjects[0].name == "a.png"
    assert origin.source == "trainedAlgorithmicMedia"


def test_every_byte_of_a_sidecar_flipped_is_rejected(signed: bytes, judged) -> None:
    assert judged(signed) is Verdict.BYTE_EXACT
    for place in range(len(signed)):
        for bit in (1, 0x20, 0x80):
            changed = bytearray(signed)
            changed[place] ^= bit
            assert judged(bytes(changed)) in (Verdict.REFUSED, Verdict.UNKNOWN_SIGNER), (place, bit)


def test_a_sidecar_truncated_at_every_length_is_rejected(signed: bytes, judged) -> None:
    assert {judged(signed[:length]) for length in range(len(signed))} == {Verdict.REFUSED}
    assert judged(signed + b"\n") is Verdict.REFUSED and judged(signed + b" " * sidecar.LIMIT) is Verdict.REFUSED


def test_an_image_changed_in_any_byte_is_never_byte_exact(signed: bytes, judged, image: bytes) -> None:
    for place in range(len(image)):
        changed = image[:place] + bytes([image[place] ^ 1]) + image[place + 1 :]
        verdict = judged(signed, changed)
        assert verdict in (Verdict.MODIFIED, Verdict.PIXELS_EXACT)
        if verdict is Verdict.PIXELS_EXACT:
            assert digest_of_image(changed) == digest_of_image(image)
    assert {judged(signed, image[:length]) for length in range(len(image) - 20)} == {Verdict.MODIFIED}


@pytest.mark.parametrize(
    ("form", "options"), [("PNG", {"compress_level": 0}), ("BMP", {}), ("WEBP", {"lossless": True})]
)
def test_the_same_pixels_in_another_file_are_pixels_exact(picture, encoded, signed, judged, form, options) -> None:
    assert judged(signed, encoded(picture(), form, **options)) is Verdict.PIXELS_EXACT


def test_other_pixels_are_modified(picture, encoded, signed, judged) -> None:
    nearly = picture()
    nearly.putpixel((3, 4), tuple(255 - value for value in nearly.getpixel((3, 4))))
    assert judged(signed, encoded(nearly)) is Verdict.MODIFIED
    assert judged(signed, encoded(picture(), "JPEG", quality=95)) is Verdict.MODIFIED
    assert judged(signed, encoded(picture().transpose(Image.Transpose.ROTATE_90))) is Verdict.MODIFIED


def test_replay_of_another_images_sidecar_is_modified(party, lab, picture, encoded, judged) -> None:
    other = sidecar.sign(encoded(picture(1)), "a.png", party.signer, lab.origin())
    assert judged(other) is Verdict.MODIFIED


def test_unknown_signers_and_wrong_purposes(lab, signed: bytes, judged, image: bytes) -> None:
    stranger = lab.party(seed=8)
    assert judged(signed, trust=stranger.trust) is Verdict.UNKNOWN_SIGNER
    assert judged(signed, trust=lab.trust()) is Verdict.UNKNOWN_SIGNER
    assert judged(signed, trust=lab.party(purposes=["checkpoint", "log"]).trust) is Verdict.WRONG_PURPOSE


def test_expired_and_future_keys(party, lab, image: bytes, judged) -> None:
    def at(moment) -> bytes:
        time = as_text(moment)
        return sidecar.sign(image, "a.png", party.signer, ImageOrigin(time=time))

    day, late = timedelta(days=1), {"now": lab.end + timedelta(days=100)}
    assert judged(at(lab.end + day), **late) is Verdict.EXPIRED
    assert judged(at(lab.end - day), **late) is Verdict.BYTE_EXACT  # signed in time, looked at later
    assert judged(at(lab.start - day)) is Verdict.NOT_YET_VALID
    assert judged(at(lab.now + day)) is Verdict.NOT_YET_VALID
    assert judged(at(lab.now + timedelta(minutes=4))) is Verdict.BYTE_EXACT  # clocks differ


def test_revoked_keys(party, lab, image: bytes, judged) -> None:
    """Superseded: what was signed before stands. Compromised: the thief dates as they like, so a log must vouch."""
    early, late = (sidecar.sign(image, "a.png", party.signer, lab.origin(day)) for day in (-3, -1))

    def revoked(reason: str):
        return lab.trust(*revoke(party.trust.contents.keys, party.key.key.kid, reason, lab.now - timedelta(days=2)))

    superseded, compromised = revoked("superseded"), revoked("compromised")
    assert judged(early, trust=superseded) is Verdict.BYTE_EXACT
    assert judged(late, trust=superseded) is Verdict.REVOKED
    assert judged(early, trust=compromised) is judged(late, trust=compromised) is Verdict.REVOKED
    for days, verdict in ((-3, Verdict.BYTE_EXACT), (-2, Verdict.REVOKED), (-1, Verdict.REVOKED)):
        logged = lab.now + timedelta(days=days)
        assert judged(early, trust=compromised, logged=lambda found, at=logged: at) is verdict
    assert judged(early, trust=compromised, logged=lambda found: None) is Verdict.REVOKED


def test_a_thief_cannot_lean_on_what_the_log_holds(party, lab, image: bytes, picture, encoded, judged) -> None:
    """The log vouches for one signature: not for another of the logged image, nor for one that names its digest."""
    genuine = sidecar.sign(image, "a.png", party.signer, lab.origin(-3))
    held = {hashlib.sha256(part).hexdigest(): lab.now - timedelta(days=3) for part in (image, genuine)}
    stolen = lab.trust(*revoke([party.key], party.key.key.kid, "compromised", lab.now - timedelta(days=2)))
    assert judged(genuine, trust=stolen, logged=held.get) is Verdict.BYTE_EXACT
    claims = sidecar.sign(image, "a.png", party.signer, lab.origin(-3).model_copy(update={"seed": 666}))
    other = encoded(picture(1))
    borrowed = Subject("a.png", hashlib.sha256(image).hexdigest(), digest_of_image(other))
    lent = dsse.sign(statement.PAYLOAD, Statement((borrowed,), lab.origin(-3)).payload(), party.signer)
    assert judged(lent, other) is Verdict.PIXELS_EXACT  # before the revocation
    for forged, data in ((claims, image), (lent, other), (lent, image)):
        assert judged(forged, data, stolen, logged=held.get) is Verdict.REVOKED


def changed(**fields: object) -> Callable[[dict], object]:
    return lambda value: value | fields


def predicate(**fields: object) -> Callable[[dict], object]:
    return lambda value: value | {"predicate": value["predicate"] | fields}


def subject(**fields: object) -> Callable[[dict], object]:
    return lambda value: value | {"subject": [value["subject"][0] | fields]}


@pytest.mark.parametrize(
    "change",
    [
        changed(extra=1),
        changed(_type="https://in-toto.io/Statement/v0.1"),
        changed(predicateType="urn:securegan:image:v2"),
        changed(predicateType="urn:securegan:directory:v1"),
        changed(predicateType=["urn:securegan:image:v1"]),
        changed(subject=[]),
        changed(subject={}),
        lambda value: value | {"subject": value["subject"] * 2},
        predicate(unknown="field"),
        predicate(seed=1.5),
        predicate(seed="1"),
        predicate(seed=True),
        predicate(time="2026-11-21T00:00:00+01:00"),
        predicate(time="2026-11-21"),
        predicate(source="digitalCapture"),
        predicate(model="A" * 64),
        predicate(run="line\nbreak"),
        predicate(watermark={"id": "x"}),
        subject(digest={}),
        subject(digest={"md5": "0" * 32}),
        subject(digest={"sha256": "0" * 63}),
        subject(digest={"sha256": "0" * 64, "sha512": "0" * 128}),
        subject(uri="https://example.com"),
        lambda value: strict_json.write(value)[:-1] + b',"_type":"https://in-toto.io/Statement/v1"}',
        lambda value: strict_json.write(value).replace(b'"seed":1', b'"seed":1,"seed":2'),
        lambda value: b"[" * 50_000,
        lambda value: b"",
        lambda value: b"[]",
        lambda value: b"null",
    ],
)  # fmt: skip
def test_unknown_fields_predicate_types_and_duplicate_json_keys_are_refused_though_well_signed(
    change, forge, judged
) -> None:
    assert judged(forge(lambda value: value)) is Verdict.BYTE_EXACT
    assert judged(forge(change)) is Verdict.REFUSED


@pytest.mark.parametrize(
    "name",
    ["../a.png", "/etc/passwd", "..", ".", "", "a/../b", "a//b", "a\\b", "a\0b", "a\x1b[2J", "x" * 256, "\ud800"],
)
def test_lying_names_are_refused(name: str, party, lab, forge, judged, image: bytes) -> None:
    if name != "\ud800":  # which no JSON holds
        assert judged(forge(subject(name=name))) is Verdict.REFUSED
    with pytest.raises(UserError, match="cannot be signed"):
        sidecar.sign(image, name, party.signer, lab.origin())


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def test_a_decompression_bomb_is_never_decoded(party, lab, signed: bytes, judged) -> None:
    side = int(MAX_PIXELS**0.5) + 1
    header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    bomb = (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(b"\0" * 1000))
        + chunk(b"IEND", b"")
    )
    assert judged(signed, bomb) is Verdict.MODIFIED
    with pytest.raises(UserError, match="64 million pixels"):
        sidecar.sign(bomb, "bomb.png", party.signer, lab.origin())


def test_what_changes_how_pixels_look_changes_their_digest(picture, encoded) -> None:
    """A colour profile, gamma, transparency: the same raw pixels, another picture."""
    plain = encoded(picture())
    profiled = encoded(picture(), icc_profile=b"a profile")
    gamma = plain[:33] + chunk(b"gAMA", struct.pack(">I", 10_000)) + plain[33:]
    clear = plain[:33] + chunk(b"tRNS", struct.pack(">HHH", *picture().getpixel((0, 0)))) + plain[33:]
    primaries = plain[:33] + chunk(b"cHRM", bytes(32)) + plain[33:]
    intent = gamma[:33] + chunk(b"sRGB", b"\0") + gamma[33:]  # which overrides gamma
    profiles = [encoded(picture(), form, icc_profile=b"a profile") for form in ("WEBP", "JPEG")]
    bare = [encoded(picture(), form) for form in ("WEBP", "JPEG")]
    looks = (plain, profiled, gamma, clear, primaries, intent, *profiles, *bare)
    assert len({digest_of_image(data) for data in looks}) == len(looks)


def test_raw_pixels_have_the_digest_of_their_file(picture, encoded) -> None:
    for mode in ("L", "RGB", "RGBA"):
        made = picture(2, 9, mode)
        assert digest_of(mode, 9, 9, made.tobytes()) == digest_of_image(encoded(made))
    palette = picture().quantize(16)
    assert digest_of_image(encoded(palette)) == digest_of_image(encoded(palette.convert("RGB")))
    assert digest_of("L", 2, 8, bytes(16)) != digest_of("L", 8, 2, bytes(16)) != digest_of("L", 4, 4, bytes(16))


def test_a_small_file_of_many_pixels_takes_little_memory(encoded) -> None:
    """A palette with a transparent colour, which becomes four bytes a pixel: band by band."""
    image = Image.new("P", (2000, 16_000))
    image.putpalette([9, 8, 7, 1, 2, 3])
    image.putpixel((1999, 15_999), 1)
    data = encoded(image, transparency=0)
    code = (
        "import sys; from securegan.security.provenance.pixels import digest_of_image; data = sys.stdin.buffer.read(); "
        "peak = lambda: int(open('/proc/self/status').read().split('VmHWM:')[1].split()[0]); before = peak(); "
        "print(digest_of_image(data), peak() - before)"
    )
    said = subprocess.run([sys.executable, "-c", code], input=data, capture_output=True, check=True).stdout
    digest, taken = said.split()
    raw = (bytes([9, 8, 7, 0]) * 32_000_000)[:-4] + bytes([1, 2, 3, 255])
    assert digest.decode() == digest_of("RGBA", 2000, 16_000, raw) and int(taken) < 100 * 1024  # KiB; 400 MiB at once


def test_files(party, lab, image: bytes, tmp_path: Path) -> None:
    path = tmp_path / "a.png"

    def verdict() -> Verdict:
        return sidecar.verify_file(path, party.trust, now=lab.now).verdict

    path.write_bytes(image)
    assert verdict() is Verdict.UNSIGNED
    where = sidecar.sign_file(path, party.signer, lab.origin())
    assert where == tmp_path / "a.png.sg.json" and verdict() is Verdict.BYTE_EXACT
    path.write_bytes(image[:-1])
    assert verdict() is Verdict.PIXELS_EXACT or verdict() is Verdict.MODIFIED
    path.unlink()
    assert verdict() is Verdict.MISSING
    os.mkfifo(path)  # which would be waited on for ever
    assert verdict() is Verdict.REFUSED
    where.unlink()
    where.mkdir()
    assert verdict() is Verdict.REFUSED


def test_what_is_no_image_is_not_signed(party, lab, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="cannot be decoded"):
        sidecar.sign(b"text", "a.png", party.signer, lab.origin())
    with pytest.raises(UserError, match="cannot be read"):
        sidecar.sign_file(tmp_path / "none.png", party.signer, lab.origin())


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(data=st.data())
def test_fuzz_any_statement_that_a_trusted_key_signs_is_judged(data: st.DataObject, party, judged) -> None:
    leaf = st.none() | st.booleans() | st.integers() | st.text(max_size=5)
    names = st.sampled_from(["_type", "subject", "predicateType", "predicate", "name", "digest", "sha256", "time", "x"])
    value = data.draw(st.recursive(leaf, lambda inner: st.lists(inner) | st.dictionaries(names, inner), max_leaves=15))
    payload = data.draw(st.binary(max_size=100)) if data.draw(st.booleans()) else json.dumps(value).encode()
    assert judged(dsse.sign(statement.PAYLOAD, payload, party.signer)) is Verdict.REFUSED


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(data=st.binary(max_size=200))
def test_fuzz_any_bytes_are_an_image_or_none(data: bytes, signed, judged) -> None:
    assert judged(signed, data) is Verdict.MODIFIED
    assert judged(signed, b"\x89PNG\r\n\x1a\n" + data) is Verdict.MODIFIED
    assert judged(b64encode(data)) is Verdict.REFUSED
