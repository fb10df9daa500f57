"""What becomes of one file's bytes: faithful pixels, a stated conversion, or a stated refusal."""

import struct
import zlib
from io import BytesIO
from typing import Any

import numpy as np
import pytest
from PIL import Image

from securegan.data.decode import MAX_PIXELS, BadImage, decode

RAMP = np.arange(64, dtype=np.uint8).reshape(8, 8) * 4


def encoded(image: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    buffer = BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def png(width: int, height: int, depth: int, colour: int, rows: bytes) -> bytes:
    """A PNG written by hand, for what Pillow cannot write."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows, 9)) + chunk(b"IEND", b"")


def noise(height: int = 8, width: int = 8, channels: int = 3) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (height, width, channels), dtype=np.uint8)


@pytest.mark.parametrize("kind", ["PNG", "BMP"])
def test_lossless_image_of_the_right_size_is_left_as_it_is(kind: str) -> None:
    values = noise()
    decoded = decode(encoded(Image.fromarray(values), kind), f"a.{kind.lower()}", 8, 3)
    assert np.array_equal(decoded.pixels, values.transpose(2, 0, 1))
    assert decoded.converted is None


def test_lossless_webp_is_left_as_it_is() -> None:
    values = noise()
    decoded = decode(encoded(Image.fromarray(values), "WEBP", lossless=True), "a.webp", 8, 3)
    assert np.array_equal(decoded.pixels, values.transpose(2, 0, 1))


@pytest.mark.parametrize("channels", [1, 3])
def test_grey_image_has_equal_channels(channels: int) -> None:
    pixels = decode(encoded(Image.fromarray(RAMP)), "a.png", 8, channels).pixels
    assert pixels.shape == (channels, 8, 8)
    assert (pixels == RAMP).all()


def test_centre_square_is_resized_as_pillow_does() -> None:
    values = noise(20, 31)
    pixels = decode(encoded(Image.fromarray(values)), "a.png", 8, 3).pixels
    expected = Image.fromarray(values[:, 5:25]).resize((8, 8), Image.Resampling.BILINEAR)
    assert np.array_equal(pixels, np.asarray(expected).transpose(2, 0, 1))


def test_jpeg_named_png_is_read_and_reported() -> None:
    data = encoded(Image.fromarray(RAMP), "JPEG")
    decoded = decode(data, "a.png", 8, 1)
    assert np.array_equal(decoded.pixels, decode(data, "a.jpg", 8, 1).pixels)
    assert decoded.converted == "a JPEG file named '.png'"


def test_16_bit_grey_is_scaled_not_clipped() -> None:
    values = np.array([[0, 128, 129, 257], [32896, 40000, 65278, 65535]] * 2, dtype=np.uint16)
    decoded = decode(encoded(Image.fromarray(values)), "a.png", 4, 1)
    assert np.array_equal(decoded.pixels[0], np.round(values / 257).astype(np.uint8))
    assert decoded.converted == "16 bits a channel scaled to 8"


def test_16_bit_colour_is_scaled_and_reported() -> None:
    values = np.random.default_rng(0).integers(0, 65536, (4, 4, 3)).astype(">u2")
    rows = b"".join(b"\x00" + row.tobytes() for row in values)
    decoded = decode(png(4, 4, 16, 2, rows), "a.png", 4, 3)
    assert np.abs(decoded.pixels - (values / 257).transpose(2, 0, 1)).max() <= 1
    assert decoded.converted == "16 bits a channel scaled to 8"


def test_cmyk_jpeg_becomes_rgb() -> None:
    red = Image.new("RGB", (8, 8), (200, 30, 40))
    decoded = decode(encoded(red.convert("CMYK"), "JPEG", quality=100), "a.jpg", 8, 3)
    assert np.abs(decoded.pixels[:, 4, 4].astype(int) - (200, 30, 40)).max() <= 3
    assert decoded.converted == "CMYK colours converted to RGB"


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
def test_transparency_is_laid_on_white(mode: str) -> None:
    image = Image.new("RGBA", (8, 8), (0, 0, 0, 0))
    image.paste((0, 0, 0, 255), (0, 0, 4, 8))
    decoded = decode(encoded(image.convert(mode)), "a.png", 8, 3)
    assert (decoded.pixels[:, :, :4] == 0).all() and (decoded.pixels[:, :, 4:] == 255).all()
    assert decoded.converted == "transparency laid on white"


def test_half_transparency_is_mixed_with_white() -> None:
    decoded = decode(encoded(Image.new("RGBA", (8, 8), (0, 100, 200, 128))), "a.png", 8, 3)
    expected = np.array([0, 100, 200]) * 128 / 255 + 255 * 127 / 255
    assert np.abs(decoded.pixels[:, 0, 0] - expected).max() <= 1


def test_opaque_alpha_is_no_conversion() -> None:
    assert decode(encoded(Image.new("RGBA", (8, 8), (1, 2, 3, 255))), "a.png", 8, 3).converted is None


def test_palette_and_1_bit_images_are_converted() -> None:
    palette = Image.fromarray(noise()).quantize(256)
    decoded = decode(encoded(palette), "a.png", 8, 3)
    assert np.array_equal(decoded.pixels, np.asarray(palette.convert("RGB")).transpose(2, 0, 1))
    assert decoded.converted == "palette colours converted to RGB"
    bits = decode(encoded(Image.fromarray(RAMP).convert("1")), "a.png", 8, 1)
    assert set(np.unique(bits.pixels)) == {0, 255}
    assert bits.converted == "1-bit colours converted to RGB"


def test_exif_orientation_is_applied() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned clockwise by a quarter
    decoded = decode(encoded(Image.fromarray(RAMP), exif=exif), "a.png", 8, 1)
    assert np.array_equal(decoded.pixels[0], np.rot90(RAMP, -1))
    assert decoded.converted == "turned by its EXIF orientation"


@pytest.mark.filterwarnings("ignore:Corrupt EXIF")
def test_broken_exif_does_not_cost_the_image() -> None:
    decoded = decode(encoded(Image.fromarray(RAMP), exif=b"Exif\0\0MM\0*\xff\xff\xff\xff"), "a.png", 8, 1)
    assert np.array_equal(decoded.pixels[0], RAMP)


@pytest.mark.parametrize("kind", ["WEBP", "PNG"])
def test_first_frame_of_an_animation_is_taken_and_reported(kind: str) -> None:
    first, second = Image.fromarray(noise()), Image.new("RGB", (8, 8), "red")
    data = encoded(first, kind, save_all=True, append_images=[second], lossless=True)
    decoded = decode(data, f"a.{kind.lower()}", 8, 3)
    assert np.array_equal(decoded.pixels, np.asarray(first).transpose(2, 0, 1))
    assert decoded.converted == "first of 2 frames"


def test_animated_gif_named_png_is_refused() -> None:
    data = encoded(Image.fromarray(RAMP), "GIF", save_all=True, append_images=[Image.new("L", (8, 8))])
    with pytest.raises(BadImage, match="not a PNG, JPEG, WebP or BMP image"):
        decode(data, "a.png", 8, 3)


@pytest.mark.parametrize("data", [b"<html>not found</html>", b"\x89PNG\r\n\x1a\n", b"BM", b"RIFF\x00\x00\x00\x00WEBP"])
def test_what_is_no_image_is_refused(data: bytes) -> None:
    with pytest.raises(BadImage):
        decode(data, "a.png", 8, 3)


def test_an_empty_file_is_refused() -> None:
    with pytest.raises(BadImage, match="the file is empty"):
        decode(b"", "a.png", 8, 3)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "BMP"])
@pytest.mark.parametrize("share", [0.3, 0.6, 0.9])
def test_a_truncated_file_is_refused(kind: str, share: float) -> None:
    data = encoded(Image.fromarray(noise(64, 64)), kind)
    with pytest.raises(BadImage):
        decode(data[: int(len(data) * share)], "a.png", 8, 3)


def test_a_png_with_a_flipped_bit_is_refused() -> None:
    data = bytearray(encoded(Image.fromarray(noise(64, 64))))
    data[len(data) // 2] ^= 1
    with pytest.raises(BadImage):
        decode(bytes(data), "a.png", 8, 3)


@pytest.mark.parametrize("side", [8001, 60_000])  # just above the limit, and above Pillow's own
def test_a_decompression_bomb_is_refused_by_its_header(side: int, monkeypatch: pytest.MonkeyPatch) -> None:
    assert side**2 > MAX_PIXELS
    monkeypatch.setattr("PIL.ImageFile.ImageFile.load", lambda self: pytest.fail("a pixel was decoded"))
    with pytest.raises(BadImage, match="more than 64 million pixels"):
        decode(png(side, side, 8, 2, b"\x00" * 100_000), "a.png", 8, 3)


def test_any_damage_gives_pixels_or_a_reason() -> None:
    """Random damage to every format: never an error of another kind."""
    random = np.random.default_rng(0)
    for kind in ("PNG", "JPEG", "WEBP", "BMP"):
        whole = encoded(Image.fromarray(noise(16, 16)), kind)
        for _ in range(100):
            data = np.frombuffer(whole, dtype=np.uint8).copy()
            data[random.integers(0, len(data), 3)] = random.integers(0, 256, 3)
            try:
                assert decode(data.tobytes(), "a.png", 8, 3).pixels.shape == (3, 8, 8)
            except BadImage as bad:
                assert str(bad)
