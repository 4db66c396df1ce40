"""The compiled kernels: against NumPy and naive loops, and bit for bit against themselves.

Hypothesis draws the same arguments as for the NumPy kernels. Each network below is small, but wide enough for every
kind of tile, strips, blocks of columns and tails.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import naive
import numpy as np
import pytest
from bounds import assert_within, bound
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from strategies import KERNEL_ARGUMENTS, arrays

pytest.importorskip("numba")

from npmnv2.kernels.host import arrays as compiled
from npmnv2.kernels.host import build, packing, steps
from npmnv2.kernels.host.memory import Constants, Heap
from npmnv2.kernels.host.run import Call, Workspace
from npmnv2.kernels.host.target import vectors

from npmnv2.backends.compiled import NumbaBackend
from npmnv2.backends.lowering import is_compiled
from npmnv2.backends.numpy import NumpyBackend
from npmnv2.kernels import NO_CLIP, REGISTRY, RELU6, Geometry
from npmnv2.network.architecture import backbone, classifier
from npmnv2.network.config import MobileNetV2Config
from npmnv2.network.layers import Conv, Depthwise

COMPILED = [name for name, kernel in REGISTRY.items() if kernel.compiled]


def _covered(name, arguments):
    """Whether the compiled kernel takes these arguments; what it does not take runs on NumPy."""
    if name == "conv":
        return is_compiled(Conv(kernel=len(arguments[1]), dilation=arguments[3].dilation))
    return name != "depthwise" or is_compiled(Depthwise(kernel=len(arguments[1])))


@pytest.mark.parametrize("n_threads", [1, 3])
@pytest.mark.parametrize("name", COMPILED)
@settings(max_examples=25)
@given(data=st.data())
def test_compiled_agrees_with_numpy_and_naive_loops(name: str, n_threads: int, data: st.DataObject) -> None:
    arguments = data.draw(KERNEL_ARGUMENTS[name])
    assume(_covered(name, arguments))
    copies = [a.copy() if isinstance(a, np.ndarray) else a for a in arguments]
    comp = getattr(compiled, name)(*arguments, n_threads=n_threads)
    limit = bound(name, arguments)
    assert comp.dtype == np.float32
    assert_within(comp, getattr(naive, name)(*arguments), limit, name)
    assert_within(comp, REGISTRY[name].numpy(*arguments), limit, name)
    for after, before in zip(arguments, copies):
        assert not isinstance(after, np.ndarray) or np.array_equal(after, before), "arguments must not change"


def _rounded(exact: Fraction) -> np.float32:
    """The float32 nearest to a fraction, ties to even."""
    guess = np.float32(float(exact))
    near = [np.nextafter(guess, np.float32(-np.inf)), guess, np.nextafter(guess, np.float32(np.inf))]
    return min(near, key=lambda f: (abs(Fraction(float(f)) - exact), int(f.view(np.int32)) & 1))


def _fused(total: np.float32, products: list[tuple[np.float32, np.float32]]) -> np.float32:
    for a, b in products:
        total = _rounded(Fraction(float(total)) + Fraction(float(a)) * Fraction(float(b)))
    return total


@given(st.integers(1, 12), st.sampled_from([1, 8, 17, 24, 40]), st.integers(0, 2**32 - 1))
@settings(max_examples=15)
def test_sums_start_at_the_bias_and_add_fused_products_in_order(cin: int, cout: int, seed: int) -> None:
    x, kernel, bias = arrays(seed, (1, 1, 3, cin), (cin, cout), (cout,))
    comp = compiled.pointwise(x, kernel, bias, NO_CLIP)
    for pixel, o in np.ndindex(3, cout):
        assert comp[0, 0, pixel, o] == _fused(bias[o], list(zip(x[0, 0, pixel], kernel[:, o])))


def test_convolutions_add_in_the_order_of_rows_columns_channels() -> None:
    x, kernel, bias = arrays(1, (1, 4, 5, 2), (3, 3, 2, 3), (3,))
    comp = compiled.conv(x, kernel, bias, Geometry(), NO_CLIP)
    filters = kernel[..., 0].copy()
    filtered = compiled.depthwise(x, filters, bias[:2], Geometry(), NO_CLIP)
    for i, j in np.ndindex(2, 3):
        window = x[0, i : i + 3, j : j + 3]
        assert comp[0, i, j, 2] == _fused(bias[2], list(zip(window.ravel(), kernel[..., 2].ravel())))
        assert filtered[0, i, j, 1] == _fused(bias[1], list(zip(window[..., 1].ravel(), filters[..., 1].ravel())))


@pytest.mark.parametrize("name", ["conv", "depthwise", "pointwise"])
def test_nan_stays_nan_through_the_clip(name: str) -> None:
    x = np.full((1, 3, 3, 2), np.nan, np.float32)
    shape = {"conv": (3, 3, 2, 2), "depthwise": (3, 3, 2), "pointwise": (2, 2)}[name]
    geometry = () if name == "pointwise" else (Geometry(),)
    result = getattr(compiled, name)(x, np.ones(shape, np.float32), np.zeros(2, np.float32), *geometry, RELU6)
    assert np.isnan(result).all()


@pytest.mark.parametrize("channels", [1, 8, 16, 17, 24, 32, 40, 56, 80])
def test_packed_panels_hold_every_weight(channels: int) -> None:
    """A product with the unit matrix gives the kernel back, whatever the kinds of its panels are."""
    kernel, bias = arrays(0, (11, channels), (channels,))
    unit = np.eye(11, dtype=np.float32)[None, None]
    np.testing.assert_array_equal(compiled.pointwise(unit, kernel, 0 * bias, NO_CLIP)[0, 0], kernel)
    assert packing.pack_matrix(kernel).size == 11 * vectors().count(channels) * vectors().lanes


def test_kernels_write_nowhere_else() -> None:
    """Between guards: the map before and after the output of a step stay as they are."""
    (x,) = arrays(0, (1, 5, 6, 24))
    kernel, bias = arrays(1, (24, 24), (24,))
    weights = Constants()
    packed = build.pack_product(weights, kernel, bias)
    source = build.external(steps.reference(steps.EXTERNAL, 0), 5, 6, 24)
    wide = build.resident(0, 5, 6, 24)
    guard = 4096
    memory = np.full((1, wide.size // 4 + 2 * guard), 7.0, np.float32)
    target = wide._replace(place=steps.reference(steps.EXTERNAL + 1, guard * 4))
    step = build.pointwise(source, target, packed)
    Call(build.assemble([step], [], Constants()), 0, 0, weights.block(), Workspace(2))([x], [memory])
    assert (memory[0, :guard] == 7).all()
    assert (memory[0, -guard:] == 7).all()
    inside = memory[0, guard:-guard].reshape(5, 6, -1)[..., :24]
    np.testing.assert_array_equal(inside, compiled.pointwise(x, kernel, bias)[0])


@given(st.lists(st.integers(1, 5000), min_size=1, max_size=30), st.randoms())
def test_heap_never_hands_out_a_piece_twice(sizes: list[int], random) -> None:
    heap, taken = Heap(), {}
    for size in sizes:
        at = heap.take(size)
        assert at % 64 == 0
        assert at + size <= heap.size
        assert all(at + size <= other or other + length <= at for other, length in taken.items())
        taken[at] = size
        if random.random() < 0.4:
            gone = random.choice(list(taken))
            heap.give_back(gone)
            del taken[gone]


# ---- Whole networks --------------------------------------------------------------------------------------------------


def _weights(plan, seed=0):
    """Random folded weights of a size that keeps activations in range."""
    rng = np.random.default_rng(seed)
    shapes = plan.shapes(64, 64)
    weights = {}
    for name, layer, inputs in plan.parts():
        found = layer.parameter_shapes(*(shapes[i] for i in inputs))
        if not found:
            continue
        kernel = found["kernel"]
        fan_in = 9 if isinstance(layer, Depthwise) else int(np.prod(kernel[:-1]))
        kernel = kernel[:3] if isinstance(layer, Depthwise) else kernel
        if isinstance(layer, Conv) and layer.kernel == 1:
            kernel = kernel[2:]
        weights[f"{name}/kernel"] = rng.normal(0, (2 / fan_in) ** 0.5, kernel).astype(np.float32)
        weights[f"{name}/bias"] = rng.normal(0, 0.1, kernel[-1]).astype(np.float32)
    return weights


CONFIGS = {
    "0.35": MobileNetV2Config(depth_multiplier=0.35, num_labels=17),
    "stride 8": MobileNetV2Config(depth_multiplier=0.5, output_stride=8, num_labels=5, tf_padding=False),
    "odd widths": MobileNetV2Config(
        depth_multiplier=0.5, depth_divisible_by=1, min_depth=1, num_labels=40, first_layer_is_expansion=False
    ),
}


def _network(name, n_threads=1):
    plan = classifier(CONFIGS[name])
    return plan, NumbaBackend().compile(plan, _weights(plan), n_threads)


def _images(batch, height=71, width=65):
    return np.random.default_rng(1).uniform(-1, 1, (batch, height, width, 3)).astype(np.float32)


@pytest.mark.parametrize("name", CONFIGS)
def test_every_endpoint_agrees_with_numpy_in_float64(name: str) -> None:
    plan, executable = _network(name)
    x = _images(2)
    weights = {key: value.astype(np.float64) for key, value in _weights(plan).items()}
    reference = NumpyBackend().compile(plan, weights)(x.astype(np.float64), plan.endpoints)
    for endpoint, value in executable(x, plan.endpoints).items():
        assert value.shape == reference[endpoint].shape
        # 53 layers deep; each rounds at 2⁻²⁴ of its largest values, and its neighbors amplify that a little.
        limit = 2.0**-24 * 4000 * np.abs(reference[endpoint]).max()
        assert np.abs(value - reference[endpoint]).max() < limit, endpoint


@pytest.mark.parametrize("name", CONFIGS)
def test_fused_and_unfused_have_the_same_bits(name: str) -> None:
    plan, executable = _network(name)
    x = _images(1)
    opened = executable(x, plan.endpoints)
    for node in plan.nodes:
        np.testing.assert_array_equal(executable(x, [node.name])[node.name], opened[node.name], node.name)


@pytest.mark.parametrize("n_threads", [1, 2, 3])
def test_batch_and_threads_do_not_change_a_bit(n_threads: int) -> None:
    x = _images(32)
    _, executable = _network("0.35", n_threads)
    names = ["predictions", "global_average_pooling2d", "block_12"]
    _, alone = _network("0.35")
    for start, stop in [(0, 1), (3, 10), (0, 32)]:
        together = executable(x[start:stop], names)
        for image in {start, stop - 1}:
            expected = alone(x[image : image + 1], names)
            for endpoint in names:
                np.testing.assert_array_equal(together[endpoint][image - start], expected[endpoint][0])


@given(st.integers(32, 90), st.integers(32, 90), st.sampled_from([1, 2, 5]))
@settings(max_examples=8)
def test_any_size_of_image(height: int, width: int, n_threads: int) -> None:
    plan, executable = _network("0.35", n_threads)
    x = _images(1, height, width)
    reference = NumpyBackend().compile(plan, _weights(plan))(x, ["predictions"])["predictions"]
    comp = executable(x, ["predictions"])["predictions"]
    np.testing.assert_allclose(comp, reference, atol=2.0**-24 * 8000 * np.abs(reference).max())


def test_other_activations_run_on_numpy_in_between() -> None:
    plan = classifier(MobileNetV2Config(depth_multiplier=0.35, num_labels=3, hidden_act="silu"))
    assert not is_compiled(plan.nodes[0].layer)
    weights = _weights(plan)
    x = _images(2)
    names = ["predictions", "block_3"]
    reference = NumpyBackend().compile(plan, weights)(x, names)
    comp = NumbaBackend().compile(plan, weights, 2)(x, names)
    for name in names:
        np.testing.assert_allclose(comp[name], reference[name], rtol=1e-4, atol=1e-4)


def test_no_images_give_no_rows() -> None:
    _, executable = _network("0.35")
    assert executable(_images(0), ["predictions"])["predictions"].shape == (0, 17)


def test_profile_names_every_node_and_counts_its_work() -> None:
    plan, executable = _network("0.35", 2)
    timings = executable.profile(_images(1), ["predictions"])
    # The first convolution runs inside the first block.
    assert timings[0].name == "Conv1 + expanded_conv"
    assert " + ".join(t.name for t in timings).split(" + ") == [node.name for node in plan.nodes]
    assert sum(t.multiply_adds for t in timings) == plan.multiply_adds(71, 65)
    assert all(t.seconds > 0 for t in timings)


def test_results_do_not_share_memory_with_later_calls() -> None:
    _, executable = _network("0.35")
    first = executable(_images(1), ["predictions"])["predictions"]
    kept = first.copy()
    executable(-_images(1), ["predictions"])
    np.testing.assert_array_equal(first, kept)


def test_memory_stays_as_it_is_over_many_calls() -> None:
    psutil = pytest.importorskip("psutil")
    _, executable = _network("0.35", 2)
    x = _images(1)
    for _ in range(20):
        executable(x, ["predictions"])
    before = psutil.Process().memory_info().rss
    for _ in range(1000):
        executable(x, ["predictions"])
    assert psutil.Process().memory_info().rss - before < 1_000_000


# ---- Widths of vectors -----------------------------------------------------------------------------------------------

# A processor for each width of vectors; the last has no FMA, either.
PROCESSORS = {"haswell": 8, "nehalem": 4}


def digest() -> str:
    """All bits of all endpoints of a network."""
    plan, executable = _network("0.35", 2)
    found = executable(_images(2), plan.endpoints)
    return hashlib.sha256(b"".join(found[name].tobytes() for name in plan.endpoints)).hexdigest()


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "darwin" or os.uname().machine != "x86_64", reason="names processors of x86-64")
@pytest.mark.parametrize("processor", PROCESSORS)
def test_vector_width_does_not_change_a_bit(processor: str) -> None:
    script = "import test_compiled as t; print(t.vectors().lanes, t.digest())"
    environment = {**os.environ, "NUMBA_CPU_NAME": processor, "NUMBA_CPU_FEATURES": ""}
    folders = [*map(str, Path(__file__).parents[:2]), os.environ.get("PYTHONPATH", "")]
    environment["PYTHONPATH"] = os.pathsep.join(folders)
    output = subprocess.run(
        [sys.executable, "-c", script], env=environment, check=True, capture_output=True, text=True
    ).stdout.split()
    assert output == [str(PROCESSORS[processor]), digest()]


def test_backbone_alone_runs_too() -> None:
    plan = backbone(CONFIGS["0.35"])
    assert NumbaBackend().compile(plan, _weights(plan), 1)(_images(1), ["Conv_1"])["Conv_1"].shape == (1, 3, 3, 1280)
