"""A digest of what an image shows, which survives another file format or compression without loss.

SHA-256 of ``SGPIX1``, the mode, width, height and raw pixels, and what the file says of its colours (a profile, gamma).
Files that readers show differently have none: see ``layouts``. Nor have colours of 16 bits a channel, which Pillow
rounds. Decoders of lossy formats differ between versions: for JPEG and lossy WebP the digest is that of the decoder at
hand.
"""

import hashlib
from io import BytesIO

from PIL import Image

from securegan.security.provenance.layouts import BadPixels, colours_of

MAGIC = b"SGPIX1"
FORMATS = ("PNG", "JPEG", "WEBP", "BMP")
MAX_PIXELS = 64_000_000
BAND = 2**20  # pixels that are brought into a plain mode at once: a palette's take four times as much there
PLAIN = ("L", "LA", "RGB", "RGBA", "I;16", "CMYK")


def digest_of(mode: str, width: int, height: int, raw: bytes) -> str:
    """The digest of raw pixels, rows from the top, channels interleaved; ``mode`` as Pillow names it: L, RGB ..."""
    found = _begun(mode, width, height)
    found.update(raw)
    return found.hexdigest()


def digest_of_image(data: bytes) -> str:
    """The digest of an image file's pixels. Raises BadPixels: see its message."""
    colours = colours_of(data)
    try:
        with Image.open(BytesIO(data), formats=FORMATS) as image:
            if image.width * image.height > MAX_PIXELS:
                raise BadPixels(f"more than {MAX_PIXELS // 10**6} million pixels")
            if getattr(image, "n_frames", 1) > 1:
                raise BadPixels("several frames")
            palette = None if image.palette is None else len(image.palette.palette) // 3
            image.load()
            if palette is not None and int(image.getextrema()[1]) >= palette:  # type: ignore[arg-type]
                raise BadPixels("colours that its palette does not have")
            found, rows = None, max(1, BAND // image.width)
            for top in range(0, image.height, rows):
                plain = _plain(image.crop((0, top, image.width, min(top + rows, image.height))))
                found = found or _begun(plain.mode, image.width, image.height)
                found.update(plain.tobytes())
    except BadPixels:
        raise
    except Exception as error:  # Pillow's decoders raise errors of many kinds on broken or hostile bytes
        raise BadPixels(f"cannot be decoded: {error or type(error).__name__}") from error
    assert found is not None  # an image has a row
    found.update(colours)
    return found.hexdigest()


def _begun(mode: str, width: int, height: int) -> "hashlib._Hash":
    return hashlib.sha256(b"%b\0%b\0%b%b" % (MAGIC, mode.encode(), width.to_bytes(8), height.to_bytes(8)))


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
