"""One image file's bytes, from anyone, to uint8 pixels of a fixed size.

The content decides what a file is, never its name. Only PNG, JPEG, WebP and BMP decoders are ever run, and the number
of pixels is checked in the header before a pixel is decoded. Transparency is laid on white, 16-bit grey is scaled (not
clipped) to 8 bits, EXIF orientation is applied, and of an animation the first frame is taken. The centre square is then
cut out and resized bilinearly, antialiased as Pillow does; an image of the right size is left as it is.
"""

from io import BytesIO
from pathlib import PurePosixPath
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

DECODE_VERSION = 1  # raise it whenever the same bytes give other pixels: stores are prepared anew
FORMATS = ("PNG", "JPEG", "WEBP", "BMP")
SUFFIXES = {
    ".png": "PNG",
    ".jpg": "JPEG",
    ".jpeg": "JPEG",
    ".jpe": "JPEG",
    ".jfif": "JPEG",
    ".webp": "WEBP",
    ".bmp": "BMP",
}
MAX_PIXELS = 64_000_000
ORIENTATION = 0x0112  # the EXIF tag
MODE_NAMES = {"1": "1-bit", "P": "palette"}


class BadImage(Exception):
    """A file that gives no image; the message is the reason, without the file's name."""


class Decoded(NamedTuple):
    """Pixels of one image, and what had to be changed to get them."""

    pixels: NDArray[np.uint8]  # (C, size, size)
    converted: str | None = None  # the reasons, joined, or None where the file was taken as it is


def decode(data: bytes, name: str, size: int, channels: int, *, max_pixels: int = MAX_PIXELS) -> Decoded:
    """Pixels ``(channels, size, size)`` of the image file ``data``.

    Args: name: whose suffix is compared with the content; channels: 1 (luma) or 3 (RGB).
    Raises BadImage where the bytes are no whole image of an accepted format or hold more than ``max_pixels``.
    """
    if not data:
        raise BadImage("the file is empty")
    try:
        with Image.open(BytesIO(data), formats=FORMATS) as image:
            if image.width * image.height > max_pixels:
                raise BadImage(_too_large(max_pixels))
            notes = _container_notes(image, name)
            image.load()
            upright, turned = _upright(image)
            plain, changed = _plain(upright)
            pixels = to_pixels(plain, size, channels)
    except BadImage:
        raise
    except UnidentifiedImageError as error:
        raise BadImage("not a PNG, JPEG, WebP or BMP image") from error
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise BadImage(_too_large(max_pixels)) from error
    except Exception as error:  # Pillow's decoders raise errors of many kinds on broken or hostile bytes
        raise BadImage(f"cannot be decoded: {error or type(error).__name__}") from error
    return Decoded(pixels, "; ".join(notes + turned + changed) or None)


def to_pixels(image: Image.Image, size: int, channels: int) -> NDArray[np.uint8]:
    """The centre square of an ``L`` or ``RGB`` image as uint8 ``(channels, size, size)``."""
    image = image.convert("L" if channels == 1 else "RGB")
    side = min(image.size)
    if image.width != image.height:
        left, top = (image.width - side) // 2, (image.height - side) // 2
        image = image.crop((left, top, left + side, top + side))
    if side != size:
        image = image.resize((size, size), Image.Resampling.BILINEAR)
    pixels = np.asarray(image)
    return np.ascontiguousarray(pixels[None] if channels == 1 else pixels.transpose(2, 0, 1))


def _too_large(limit: int) -> str:
    return f"more than {limit // 10**6} million pixels"


def _container_notes(image: Image.Image, name: str) -> list[str]:
    """What the header says of the file: another format than its name, several frames, 16 bits a channel."""
    notes = []
    found = "JPEG" if image.format == "MPO" else str(image.format)  # MPO: a JPEG with further frames behind it
    suffix = PurePosixPath(name).suffix.lower()
    if SUFFIXES.get(suffix) != found:
        notes.append(f"a {found} file named '{suffix}'")
    if (frames := getattr(image, "n_frames", 1)) > 1:
        notes.append(f"first of {frames} frames")
    if any("16" in str(tile[3]) for tile in getattr(image, "tile", ())) and image.format == "PNG":
        notes.append("16 bits a channel scaled to 8")
    return notes


def _upright(image: Image.Image) -> tuple[Image.Image, list[str]]:
    """The image turned as its EXIF orientation says."""
    try:
        orientation = image.getexif().get(ORIENTATION, 1)
        if orientation in range(2, 9):
            return ImageOps.exif_transpose(image), ["turned by its EXIF orientation"]
    except Exception:  # broken EXIF beside sound pixels: the parser raises errors of many kinds
        return image, ["unreadable EXIF ignored"]
    return image, []


def _plain(image: Image.Image) -> tuple[Image.Image, list[str]]:
    """The image as 8-bit ``L`` or ``RGB``."""
    if image.mode.startswith("I"):  # 16-bit grey; Pillow's own conversion would clip at 255
        values = np.asarray(image).astype(np.int64).clip(0, 65535)
        return Image.fromarray(((values + 128) // 257).astype(np.uint8)), []
    if image.has_transparency_data:
        rgba = image.convert("RGBA")
        opaque = rgba.getchannel("A").getextrema()[0] == 255
        flat = Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba).convert("RGB")
        return flat, [] if opaque else ["transparency laid on white"]
    if image.mode in ("L", "RGB"):
        return image, []
    return image.convert("RGB"), [f"{MODE_NAMES.get(image.mode, image.mode)} colours converted to RGB"]
