"""What cannot be an image, or cannot be asked of the processor, is refused with a message that says why."""

from __future__ import annotations

import io
import os
import signal
import threading
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from npmnv2.errors import ImageError
from npmnv2.images.loading import FORMATS, describe
from npmnv2.images.processor import MobileNetV2ImageProcessor, load_image
from npmnv2.images.steps import resized_size


def encoded(image, kind):
    file = io.BytesIO()
    image.save(file, format=kind)
    return file.getvalue()


def noise(height=64, width=48, channels=3):
    return np.random.default_rng(0).integers(0, 256, (height, width, channels), dtype=np.uint8)


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
    with pytest.raises(ImageError, match="bytes is not an image"):
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
        (np.full((40, 40, 3), 0.7), r"must lie in 0…255 but none is above 0\.7.*do_rescale=False"),
        (np.full((40, 40, 3), 255.5), r"must lie in 0…255 with these settings, got 255\.5"),
        (np.full((40, 40, 3), -0.1), r'must lie in 0…255.*use the preset "raw"'),
    ],
)
def test_bad_arrays(array, message):
    with pytest.raises(ImageError, match=message):
        MobileNetV2ImageProcessor().to_array(array)


@pytest.mark.parametrize("array", [np.full((40, 40, 3), 1.5), np.full((40, 40, 3), 255.0), np.full((40, 40, 3), -0.5)])
def test_unit_range_is_expected_without_rescaling(array):
    with pytest.raises(ImageError, match=r"must lie in 0…1 with these settings"):
        MobileNetV2ImageProcessor(do_rescale=False).to_array(array)


@pytest.mark.parametrize("value", [0.0, 1.0, 0.3])
def test_unit_range_is_accepted_without_rescaling(value):
    array = MobileNetV2ImageProcessor(do_rescale=False, do_resize=False).to_array(np.full((40, 40, 3), value))
    assert array.dtype == np.float32


def test_a_black_float_image_is_accepted():
    assert (MobileNetV2ImageProcessor().to_array(np.zeros((40, 40, 3))) == -1).all()


def test_no_range_is_expected_where_nothing_is_scaled():
    x = np.full((40, 40, 3), -1.5)
    assert (MobileNetV2ImageProcessor.preset("raw").to_array(x) == np.float32(-1.5)).all()


@pytest.mark.parametrize("shape", [(3, 40, 3), (1, 40, 4)])
def test_channels_that_could_be_either_axis(shape):
    array = np.zeros(shape, np.uint8)
    with pytest.raises(ImageError, match="unclear; pass input_data_format"):
        MobileNetV2ImageProcessor()(array)
    for layout in ("channels_first", "channels_last"):
        assert MobileNetV2ImageProcessor()(array, input_data_format=layout).pixel_values[0].shape == (3, 224, 224)


def test_images_of_different_sizes_make_no_batch():
    processor = MobileNetV2ImageProcessor.preset("raw")
    with pytest.raises(ImageError, match=r"one size after preprocessing.*\(40, 40, 3\), \(40, 41, 3\)"):
        processor.to_array([noise(40, 40), noise(40, 41)])
    with pytest.raises(ImageError, match="one size"):
        processor([noise(40, 40), noise(40, 41)], return_tensors="np")
    with pytest.raises(ImageError, match="one size"):
        processor.to_array([])


def test_mean_of_another_number_of_channels():
    with pytest.raises(ImageError, match="one entry per channel, got an image of 1 channels"):
        MobileNetV2ImageProcessor(do_convert_rgb=False)(noise(40, 40, 1))


def test_a_thin_image_is_not_blown_up_to_gigabytes():
    with pytest.raises(ImageError, match=r"would be resized to 12800000 × 256; crop it first"):
        resized_size((50_000, 1), {"shortest_edge": 256})
    assert resized_size((5000, 1), {"max_height": 513, "max_width": 513}) == (513, 1)


def test_pad_size_below_the_image():
    processor = MobileNetV2ImageProcessor.preset("raw", pad_size=(50, 50))
    with pytest.raises(ImageError, match=r"pad_size \(=50 × 50\) must be at least .* got 51 × 40"):
        processor.to_array(noise(51, 40))
    with pytest.raises(ImageError, match="pad_size"):
        processor.placement((51, 40))


# -- segmentation ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (np.zeros((40, 40, 3), int), r"integer array of shape \(height, width\)"),
        (np.zeros((40, 40)), "got float64"),
        (np.full((40, 40), 256), r"labels must lie in 0…255, got 256…256"),
        (np.full((40, 40), -1), "labels must lie in"),
    ],
)
def test_bad_segmentation_maps(labels, message):
    with pytest.raises(ImageError, match=message):
        MobileNetV2ImageProcessor()(noise(), [labels])


def test_target_sizes_of_another_number():
    outputs = SimpleNamespace(logits=np.zeros((2, 3, 4, 4), np.float32))
    with pytest.raises(
        ValueError, match=r"target_sizes must have one \(height, width\) for each of the 2 images, got 3"
    ):
        MobileNetV2ImageProcessor().post_process_semantic_segmentation(outputs, [(9, 9)] * 3)


@pytest.mark.parametrize("size", [(0, 5), (5, -1), (5,), (5, 5, 5), (1.5, 2), ("5", 5), 5, "ab"])
def test_target_sizes_that_are_none(size):
    outputs = SimpleNamespace(logits=np.zeros((1, 3, 4, 4), np.float32))
    with pytest.raises(ValueError, match=r"target_sizes must be pairs \(height, width\) of integers above 0, got"):
        MobileNetV2ImageProcessor().post_process_semantic_segmentation(outputs, [size])


@pytest.mark.parametrize("outputs", [None, SimpleNamespace(logits=None)])
def test_outputs_without_logits(outputs):
    with pytest.raises(ValueError, match="outputs must have logits, got"):
        MobileNetV2ImageProcessor().post_process_semantic_segmentation(outputs)


# -- settings ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"size": 0}, ValueError, "positive integers"),
        ({"size": {"shortest_edge": True}}, ValueError, "positive integers"),
        ({"size": 8193}, ValueError, r"size \(=.*\) must make an input of at most 67,108,864 pixels"),
        ({"pad_size": 200_000}, ValueError, r"pad_size \(=.*\) must make an input of at most"),
        ({"crop_size": (1, 67_108_865)}, ValueError, "crop_size .* must make an input of at most"),
        ({"size": {"max_height": 10**400, "max_width": 1}}, ValueError, "must make an input of at most"),
        ({"size": {"shortest_edge": 2.5}}, ValueError, "positive integers"),
        ({"size": {"width": 5}}, ValueError, r"size \(=\{'width': 5\}\) must be an integer"),
        ({"size": "large"}, ValueError, "must be an integer, a"),
        ({"crop_size": {"shortest_edge": 5}}, ValueError, r"crop_size .* \['height', 'width'\]"),
        ({"resample": 17}, ValueError, r"2 \(bilinear\).*half_pixel"),
        ({"resample": "bilinear"}, ValueError, "tf1"),
        ({"do_resize": "yes"}, TypeError, r"do_resize \(='yes'\) must be True or False"),
        ({"rescale_factor": float("nan")}, ValueError, "finite number"),
        ({"rescale_factor": "1/255"}, ValueError, "finite number"),
        ({"image_mean": [0.5, None, 0.5]}, ValueError, "finite number"),
        ({"image_std": [0.5, 0.0, 0.5]}, ValueError, "must not be 0"),
        ({"central_fraction": 0.0}, ValueError, "above 0 and at most 1"),
        ({"central_fraction": 1.5}, ValueError, "above 0 and at most 1"),
    ],
)
def test_bad_settings(arguments, error, message):
    with pytest.raises(error, match=message):
        MobileNetV2ImageProcessor(**arguments)
    with pytest.raises(error, match=message):
        MobileNetV2ImageProcessor()(noise(), **arguments)


def test_unknown_keys_are_named_together():
    with pytest.raises(ValueError, match=r"\['do_flip', 'sise'\]; known are"):
        MobileNetV2ImageProcessor.from_dict({"sise": 3, "do_flip": True, "do_resize": False})
    with pytest.raises(ValueError, match="do_flip"):
        MobileNetV2ImageProcessor()(noise(), do_flip=True)


def test_bookkeeping_of_transformers_is_accepted():
    config = {"image_processor_type": "MobileNetV2ImageProcessorFast", "do_pad": None, "device": None}
    assert MobileNetV2ImageProcessor.from_dict(config) == MobileNetV2ImageProcessor()


def test_the_largest_input():
    for size in (8192, (8192, 8192), (1, 67_108_864)):
        assert MobileNetV2ImageProcessor(size=size, crop_size=8192)


def test_presets_that_are_no_names():
    with pytest.raises(ValueError, match=r"preset \(=\[\]\) must be one of hf"):
        MobileNetV2ImageProcessor.from_preprocessing({"preset": []})


def test_unknown_preset():
    with pytest.raises(ValueError, match=r"preset \(='torch'\) must be one of hf, slim, keras, raw, deeplab"):
        MobileNetV2ImageProcessor.preset("torch")
    with pytest.raises(ValueError, match="positive integers"):
        MobileNetV2ImageProcessor.preset("hf", 0)


@pytest.mark.parametrize("argument", ["data_format", "input_data_format"])
def test_unknown_layout(argument):
    with pytest.raises(ValueError, match=rf"{argument} \(='NHWC'\) must be 'channels_first' or 'channels_last'"):
        MobileNetV2ImageProcessor()(noise(), **{argument: "NHWC"})


def test_unknown_tensors():
    with pytest.raises(ValueError, match=r"return_tensors \(='mx'\) must be None or one of np, pt, tf, jax"):
        MobileNetV2ImageProcessor()(noise(), return_tensors="mx")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "is not JSON"),
        ("[]", "must hold a JSON object, got list"),
        ("[" * 200_000, "is not JSON"),
        (" " * (1 << 20) + "{}", "must have at most 1048576 bytes"),
        ('{"pad_size": {"height": 200000, "width": 200000}}', "must make an input of at most"),
    ],
    ids=["cut off", "list", "nested", "large", "padding"],
)
def test_bad_config_files(tmp_path, text, message):
    (tmp_path / "preprocessor_config.json").write_text(text)
    with pytest.raises(ValueError, match=message):
        MobileNetV2ImageProcessor.from_pretrained(tmp_path)


def test_missing_config_file(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"must be a directory with a preprocessor_config\.json"):
        MobileNetV2ImageProcessor.from_pretrained(tmp_path)
    with pytest.raises(FileNotFoundError, match=r"google/mobilenet_v2_1\.0_224"):
        MobileNetV2ImageProcessor.from_pretrained("google/mobilenet_v2_1.0_224")


def test_names_in_messages():
    assert describe(Image.new("L", (3, 4))) == "PIL image of mode L"
    assert describe(np.zeros((3, 4))) == "array of shape (3, 4)"
    assert describe(b"abc") == "bytes"


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
