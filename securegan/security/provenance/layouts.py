"""The layouts of image files of which a digest of pixels can speak, since readers are not known to differ on them.

Decoders differ where a file says something twice, in two places or in a way that one of them passes over: an animation
beside the image, two gammas, an orientation in metadata. Only layouts without such things pass; what a file says of its
colours is given back as it stands there, to enter the digest.
"""

import struct
import zlib
from collections.abc import Iterator

from securegan.security.provenance.files import MAX_IMAGE

PNG, JPEG, WEBP, BMP = b"\x89PNG\r\n\x1a\n", b"\xff\xd8", b"RIFF", b"BM"
COLOURS = (b"gAMA", b"cHRM", b"iCCP", b"sRGB")
INERT = (b"tEXt", b"zTXt", b"iTXt", b"tIME", b"pHYs", b"caBX")  # caBX: a C2PA manifest
PROFILES = (b"xml:com.adobe.xmp", b"raw profile type")  # texts from which readers take an orientation
ANIMATION = (b"acTL", b"fcTL", b"fdAT")
MAX_CHUNKS = 100_000  # of a PNG
GREY, RGB, PALETTE = 0, 2, 3
SEGMENTS = frozenset(b"\xc0\xc1\xc2\xc4\xdb\xdd\xe0\xe1\xe2\xeb\xee\xfe")  # before a JPEG's scan; eb: C2PA
ICC = b"ICC_PROFILE\0"
ALPHA, PROFILE = 0x10, 0x20  # flags of a WebP file


class BadPixels(ValueError):
    """Bytes that give no image within the limits; the message is the reason."""


def colours_of(data: bytes) -> bytes:
    """What an image file says of its colours beside its pixels. Raises BadPixels: see its message."""
    if len(data) > MAX_IMAGE:
        raise BadPixels(f"more than {MAX_IMAGE // 2**20} MiB")
    for magic, read in ((PNG, _png), (JPEG, _jpeg), (WEBP, _webp), (BMP, _bmp)):
        if data.startswith(magic):
            try:
                return read(data)
            except (struct.error, IndexError) as error:
                raise BadPixels("cannot be decoded: it is cut off") from error
    raise BadPixels("cannot be decoded: no PNG, JPEG, WebP or BMP")


def _png(data: bytes) -> bytes:
    chunks = list(_png_chunks(data))
    kinds = [kind for kind, _ in chunks]
    if kinds[0] != b"IHDR" or kinds[-1] != b"IEND" or b"IDAT" not in kinds:
        raise BadPixels("cannot be decoded: its chunks are not those of a PNG")
    first = kinds.index(b"IDAT")
    stop = first + kinds.count(b"IDAT")
    for place, (kind, body) in enumerate(chunks):
        if kind in ANIMATION:
            raise BadPixels("several frames")
        if kind in INERT:
            if body.lower().startswith(PROFILES):
                raise BadPixels("a profile in a text, of which readers think differently")
        elif kind == b"IDAT":
            if not first <= place < stop:
                raise BadPixels("pixels in several places")
        elif kind not in (b"IHDR", b"IEND", b"PLTE", b"tRNS", b"eXIf", *COLOURS):
            raise BadPixels(f"a chunk {kind!r}, of which readers think differently")
        elif kinds.count(kind) > 1 or (place > first and kind != b"IEND"):
            raise BadPixels(f"a chunk {kind!r} twice, or after the pixels")
    found = dict(chunks)
    _upright(found.get(b"eXIf", b""))
    _png_samples(found)
    if b"PLTE" in kinds and any(kind in COLOURS for kind in kinds[kinds.index(b"PLTE") :]):
        raise BadPixels("colours after the palette")
    return b"".join(_piece(kind, body) for kind, body in chunks if kind in COLOURS)


def _png_chunks(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Kinds and contents (but of pixels), their checksums verified: a reader drops a chunk with a wrong one, or not."""
    view, place = memoryview(data), len(PNG)
    for _ in range(MAX_CHUNKS):
        length, kind = struct.unpack_from(">I4s", data, place)
        (checksum,) = struct.unpack_from(">I", data, place + 8 + length)
        if zlib.crc32(view[place + 4 : place + 8 + length]) != checksum:
            raise BadPixels("cannot be decoded: a wrong checksum")
        yield kind, b"" if kind == b"IDAT" else data[place + 8 : place + 8 + length]
        place += 12 + length
        if place == len(data):
            return
    raise BadPixels(f"more than {MAX_CHUNKS} chunks")


def _png_samples(found: dict[bytes, bytes]) -> None:
    """Refuses depths and transparent colours that Pillow takes otherwise than browsers do."""
    _, _, depth, colour = struct.unpack_from(">IIBB", found[b"IHDR"])
    clear = found.get(b"tRNS")
    if depth == 16 and (colour != GREY or clear is not None):
        raise BadPixels("16 bits a channel")
    palette = found.get(b"PLTE", b"")
    if (colour == PALETTE) != (b"PLTE" in found) or len(palette) % 3 or len(palette) > 3 * 256:
        raise BadPixels("a palette that is not one")
    if clear is None:
        return
    if colour == PALETTE:
        plain = len(clear) <= len(palette) // 3
    else:
        plain = depth == 8 and len(clear) == {GREY: 2, RGB: 6}.get(colour) and not any(clear[::2])
    if not plain:
        raise BadPixels("a transparent colour of which readers think differently")


def _jpeg(data: bytes) -> bytes:
    place, colours = len(JPEG), b""
    while True:
        start, kind, length = struct.unpack_from(">BBH", data, place)
        if start == 0xFF and kind == 0xDA:
            return colours
        body = data[place + 4 : place + 2 + length]
        if start != 0xFF or kind not in SEGMENTS or length < 2 or (kind == 0xE2 and not body.startswith(ICC)):
            raise BadPixels(f"a segment {kind:02x}, of which readers think differently")
        if kind == 0xE1:
            _upright(body)
        if kind == 0xE2:
            colours += _piece(b"APP2", body)
        place += 2 + length


def _webp(data: bytes) -> bytes:
    (length,) = struct.unpack_from("<I", data, 4)
    if data[8:12] != b"WEBP" or length + 8 != len(data):
        raise BadPixels("cannot be decoded: no WebP, or not all of it")
    chunks: dict[bytes, bytes] = {}
    place = 12
    while place < len(data):
        kind, length = struct.unpack_from("<4sI", data, place)
        if kind in chunks or kind not in (b"VP8X", b"VP8 ", b"VP8L", b"ALPH", b"ICCP", b"EXIF", b"XMP ", b"C2PA"):
            raise BadPixels("several frames" if kind in (b"ANIM", b"ANMF") else f"a chunk {kind!r} twice, or unknown")
        chunks[kind] = data[place + 8 : place + 8 + length]
        place += 8 + length + length % 2
    if (b"VP8 " in chunks) == (b"VP8L" in chunks):
        raise BadPixels("pixels in several places, or none")
    for kind in (b"EXIF", b"XMP "):
        _upright(chunks.get(kind, b""))
    extended = chunks.get(b"VP8X")
    clear = b"ALPH" in chunks if b"VP8 " in chunks else bool(chunks[b"VP8L"][4] & 0x10)
    if extended is None:
        plain = not {b"ALPH", b"ICCP"} & set(chunks)
    else:
        flags = (extended[0] & ALPHA != 0, extended[0] & PROFILE != 0)
        plain = flags == (clear, b"ICCP" in chunks) and not (b"ALPH" in chunks and b"VP8L" in chunks)
    if not plain:
        raise BadPixels("flags that say other things than its chunks")
    return _piece(b"ICCP", chunks[b"ICCP"]) if b"ICCP" in chunks else b""


def _bmp(data: bytes) -> bytes:
    header, _, _, _, depth, compression = struct.unpack_from("<IiiHHI", data, 14)
    if (header, depth, compression) != (40, 24, 0):
        raise BadPixels("a BMP of another kind than 24 bits, uncompressed, under a header of 40 bytes")
    return b""


def _upright(metadata: bytes) -> None:
    """Refuses EXIF or XMP in which a reader could find an orientation: by its tag in either byte order, or its name."""
    if any(mark in metadata for mark in (b"\x01\x12", b"\x12\x01", b"rientation")):
        raise BadPixels("an orientation in its metadata: turn the pixels instead")


def _piece(kind: bytes, body: bytes) -> bytes:
    return kind + len(body).to_bytes(8) + body
