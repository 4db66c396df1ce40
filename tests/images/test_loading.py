"""From any source to pixels; what cannot be an image is refused with a message that says why."""

from __future__ import annotations

import io
import os
import signal
import sys
import threading
import types

import numpy as np
import numpy.testing as npt
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from PIL import Image, ImageOps

from npmnv2.errors import ImageError
from npmnv2.images.loading import FORMATS, describe, is_pillow, read_header
from npmnv2.images.processor import MobileNetV2ImageProcessor, load_image


def encoded(image, kind, **options):
    file = io.BytesIO()
    image.save(file, format=kind, **options)
    return file.getvalue()


def assert_same_bits(comp, ref):
    comp, ref = np.asarray(comp), np.asarray(ref)
    assert comp.shape == ref.shape
    assert comp.dtype == ref.dtype
    npt.assert_array_equal(comp, ref)


def noise(height=64, width=48, channels=3):
    return np.random.default_rng(0).integers(0, 256, (height, width, channels), dtype=np.uint8)


# -- what images become ---------------------------------------------------------------------------------------------


def test_every_kind_of_source_gives_the_same_pixels(tmp_path):
    pixels = noise(40, 50)
    image = Image.fromarray(pixels)
    path = tmp_path / "photo.png"
    content = encoded(image, "PNG")
    path.write_bytes(content)
    with path.open("rb") as file:
        for source in (pixels, image, path, str(path), content, bytearray(content), file, io.BytesIO(content)):
            assert_same_bits(load_image(source), pixels)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation(tmp_path, orientation):
    image = Image.fromarray(noise(40, 56))
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = tmp_path / "photo.jpg"
    image.save(path, exif=exif, quality=95)
    with Image.open(path) as stored:
        upright = np.asarray(ImageOps.exif_transpose(stored))
        assert_same_bits(load_image(stored), upright)
        assert_same_bits(load_image(stored, exif_orientation=False), np.asarray(stored))
    assert_same_bits(load_image(path), upright)
    as_stored = MobileNetV2ImageProcessor.preset("raw", exif_orientation=False).to_array(path)
    assert as_stored.shape == (1, 40, 56, 3)


def test_sixteen_bits(tmp_path):
    values = np.array([[0, 128, 129, 257, 65406, 65407, 65535]], np.uint16)
    Image.fromarray(values).save(tmp_path / "gray.png")
    comp = load_image(tmp_path / "gray.png")
    assert_same_bits(comp[0, :, 0], np.array([0, 0, 1, 1, 254, 255, 255], np.uint8))
    assert_same_bits(comp, load_image(Image.fromarray(values.astype(np.int32))))
    assert comp.shape == (1, 7, 3)


def test_alpha_is_laid_over_white():
    image = Image.new("RGBA", (2, 1), (10, 20, 30, 0))
    image.putpixel((1, 0), (10, 20, 30, 255))
    expected = np.array([[[255, 255, 255], [10, 20, 30]]], np.uint8)
    assert_same_bits(load_image(image), expected)
    assert_same_bits(load_image(np.asarray(image)), expected)
    assert_same_bits(load_image(image.convert("RGBa")), expected)
    gray = Image.new("LA", (1, 1), (7, 255))
    assert_same_bits(load_image(gray.convert("La")), np.full((1, 1, 3), 7, np.uint8))


def test_float_images_stay_float():
    values = np.linspace(0, 255, 12, dtype=np.float32).reshape(3, 4)
    assert_same_bits(load_image(Image.fromarray(values)), np.repeat(values[:, :, None], 3, 2))
    rounded = MobileNetV2ImageProcessor(do_center_crop=False)(values)
    assert_same_bits(
        rounded.pixel_values, MobileNetV2ImageProcessor(do_center_crop=False)(np.rint(values)).pixel_values
    )


def test_one_bit_and_boolean():
    bits = noise(9, 17, 1)[:, :, 0] > 127
    expected = np.repeat(bits[:, :, None].astype(np.uint8) * 255, 3, 2)
    assert_same_bits(load_image(bits), expected)
    assert_same_bits(load_image(Image.fromarray(bits)), expected)


def test_animations_give_their_first_frame():
    frames = [Image.new("RGB", (40, 40), color) for color in ("red", "lime")]
    content = encoded(frames[0], "GIF", save_all=True, append_images=frames[1:])
    assert_same_bits(load_image(content), np.asarray(frames[0]))


def test_palette_indices_can_be_kept():
    image = Image.fromarray(noise(9, 7)).quantize(8)
    assert_same_bits(load_image(image, convert_rgb=False), np.asarray(image)[:, :, None])


def test_a_larger_limit_lets_a_large_image_in():
    content = encoded(Image.new("1", (400, 300)), "PNG")
    limit = Image.MAX_IMAGE_PIXELS
    with pytest.raises(ImageError, match="max_pixels"):
        load_image(content, max_pixels=119_999)
    assert load_image(content, max_pixels=120_000).shape == (300, 400, 3)
    assert limit == Image.MAX_IMAGE_PIXELS


def test_pillows_own_limit_does_not_interfere(monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    assert load_image(encoded(Image.new("RGB", (50, 40)), "PNG")).shape == (40, 50, 3)


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "LA", "L", "P", "CMYK", "1", "I;16", "F"])
def test_large_images_go_in_bands(monkeypatch, mode):
    image = Image.fromarray(noise(45, 30, 4), "RGBA").convert({"I;16": "L", "F": "L"}.get(mode, mode)).convert(mode)
    whole = load_image(image)
    for pixels in (30 * 7, 1, 30 * 44):
        monkeypatch.setattr("npmnv2.images.loading._BAND_PIXELS", pixels)
        assert_same_bits(load_image(image), whole)


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_damaged_files_raise_nothing_but_image_errors(data):
    kind = data.draw(st.sampled_from(["PNG", "JPEG", "GIF", "BMP", "TIFF", "WEBP"]))
    content = bytearray(_FILES[kind])
    content = content[: data.draw(st.integers(0, len(content)))]
    assume(content)
    for _ in range(data.draw(st.integers(0, 3))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    try:
        pixels = load_image(bytes(content), max_pixels=10_000_000)
    except ImageError:
        return
    assert pixels.ndim == 3


_FILES = {kind: encoded(Image.fromarray(noise(20, 30)), kind) for kind in ("PNG", "JPEG", "GIF", "BMP", "TIFF", "WEBP")}


# -- files -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty"),
        (b"not an image at all", "not an image in one of the formats that are read"),
        (b"PK\x03\x04" + bytes(100), "not an image in one of the formats that are read"),
        (encoded(Image.fromarray(noise()), "PNG")[:900], "damaged or cut short"),
        (encoded(Image.fromarray(noise()), "JPEG")[:900], "damaged or cut short"),
    ],
    ids=["empty", "text", "zip", "truncated png", "truncated jpeg"],
)
def test_bad_files_are_named(tmp_path, content, message):
    path = tmp_path / "holiday.jpg"
    path.write_bytes(content)
    with pytest.raises(ImageError, match=rf"holiday\.jpg.*{message}"):
        load_image(path)
    with pytest.raises(ImageError, match=message):
        load_image(content)
    with pytest.raises(ImageError, match=message), path.open("rb") as file:
        MobileNetV2ImageProcessor().to_array([noise(), file])


def test_missing_file(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"image \(='.*nowhere\.png'\) must be an existing file"):
        load_image(tmp_path / "nowhere.png")


def test_folder(tmp_path):
    with pytest.raises(ImageError, match="is a folder, not an image"):
        load_image(tmp_path)


@pytest.mark.parametrize("url", ["http://example.org/cat.jpg", "https://example.org/cat.jpg", "s3://bucket/cat.jpg"])
def test_urls_are_not_opened(url):
    with pytest.raises(ImageError, match=r"is a URL.*save it to a file"):
        load_image(url)


def test_text_file_object():
    with pytest.raises(TypeError, match="binary mode"):
        load_image(io.StringIO("text"))


@pytest.mark.parametrize("source", [None, 3, {"image": 1}, object()])
def test_other_objects(source):
    with pytest.raises(TypeError, match="an image must be a path"):
        load_image(source)


def test_decompression_bomb_is_refused_before_it_is_decoded():
    # A header that claims 60,000 × 60,000 pixels; there is no data behind it that could be decoded.
    content = bytearray(encoded(Image.new("RGB", (8, 8)), "BMP"))
    content[18:22] = content[22:26] = (60_000).to_bytes(4, "little")
    with pytest.raises(ImageError, match=r"60000 × 60000 pixels, more than max_pixels"):
        load_image(bytes(content))


def test_pillow_image_without_pixels():
    with pytest.raises(ImageError, match=r"PIL image of mode RGB must be at least 1 × 1 pixels, got 40 × 0"):
        load_image(Image.new("RGB", (0, 40)))


def test_closed_pillow_image(tmp_path):
    path = tmp_path / "photo.png"
    path.write_bytes(encoded(Image.fromarray(noise()), "PNG"))
    with Image.open(path) as image:
        pass
    with pytest.raises(ImageError, match=r"photo\.png is damaged or cut short"):
        load_image(image)


@pytest.mark.filterwarnings("ignore:Corrupt EXIF data")
def test_garbage_for_exif_is_ignored():
    content = encoded(Image.fromarray(noise()), "JPEG")
    exif = b"Exif\x00\x00MM\x00*\xff\xff\xff\xff\x00\x07garbage"
    segment = b"\xff\xe1" + (len(exif) + 2).to_bytes(2, "big") + exif
    assert load_image(content[:2] + segment + content[2:]).shape == (64, 48, 3)


def test_integer_pixels_beyond_sixteen_bits():
    with pytest.raises(ImageError, match=r"integer pixels must lie in 0…65535"):
        load_image(Image.fromarray(np.full((40, 40), -1, np.int32)))


@pytest.fixture
def limited(monkeypatch):
    """A limit that a test can pass without a gigabyte."""
    monkeypatch.setattr("npmnv2.images.loading.MAX_FILE_BYTES", 1 << 20)


def test_files_larger_than_any_photo_are_refused_before_reading(tmp_path):
    """A sparse file takes no room on the disk; its content would take all memory."""
    path = tmp_path / "holiday.jpg"
    with path.open("wb") as file:
        file.write(encoded(Image.fromarray(noise()), "JPEG"))
        file.truncate(20 << 30)
    with pytest.raises(ImageError, match=r"holiday\.jpg must have at most 1024 MiB to be read as an image"):
        load_image(path)


def test_streams_without_end_are_read_to_the_limit(limited):
    class Endless:
        name = "endless"
        read_bytes = 0

        def read(self, size):
            assert 0 <= size <= (1 << 20) + 1
            self.read_bytes += size
            return bytes(size)

    source = Endless()
    with pytest.raises(ImageError, match="endless must have at most 1 MiB"):
        load_image(source)
    assert source.read_bytes == (1 << 20) + 1
    with pytest.raises(ImageError, match="image of 100 bytes is not an image"):
        load_image(bytes(100))


def test_a_file_of_just_the_limit(tmp_path, limited):
    content = encoded(Image.fromarray(noise()), "PNG")
    path = tmp_path / "photo.png"
    path.write_bytes(content + bytes((1 << 20) - len(content)))
    assert load_image(path).shape == (64, 48, 3)
    path.write_bytes(content + bytes((1 << 20) + 1 - len(content)))
    with pytest.raises(ImageError, match="at most 1 MiB"):
        load_image(path)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_pipes_do_not_block(tmp_path):
    os.mkfifo(tmp_path / "pipe.jpg")
    with pytest.raises(ImageError, match=r"pipe\.jpg is not a regular file; to read from a pipe .* pass the file"):
        load_image(tmp_path / "pipe.jpg")


@pytest.mark.skipif(not os.path.exists("/dev/zero"), reason="needs devices")
def test_devices_are_not_read():
    with pytest.raises(ImageError, match="/dev/zero is not a regular file"):
        load_image("/dev/zero")


def test_formats_that_start_programs_are_not_opened(tmp_path, monkeypatch):
    """EPS would start Ghostscript."""
    monkeypatch.setattr("PIL.EpsImagePlugin.Ghostscript", lambda *_: pytest.fail("Ghostscript"))
    content = encoded(Image.fromarray(noise()), "EPS")
    with pytest.raises(ImageError, match=r"not an image in one of the formats that are read \(JPEG, PNG"):
        load_image(content)


@pytest.mark.parametrize("kind", ["BMP", "GIF", "JPEG", "JPEG2000", "PNG", "PPM", "TGA", "TIFF", "WEBP"])
def test_raster_formats_are_read(kind):
    assert kind in FORMATS
    if kind.upper() not in {name.upper() for name in Image.SAVE}:
        pytest.skip(f"this Pillow writes no {kind}")
    assert load_image(encoded(Image.fromarray(noise()), kind)).shape == (64, 48, 3)


# -- arrays ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.zeros(10), r"must have the shape \(height, width, 3\).*got \(10,\)"),
        (np.zeros((1, 2, 40, 40, 3)), r"got \(2, 40, 40, 3\)"),
        (np.zeros((40, 40, 2)), r"or 1 \(gray\) or 4 \(RGBA\) channels, got \(40, 40, 2\)$"),
        (np.zeros((3, 40, 41)), r"got \(3, 40, 41\); channels come last: np\.moveaxis"),
        (np.zeros((0, 40, 3), np.uint8), "must be at least"),
        (np.zeros((40, 0), np.uint8), "must be at least"),
        (np.zeros((40, 31, 3), np.uint8), r"must be at least 32 × 32 pixels, got 40 × 31"),
        (np.full((40, 40, 3), np.nan), "NaN or infinite pixels"),
        (np.full((40, 40, 3), np.inf, np.float32), "NaN or infinite pixels"),
        (np.full((40, 40, 3), 256), r"values from 256 to 256; integer pixels must lie in 0…255"),
        (np.full((40, 40, 3), -1), r"values from -1 to -1"),
        (np.full((40, 40, 3), 65535, np.uint16), r"divide 16-bit ones by 257"),
        (np.zeros((40, 40, 3), complex), "dtype complex128"),
        (np.full((40, 40, 3), "x"), "pixels must be uint8 or float"),
        (np.full((40, 40, 4), 100.0), "float array must have 1 or 3 channels"),
        (np.full((40, 40, 3), 1.0), r"must lie in 0…255 but none is above 1, which would be all but black"),
        (np.full((40, 40, 3), 0.7), r"must lie in 0…255 but none is above 0\.7.*do_rescale=False"),
        (np.full((40, 40, 3), 255.5), r"must lie in 0…255 with these settings, got 255\.5"),
        (np.full((40, 40, 3), -0.1), r'must lie in 0…255.*use the preset "raw"'),
    ],
)
def test_bad_arrays(array, message):
    with pytest.raises(ImageError, match=message):
        MobileNetV2ImageProcessor().to_array(array)


def test_names_in_messages():
    assert describe(Image.new("L", (3, 4))) == "PIL image of mode L"
    assert describe(np.zeros((3, 4))) == "array of shape (3, 4)"
    assert describe(b"abc") == "image of 3 bytes"


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_fork_while_another_thread_reads_a_header(monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 123_456)
    inside, go_on = threading.Event(), threading.Event()
    content, real_open = encoded(Image.fromarray(noise()), "PNG"), Image.open

    def slow_open(*arguments, **options):
        inside.set()
        assert go_on.wait(20)
        return real_open(*arguments, **options)

    monkeypatch.setattr(Image, "open", slow_open)
    thread = threading.Thread(target=load_image, args=(content,))
    thread.start()
    assert inside.wait(20)
    child = os.fork()
    if child == 0:
        signal.alarm(20)
        go_on.set()
        limit = Image.MAX_IMAGE_PIXELS
        os._exit(0 if limit == 123_456 and load_image(content).shape == (64, 48, 3) else 1)
    go_on.set()
    thread.join()
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert Image.MAX_IMAGE_PIXELS == 123_456


def test_pillow_may_be_half_imported_by_another_thread(monkeypatch):
    monkeypatch.setitem(sys.modules, "PIL.Image", types.ModuleType("PIL.Image"))
    assert not is_pillow(b"a file")
    assert describe(b"a file") == "image of 6 bytes"


def test_a_header_is_read_without_its_pixels():
    file = io.BytesIO()
    Image.new("RGB", (40, 30)).save(file, "PNG")
    assert read_header(file.getvalue()[:60]) == ("PNG", 40, 30)
    with pytest.raises(ImageError, match="not an image"):
        read_header(b"no image")
