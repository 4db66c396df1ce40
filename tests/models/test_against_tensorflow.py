"""TensorFlow and Keras as outside judges: kernels over random geometry, then the whole network."""

from __future__ import annotations

import numpy as np
import numpy.testing as npt
import pytest
from bounds import assert_within, bound
from engines import BACKENDS
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from strategies import arrays, channels, seeds

from npmnv2 import MobileNetV2Config, MobileNetV2ForImageClassification, MobileNetV2Model, load
from npmnv2.kernels import (
    NO_CLIP,
    REGISTRY,
    RELU,
    RELU6,
    VARIANTS,
    Geometry,
    average_pool,
    conv,
    dense,
    depthwise,
    global_average_pool,
    output_size,
    pointwise,
    resize_bilinear,
    same_padding,
    softmax,
)
from npmnv2.lab.numerics import sum_bound
from npmnv2.lab.random_weights import draw_weights
from npmnv2.weights.checkpoint import Checkpoint
from npmnv2.weights.native import read_h5, write_h5
from npmnv2.weights_tools import convert

tf = pytest.importorskip("tensorflow")
keras = pytest.importorskip("keras")

SIZES = st.integers(1, 40)
CLIPS = st.sampled_from([NO_CLIP, RELU, RELU6])


def same(height, width, kernel, stride, dilation):
    return Geometry(stride, dilation, tuple(same_padding(size, kernel, stride, dilation) for size in (height, width)))


def clipped(y, clip):
    return np.clip(y.numpy(), *clip)


@st.composite
def windows(draw):
    """An image size and a window: (height, width, kernel, stride, dilation)."""
    return draw(SIZES), draw(SIZES), draw(st.integers(1, 5)), draw(st.integers(1, 3)), draw(st.integers(1, 4))


@st.composite
def paddings(draw, window):
    """Explicit padding such that at least one window fits."""
    height, width, kernel, _, dilation = window
    padding = []
    for size in (height, width):
        missing = max(0, (kernel - 1) * dilation + 1 - size)
        padding.append((missing + draw(st.integers(0, 3)), draw(st.integers(0, 3))))
    return tuple(padding)


# -- kernels -----------------------------------------------------------------------------------------------------------


@settings(max_examples=100)
@given(windows(), st.integers(1, 5), channels, CLIPS, seeds)
def test_conv_with_same_padding(window, cin, cout, clip, seed):
    height, width, kernel, stride, dilation = window
    x, k, b = arrays(seed, (2, height, width, cin), (kernel, kernel, cin, cout), (cout,))
    geometry = same(*window)
    ref = tf.nn.conv2d(x, k, strides=stride, padding="SAME", dilations=dilation) + b
    comp = conv(x, k, b, geometry, clip)
    assert_within(comp, clipped(ref, clip), bound("conv", (x, k, b, geometry, clip)), "conv")


@settings(max_examples=50)
@given(st.data(), windows(), st.integers(1, 5), channels, seeds)
def test_conv_with_explicit_padding(data, window, cin, cout, seed):
    height, width, kernel, stride, dilation = window
    padding = data.draw(paddings(window))
    x, k, b = arrays(seed, (1, height, width, cin), (kernel, kernel, cin, cout), (cout,))
    ref = tf.nn.conv2d(x, k, stride, padding=[[0, 0], *padding, [0, 0]], dilations=dilation) + b
    geometry = Geometry(stride, dilation, padding)
    assert_within(conv(x, k, b, geometry), ref.numpy(), bound("conv", (x, k, b, geometry, NO_CLIP)), "conv")


@settings(max_examples=100)
@given(windows(), channels, CLIPS, seeds)
def test_depthwise_with_same_padding(window, count, clip, seed):
    height, width, kernel, stride, dilation = window
    if dilation > 1:
        stride = 1  # TensorFlow allows one of the two
    x, k, b = arrays(seed, (2, height, width, count), (kernel, kernel, count), (count,))
    geometry = same(height, width, kernel, stride, dilation)
    ref = tf.nn.depthwise_conv2d(x, k[..., None], [1, stride, stride, 1], "SAME", dilations=[dilation] * 2) + b
    comp = depthwise(x, k, b, geometry, clip)
    assert_within(comp, clipped(ref, clip), bound("depthwise", (x, k, b, geometry, clip)), "depthwise")


@settings(max_examples=50)
@given(st.data(), windows(), channels, seeds)
def test_depthwise_with_explicit_padding(data, window, count, seed):
    height, width, kernel, stride, dilation = window
    padding = data.draw(paddings(window))
    x, k, b = arrays(seed, (1, height, width, count), (kernel, kernel, count), (count,))
    padded = tf.pad(x, [[0, 0], *padding, [0, 0]])
    ref = tf.nn.depthwise_conv2d(padded, k[..., None], [1, 1, 1, 1], "VALID", dilations=[dilation] * 2) + b
    geometry = Geometry(stride, dilation, padding)
    # A stride keeps every s-th window; TensorFlow has no depthwise convolution with stride and dilation at once.
    limit = bound("depthwise", (x, k, b, geometry, NO_CLIP))
    assert_within(depthwise(x, k, b, geometry), ref.numpy()[:, ::stride, ::stride], limit, "depthwise")


@settings(max_examples=50)
@given(SIZES, SIZES, channels, channels, CLIPS, seeds)
def test_pointwise(height, width, cin, cout, clip, seed):
    x, k, b = arrays(seed, (2, height, width, cin), (cin, cout), (cout,))
    ref = tf.nn.conv2d(x, k[None, None], 1, "VALID") + b
    limit = bound("pointwise", (x, k, b, clip))
    assert_within(pointwise(x, k, b, clip), clipped(ref, clip), limit, "pointwise")


@settings(max_examples=50)
@given(SIZES, SIZES, st.integers(1, 7), st.integers(1, 3), channels, seeds)
def test_average_pool(height, width, window, stride, count, seed):
    height, width = max(height, window), max(width, window)
    (x,) = arrays(seed, (2, height, width, count))
    ref = tf.nn.avg_pool2d(x, window, stride, "VALID").numpy()
    comp = average_pool(x, window, stride)
    # TensorFlow adds in single precision.
    limit = sum_bound(average_pool(np.abs(x), window, stride), window**2)
    assert_within(comp, ref, limit, "average_pool")


@settings(max_examples=30)
@given(SIZES, SIZES, channels, seeds)
def test_global_average_pool(height, width, count, seed):
    (x,) = arrays(seed, (2, height, width, count))
    ref = tf.reduce_mean(x, (1, 2)).numpy()
    limit = sum_bound(global_average_pool(np.abs(x)), height * width)
    assert_within(global_average_pool(x), ref, limit, "global_average_pool")


@settings(max_examples=30)
@given(st.integers(1, 5), channels, channels, seeds)
def test_dense(batch, cin, cout, seed):
    x, k, b = arrays(seed, (batch, cin), (cin, cout), (cout,))
    assert_within(dense(x, k, b), (tf.matmul(x, k) + b).numpy(), bound("dense", (x, k, b)), "dense")


@settings(max_examples=30)
@given(st.integers(1, 5), channels, st.sampled_from([1, 30, 1000]), seeds)
def test_softmax(batch, count, scale, seed):
    (x,) = arrays(seed, (batch, count))
    x *= np.float32(scale)
    # The bound is for one result against the exact one; here are two results.
    assert_within(softmax(x), tf.nn.softmax(x).numpy(), 2 * bound("softmax", (x,)), "softmax")


@settings(max_examples=30)
@given(SIZES, SIZES, channels, seeds)
def test_add_and_concat(height, width, count, seed):
    x, y, z = arrays(seed, (2, height, width, count), (2, height, width, count), (2, height, width, 3))
    npt.assert_array_equal(REGISTRY["add"].numpy(x, y), tf.add(x, y).numpy())
    npt.assert_array_equal(REGISTRY["concat"].numpy(x, z), tf.concat([x, z], -1).numpy())


@pytest.mark.parametrize("variant", VARIANTS)
@settings(max_examples=60)
@given(SIZES, SIZES, st.tuples(SIZES, SIZES), st.integers(1, 5), seeds)
def test_resize_has_the_bits_of_tensorflow(variant, height, width, size, count, seed):
    (x,) = arrays(seed, (2, height, width, count))
    ref = tf.raw_ops.ResizeBilinear(
        images=x,
        size=size,
        align_corners=variant == "tf1_align_corners",
        half_pixel_centers=variant == "half_pixel",
    )
    npt.assert_array_equal(resize_bilinear(x, size, variant), ref.numpy())


@settings(max_examples=100)
@given(st.integers(0, 30), st.integers(1, 7), st.integers(1, 4), st.integers(1, 4))
def test_output_size_of_valid_windows(beyond, kernel, stride, dilation):
    size = (kernel - 1) * dilation + 1 + beyond
    filters = tf.ones((kernel, kernel, 1, 1))
    y = tf.nn.conv2d(tf.ones((1, size, size, 1)), filters, stride, "VALID", dilations=dilation)
    assert output_size(size, kernel, stride, dilation, (0, 0)) == y.shape[1]


# -- whole network -----------------------------------------------------------------------------------------------------


def variables(model):
    """Variables of a Keras model by our names."""
    return {
        f"{layer.name}/{variable.name.removeprefix('depthwise_')}": variable
        for layer in model.layers
        for variable in layer.variables
    }


def canonical(model):
    """Weights of a Keras model by our names."""
    return {name: variable.numpy() for name, variable in variables(model).items()}


def keras_model(alpha, size, **options):
    keras.backend.clear_session()
    model = keras.applications.MobileNetV2((*size, 3), alpha, weights=None, **options)
    shapes = {name: tuple(variable.shape) for name, variable in variables(model).items()}
    for name, value in draw_weights(shapes, seed=int(100 * alpha) + size[0]).items():
        variables(model)[name].assign(value)
    return model


def network_input(size, batch=2):
    return np.random.default_rng(1).uniform(-1, 1, (batch, *size, 3)).astype(np.float32)


def tolerance(reference):
    return 1e-4 * max(1, np.abs(reference).max())


@pytest.mark.parametrize("size", [(96, 96), (75, 75), (50, 83)], ids=["even", "odd", "not square"])
@pytest.mark.parametrize("alpha", [0.35, 0.5, 0.75, 1.0, 1.3, 1.4])
def test_logits_of_keras(alpha, size):
    reference = keras_model(alpha, size, classes=37, classifier_activation=None)
    x = network_input(size)
    ref = reference(x, training=False).numpy()
    assert np.ptp(ref, axis=0).max() > 1e-2, "a dead network would agree as well"
    config, weights = MobileNetV2Config(depth_multiplier=alpha, num_labels=37), canonical(reference)
    for backend in BACKENDS:
        model = MobileNetV2ForImageClassification(config, weights, backend=backend)
        comp = model(x, data_format="channels_last").logits
        assert comp.shape == ref.shape
        assert comp.dtype == np.float32
        npt.assert_allclose(comp, ref, rtol=0, atol=tolerance(ref), err_msg=backend)


def keras_layer(endpoint, model):
    """The Keras layer whose output is that of our endpoint: activation and batch norm are layers of their own there."""
    if endpoint in ("Conv1", "Conv_1"):
        return {"Conv1": "Conv1_relu", "Conv_1": "out_relu"}[endpoint]
    names = {layer.name for layer in model.layers}
    return next((name for name in (f"{endpoint}_relu", f"{endpoint}_BN", endpoint) if name in names), None)


def assert_same_layers(model, reference, x):
    """Compare the values of all endpoints with those of a Keras network without its classifier."""
    comp = model.trace(x)
    layers = {endpoint: keras_layer(endpoint, reference) for endpoint in comp}
    # A block of ours is the last layer of its inside; everything else but the top has its own layer in Keras.
    assert {endpoint for endpoint, layer in layers.items() if layer is None} - TOP == {
        "expanded_conv",
        *(f"block_{i}" for i in range(1, 17)),
    }
    layers = {endpoint: layer for endpoint, layer in layers.items() if layer is not None}
    outputs = {layer: reference.get_layer(layer).output for layer in layers.values()}
    ref = keras.Model(reference.input, outputs)(x, training=False)
    for endpoint, layer in layers.items():
        expected = ref[layer].numpy()
        assert comp[endpoint].shape == expected.shape, endpoint
        assert np.ptp(expected) > 0.1, f"{endpoint} is dead"
        npt.assert_allclose(comp[endpoint], expected, rtol=0, atol=tolerance(expected), err_msg=endpoint)
    npt.assert_array_equal(comp["block_3"], comp["block_3_project"])
    npt.assert_array_equal(comp["block_2"], comp["block_2_add"])


TOP = {"global_average_pooling2d", "predictions"}


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("size", [(97, 64), (32, 33)])
def test_every_layer_of_keras(size, backend):
    reference = keras_model(0.5, size, include_top=False, pooling="avg")
    model = MobileNetV2Model(MobileNetV2Config(depth_multiplier=0.5), canonical(reference), backend=backend)
    assert_same_layers(model, reference, network_input(size))


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize(("window", "stride"), [(2, 1), (3, 2)])
def test_fixed_pooling_window(window, stride, backend):
    """The original graphs average over a fixed window and classify every position of it."""
    reference = keras_model(0.35, (160, 129), include_top=False)
    maps = reference(network_input((160, 129)), training=False)
    rng = np.random.default_rng(3)
    kernel, bias = rng.normal(0, 0.05, (1280, 7)).astype(np.float32), rng.normal(size=7).astype(np.float32)
    ref = (tf.nn.avg_pool2d(maps, window, stride, "VALID") @ kernel + bias).numpy()
    config = MobileNetV2Config(depth_multiplier=0.35, num_labels=7, pooling_window=window, pooling_stride=stride)
    weights = {**canonical(reference), "predictions/kernel": kernel, "predictions/bias": bias}
    model = MobileNetV2ForImageClassification(config, weights, backend=backend)
    comp = model(network_input((160, 129)), data_format="channels_last").logits
    assert comp.shape == ref.shape
    npt.assert_allclose(comp, ref, rtol=0, atol=tolerance(ref))


# -- files -------------------------------------------------------------------------------------------------------------


def test_keras_loads_what_we_write(tmp_path):
    reference = keras_model(0.35, (96, 96), classes=7)
    config = MobileNetV2Config(depth_multiplier=0.35, image_size=96, num_labels=7)
    weights = canonical(reference)
    # Keras pairs layers by position, so the order in which weights come in must not be the order in the file.
    shuffled = dict(sorted(weights.items(), key=lambda item: item[0][::-1]))
    write_h5(Checkpoint(shuffled, "classification", config), tmp_path / "ours.h5")
    other = keras_model(0.35, (96, 96), classes=7)
    for variable in other.variables:
        variable.assign(tf.zeros_like(variable))
    other.load_weights(tmp_path / "ours.h5")
    for name, array in canonical(other).items():
        npt.assert_array_equal(array, weights[name], err_msg=name)


@pytest.mark.parametrize("kind", ["model", "weights", "nested model"])
@pytest.mark.filterwarnings("ignore:You are saving your model as an HDF5 file")
def test_we_read_what_keras_writes(tmp_path, kind):
    base = keras_model(0.5, (64, 64), include_top=kind != "nested model", pooling="avg", classes=7)
    weights, path = canonical(base), tmp_path / "theirs.h5"
    if kind == "nested model":
        dense = keras.layers.Dense(7, name="breeds")
        base = keras.Sequential([keras.Input((64, 64, 3)), base, keras.layers.Dropout(0.1), dense])
        weights |= {f"predictions/{variable.name}": variable.numpy() for variable in dense.variables}
    if kind.endswith("model"):
        base.save(path)
    else:
        path = path.with_suffix(".weights.h5")
        base.save_weights(path)
    checkpoint = read_h5(path)
    assert checkpoint.task == "classification"
    assert (checkpoint.config.depth_multiplier, checkpoint.config.num_labels) == (0.5, 7)
    assert checkpoint.weights.keys() == weights.keys()
    for name, array in checkpoint.weights.items():
        npt.assert_array_equal(array, weights[name], err_msg=name)


# -- real weights ------------------------------------------------------------------------------------------------------


@pytest.mark.network
@pytest.mark.parametrize("backend", BACKENDS)
def test_every_layer_of_a_real_keras_file(dog_breeds, backend):
    reference = keras.models.load_model(dog_breeds, compile=False)
    model = load(dog_breeds, backend=backend)
    x = network_input((160, 160), batch=1)
    assert_same_layers(model, reference.get_layer("mobilenetv2_1.00_160"), x)
    ref = reference(x, training=False).numpy()
    logits = model(x, data_format="channels_last").logits
    npt.assert_allclose(softmax(logits), ref, rtol=0, atol=1e-5)


@pytest.mark.network
@pytest.mark.parametrize("size", [(300, 200), (160, 160), (90, 411)])
def test_a_photo_goes_through_as_in_keras(dog_breeds, tmp_path, size):
    """From the file to the probabilities, with Keras's own loading and preprocessing on the other side."""
    photo = tmp_path / "photo.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (*size, 3), dtype=np.uint8)).save(photo)
    image = keras.utils.load_img(photo, target_size=(160, 160), interpolation="bilinear")
    x = keras.applications.mobilenet_v2.preprocess_input(keras.utils.img_to_array(image))
    ref = keras.models.load_model(dog_breeds, compile=False)(x[None], training=False).numpy()[0]
    comp = load(dog_breeds, backend="numpy").predict(photo, top_k=19)
    assert [entry.index for entry in comp] == np.argsort(-ref, kind="stable").tolist()
    npt.assert_allclose([entry.score for entry in comp], np.sort(ref)[::-1], rtol=0, atol=1e-5)


@pytest.mark.parametrize("backend", BACKENDS)
def test_photos_with_real_weights(shared_data, tmp_path, backend):
    """The slim variables in Keras's network say of a photo what they say in ours."""
    variables = shared_data / "weights" / "classification" / "mobilenet_v2_1.0_224_slim_variables.npz"
    convert(variables, tmp_path / "slim.h5")
    model = load(tmp_path / "slim.h5", backend=backend)
    reference = keras.applications.MobileNetV2(weights=None, classes=1001, classifier_activation=None)
    reference.load_weights(tmp_path / "slim.h5")
    photos = [shared_data / "photos" / name for name in ("cat.bmp", "parrot.jpg", "grace_hopper.bmp")]
    x = model.processor.to_array(photos)
    ref = reference(x, training=False).numpy()
    comp = model(x, data_format="channels_last").logits
    npt.assert_allclose(comp, ref, rtol=0, atol=tolerance(ref))
    assert comp.argmax(1).tolist() == [286, 89, 653]
