"""The compiled integer kernels: how weights are packed for them, and which instructions they are made of."""

from __future__ import annotations

import functools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from npmnv2.kernels.host import integer_packing as packing
from npmnv2.kernels.host.target import IntegerTarget, Target

from npmnv2.kernels import TensorQuantization, quantized

BYTES = Target(16, 32, frozenset({"avx512vnni"}))
PAIRS = Target(8, 16)
SIGNED = Target(4, 32, frozenset({"dotprod"}))


def products(target: Target, factors: np.ndarray) -> np.ndarray:
    """The weights of words (…, lanes, 4) behind packed factors."""
    if target.multiplies_bytes:
        return factors.astype(np.int64)
    even, odd = factors[..., 0, :, :].astype(np.int64), factors[..., 1, :, :].astype(np.int64)
    return np.stack([even[..., 0], odd[..., 0], even[..., 1], odd[..., 1]], axis=-1)


@pytest.mark.parametrize("target", [BYTES, PAIRS, SIGNED], ids=["bytes", "pairs", "signed"])
@given(st.integers(0, 2**32 - 1), st.integers(1, 9), st.integers(1, 70), st.sampled_from([127, 140, 255]))
def test_a_matrix_can_be_unpacked(target: Target, seed: int, words: int, outputs: int, largest: int) -> None:
    kernel = np.random.default_rng(seed).integers(-largest, largest + 1, (4 * words, outputs))
    packed = packing.pack_product(target, kernel)
    lanes, order = target.lanes, packing._product_order(target)
    found = np.zeros((words, 4, len(packed.panels) * 2 * lanes), np.int64)
    rows = products(target, packed.factors).reshape(-1, 2 * lanes, 4)
    bytes_per_word = 2 * target.factor_bytes
    for index, panel in enumerate(packed.panels):
        first = int(panel["weights"]) // bytes_per_word
        chosen = packed.words[int(panel["offsets"]) // 8 :][: int(panel["words"])]
        for word, row in zip(chosen, rows[first:]):
            found[word][:, index * 2 * lanes + np.array(order)] += row.T
    np.testing.assert_array_equal(found.reshape(4 * words, -1)[:, :outputs], kernel)
    assert not found.reshape(4 * words, -1)[:, outputs:].any()


@pytest.mark.parametrize("target", [BYTES, PAIRS, SIGNED], ids=["bytes", "pairs", "signed"])
@given(st.integers(0, 2**32 - 1), st.integers(0, 255), st.integers(0, 255))
def test_the_bias_makes_up_for_zero_points_and_lowered_inputs(
    target: Target, seed: int, zero: int, weight_zero: int
) -> None:
    rng = np.random.default_rng(seed)
    x, kernel = rng.integers(0, 256, 12).astype(np.uint8), rng.integers(0, 256, (12, 5)).astype(np.uint8)
    bias = rng.integers(-(2**31), 2**31, 5).astype(np.int32)
    layer = tuple(TensorQuantization((1.0,), zero, "uint8") for zero in (zero, weight_zero, 0))
    centered, sums_bias = packing.layer_parameters(target, kernel, bias, layer)
    multiplied = x.astype(np.int64) - target.input_offset
    assert target is not SIGNED or (multiplied.min() >= -128 and multiplied.max() <= 127)
    expected = (x.astype(np.int64) - zero) @ (kernel.astype(np.int64) - weight_zero) + bias
    np.testing.assert_array_equal(multiplied @ centered + sums_bias, expected)


def test_only_words_that_need_it_are_multiplied_twice() -> None:
    kernel = np.zeros((400, 64), np.int64)
    kernel[41, 40] = 130
    packed = packing.pack_product(BYTES, kernel)
    assert packed.panels["words"].tolist() == [100, 101]
    assert packed.words[-1] == 10
    assert packing.pack_product(PAIRS, kernel).panels["words"].tolist() == [100, 100, 100, 100]


def test_panels_of_filters_that_need_two_parts() -> None:
    kernel = np.full((3, 3, 130), 127, np.int64)
    kernel[1, 2, 70] = 200
    assert packing.pack_filters(BYTES, kernel).parts.tolist() == [1, 2, 1]
    assert packing.pack_filters(PAIRS, kernel).parts.tolist() == [1, 1, 1, 1, 1]


@pytest.mark.parametrize(("largest", "fits"), [(254, True), (-256, True), (255, False)])
def test_filters_of_more_than_two_parts_are_left_to_numpy(largest: int, fits: bool) -> None:
    kernel = np.zeros((3, 3, 1), np.uint8)
    zero = 0 if largest > 0 else 255
    kernel[0, 0, 0] = min(largest + zero, 255) if largest > 0 else 0
    assert packing.filters_fit(kernel, TensorQuantization((1.0,), zero)) == (fits or largest < 0)


def test_sums_that_leave_32_bits_are_left_to_numpy() -> None:
    layer = tuple(TensorQuantization((scale,), 0, "int8") for scale in (1.0, 64.0, 1.0))
    for arithmetic in quantized.ARITHMETICS:
        target = IntegerTarget(BYTES, arithmetic)
        assert packing.fits(target, layer, 1 << 23)
        assert not packing.fits(target, layer, 1 << 26)


@pytest.mark.parametrize("arithmetic", quantized.ARITHMETICS)
def test_sums_of_maps_whose_scales_lie_too_far_apart(arithmetic) -> None:
    target = IntegerTarget(BYTES, arithmetic)
    one, tiny, huge = (TensorQuantization((scale,), 0) for scale in (1.0, 1e-6, 1e6))
    assert packing.sum_fits(target, one, one, one)
    assert not packing.sum_fits(target, tiny, tiny, huge) or not packing.sum_fits(target, huge, huge, tiny)


# --- instructions ----------------------------------------------------------------------------------------------------


@functools.cache
def assembly(target: Target, halved: bool = False) -> str:
    """One tile, compiled for a target."""
    pytest.importorskip("numba")
    from npmnv2.kernels.device.addressing import View
    from npmnv2.kernels.device.integers.product import BytePanel, make_tile
    from npmnv2.kernels.device.jit import njit
    from npmnv2.kernels.device.pointwise import Position

    tile = make_tile(IntegerTarget(target, "xnnpack"), 4, halved)

    @njit(cached=False, variant=f"{target.name}-{halved}")
    def run(a, b):
        tile(View(a, b, b), BytePanel(a, b, a, a, b, b), a, View(b, a, a), Position(a, a, b))

    run.compile("void(int64, int64)")
    return "".join(run.inspect_asm().values())


def test_features_choose_the_instruction() -> None:
    pytest.importorskip("numba")
    from npmnv2.kernels.device.probe import host_features, host_target

    host = host_target()._replace(features=host_features())
    found, bare = assembly(host), assembly(Target(host.lanes, host.registers))
    assert ("vpdpbusd" in found or "sdot" in found) == host.multiplies_bytes
    assert "vpdpbusd" not in bare
    assert "sdot" not in bare
    if host.lanes > 4:
        assert "vpmaddwd" in bare or "vpdpwssd" in bare


def test_half_panels_take_half_vectors() -> None:
    short = "avx512vl"
    assert Target(16, 32, frozenset({short})).halved.lanes == 8
    for target in (Target(16, 32), Target(8, 16, frozenset({short})), Target(4, 32)):
        assert target.halved is target
    pytest.importorskip("numba")
    from npmnv2.kernels.device.probe import host_features, host_target

    host = host_target()._replace(features=host_features())
    if host.halved is not host:
        assert "zmm" in assembly(host)
        assert "zmm" not in assembly(host, halved=True)
