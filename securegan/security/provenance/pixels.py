"""A digest of what an image shows, which survives another file format or compression without loss.

SHA-256 of ``SGPIX1``, the mode, width, height and raw pixels of the upright image. What else decides how it looks (a
colour profile, gamma) enters too; an animation has none, nor have colours of 16 bits a channel, which Pillow rounds.
Decoders of lossy formats differ between versions: for JPEG and lossy WebP the digest is that of the decoder at hand.
"""

import hashlib
from io import BytesIO

from PIL import Image, ImageOps

from securegan.security.provenance.files import MAX_IMAGE

MAGIC = b"SGPIX1"
FORMATS = ("PNG", "JPEG", "WEBP", "BMP")
MAX_PIXELS = 64_000_000
PLAIN = ("L", "LA", "RGB", "RGBA", "I;16", "CMYK")
COLOURS = ("icc_profile", "gamma", "chromaticity")  # what Pillow calls chunks that change how pixels are shown


class BadPixels(ValueError):
    """Bytes that give no image within the limits; the message is the reason."""


def digest_of(mode: str, width: int, height: int, raw: bytes) -> str:
    """The digest of raw pixels, rows from the top, channels interleaved; ``mode`` as Pillow names it: L, RGB ..."""
    found = hashlib.sha256(b"%b\0%b\0%b%b" % (MAGIC, mode.encode(), width.to_bytes(8), height.to_bytes(8)))
    found.update(raw)
    return found.hexdigest()


def digest_of_image(data: bytes) -> str:
    """The digest of an image file's pixels. Raises BadPixels: see its message."""
    if len(data) > MAX_IMAGE:
        raise BadPixels(f"more than {MAX_IMAGE // 2**20} MiB")
    try:
        with Image.open(BytesIO(data), formats=FORMATS) as image:
            if image.width * image.height > MAX_PIXELS:
                raise BadPixels(f"more than {MAX_PIXELS // 10**6} million pixels")
            if getattr(image, "n_frames", 1) > 1:
                raise BadPixels("several frames")
            if image.mode not in ("I;16", "I") and any("16" in str(tile[3]) for tile in image.tile):
                raise BadPixels("16 bits a channel")
            image.load()
            colours = {name: image.info[name] for name in COLOURS if image.info.get(name)}
            plain = _plain(ImageOps.exif_transpose(image))
    except BadPixels:
        raise
    except Exception as error:  # Pillow's decoders raise errors of many kinds on broken or hostile bytes
        raise BadPixels(f"cannot be decoded: {error or type(error).__name__}") from error
    raw = plain.tobytes() + (repr(sorted(colours.items())).encode() if colours else b"")
    return digest_of(plain.mode, plain.width, plain.height, raw)


def _plain(image: Image.Image) -> Image.Image:
    """The image in a mode whose raw pixels are all there is to it: without a palette or a transparent colour."""
    if image.has_transparency_data and image.mode not in ("LA", "RGBA"):
        return image.convert("RGBA")
    if image.mode in PLAIN:
        return image
    if image.mode == "1":
        return image.convert("L")
    if image.mode.startswith("I"):
        return image.convert("I")
    return image.convert("RGB")
