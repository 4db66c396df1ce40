"""Compiled integers: bit for bit NumPy's reference, whatever the layer, size, batch, threads and processor."""

from __future__ import annotations

import itertools
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
from children import run_python
from engines import INTEGER_ENGINES
from hypothesis import given, settings
from hypothesis import strategies as st
from npmnv2.kernels.host.processor import Processor
from quantized_networks import integer_image, quantized_checkpoint

from npmnv2.backends.compiled_integers import CompiledIntegerExecutable, MaskMaker, as_bytes, from_bytes
from npmnv2.backends.integers import IntegerExecutable, QuantizedBackend
from npmnv2.kernels import TensorQuantization, quantized
from npmnv2.network.layers import (
    Add,
    AveragePool,
    Concat,
    Conv,
    Dense,
    Depthwise,
    GlobalAveragePool,
    InvertedResidual,
    ResizeLike,
)
from npmnv2.network.plan import Node, Plan
from npmnv2.network.quantization import ArgMax, Quantization, Resize, value_parts
from npmnv2.weights.assemble import plan_for

if not INTEGER_ENGINES:
    pytest.skip("needs compiled kernels: the library or Numba", allow_module_level=True)
ENGINES = {f"{engine.name}-{engine.target.arithmetic}": engine for engine in INTEGER_ENGINES}
every_engine = pytest.mark.parametrize("name", ENGINES)

# Two maps of one size come first, so that every layer may read one that kernels made.
CHANNELS = st.integers(1, 40)
COMMON = {"norm": None, "activation": "relu6"}
LAYERS = {
    "convolution": st.builds(
        Conv, kernel=st.sampled_from([1, 2, 3, 5]), stride=st.integers(1, 3), filters=CHANNELS,
        tf_padding=st.booleans(), norm=st.none(), dilation=st.sampled_from([1, 1, 1, 2]),
    ),
    "depthwise": st.builds(
        Depthwise, kernel=st.sampled_from([3, 3, 3, 5]), stride=st.integers(1, 3), dilation=st.integers(1, 3),
        tf_padding=st.booleans(), norm=st.none(),
    ),
    "block": st.builds(
        InvertedResidual, filters=CHANNELS, expansion=st.one_of(st.none(), st.integers(1, 80)),
        stride=st.integers(1, 2), dilation=st.integers(1, 2),
    ),
    "add": st.just(Add()),
    "concat": st.just(Concat()),
    "pool": st.builds(AveragePool, window=st.integers(1, 3), stride=st.integers(1, 2)),
    "global pool": st.builds(GlobalAveragePool, keep_dims=st.booleans()),
    "resize": st.builds(ResizeLike, variant=st.sampled_from(["tf1", "tf1_align_corners", "half_pixel"])),
}  # fmt: skip
TWO_INPUTS = (Add, Concat, ResizeLike)


@st.composite
def plans(draw: st.DrawFn, kind: str) -> tuple[Plan, int, int]:
    """A network of two convolutions and one other layer, and the size of an image."""
    height, width = draw(st.integers(3, 12)), draw(st.integers(3, 17))
    channels, layer = draw(CHANNELS), draw(LAYERS[kind])
    if isinstance(layer, InvertedResidual) and layer.stride == 1 and draw(st.booleans()):
        layer = replace(layer, filters=channels, residual=True)
    if kind == "resize":
        first = Node("first", Conv(kernel=3, stride=draw(st.integers(1, 4)), filters=channels, norm=None), ("image",))
    else:
        first = Node("first", Conv(kernel=draw(st.sampled_from([1, 3])), filters=channels, norm=None), ("image",))
    second = Node("second", Conv(kernel=1, filters=channels, norm=None), ("image",))
    inputs = ("first", "second") if isinstance(layer, TWO_INPUTS) else ("first",)
    nodes = [first, second, Node("layer", layer, inputs)]
    if kind == "global pool":
        nodes.append(Node("dense", Dense(draw(CHANNELS)), ("layer",)))
    return Plan(tuple(nodes), channels=draw(st.integers(1, 5))), height, width


def random_quantization(plan: Plan, rng: np.random.Generator, dtype: str) -> tuple[dict, Quantization]:
    """Integer weights of the whole range of their type, and scales that spread what they make over it."""
    info = np.iinfo(dtype)

    def tensor(scale: float, activation: str = "linear") -> TensorQuantization:
        zero = rng.choice([info.min, info.max, rng.integers(info.min, info.max)])
        return TensorQuantization((float(np.float32(scale)),), int(zero), dtype, activation)

    values, kernels, weights = {"image": tensor(1 / 128)}, {}, {}
    shapes = plan.parameter_shapes()
    for name, layer, inputs in value_parts(plan):
        source = values[inputs[0]]
        if isinstance(layer, (Conv, Depthwise, Dense)):
            shape = shapes[f"{name}/kernel"]
            channels = shape[2] if isinstance(layer, Depthwise) else shape[-1]
            low = 1 if dtype == "uint8" else -127
            kernel = rng.integers(low, info.max, shape, endpoint=True).astype(dtype)
            scales = rng.uniform(0.005, 0.02, channels if dtype == "int8" else 1).astype(np.float32)
            zero = int(rng.choice([0, 120, 128, 140, 255])) if dtype == "uint8" else 0
            kernels[name] = TensorQuantization(tuple(map(float, scales)), zero, dtype)
            bias = rng.integers(-20000, 20000, channels).astype(np.int32)
            weights |= {f"{name}/kernel": _arranged(layer, kernel), f"{name}/bias": bias}
            spread = source.scale[0] * 0.0125 * 100 * float(np.prod(shape) / channels) ** 0.5
            values[name] = tensor(spread * rng.uniform(0.3, 1.5), rng.choice(["linear", "relu", "relu6"]))
        elif isinstance(layer, (AveragePool, Concat)):
            values[name] = source
        else:
            values[name] = tensor(source.scale[0] * rng.uniform(0.5, 2))
        if isinstance(layer, Concat):
            values |= dict.fromkeys(inputs, source)
    pooling = str(rng.choice(["mean", "average_pool"]))
    for name, layer, inputs in value_parts(plan):
        if isinstance(layer, GlobalAveragePool) and pooling == "average_pool":
            values[name] = values[inputs[0]]
    return weights, Quantization(values, kernels, pooling)


def _arranged(layer, kernel: np.ndarray) -> np.ndarray:
    if isinstance(layer, Depthwise):
        return kernel[..., 0]
    return kernel[0, 0] if isinstance(layer, Conv) and layer.kernel == layer.stride == 1 else kernel


@every_engine
@pytest.mark.parametrize("kind", LAYERS)
@settings(max_examples=12)
@given(data=st.data())
def test_every_layer_has_the_bits_of_the_reference(name: str, kind: str, data: st.DataObject) -> None:
    engine = ENGINES[name]
    plan, height, width = data.draw(plans(kind))
    rng, dtype = np.random.default_rng(data.draw(st.integers(0, 2**32))), data.draw(st.sampled_from(["uint8", "int8"]))
    batch, n_threads = data.draw(st.integers(1, 3)), data.draw(st.sampled_from([1, 3]))
    weights, quantization = random_quantization(plan, rng, dtype)
    try:
        plan.shapes(height, width)
    except ValueError:  # a map smaller than the window of a pool
        return
    reference = IntegerExecutable(plan, weights, quantization, engine.target.arithmetic)
    compiled = CompiledIntegerExecutable(plan, weights, quantization, n_threads, engine)
    x = integer_image(quantization.values["image"], (batch, height, width, plan.channels), int(rng.integers(1000)))
    expected = reference.integers(x, plan.endpoints)
    for wanted in (plan.endpoints, (plan.nodes[-1].name,), ("layer", "first")):
        for endpoint, value in compiled.integers(x, wanted).items():
            assert (value.shape, value.dtype) == (expected[endpoint].shape, expected[endpoint].dtype)
            np.testing.assert_array_equal(value, expected[endpoint], endpoint)


@every_engine
@settings(max_examples=6)
@given(
    channels=st.integers(1, 40), filters=st.sampled_from([16, 48, 80]), dtype=st.sampled_from(["uint8", "int8"]),
    n_threads=st.sampled_from([1, 3]), seed=st.integers(0, 2**32),
)  # fmt: skip
def test_what_a_broadcast_pixel_adds_is_summed_once(name: str, channels, filters, dtype, n_threads, seed) -> None:
    engine = ENGINES[name]
    conv = partial(Conv, kernel=1, norm=None)
    nodes = [
        Node("map", conv(filters=channels), ("image",)),
        Node("pool", GlobalAveragePool(keep_dims=True), ("image",)),
        Node("pixel", conv(filters=16), ("pool",)),
        Node("spread", ResizeLike(variant="tf1_align_corners"), ("pixel", "map")),
        Node("joined", Concat(), ("spread", "map")),
        Node("output", conv(filters=filters), ("joined",)),
    ]
    plan, rng = Plan(tuple(nodes), channels=3), np.random.default_rng(seed)
    weights, quantization = random_quantization(plan, rng, dtype)
    reference = IntegerExecutable(plan, weights, quantization, engine.target.arithmetic)
    compiled = CompiledIntegerExecutable(plan, weights, quantization, n_threads, engine)
    x = integer_image(quantization.values["image"], (2, 5, 9, 3), int(rng.integers(1000)))
    for wanted in (["output"], ["output", "joined"]):
        expected = reference.integers(x, wanted)
        for endpoint, value in compiled.integers(x, wanted).items():
            np.testing.assert_array_equal(value, expected[endpoint], endpoint)


# --- networks --------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module", params=["uint8", "int8"])
def checkpoint(request):
    return quantized_checkpoint(request.param, depth_multiplier=0.5)


def pair(checkpoint, engine, n_threads=1):
    plan = plan_for(checkpoint.config, checkpoint.weights)
    reference, compiled = (
        QuantizedBackend(checkpoint.quantization, engine.target.arithmetic, each).compile(
            plan, checkpoint.weights, n_threads
        )
        for each in (None, engine)
    )
    return reference, compiled


def real_images(checkpoint, batch):
    image = checkpoint.quantization.values["image"]
    return quantized.dequantize(integer_image(image, (batch, 64, 64, 3)), image)


@pytest.mark.parametrize("n_threads", [1, 3])
def test_no_integer_depends_on_the_caches(checkpoint, n_threads: int) -> None:
    engine = next(iter(ENGINES.values()))
    x = real_images(checkpoint, 2)
    tiny, usual, huge = (
        pair(checkpoint, engine._replace(processor=processor), n_threads)[1].raw(x, ["predictions", "block_5"])
        for processor in (Processor(4 << 10, 4 << 10), engine.processor, Processor(64 << 20, 64 << 20))
    )
    for name, value in usual.items():
        np.testing.assert_array_equal(tiny[name], value)
        np.testing.assert_array_equal(huge[name], value)


@every_engine
def test_networks_are_the_reference(checkpoint, name) -> None:
    reference, compiled = pair(checkpoint, ENGINES[name], 2)
    x = real_images(checkpoint, 3)
    names = [*reference.plan.endpoints, "layer_4/expansion_output"]
    expected = reference.raw(x, names)
    for endpoint, value in compiled.raw(x, names).items():
        np.testing.assert_array_equal(value, expected[endpoint], endpoint)
    for endpoint in ("predictions", "block_5", "Conv1", "block_13_expand"):  # fused, but for the inside of the last
        assert np.array_equal(compiled(x, [endpoint])[endpoint], reference(x, [endpoint])[endpoint])
    interface = checkpoint.quantization.interface
    bytes_in = integer_image(interface.input, (2, 64, 64, 3), seed=3)
    np.testing.assert_array_equal(compiled.invoke(bytes_in), reference.invoke(bytes_in))


@every_engine
def test_segmentation_is_the_reference(name) -> None:
    checkpoint = quantized_checkpoint("uint8", task="segmentation", output_stride=8, depth_multiplier=0.35)
    engine = ENGINES[name]
    reference, compiled = pair(checkpoint, engine, 2)
    x, last = real_images(checkpoint, 1), reference.plan.nodes[-1].name
    np.testing.assert_array_equal(compiled.raw(x, [last])[last], reference.raw(x, [last])[last])
    if engine.target.arithmetic == "xnnpack":
        names = [timing.name for timing in compiled.profile(x, [last])]
        assert "image_pooling_spread + aspp_concat + concat_projection" in names


def test_batch_and_threads_do_not_change_a_bit(checkpoint) -> None:
    x, engine = real_images(checkpoint, 7), INTEGER_ENGINES[0]
    names = ["predictions", "block_12"]
    alone = pair(checkpoint, engine)[1]
    for n_threads, (start, stop) in itertools.product((1, 2, 5), ((0, 7), (2, 5))):
        together = pair(checkpoint, engine, n_threads)[1](x[start:stop], names)
        for at in range(start, stop):
            expected = alone(x[at : at + 1], names)
            for endpoint in names:
                assert np.array_equal(together[endpoint][at - start], expected[endpoint][0])


def test_images_one_after_the_other(checkpoint) -> None:
    reference, compiled = pair(checkpoint, INTEGER_ENGINES[0])
    images = real_images(checkpoint, 3)
    images.flags.writeable = False
    found = [compiled(images[i : i + 1], ["predictions"])["predictions"] for i in (0, 1, 0, 2)]
    assert not np.array_equal(found[0], found[1])
    for i, result in zip((0, 1, 0, 2), found):
        expected = reference(images[i : i + 1], ["predictions"])["predictions"]
        np.testing.assert_array_equal(result, expected)


def test_no_images(checkpoint) -> None:
    _, compiled = pair(checkpoint, INTEGER_ENGINES[0])
    assert compiled(real_images(checkpoint, 2)[:0], ["predictions"])["predictions"].shape == (0, 3)


def test_numpy_computes_nothing(checkpoint, monkeypatch) -> None:
    _, compiled = pair(checkpoint, INTEGER_ENGINES[0])
    monkeypatch.setattr(IntegerExecutable, "evaluate", lambda *_: pytest.fail("a layer ran on NumPy"))
    compiled(real_images(checkpoint, 1), ["predictions"])


def test_profile_covers_the_network(checkpoint) -> None:
    _, compiled = pair(checkpoint, INTEGER_ENGINES[0])
    timings = compiled.profile(real_images(checkpoint, 2), ["predictions"])
    assert timings[0].name == "Conv1 + expanded_conv"
    assert sum(timing.multiply_adds for timing in timings) == 2 * compiled.plan.multiply_adds(64)


@pytest.mark.parametrize("dtype", ["uint8", "int8"])
def test_integers_as_bytes_and_back(dtype) -> None:
    info = np.iinfo(dtype)
    q = np.arange(info.min, info.max + 1).astype(dtype)
    assert np.array_equal(as_bytes(q), np.arange(256, dtype=np.uint8))
    assert np.array_equal(from_bytes(as_bytes(q), dtype), q)
    assert from_bytes(as_bytes(q), dtype).dtype == dtype


@every_engine
@pytest.mark.parametrize("shape", [(1, 1, 1, 3), (2, 3, 5, 3), (1, 7, 7, 1)])
def test_images_of_any_size_are_quantized(name, shape) -> None:
    engine = ENGINES[name]
    image = TensorQuantization((0.3,), 5, "uint8")
    compiled = CompiledIntegerExecutable(Plan((), shape[-1]), {}, Quantization({"image": image}, {}), 1, engine)
    x = np.random.default_rng(0).normal(0, 60, shape).astype(np.float32)
    x.flat[:3] = 0.15, 0.45, -0.15  # halves
    expected = quantized.quantize(x, image, engine.target.arithmetic)
    np.testing.assert_array_equal(compiled._quantized_image(x), expected)


@pytest.mark.parametrize("name", [name for name in ENGINES if name.endswith("xnnpack")])
@pytest.mark.parametrize(
    ("shape", "size"), [((2, 5, 4, 21), (13, 17)), ((1, 1, 1, 3), (4, 4)), ((3, 6, 7, 40), (3, 20))]
)
@pytest.mark.parametrize("variant", ["tf1", "tf1_align_corners", "half_pixel"])
def test_masks_are_those_of_resized_scores(name, shape, size, variant) -> None:
    # Few different scores, so that many are equal: the first of them counts.
    scores = np.random.default_rng(0).integers(0, 4, shape).astype(np.uint8) * 85
    resized = quantized.resize_bilinear(scores, size, variant, "xnnpack")
    comp = MaskMaker(2, ENGINES[name])(scores, Resize(size, variant))
    assert comp.dtype == np.int64
    np.testing.assert_array_equal(comp, resized.argmax(axis=-1))


@every_engine
@pytest.mark.parametrize(
    "steps", [(Resize((4, 5), "tf1"), ArgMax("int32")), (Resize((9, 5), "tf1"), ArgMax()), (ArgMax(),)]
)
def test_an_interface_of_masks(name, steps) -> None:
    engine = ENGINES[name]
    q = TensorQuantization((0.1,), 3, "int8")
    scores = integer_image(q, (2, 4, 5, 6))
    plan, quantization = Plan((), 3), Quantization({"image": q}, {})
    compiled = CompiledIntegerExecutable(plan, {}, quantization, 1, engine)
    reference = IntegerExecutable(plan, {}, quantization, engine.target.arithmetic)
    comp, expected = (each._follow(steps, scores, q) for each in (compiled, reference))
    assert comp.dtype == expected.dtype
    np.testing.assert_array_equal(comp, expected)


@pytest.mark.parametrize("dtype", ["uint8", "int8"])
@given(st.sampled_from([0.5, 1.0, 2.0, 0.731]), st.integers(-3, 3), st.integers(0, 2**32 - 1))
def test_requantized_by_a_table_where_places_do_not_matter(dtype, ratio, shift, seed) -> None:
    source, output = TensorQuantization((0.1 * ratio,), 128, "uint8"), TensorQuantization((0.1,), shift % 3, dtype)
    compiled = CompiledIntegerExecutable(
        Plan((), 3), {}, Quantization({"image": source}, {}), 1, ENGINES[next(iter(ENGINES))]
    )
    x = np.random.default_rng(seed).integers(0, 256, (2, 37)).astype(np.uint8)
    expected = quantized.requantize(x, source, output, compiled.arithmetic)
    comp = compiled._requantize(x, source, output)
    assert comp.dtype == expected.dtype
    np.testing.assert_array_equal(comp, expected)


ONE_OF_EACH = """
from quantized_networks import integer_image, quantized_checkpoint
from npmnv2.backends.integers import QuantizedBackend
from npmnv2.kernels.host.engine import find_integer_engine
from npmnv2.weights.assemble import plan_for
checkpoint = quantized_checkpoint("uint8", depth_multiplier=0.35, size=32)
plan, q = plan_for(checkpoint.config, checkpoint.weights), checkpoint.quantization
for arithmetic in ARITHMETICS:
    engine = find_integer_engine(arithmetic, "numba")
    both = [QuantizedBackend(q, arithmetic, each).compile(plan, checkpoint.weights, 1) for each in (None, engine)]
    x = integer_image(q.values["image"], (1, 32, 32, 3))
    print(*({tuple(each.integers(x, ["predictions"])["predictions"].ravel().tolist()) for each in both}))
"""


@pytest.mark.slow
def test_machine_code_of_two_processes_meets_in_a_third(tmp_path) -> None:
    pytest.importorskip("numba")
    for chosen in (["xnnpack"], ["reference"], ["xnnpack", "reference"]):
        lines = run_python(f"ARITHMETICS = {chosen}\n{ONE_OF_EACH}", tmp_path).splitlines()
        assert [line.count("(") for line in lines] == [1] * len(chosen), "NumPy and kernels agree"
