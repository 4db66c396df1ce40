"""Segmentation: transformers and TensorFlow as outside judges, masks that lie on their photos, and bad input."""

from __future__ import annotations

import io

import numpy as np
import numpy.testing as npt
import pytest
from engines import BACKENDS
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from npmnv2 import (
    ImageError,
    MobileNetV2Config,
    MobileNetV2ForSemanticSegmentation,
    MobileNetV2ImageProcessor,
    Segmentation,
    WeightsError,
    load,
)
from npmnv2.kernels import softmax
from npmnv2.lab.random_weights import unit_gain_weights
from npmnv2.labels import segmentation_labels
from npmnv2.models.segmentation import unpadding_grid
from npmnv2.network.deeplab import LOGITS, segmenter
from npmnv2.results.class_map import Grid, best_classes
from npmnv2.weights_tools import read, write_transformers

VOC = dict(enumerate(segmentation_labels("voc")))
SMALL = MobileNetV2Config(image_size=65, depth_multiplier=0.35, output_stride=16, id2label=VOC)


def build(config=SMALL, backend="numpy", **options):
    return MobileNetV2ForSemanticSegmentation(config, unit_gain_weights(segmenter(config)), backend=backend, **options)


@pytest.fixture(scope="module", params=BACKENDS)
def model(request):
    return build(backend=request.param, processor=MobileNetV2ImageProcessor.preset("deeplab", SMALL.image_size))


@pytest.fixture(scope="module")
def segmenter_on_numpy():
    return build()


def photo(height, width, seed=0):
    """Smooth colors with some edges."""
    rng = np.random.default_rng(seed)
    coarse = Image.fromarray(rng.integers(0, 256, (6, 6, 3), dtype=np.uint8))
    return np.asarray(coarse.resize((width, height), Image.Resampling.BICUBIC))


def pixels(height, width, batch=2):
    return np.random.default_rng(1).uniform(-1, 1, (batch, 3, height, width)).astype(np.float32)


# --- transformers -----------------------------------------------------------------------------------------------------


@pytest.fixture
def theirs(tmp_path):
    """A factory: our model as transformers' own class, by way of its files."""
    transformers = pytest.importorskip("transformers")

    def make(ours):
        write_transformers(ours.to_checkpoint(), tmp_path)
        return transformers.MobileNetV2ForSemanticSegmentation.from_pretrained(tmp_path).eval()

    return make


def run(reference, x, **options):
    torch = pytest.importorskip("torch")
    tensors = {name: torch.tensor(v) if isinstance(v, np.ndarray) else v for name, v in options.items()}
    with torch.no_grad():
        return reference(torch.tensor(x), **tensors)


def assert_close(comp, ref):
    ref = ref.numpy()
    assert comp.shape == ref.shape
    assert comp.dtype == np.float32
    assert ref.std(axis=(-1, -2)).min() > 1e-3 * ref.std(), "a dead network would agree as well"
    npt.assert_allclose(comp, ref, rtol=0, atol=1e-4 * np.abs(ref).max())


@pytest.mark.parametrize("size", [(97, 66), (64, 81)], ids=["97x66", "64x81"])
@pytest.mark.parametrize(
    "fields",
    [
        {"output_stride": 8},
        {"output_stride": 16},
        {"output_stride": 32},
        {"output_stride": 8, "tf_padding": False},
        {"output_stride": 16, "tf_padding": False},
        {"output_stride": 32, "tf_padding": False},
        {"depth_multiplier": 0.5, "depth_divisible_by": 1, "min_depth": 1},
        {"depth_multiplier": 1.0},
        {"depth_multiplier": 1.4, "layer_norm_eps": 0.1},
    ],
    ids=lambda fields: ",".join(f"{k}={v}" for k, v in fields.items()),
)
def test_logits_of_transformers(theirs, fields, size):
    ours = build(SMALL.replace(**fields))
    x = pixels(*size)
    ref = run(theirs(ours), x).logits
    for backend in BACKENDS:
        comp = MobileNetV2ForSemanticSegmentation(ours.config, ours.weights, backend=backend)(x)
        assert_close(comp.logits, ref)
        assert comp.hidden_states is None
        maps = MobileNetV2ImageProcessor().post_process_semantic_segmentation(comp, [size, (110, 40)])
        scores = [_resized_by_torch(ref[i], s) for i, s in enumerate([size, (110, 40)])]
        for label_map, score in zip(maps, scores):
            second, best = np.sort(score, axis=0)[-2:]
            clear = best - second > 2e-4 * np.abs(score).max()
            assert clear.mean() > 0.9
            npt.assert_array_equal(label_map[clear], score.argmax(0)[clear])


def _resized_by_torch(logits, size):
    torch = pytest.importorskip("torch")
    return torch.nn.functional.interpolate(logits[None], size=size, mode="bilinear", align_corners=False)[0].numpy()


def test_published_layout_is_read(tmp_path):
    """The last convolution, which transformers keeps although nothing uses it, is neither needed nor run."""
    transformers = pytest.importorskip("transformers")
    config = transformers.MobileNetV2Config(depth_multiplier=0.35, output_stride=8, num_labels=21, image_size=65)
    reference = transformers.MobileNetV2ForSemanticSegmentation(config).eval()
    reference.save_pretrained(tmp_path)
    ours = MobileNetV2ForSemanticSegmentation.from_pretrained(tmp_path, backend="numpy")
    assert "Conv_1" not in ours.plan.endpoints
    assert ours.labels == segmentation_labels("voc"), "names that say nothing are replaced by those that are known"
    x = pixels(65, 65)
    npt.assert_allclose(ours(x).logits, run(reference, x).logits.numpy(), rtol=1e-3, atol=1e-7)


def test_hidden_states(theirs, segmenter_on_numpy):
    x = pixels(64, 80)
    ref = run(theirs(segmenter_on_numpy), x, output_hidden_states=True)
    comp = segmenter_on_numpy(x, output_hidden_states=True)
    assert len(comp.hidden_states) == len(ref.hidden_states) == 16
    for a, b in zip(comp.hidden_states, ref.hidden_states):
        npt.assert_allclose(a, b.numpy(), rtol=0, atol=1e-4 * b.abs().max().item())
    tuples = segmenter_on_numpy(x, output_hidden_states=True, return_dict=False)
    assert [type(value) for value in tuples] == [np.ndarray, tuple]
    assert len(run(theirs(segmenter_on_numpy), x, output_hidden_states=True, return_dict=False)) == 2
    assert len(segmenter_on_numpy(x, return_dict=False)) == 1


def test_chosen_hidden_states_stop_the_run(segmenter_on_numpy):
    output = segmenter_on_numpy(pixels(64, 64), output_hidden_states=["block_3"])
    assert output.keys() == ["hidden_states"]
    assert len(output.hidden_states) == 1
    with pytest.raises(ValueError, match="stops before the loss"):
        segmenter_on_numpy(pixels(64, 64), labels=np.zeros((2, 64, 64), np.int64), output_hidden_states=["block_3"])


def test_channels_last(segmenter_on_numpy):
    x = pixels(64, 80)
    first = segmenter_on_numpy(x, output_hidden_states=True)
    last = segmenter_on_numpy(x.transpose(0, 2, 3, 1), output_hidden_states=True, data_format="channels_last")
    npt.assert_array_equal(last.logits, first.logits.transpose(0, 2, 3, 1))
    npt.assert_array_equal(last.hidden_states[3], first.hidden_states[3].transpose(0, 2, 3, 1))


@pytest.mark.parametrize("ignored", [0.0, 0.3, 1.0])
def test_loss_of_transformers(theirs, segmenter_on_numpy, ignored):
    x = pixels(97, 66)
    rng = np.random.default_rng(2)
    labels = rng.integers(0, 21, (2, 97, 66))
    labels[rng.uniform(size=labels.shape) < ignored] = 255
    ref = run(theirs(segmenter_on_numpy), x, labels=labels)
    npt.assert_allclose(segmenter_on_numpy(x, labels).loss, ref.loss.item(), rtol=1e-5)


@pytest.mark.parametrize(
    ("labels", "error", "message"),
    [
        (np.zeros((2, 32, 32), int), ValueError, r"size of the images, \(N, 64, 80\), got \(2, 32, 32\)"),
        (np.zeros((64, 80), int), ValueError, "size of the images"),
        (np.zeros((1, 64, 80), int), ValueError, "N = 2"),
        (np.full((2, 64, 80), 21), ValueError, r"labels must lie in 0…20 or be 255, got 21…21"),
        (np.full((2, 64, 80), -1), ValueError, "0…20"),
        (np.zeros((2, 64, 80)), TypeError, "integers, got float64"),
    ],
    ids=["size", "rank", "count", "too large", "negative", "float"],
)
def test_labels_that_do_not_fit(segmenter_on_numpy, labels, error, message):
    with pytest.raises(error, match=message):
        segmenter_on_numpy(pixels(64, 80), labels)


def test_one_class_has_no_loss():
    one = build(SMALL.replace(num_labels=1))
    assert one(pixels(64, 64)).logits.shape == (2, 1, 4, 4)
    with pytest.raises(ValueError, match="num_labels"):
        one(pixels(64, 64), np.zeros((2, 64, 64), int))


@pytest.mark.parametrize("sizes", [[], [(5, 5)], [(5, 5)] * 3])
def test_target_sizes_of_the_wrong_length(segmenter_on_numpy, sizes):
    output = segmenter_on_numpy(pixels(64, 64))
    with pytest.raises(ValueError, match=f"each of the 2 images, got {len(sizes)}"):
        MobileNetV2ImageProcessor().post_process_semantic_segmentation(output, sizes)


def test_hf_transform_is_that_of_transformers(segmenter_on_numpy):
    processor = MobileNetV2ImageProcessor.preset("hf", 65)
    image = photo(120, 90)
    inputs = processor(image, return_tensors="np")
    ref = processor.post_process_semantic_segmentation(segmenter_on_numpy(**inputs), [(120, 90)])[0]
    npt.assert_array_equal(segmenter_on_numpy.predict(image, transform="hf").label_map, ref)


def test_each_transform_has_the_size_of_the_models_own(segmenter_on_numpy):
    """A directory of transformers says 513 in its processor, whatever its configuration says."""
    for preset, size in (("hf", (97, 97)), ("deeplab", (65, 129)), ("keras", (64, 96))):
        model = MobileNetV2ForSemanticSegmentation(
            SMALL, segmenter_on_numpy.weights, backend="numpy", processor=MobileNetV2ImageProcessor.preset(preset, size)
        )
        image = photo(100, 140)
        for name in ("deeplab", "hf"):
            used = MobileNetV2ImageProcessor.preset(name, size)
            if (preset, name) == ("keras", "hf"):
                used = model.processor
            logits = model.run(used.to_array([image]), (LOGITS,))[LOGITS]
            assert logits.shape[1:3] == tuple(-(-side // 16) for side in size)
            if name == "hf":
                ref = best_classes(logits[0], Grid.resize(logits.shape[1:3], (100, 140), "half_pixel"))
            else:
                ref = best_classes(logits[0], unpadding_grid(used.placement((100, 140)), logits.shape[1:3]))
            npt.assert_array_equal(model.predict(image, transform=name).label_map, ref)


# --- masks lie where they should --------------------------------------------------------------------------------------


def by_tensorflow(tf, model, image, scales=(1.0,), flip=False):
    """DeepLab's evaluation of an image that fills at least one side of the model's input, step by step."""
    size = model.config.image_size
    padded = np.full((1, size, size, 3), 127.5, np.float32)
    padded[0, : image.shape[0], : image.shape[1]] = image
    x = tf.constant(padded) * (2 / 255) - 1
    stride = 4 if model.config.decoder else model.config.output_stride
    total = 0
    for scale in scales:
        side = int((size - 1) * scale + 1)
        scaled = x if scale == 1 else tf.compat.v1.image.resize_bilinear(x, [side, side], align_corners=True)
        side = int((size - 1) * max(1, scale) / stride + 1)
        for mirror in (False, True) if flip else (False,):
            view = tf.reverse(scaled, [2]) if mirror else scaled
            logits = tf.constant(model.run(view.numpy(), (LOGITS,))[LOGITS])
            logits = tf.compat.v1.image.resize_bilinear(logits, [side, side], align_corners=True)
            logits = tf.reverse(logits, [2]) if mirror else logits
            total += tf.nn.softmax(tf.compat.v1.image.resize_bilinear(logits, [size, size], align_corners=True))
    mean = total.numpy()[0, : image.shape[0], : image.shape[1]] / (len(scales) * (1 + flip))
    return mean


@pytest.mark.parametrize("size", [(65, 65), (65, 40), (33, 65)], ids=["square", "tall", "wide"])
@pytest.mark.parametrize(
    ("options", "fields"),
    [
        ({}, {}),
        ({}, {"decoder": True}),
        ({"scales": (0.5, 0.75, 1, 1.25, 1.5, 1.75), "flip": True}, {}),
        ({"scales": (0.75,)}, {"decoder": True}),
    ],
    ids=["plain", "decoder", "several scales, flipped", "decoder, smaller"],
)
def test_masks_of_tensorflow(size, options, fields):
    tf = pytest.importorskip("tensorflow")
    model = build(SMALL.replace(**fields))
    image = photo(*size)
    ref = by_tensorflow(tf, model, image, **options)
    comp = model.predict(image, scores=True, **options)
    npt.assert_allclose(comp.scores, ref, rtol=0, atol=2e-5)
    second, best = np.sort(ref, axis=-1)[..., -2:].transpose(2, 0, 1)
    clear = best - second > 1e-4
    assert clear.mean() > 0.98
    npt.assert_array_equal(comp.label_map[clear], ref.argmax(-1)[clear])
    npt.assert_array_equal(model.predict(image, **options).label_map, comp.label_map)


@given(
    st.integers(1, 300), st.integers(1, 300), st.sampled_from([("deeplab", 65), ("keras", 65), ("deeplab", (33, 97))])
)
def test_every_pixel_looks_at_its_own_place(height, width, preset):
    """Logits that are coordinates come back as the coordinates of the photo's pixels on the network's input."""
    placement = MobileNetV2ImageProcessor.preset(*preset).placement((height, width))
    rows, columns = (np.linspace(0, side - 1, -(-side // 16)) for side in placement.size)
    grid = unpadding_grid(placement, (len(rows), len(columns)))
    assert grid.size == (height, width)
    for axis, values, photo_side in zip((0, 1), (rows, columns), (height, width)):
        lower, upper, weight = grid[axis]
        found = values[lower] + (values[upper] - values[lower]) * weight
        center = (np.arange(photo_side) + 0.5) * placement.scale[axis] - 0.5
        content = placement.content[axis]
        npt.assert_allclose(found, np.clip(center, content.start, content.stop - 1), atol=1e-3)


def test_a_photo_of_the_models_size_is_not_resampled(model):
    image = photo(65, 65)
    logits = model.run(model.processor.to_array([image]), (LOGITS,))[LOGITS][0]
    ref = best_classes(logits, Grid.resize((5, 5), (65, 65), "tf1_align_corners"))
    npt.assert_array_equal(model.predict(image).label_map, ref)


def test_mirrored_photos_have_mirrored_masks(model):
    image = photo(50, 65)
    plain = model.predict(image, flip=True, scores=True)
    mirrored = model.predict(image[:, ::-1], flip=True, scores=True)
    npt.assert_allclose(mirrored.scores[:, ::-1], plain.scores, atol=1e-5)
    assert np.mean(mirrored.label_map[:, ::-1] == plain.label_map) > 0.99


@pytest.mark.parametrize("size", [(33, 1), (1, 200), (1, 1), (700, 31), (65, 66)], ids=str)
def test_photos_of_any_size(model, size):
    result = model.predict(photo(*size))
    assert result.label_map.shape == size
    assert result.label_map.dtype == np.int32
    assert set(np.unique(result.label_map)) <= set(range(21))
    assert sum(region.pixels for region in result.legend) == size[0] * size[1]


def assert_same_mask(model, result, alone):
    """Equal masks: the compiled kernels promise it for any batch, NumPy only where one class is clearly ahead.

    NumPy's matrix product may add in a different order for another number of rows. Whole networks then differ by less
    than 1e-5 of the largest score, an empirical figure (see docs/numerics.md).
    """
    assert result.label_map.shape == alone.label_map.shape
    second, best = np.sort(alone.scores, axis=-1)[..., -2:].transpose(2, 0, 1)
    clear = (best - second > 1e-5) | (model.backend.name != "numpy")
    assert clear.mean() > 0.99
    npt.assert_array_equal(result.label_map[clear], alone.label_map[clear])


def test_lists_and_iterators(model, tmp_path):
    photos = [photo(40, 65), photo(80, 31, seed=1), photo(40, 65, seed=2)]
    alone = [model.predict(p, scores=True) for p in photos]
    for batch_size in (1, 2, 3):
        for ref, result in zip(alone, model.predict(photos, batch_size=batch_size)):
            assert_same_mask(model, result, ref)
    lazy = model.predict(iter(photos))
    assert_same_mask(model, next(lazy), alone[0])
    Image.fromarray(photos[0]).save(tmp_path / "photo.png")
    for source in (str(tmp_path / "photo.png"), tmp_path / "photo.png"):
        result = model.predict(source)
        npt.assert_array_equal(result.label_map, alone[0].label_map)
        assert result.source == str(tmp_path / "photo.png")


def test_other_kinds_of_images(segmenter_on_numpy):
    image = photo(40, 30)
    ref = segmenter_on_numpy.predict(image).label_map
    npt.assert_array_equal(segmenter_on_numpy.predict(Image.fromarray(image)).label_map, ref)
    floats = segmenter_on_numpy.predict(image.astype(np.float32))
    npt.assert_array_equal(floats.label_map, ref)
    npt.assert_array_equal(floats.photo, image)
    units = MobileNetV2ImageProcessor.preset(
        "deeplab", 65, do_rescale=False, image_mean=0.5, image_std=0.5, pad_value=0.5
    )
    npt.assert_array_equal(segmenter_on_numpy.predict((image / 255).astype(np.float32), transform=units).photo, image)
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "png")
    npt.assert_array_equal(segmenter_on_numpy.predict(buffer.getvalue()).label_map, ref)
    gray = segmenter_on_numpy.predict(image[..., 0])
    npt.assert_array_equal(gray.photo, np.repeat(image[..., :1], 3, axis=-1))


@pytest.mark.parametrize("batch_size", [1, 4])
def test_photos_that_cannot_be_used(segmenter_on_numpy, batch_size):
    images = [photo(40, 65), b"no photo", photo(80, 31)]
    results = segmenter_on_numpy.predict(images, errors="return", batch_size=batch_size)
    assert [type(result) for result in results] == [Segmentation, ImageError, Segmentation]
    assert len(segmenter_on_numpy.predict(images, errors="skip")) == 2
    stream = segmenter_on_numpy.predict(iter(images), batch_size=batch_size)
    npt.assert_array_equal(next(stream).label_map, results[0].label_map)
    with pytest.raises(ImageError):
        next(stream)


@pytest.mark.parametrize("name", ["keras", "slim"])
def test_any_preset_is_placed_by_its_steps(segmenter_on_numpy, name):
    image = photo(50, 70)
    processor = MobileNetV2ImageProcessor.preset(name, 65)
    npt.assert_array_equal(
        segmenter_on_numpy.predict(image, transform=name).label_map,
        segmenter_on_numpy.predict(image, transform=processor).label_map,
    )


def test_scores(model):
    result = model.predict(photo(30, 50), scores=True)
    assert result.scores.shape == (30, 50, 21)
    npt.assert_allclose(result.scores.sum(-1), 1, atol=1e-5)
    npt.assert_array_equal(
        np.take_along_axis(result.scores, result.label_map[..., None], -1)[..., 0], result.scores.max(-1)
    )
    assert model.predict(photo(30, 50)).scores is None


def test_scores_that_do_not_fit_are_refused_beforehand(segmenter_on_numpy, monkeypatch):
    monkeypatch.setattr(segmenter_on_numpy, "run", lambda *_: pytest.fail("must not start"))
    huge = np.broadcast_to(np.uint8(0), (10_000, 10_000, 3))
    with pytest.raises(ImageError, match=r"10000 × 10000 pixels and 21 classes would take 8.4 GB"):
        segmenter_on_numpy.predict(huge, scores=True)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"transform": "squash"}, ValueError, r"transform \(='squash'\)"),
        ({"scales": ()}, ValueError, "scales"),
        ({"scales": (1.0, 0.0)}, ValueError, "scales"),
        ({"scales": (float("nan"),)}, ValueError, "scales"),
        ({"scales": 1.0}, TypeError, r"scales \(=1\.0\) must be a sequence of numbers"),
        ({"scales": "a"}, TypeError, "scales"),
        ({"batch_size": 0}, ValueError, "batch_size"),
    ],
)
def test_impossible_options(segmenter_on_numpy, options, error, message):
    with pytest.raises(error, match=message):
        segmenter_on_numpy.predict(photo(40, 40), **options)


def test_memory_of_a_large_photo_is_bounded(segmenter_on_numpy):
    """Of everything that grows with the photo, NumPy holds the label map and little else."""
    import tracemalloc

    image = photo(3000, 2000)
    tracemalloc.start()
    result = segmenter_on_numpy.predict(image)
    assert result.label_map.shape == (3000, 2000)
    peak = tracemalloc.get_traced_memory()[1]
    result.overlay()
    len(result.legend)
    later = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    network = 20e6
    assert peak < 8 * 6e6 + network, "4 bytes a pixel for labels, 4 for bands and columns"
    assert later < 12 * 6e6 + network, "and the overlay"


# --- the real model ---------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module", params=BACKENDS)
def real(request, shared_data):
    return load(shared_data / "weights" / "segmentation" / "deeplabv3.tflite", backend=request.param)


SQUASHED = MobileNetV2ImageProcessor.preset("keras", 257)


def test_golden_mask(real, shared_data):
    result = real.predict(shared_data / "photos" / "segmentation_input_rotation0.jpg", transform=SQUASHED)
    with Image.open(shared_data / "photos" / "segmentation_golden_rotation0.png") as golden:
        npt.assert_array_equal(result.label_map * 10, np.asarray(golden))
    assert [region.label for region in result.legend] == ["background", "person", "horse"]


@pytest.mark.parametrize("name", ["segmentation_input_rotation0.jpg", "bird_segmentation.bmp"])
def test_logits_of_litert(real, shared_data, name):
    x = SQUASHED.to_array([shared_data / "photos" / name])
    ref = litert(shared_data, x)
    comp = real.run(x, (LOGITS,))[LOGITS]
    resized = np.asarray(
        pytest.importorskip("tensorflow").compat.v1.image.resize_bilinear(comp, ref.shape[1:3], align_corners=True)
    )
    npt.assert_allclose(resized, ref, rtol=0, atol=1e-4 * np.abs(ref).max())


def litert(shared_data, x):
    interpreter = pytest.importorskip("ai_edge_litert.interpreter").Interpreter(
        str(shared_data / "weights" / "segmentation" / "deeplabv3.tflite")
    )
    interpreter.allocate_tensors()
    interpreter.set_tensor(interpreter.get_input_details()[0]["index"], x)
    interpreter.invoke()
    return interpreter.get_tensor(interpreter.get_output_details()[0]["index"])


def test_bird(real, shared_data):
    """Foreground against the mask that comes with the photo, and beside LiteRT's on the same input."""
    file = shared_data / "photos" / "bird_segmentation.bmp"
    with Image.open(shared_data / "photos" / "bird_segmentation_mask.bmp") as image:
        truth = np.asarray(image) > 0

    def overlap(label_map):
        return np.count_nonzero(truth & (label_map > 0)) / np.count_nonzero(truth | (label_map > 0))

    scores = softmax(litert(shared_data, real.processor.to_array([file])))[0]
    grid = Grid.resize((257, 257), truth.shape, "half_pixel")
    result = real.predict(file)
    assert overlap(result.label_map) >= 0.85
    assert overlap(result.label_map) == pytest.approx(overlap(best_classes(scores, grid)), abs=0.002)
    assert [region.label for region in result.legend] == ["background", "bird"]
    aligned = real.predict(file, scales=(0.75, 1.0, 1.25), flip=True)
    assert overlap(aligned.label_map) >= 0.85


def test_a_detector_is_refused(shared_data):
    with pytest.raises(WeightsError):
        MobileNetV2ForSemanticSegmentation.from_pretrained(
            shared_data / "weights" / "classification" / "mobilenet_v2_1.0_224_slim_variables.npz"
        )


def test_weights_survive_conversion(real, shared_data, tmp_path):
    """TFLite's folded weights, written for transformers and read again, give the same mask."""
    write_transformers(real.to_checkpoint(), tmp_path / "m")
    again = MobileNetV2ForSemanticSegmentation.from_checkpoint(read(tmp_path / "m"), backend=real.backend.name)
    file = shared_data / "photos" / "segmentation_input_rotation0.jpg"
    npt.assert_array_equal(again.predict(file).label_map, real.predict(file).label_map)
