"""The compiled kernels: against NumPy and naive loops, and bit for bit against themselves.

Hypothesis draws the same arguments as for the NumPy kernels. Each network below is small, but wide enough for every
kind of tile, strips, blocks of columns and tails.
"""

from __future__ import annotations

from fractions import Fraction

import naive
import numpy as np
import pytest
from bounds import assert_within, bound
from engines import require_engine
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from npmnv2.kernels.host import arrays as compiled
from npmnv2.kernels.host import packing, steps
from npmnv2.kernels.host.bound_program import BoundProgram, Workspace
from npmnv2.kernels.host.build import Builder
from npmnv2.kernels.host.memory import ArenaPlanner, Constants
from npmnv2.kernels.host.processor import Processor
from strategies import KERNEL_ARGUMENTS, arrays

from npmnv2.backends.partition import is_compiled
from npmnv2.kernels import NO_CLIP, REGISTRY, RELU6, Geometry
from npmnv2.network.layers import Conv, Depthwise

ENGINE = require_engine()

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


@pytest.mark.parametrize("half_width", [False, True])
@pytest.mark.parametrize("channels", [16, 24, 32, 48, 56])
def test_pixels_do_not_depend_on_how_many_there_are(channels: int, half_width: bool) -> None:
    """Whole and small tiles compute the same, wherever a run of them ends, and however they load their inputs."""
    engine = ENGINE._replace(processor=Processor(half_width=half_width))
    x, kernel, bias = arrays(channels, (1, 1, 16, 5), (5, channels), (channels,))
    alone = np.concatenate([compiled.pointwise(x[:, :, [i]], kernel, bias, NO_CLIP) for i in range(16)], axis=2)
    for count in range(1, 17):
        together = compiled.pointwise(x[:, :, :count], kernel, bias, NO_CLIP, engine=engine)
        np.testing.assert_array_equal(together, alone[:, :, :count])


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
    assert packing.pack_matrix(ENGINE.target, kernel).size == 11 * ENGINE.target.vectors(channels) * ENGINE.target.lanes


@pytest.mark.parametrize("n_threads", [1, 3])
@pytest.mark.parametrize("classes", [33, 140, 257, 1001])
def test_dense_with_many_classes(classes: int, n_threads: int) -> None:
    """Enough panels for several groups that are read side by side, and for a rest."""
    arguments = arrays(classes, (1, 37), (37, classes), (classes,))
    limit = bound("dense", arguments)
    assert_within(compiled.dense(*arguments, n_threads=n_threads), REGISTRY["dense"].numpy(*arguments), limit, "dense")


@pytest.mark.parametrize("stride", [1, 2, 3])
@pytest.mark.parametrize("dilation", [1, 2, 3])
def test_depthwise_on_wide_rows(stride: int, dilation: int) -> None:
    """More output pixels than are computed together, with a rest."""
    x, kernel, bias = arrays(0, (1, 9, 50, 19), (3, 3, 19), (19,))
    arguments = (x, kernel, bias, Geometry(stride, dilation, ((1, 2), (3, 1))), RELU6)
    reference = REGISTRY["depthwise"].numpy(*arguments)
    assert_within(compiled.depthwise(*arguments), reference, bound("depthwise", arguments), "depthwise")


def test_blocks_of_columns_keep_rings_of_their_own() -> None:
    """A map so wide that a fused block cuts it into columns, and so high that several strips use each ring."""
    height, width, expansion = 9, 700, 56
    x, expand, filters, project, bias = arrays(
        3, (1, height, width, 16), (16, expansion), (3, 3, expansion), (expansion, 16), (expansion,)
    )
    geometry = Geometry(padding=((1, 1), (1, 1)))
    weights, build = Constants(), Builder(ENGINE.target)
    packed = build.pack_product(weights, expand, bias, RELU6)
    packed_filters = build.pack_filters(weights, filters, bias, RELU6)
    packed_project = build.pack_product(weights, project, bias[:16])
    size = build.resident(0, height, width, 16).size
    inner, outer = (build.resident(steps.ref(steps.ARENA, at), height, width, 16) for at in (0, size))
    source, result = (build.external(steps.ref(steps.EXTERNAL + i, 0), height, width, 16) for i in range(2))
    expanded = build.expanded_pointwise(inner, packed)
    block = build.inverted_residual(inner, outer, expanded, packed_filters, geometry, packed_project, residual=True)
    tiles = block.record["tiling"]
    assert tiles["columns"] < width
    assert tiles["rows"] < height
    body = [build.copy(source, inner), block, build.copy(outer, result)]
    out = np.empty_like(x)
    program = build.assemble(body, [], arena_bytes=2 * size)
    BoundProgram(program, weights.block(), Workspace(1), ENGINE)([x], [out])
    hidden = compiled.depthwise(compiled.pointwise(x, expand, bias, RELU6), filters, bias, geometry, RELU6)
    np.testing.assert_array_equal(out, compiled.add(compiled.pointwise(hidden, project, bias[:16]), x))


def test_kernels_write_nowhere_else() -> None:
    """Between guards: the map before and after the output of a step stay as they are."""
    (x,) = arrays(0, (1, 5, 6, 24))
    kernel, bias = arrays(1, (24, 24), (24,))
    weights, build = Constants(), Builder(ENGINE.target)
    packed = build.pack_product(weights, kernel, bias)
    source = build.external(steps.ref(steps.EXTERNAL, 0), 5, 6, 24)
    wide = build.resident(0, 5, 6, 24)
    guard = 4096
    memory = np.full((1, wide.size // 4 + 2 * guard), 7.0, np.float32)
    target = wide._replace(ref=steps.ref(steps.EXTERNAL + 1, guard * 4))
    step = build.pointwise(source, target, packed)
    program = build.assemble([step], [])
    BoundProgram(program, weights.block(), Workspace(2), ENGINE)([x], [memory])
    assert (memory[0, :guard] == 7).all()
    assert (memory[0, -guard:] == 7).all()
    inside = memory[0, guard:-guard].reshape(5, 6, -1)[..., :24]
    np.testing.assert_array_equal(inside, compiled.pointwise(x, kernel, bias)[0])


@given(st.lists(st.integers(1, 5000), min_size=1, max_size=30), st.randoms())
def test_planner_never_hands_out_a_piece_twice(sizes: list[int], random) -> None:
    planner, taken = ArenaPlanner(), {}
    for size in sizes:
        at = planner.allocate(size)
        assert at % 64 == 0
        assert at + size <= planner.size
        assert all(at + size <= other or other + length <= at for other, length in taken.items())
        taken[at] = size
        if random.random() < 0.4:
            gone = random.choice(list(taken))
            planner.free(gone)
            del taken[gone]
