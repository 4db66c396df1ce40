"""What of a quantized network is packed for compiled kernels, and what is left to NumPy."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from npmnv2.kernels.host import steps
from npmnv2.kernels.host.integer_packing import MAX_PARTS, unsigned_zero
from npmnv2.kernels.host.target import IntegerTarget, Target
from quantized_networks import quantized_checkpoint

from npmnv2.backends.packed_integers import PackedIntegers
from npmnv2.kernels import TensorQuantization, quantized
from npmnv2.network.layers import Add, AveragePool, Concat, Conv, Dense, Depthwise, GlobalAveragePool, ResizeLike
from npmnv2.network.plan import Node, Plan
from npmnv2.network.quantization import Quantization
from npmnv2.weights.assemble import plan_for

TARGETS = {arithmetic: IntegerTarget(Target(8, 16), arithmetic) for arithmetic in ("xnnpack", "reference")}
Q = TensorQuantization((0.5,), 3, "uint8")
every_arithmetic = pytest.mark.parametrize("arithmetic", TARGETS)


def read(packed: PackedIntegers, ref: int, count: int) -> np.ndarray:
    """Numbers of 32 bits of the block."""
    buffer, offset = steps.split(ref)
    assert buffer == steps.WEIGHTS
    assert offset % 64 == 0, "begins at a cache line"
    return packed.block[offset : offset + 4 * count].view(np.int32)


def one(layer, arithmetic="xnnpack", output=Q, kernel=None, bias=0, source=Q) -> PackedIntegers:
    """A network of one layer with four channels."""
    inputs = ("image", "image") if isinstance(layer, (Add, Concat, ResizeLike)) else ("image",)
    plan = Plan((Node("layer", layer, inputs),), 4)
    weights, kernels = {}, {}
    if isinstance(layer, (Conv, Depthwise, Dense)):
        shape = {Depthwise: (3, 3, 4), Dense: (4, 4)}.get(type(layer), (layer.kernel, layer.kernel, 4, 4))
        if isinstance(layer, Depthwise):
            shape = (layer.kernel, layer.kernel, 4)
        weights["layer/kernel"] = np.full(shape, 7, np.uint8) if kernel is None else kernel(shape)
        weights["layer/bias"] = np.full(4, bias, np.int32)
        kernels["layer"] = TensorQuantization((0.01,), 0, "uint8")
    return PackedIntegers(plan, weights, Quantization({"image": source, "layer": output}, kernels), TARGETS[arithmetic])


def is_covered(packed: PackedIntegers, layer) -> bool:
    node = Node("layer", layer, ("image",))
    assert packed.must_open(node) == (not packed.covers(node))
    return packed.covers(node)


@every_arithmetic
@pytest.mark.parametrize("dtype", ["uint8", "int8"])
def test_every_layer_of_a_network_is_packed(arithmetic: str, dtype: str) -> None:
    checkpoint = quantized_checkpoint(dtype, depth_multiplier=0.35)
    plan, quantization = plan_for(checkpoint.config, checkpoint.weights), checkpoint.quantization
    arranged = {}
    for name, array in checkpoint.weights.items():
        depthwise = name.endswith("depthwise/kernel")
        pointwise = name.endswith("/kernel") and array.ndim == 4 and array.shape[:2] == (1, 1)
        arranged[name] = array[..., 0] if depthwise else array[0, 0] if pointwise else array
    packed = PackedIntegers(plan, arranged, quantization, TARGETS[arithmetic])
    assert all(packed.covers(node) and not packed.must_open(node) for node in plan.nodes)
    assert packed.exact == ()
    for name, kernel in arranged.items():
        if name.endswith("/kernel"):
            layer = name.removesuffix("/kernel")
            assert packed[layer].channels == kernel.shape[-1]
            finish = read(packed, packed[layer].finish, steps.N_NUMBERS)
            assert finish[steps.ZERO] == unsigned_zero(quantization.values[layer])
    # The layer before an addition finishes the sum as well, where their numbers fit.
    finish = read(packed, packed["block_2_project"].finish, steps.N_NUMBERS)
    assert finish[steps.SUM_ZERO] == unsigned_zero(quantization.values["block_2_add"])
    assert not read(packed, packed["block_1_project"].finish, steps.N_NUMBERS)[steps.SUM_HIGH]


@pytest.mark.parametrize(
    ("layer", "covered"),
    [
        (Conv(kernel=1, filters=4, norm=None), True),
        (Conv(kernel=3, filters=4, norm=None), True),
        (Conv(kernel=3, filters=4, norm=None, dilation=2), False),
        (Depthwise(norm=None), True),
        (Depthwise(norm=None, dilation=2), True),
        (Depthwise(norm=None, kernel=5), False),
        (Concat(), True),
        (Add(), True),
        (AveragePool(2, 1), True),
        (GlobalAveragePool(), True),
    ],
    ids=str,
)
@every_arithmetic
def test_kinds_of_layers(layer, covered: bool, arithmetic: str) -> None:
    assert is_covered(one(layer, arithmetic), layer) == covered


@every_arithmetic
def test_sums_that_32_bits_do_not_hold_are_left_to_numpy(arithmetic: str) -> None:
    layer = Conv(kernel=1, filters=4, norm=None)
    assert is_covered(one(layer, arithmetic, bias=2**20), layer)
    # A scale that is far too small for what the layer makes.
    tiny = replace(Q, scale=(1e-6,))
    assert not is_covered(one(layer, arithmetic, tiny, bias=2**20), layer)
    wide = replace(Q, scale=(1e-9,))
    assert not is_covered(one(Add(), arithmetic, wide), Add())


def test_filters_that_are_too_large_for_their_parts_are_left_to_numpy() -> None:
    layer = Depthwise(norm=None)
    for number, covered in ((MAX_PARTS * 127, True), (MAX_PARTS * 127 + 1, False)):
        packed = one(layer, kernel=lambda shape, n=number: np.full(shape, n, np.uint8))
        assert is_covered(packed, layer) == covered


def test_a_resize_is_covered_in_the_arithmetic_of_xnnpack_alone() -> None:
    layer = ResizeLike("tf1")
    same, other = one(layer), one(layer, output=replace(Q, scale=(0.25,)))
    assert is_covered(same, layer)
    assert same.table("layer") is None, "the same scale: nothing follows"
    table = other.table("layer")
    assert table is not None
    np.testing.assert_array_equal(table, quantized.requantize_table(Q, replace(Q, scale=(0.25,)), "xnnpack"))
    assert not is_covered(one(layer, "reference"), layer)


@pytest.mark.parametrize(
    ("layer", "pooling", "mean"),
    [
        (GlobalAveragePool(), "mean", True),
        (GlobalAveragePool(), "average_pool", False),
        (AveragePool(2, 1), "mean", False),
    ],
)
def test_how_a_pool_rounds(layer, pooling: str, mean: bool) -> None:
    plan = Plan((Node("layer", layer, ("image",)),), 4)
    packed = PackedIntegers(plan, {}, Quantization({"image": Q, "layer": Q}, {}, pooling), TARGETS["xnnpack"])
    assert packed.pool("layer") == (Q, Q, mean)
