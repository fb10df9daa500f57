"""What readers show differently has no digest of pixels."""

import struct
import zlib
from collections.abc import Sequence
from io import BytesIO

import pytest
from PIL import Image

from securegan.security.provenance.layouts import PNG, BadPixels
from securegan.security.provenance.pixels import digest_of_image

Chunk = tuple[bytes, bytes]
TURNED = b"MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0"
FRAME = struct.pack(">IIIIIHHBB", 0, 8, 8, 0, 0, 1, 100, 0, 0)
ONE, TWO = struct.pack(">II", 1, 1), struct.pack(">II", 2, 1)
PROFILE = b"x\0\0" + zlib.compress(b"a profile")
XMP = b'<x:xmpmeta><rdf:Description tiff:Orientation="6"/></x:xmpmeta>'


def joined(chunks: Sequence[Chunk]) -> bytes:
    return PNG + b"".join(
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body)) for kind, body in chunks
    )


def grey(depth: int, clear: bytes, colour: int = 0) -> bytes:
    """8x8 pixels of 0 in a depth, with a transparent colour."""
    head = struct.pack(">IIBBBBB", 8, 8, depth, colour, 0, 0, 0)
    rows = zlib.compress((b"\0" + bytes(8 * depth // 8 * {0: 1, 2: 3, 4: 2}[colour])) * 8)
    chunks = [(b"IHDR", head), (b"tRNS", clear), (b"IDAT", rows), (b"IEND", b"")]
    return joined([chunk for chunk in chunks if chunk != (b"tRNS", b"")])


@pytest.fixture
def parts(image: bytes) -> list[Chunk]:
    """The chunks of a PNG: head, pixels, end."""
    found, place = [], len(PNG)
    while place < len(image):
        length, kind = struct.unpack_from(">I4s", image, place)
        found.append((kind, image[place + 8 : place + 8 + length]))
        place += 12 + length
    return found


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ([(b"acTL", ONE)], [(b"fcTL", FRAME), (b"fdAT", bytes(8))]),
        ([(b"acTL", TWO), (b"acTL", TWO)], [(b"fcTL", FRAME), (b"fdAT", bytes(8))]),  # Pillow forgets a second acTL
        ([(b"fcTL", FRAME)], []),
        ([(b"cICP", bytes([9, 16, 0, 1]))], []),
        ([(b"mDCV", bytes(24)), (b"cLLI", bytes(8))], []),
        ([(b"gAMA", struct.pack(">I", 1000)), (b"gAMA", struct.pack(">I", 45455))], []),
        ([(b"gAMA", struct.pack(">I", 1000))], [(b"gAMA", struct.pack(">I", 0))]),
        ([(b"iCCP", PROFILE), (b"iCCP", b"x\0\0broken")], []),
        ([(b"iCCP", PROFILE)], [(b"iCCP", b"x\0\0broken")]),
        ([], [(b"sRGB", b"\0")]),
        ([(b"cHRM", bytes(32))] * 2, []),
        ([(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + XMP)], []),
        ([(b"tEXt", b"Raw profile type exif\0\nexif\n 32\n" + TURNED.hex().encode())], []),
        ([(b"zTXt", b"Raw profile type APP1\0\0" + zlib.compress(b"x"))], []),
        ([(b"eXIf", TURNED)], []),
        ([], [(b"eXIf", TURNED)]),
        ([], [(b"eXIf", b"MM\0*\0\0\0\x08\0\0")]),
        ([(b"PLTE", bytes(6))], []),
        ([(b"tRNS", struct.pack(">HHH", 256, 0, 0))], []),
        ([(b"tRNS", bytes(6))] * 2, []),
        ([(b"waTT", b"")], []),
        ([], [(b"tEXt", b"a\0b"), (b"IDAT", b"")]),
        ([], [(b"IEND", b"")]),
    ],
)  # fmt: skip
def test_chunks_that_readers_take_differently_are_refused(
    before: list[Chunk], after: list[Chunk], parts: list[Chunk]
) -> None:
    head, pixels, end = parts
    assert digest_of_image(joined([head, pixels, end]))
    with pytest.raises(BadPixels):
        digest_of_image(joined([head, *before, pixels, *after, end]))


def test_what_shows_nothing_changes_nothing(parts: list[Chunk], image: bytes) -> None:
    head, pixels, end = parts
    inert = [(b"tEXt", b"Title\0a"), (b"tIME", bytes(7)), (b"pHYs", bytes(9)), (b"caBX", b"x"), (b"tEXt", b"b\0c")]
    assert digest_of_image(joined([head, *inert, pixels, inert[0], end])) == digest_of_image(image)


def test_broken_chunks_are_refused(parts: list[Chunk], image: bytes) -> None:
    head, pixels, end = parts
    text = joined([head, (b"tEXt", b"a\0b"), pixels, end])
    for broken in (text.replace(b"a\0b", b"a\0c"), image[:-1], image + b"x", joined([pixels, head, end]), PNG):
        with pytest.raises(BadPixels):
            digest_of_image(broken)


def test_a_png_of_very_many_chunks_is_refused(parts: list[Chunk]) -> None:
    """Each would take more memory than it has bytes."""
    with pytest.raises(BadPixels, match="100000 chunks"):
        digest_of_image(joined([parts[0], *[(b"IDAT", b"")] * 100_000, *parts[1:]]))


def test_sixteen_bits_are_refused_where_pillow_rounds_them(encoded) -> None:
    """Of grey it keeps them all, unless there is a transparent colour too: then white and 255 become one."""
    assert digest_of_image(grey(16, b"")) != digest_of_image(grey(8, b""))
    for data in (grey(16, b"\0\x07"), grey(16, b"", 2), grey(16, b"", 4)):
        with pytest.raises(BadPixels, match="16 bits a channel"):
            digest_of_image(data)
    with pytest.raises(BadPixels, match="transparent colour"):
        digest_of_image(grey(4, b"\0\x03"))
    assert digest_of_image(grey(8, b"\0\x03")) != digest_of_image(grey(8, b"\0\0"))


def test_a_palette_has_the_colours_that_are_used(picture, encoded) -> None:
    data = encoded(picture(0, 8, "L").convert("P"))
    place = data.index(b"PLTE") - 4
    (length,) = struct.unpack_from(">I", data, place)
    short = joined([(b"PLTE", data[place + 8 : place + 14])])[len(PNG) :]
    with pytest.raises(BadPixels, match="palette does not have"):
        digest_of_image(data[:place] + short + data[place + 12 + length :])


@pytest.mark.parametrize("form", ["PNG", "JPEG", "WEBP"])
def test_an_orientation_is_refused_wherever_it_is_said(form: str, picture, encoded) -> None:
    for number in (1, 6):  # readers differ on which of two counts
        exif = Image.Exif()
        exif[0x0112] = number
        with pytest.raises(BadPixels, match="orientation"):
            digest_of_image(encoded(picture(), form, exif=exif.tobytes()))
    if form != "PNG":
        with pytest.raises(BadPixels, match="orientation"):
            digest_of_image(encoded(picture(), form, xmp=XMP))
    exif = Image.Exif()
    exif[0x010E] = "a description"
    assert digest_of_image(encoded(picture(), form, exif=exif.tobytes())) == digest_of_image(encoded(picture(), form))


def test_a_webp_says_one_thing(picture, encoded) -> None:
    frames = encoded(picture(), "WEBP", save_all=True, append_images=[picture(1)])
    with pytest.raises(BadPixels, match="several frames"):
        digest_of_image(frames)
    for mode, options in (("RGBA", {"lossless": True, "exact": True}), ("RGBA", {}), ("RGB", {})):
        data = encoded(picture(0, 8, mode), "WEBP", icc_profile=b"a profile", **options)
        assert digest_of_image(data)
        for flag in (0x10, 0x20):  # alpha, profile
            with pytest.raises(BadPixels, match="flags"):
                digest_of_image(data[:20] + bytes([data[20] ^ flag]) + data[21:])


def test_a_jpeg_of_several_pictures_is_refused(picture) -> None:
    file = BytesIO()
    picture().save(file, "MPO", save_all=True, append_images=[picture(1)])
    with pytest.raises(BadPixels, match="a segment e2"):
        digest_of_image(file.getvalue())


def test_of_bmp_the_plainest_kind_alone(picture, encoded) -> None:
    for width in (40, 54, 72):
        assert digest_of_image(encoded(picture().resize((width, 4)), "BMP")) == digest_of_image(
            encoded(picture().resize((width, 4)))
        )
    plain = encoded(picture(), "BMP")
    body = plain[54:]
    profiled = struct.pack("<I", 124) + plain[18:54] + bytes(84)  # version 5, which has room for a profile
    data = plain[:10] + struct.pack("<I", 14 + 124) + profiled + body
    for other in (data, encoded(picture(0, 8, "L"), "BMP"), encoded(picture(0, 8, "RGBA"), "BMP")):
        with pytest.raises(BadPixels, match="BMP of another kind"):
            digest_of_image(other)
