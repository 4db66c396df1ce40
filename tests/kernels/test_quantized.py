"""Integer kernels: plain loops, and LiteRT with XNNPACK and with its reference kernels, to the last bit."""

from __future__ import annotations

import naive
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from npmnv2.kernels.quantized import (
    FakeQuantRange,
    TensorQuantization,
    add,
    average_pool,
    clip_range,
    concat,
    concat_rows,
    conv,
    depthwise,
    dequantize,
    fake_quantize,
    largest_sum,
    logistic,
    mean,
    multiply,
    quantize,
    quantize_multiplier,
    requantize,
    resize_bilinear,
    rounding_shift,
    saturating_multiply,
    softmax,
)
from strategies import seeds, sizes
from tflite_ops import ARITHMETICS, Op, Tensor, run, tflite_file

from npmnv2.kernels import VARIANTS, Geometry, same_padding

dtypes = st.sampled_from(["uint8", "int8"])
channels = st.sampled_from([1, 2, 3, 7, 8, 9, 16, 17, 33])
activations = st.sampled_from(["linear", "relu", "relu6"])
few = settings(max_examples=40)

FUSED = {"linear": 0, "relu": 1, "relu6": 3}


@st.composite
def quantizations(draw, dtype, activation="linear", exponents=(-8, 0)):
    """Scales of any bits, and of few bits, where ties are."""
    info = np.iinfo(dtype)
    scale = 2.0 ** draw(st.integers(*exponents)) * draw(st.sampled_from([1.0, 1.25, 1.5, 1.0123457, 1.9876543]))
    zero_point = draw(st.sampled_from([info.min, info.max, (info.min + info.max + 1) // 2, info.min + 3]))
    return TensorQuantization((float(np.float32(scale)),), zero_point, dtype, activation)


def values(rng, quantization, *shape):
    low, high = quantization.limits
    return rng.integers(low, high + 1, shape).astype(quantization.dtype)


def tensor(quantization, shape, value=None, axis=0):
    return Tensor(shape, quantization.dtype, quantization.scales, quantization.zero_point, axis, value)


def check(expected_by, compute, *extra):
    """LiteRT's result and ours in both arithmetics."""
    for arithmetic in ARITHMETICS:
        (expected,) = expected_by(arithmetic)
        result = compute(arithmetic)
        assert result.dtype == expected.dtype
        np.testing.assert_array_equal(result.reshape(expected.shape), expected, err_msg=arithmetic)


@st.composite
def convolutions(draw, is_depthwise):
    dtype = draw(dtypes)
    rng = np.random.default_rng(draw(seeds))
    h, w, cin = draw(sizes), draw(sizes), draw(channels)
    cout = cin if is_depthwise else draw(channels)
    kernel = draw(st.sampled_from([1, 3, 5] if is_depthwise else [1, 2, 3]))
    stride, dilation = draw(st.sampled_from([(1, 1), (2, 1), (1, 2), (1, 3)]))
    geometry = Geometry(stride, dilation, tuple(same_padding(n, kernel, stride, dilation) for n in (h, w)))
    source = draw(quantizations(dtype))
    output = draw(quantizations(dtype, draw(activations), (-6, 0)))
    if dtype == "int8" and draw(st.booleans()):
        scales = tuple(float(s) for s in rng.uniform(0.001, 0.02, cout).astype(np.float32))
        filters = TensorQuantization(scales, 0, "int8")
    else:
        filters = draw(quantizations(dtype, exponents=(-9, -6)))
        filters = filters if dtype == "uint8" else TensorQuantization(filters.scale, 0, "int8")
    x = values(rng, source, 1, h, w, cin)
    weights = values(rng, filters, kernel, kernel, *((cin,) if is_depthwise else (cin, cout)))
    if dtype == "int8":
        weights = np.maximum(weights, -127)
    bias = rng.integers(-20000, 20000, cout).astype(np.int32)
    return x, weights, bias, geometry, (source, filters, output)


def convolution_file(x, weights, bias, geometry, quantization, shape):
    source, filters, output = quantization
    kind = "DEPTHWISE_CONV_2D" if weights.ndim == 3 else "CONV_2D"
    stored = weights[None] if weights.ndim == 3 else weights.transpose(3, 0, 1, 2)
    scales = source.scales * filters.scales
    tensors = [
        tensor(source, x.shape),
        # XNNPACK refuses an axis for a single scale.
        tensor(filters, stored.shape, stored, 3 if weights.ndim == 3 and len(filters.scale) > 1 else 0),
        Tensor(bias.shape, "int32", scales, 0, 0, bias),
        tensor(output, shape),
    ]
    stride, dilation, _ = geometry
    options = {"strideH": stride, "strideW": stride, "dilationHFactor": dilation, "dilationWFactor": dilation}
    options["fusedActivationFunction"] = FUSED[output.activation]
    if weights.ndim == 3:
        options["depthMultiplier"] = 1
    operator = Op(kind, [0, 1, 2], [3], "DepthwiseConv2DOptions" if weights.ndim == 3 else "Conv2DOptions", options)
    return tflite_file(tensors, [operator], [0], [3])


@few
@given(convolutions(False))
def test_conv(arguments) -> None:
    check_convolution(conv, naive.integer_conv, *arguments)


@few
@given(convolutions(True))
def test_depthwise(arguments) -> None:
    check_convolution(depthwise, naive.integer_depthwise, *arguments)


def check_convolution(kernel, loops, x, weights, bias, geometry, quantization) -> None:
    before = x.copy(), weights.copy()
    results = {a: kernel(x, weights, bias, geometry, quantization, a) for a in ARITHMETICS}
    np.testing.assert_array_equal(x, before[0])
    np.testing.assert_array_equal(weights, before[1])
    file = convolution_file(x, weights, bias, geometry, quantization, results["xnnpack"].shape)
    check(lambda a: run(file, a, x), results.get)
    if x.size * weights.size < 3000:
        for arithmetic in ARITHMETICS:
            np.testing.assert_array_equal(
                results[arithmetic], loops(x, weights, bias, geometry, quantization, arithmetic), err_msg=arithmetic
            )


@few
@given(convolutions(False), st.integers(1, 3))
def test_fully_connected(arguments, rows) -> None:
    x, weights, bias, geometry, (source, filters, output) = arguments
    x, weights = np.repeat(x[0, 0, :1], rows, 0), weights[0, 0]
    x[-1] = x[-1][::-1]
    results = {a: conv(x, weights, bias, geometry, (source, filters, output), a) for a in ARITHMETICS}
    tensors = [
        tensor(source, x.shape),
        tensor(filters, weights.T.shape, weights.T),
        Tensor(bias.shape, "int32", source.scales * filters.scales, 0, 0, bias),
        tensor(output, (rows, len(bias))),
    ]
    options = {"fusedActivationFunction": FUSED[output.activation]}
    file = tflite_file(tensors, [Op("FULLY_CONNECTED", [0, 1, 2], [3], "FullyConnectedOptions", options)], [0], [3])
    check(lambda a: run(file, a, x), results.get)


def test_sums_beyond_the_exact_whole_numbers_of_float32() -> None:
    rng = np.random.default_rng(0)
    source, output = TensorQuantization((0.5,), 0), TensorQuantization((2.0**20,), 128)
    filters = TensorQuantization((1.0,), 0)
    x, weights = rng.integers(200, 256, (1, 1, 1, 2000), dtype=np.uint8), np.full((1, 1, 2000, 3), 255, np.uint8)
    bias = np.array([0, 1, -(10**8)], np.int32)
    quantization = (source, filters, output)
    assert largest_sum(weights, source, filters) == 2000 * 255 * 255
    results = {a: conv(x, weights, bias, Geometry(), quantization, a) for a in ARITHMETICS}
    file = convolution_file(x, weights, bias, Geometry(), quantization, (1, 1, 1, 3))
    check(lambda a: run(file, a, x), results.get)


@given(st.data())
def test_add(data) -> None:
    dtype, rng = data.draw(dtypes), np.random.default_rng(data.draw(seeds))
    a, b = data.draw(quantizations(dtype)), data.draw(quantizations(dtype))
    out = data.draw(quantizations(dtype, data.draw(activations), (-5, 1)))
    shape = (1, data.draw(sizes), data.draw(sizes), data.draw(channels))
    x, y = values(rng, a, *shape), values(rng, b, *shape)
    tensors = [tensor(a, shape), tensor(b, shape), tensor(out, shape)]
    options = {"fusedActivationFunction": FUSED[out.activation]}
    file = tflite_file(tensors, [Op("ADD", [0, 1], [2], "AddOptions", options)], [0, 1], [2])
    check(lambda arithmetic: run(file, arithmetic, x, y), lambda arithmetic: add(x, y, (a, b, out), arithmetic))


@given(st.data())
def test_average_pool(data) -> None:
    dtype, rng = data.draw(dtypes), np.random.default_rng(data.draw(seeds))
    q = data.draw(quantizations(dtype))
    h, w, stride = data.draw(sizes), data.draw(sizes), data.draw(st.integers(1, 2))
    window = data.draw(st.integers(1, h)), data.draw(st.integers(1, w))
    x = values(rng, q, 1, h, w, data.draw(channels))
    result = average_pool(x, window, stride)
    options = {"padding": 1, "strideH": stride, "strideW": stride, "filterHeight": window[0], "filterWidth": window[1]}
    operator = Op("AVERAGE_POOL_2D", [0], [1], "Pool2DOptions", options)
    file = tflite_file([tensor(q, x.shape), tensor(q, result.shape)], [operator], [0], [1])
    check(lambda a: run(file, a, x), lambda _: result)
    np.testing.assert_array_equal(result, naive.integer_average_pool(x, window, stride))


@given(st.data())
def test_mean(data) -> None:
    dtype, rng = data.draw(dtypes), np.random.default_rng(data.draw(seeds))
    q, out = data.draw(quantizations(dtype)), data.draw(quantizations(dtype))
    x = values(rng, q, 1, data.draw(sizes), data.draw(sizes), data.draw(channels))
    axes = Tensor((2,), "int32", value=np.array([1, 2]))
    operator = Op("MEAN", [0, 1], [2], "ReducerOptions", {"keepDims": True})
    file = tflite_file([tensor(q, x.shape), axes, tensor(out, (1, 1, 1, x.shape[-1]))], [operator], [0], [2])
    check(lambda a: run(file, a, x), lambda a: mean(x, q, out, a))


@given(st.data())
def test_softmax(data) -> None:
    dtype, rng = data.draw(dtypes), np.random.default_rng(data.draw(seeds))
    q = data.draw(quantizations(dtype, exponents=(-10, 1)))
    out = TensorQuantization((1 / 256,), np.iinfo(dtype).min, dtype)
    # The reference kernel aborts where many logits are nearly alike: its sum of exponentials ends at 256.
    classes = [1, 2, 21, 1001] if q.scale[0] > 0.05 else [1, 2, 21, 90]
    x = values(rng, q, data.draw(sizes), data.draw(st.sampled_from(classes)))
    beta = data.draw(st.sampled_from([1.0, 3.0]))
    operator = Op("SOFTMAX", [0], [1], "SoftmaxOptions", {"beta": beta})
    file = tflite_file([tensor(q, x.shape), tensor(out, x.shape)], [operator], [0], [1])
    results = {a: softmax(x, q, out, a, beta) for a in ARITHMETICS}
    check(lambda a: run(file, a, x), results.get)
    exact = np.exp((x.astype(float) - x.max(-1, keepdims=True)) * q.scale[0] * beta)
    exact /= exact.sum(-1, keepdims=True)
    # Half a step by rounding, and an error of the fixed-point exponential far below another half.
    for result in results.values():
        assert np.abs(dequantize(result, out) - np.minimum(exact, 255 / 256)).max() <= 0.6 / 256


@given(st.data())
def test_requantize(data) -> None:
    rng = np.random.default_rng(data.draw(seeds))
    q, out = data.draw(quantizations(data.draw(dtypes))), data.draw(quantizations(data.draw(dtypes)))
    x = values(rng, q, 1, data.draw(sizes), data.draw(sizes), data.draw(channels))
    file = tflite_file([tensor(q, x.shape), tensor(out, x.shape)], [Op("QUANTIZE", [0], [1])], [0], [1])
    check(lambda a: run(file, a, x), lambda a: requantize(x, q, out, a))


@given(st.data())
def test_quantize_and_dequantize(data) -> None:
    rng = np.random.default_rng(data.draw(seeds))
    q = data.draw(quantizations(data.draw(dtypes)))
    shape = (1, data.draw(sizes), data.draw(sizes), data.draw(channels))
    x = (rng.normal(size=shape) * 50 * q.scale[0]).astype(np.float32)
    x.flat[0] = np.float32(q.scale[0]) * np.float32(2.5)
    file = tflite_file([Tensor(shape, "float32"), tensor(q, shape)], [Op("QUANTIZE", [0], [1])], [0], [1])
    check(lambda a: run(file, a, x), lambda a: quantize(x, q, a))
    integers = quantize(x, q)
    file = tflite_file([tensor(q, shape), Tensor(shape, "float32")], [Op("DEQUANTIZE", [0], [1])], [0], [1])
    check(lambda a: run(file, a, integers), lambda a: dequantize(integers, q))
    assert np.array_equal(quantize(dequantize(integers, q), q), integers)


@given(st.data())
def test_resize_bilinear(data) -> None:
    dtype, rng = data.draw(dtypes), np.random.default_rng(data.draw(seeds))
    q, variant = data.draw(quantizations(dtype)), data.draw(st.sampled_from(VARIANTS))
    size = data.draw(sizes), data.draw(st.integers(1, 40))
    x = values(rng, q, 1, data.draw(sizes), data.draw(sizes), data.draw(channels))
    options = {"alignCorners": variant == "tf1_align_corners", "halfPixelCenters": variant == "half_pixel"}
    tensors = [tensor(q, x.shape), Tensor((2,), "int32", value=np.array(size)), tensor(q, (1, *size, x.shape[-1]))]
    file = tflite_file(tensors, [Op("RESIZE_BILINEAR", [0, 1], [2], "ResizeBilinearOptions", options)], [0], [2])
    check(lambda a: run(file, a, x), lambda a: resize_bilinear(x, size, variant, a))


@given(st.data())
def test_logistic(data) -> None:
    dtype = data.draw(dtypes)
    q = data.draw(quantizations(dtype, exponents=(-10, 0)))
    out = TensorQuantization((1 / 256,), np.iinfo(dtype).min, dtype)
    x = np.arange(q.limits[0], q.limits[1] + 1).astype(dtype)[None]
    file = tflite_file([tensor(q, x.shape), tensor(out, x.shape)], [Op("LOGISTIC", [0], [1])], [0], [1])
    result = logistic(x, q, out)
    check(lambda a: run(file, a, x), lambda _: result)
    exact = 1 / (1 + np.exp(-(x.astype(float) - q.zero_point) * q.scale[0]))
    assert np.abs(dequantize(result, out) - np.minimum(exact, 255 / 256)).max() <= 0.501 / 256


@given(st.data())
def test_concat_rows(data) -> None:
    rng, columns = np.random.default_rng(data.draw(seeds)), data.draw(st.integers(1, 4))
    out = data.draw(quantizations("uint8", exponents=(-6, -1)))
    sources = [data.draw(st.one_of(st.just(out), quantizations("uint8", exponents=(-6, -1)))) for _ in range(3)]
    rows = [data.draw(st.integers(1, 40)) for _ in sources]
    maps = [values(rng, q, 1, count, 1, columns) for q, count in zip(sources, rows)]
    result = concat_rows(*maps, columns=columns, sources=sources, output=out)
    tensors = [tensor(q, (1, count, columns)) for q, count in zip(sources, rows)]
    operator = Op("CONCATENATION", [0, 1, 2], [3], "ConcatenationOptions", {"axis": 1})
    file = tflite_file([*tensors, tensor(out, result.shape)], [operator], [0, 1, 2], [3])
    inputs = [x.reshape(1, -1, columns) for x in maps]
    check(lambda a: run(file, a, *inputs), lambda _: result)


def test_concat_keeps_integers() -> None:
    x, y = np.array([[[[1, 2]]]], np.uint8), np.array([[[[255]]]], np.uint8)
    assert concat(x, y).tolist() == [[[[1, 2, 255]]]]


# --- fixed point -----------------------------------------------------------------------------------------------------


@given(st.integers(-(2**31), 2**31 - 1), st.integers(-(2**31), 2**31 - 1), st.integers(0, 31))
def test_fixed_point(a, b, bits) -> None:
    assert saturating_multiply(a, b) == naive.saturating_multiply(a, b)
    assert rounding_shift(a, bits) == naive.rounding_shift(a, bits)


@given(st.integers(-(2**20), 2**20), st.floats(1e-12, 8))
def test_fixed_point_factors_are_near_the_real_ones(x, real) -> None:
    # Half a unit by each of the two roundings, and the factor's own error of 2⁻³².
    assert abs(int(multiply(x, quantize_multiplier(real))) - x * real) <= 1 + abs(x * real) * 2**-31


@pytest.mark.parametrize(
    ("real", "mantissa", "exponent"), [(0.5, 1 << 30, 0), (1.0, 1 << 30, 1), (1 - 2**-40, 1 << 30, 1), (2**-40, 0, 0)]
)
def test_fixed_point_factors(real, mantissa, exponent) -> None:
    found = quantize_multiplier(real)
    assert (int(found.mantissa), int(found.exponent)) == (mantissa, exponent)


@pytest.mark.parametrize(
    ("scale", "zero_point", "activation", "xnnpack", "reference"),
    [
        (6 / 255, 0, "relu6", (0, 255), (0, 255)),
        (0.1, 10, "relu6", (10, 70), (10, 70)),
        (0.1, 10, "relu", (10, 255), (10, 255)),
        (0.1, 10, "linear", (0, 255), (0, 255)),
        (4.0, 0, "relu6", (0, 2), (0, 2)),
        (2.4, 0, "relu6", (0, 2), (0, 3)),
    ],
)
def test_clip_range(scale, zero_point, activation, xnnpack, reference) -> None:
    q = TensorQuantization((float(np.float32(scale)),), zero_point, "uint8", activation)
    assert (clip_range(q, "xnnpack"), clip_range(q, "reference")) == (xnnpack, reference)


# --- fake quantization -----------------------------------------------------------------------------------------------


@few
@given(st.floats(-8, 0, width=32), st.floats(0.125, 8, width=32), st.booleans(), st.sampled_from([4, 8]), seeds)
def test_fake_quantization_is_tensorflows(low, high, narrow, bits, seed) -> None:
    tensorflow = pytest.importorskip("tensorflow")
    x = np.random.default_rng(seed).normal(0, 4, 4096).astype(np.float32)
    x[:2] = low, high
    expected = tensorflow.quantization.fake_quant_with_min_max_vars(x, low, high, bits, narrow).numpy()
    np.testing.assert_array_equal(
        fake_quantize(x, FakeQuantRange.nudged(low, high, bits=bits, narrow=narrow)), expected
    )


def test_range_of_the_input_of_the_published_networks() -> None:
    steps = FakeQuantRange.nudged(-1, 127 / 128)
    assert (steps.low, steps.high, steps.scale) == (-1, 127 / 128, 1 / 128)
