"""How blocks are cut into strips, row groups and blocks of columns: to any size, and never at the cost of a bit."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from engines import require_engine
from networks import CONFIGS, PLANS, folded_weights, images
from npmnv2.kernels.host import tiling
from npmnv2.kernels.host.engine import Engine
from npmnv2.kernels.host.processor import Processor
from npmnv2.kernels.host.target import IntegerTarget, Target

from npmnv2.backends.compiled import CompiledBackend
from npmnv2.kernels import Geometry
from npmnv2.network.architecture import classifier

ENGINE = require_engine()
Values = dict[str, np.ndarray]

ENDPOINTS = [f"block_{number}" for number in range(1, 17)]
KIB = 1024


def run(name: str, engine: Engine = ENGINE, height: int = 71, width: int = 65) -> tuple[Values, list[Any]]:
    """All blocks of a network, run fused, and (tiling, output) of all steps that were cut."""
    chosen: list[Any] = []
    original = tiling.choose

    def noted(*arguments):
        tiles = original(*arguments)
        chosen.append((tiles, arguments[5]))
        return tiles

    plan = classifier(CONFIGS[name])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tiling, "choose", noted)
        found = CompiledBackend(engine).compile(plan, folded_weights(plan), 1)(images(1, height, width), ENDPOINTS)
    return found, chosen


def on(l1_bytes: int, l2_bytes: int) -> Engine:
    """The engine as if its processor had such caches."""
    return ENGINE._replace(processor=Processor(l1_bytes, l2_bytes))


@pytest.mark.parametrize("name", CONFIGS)
@pytest.mark.parametrize(
    ("l2_bytes", "constants"),
    [
        (1, {"MAX_OVERLAP": 2.0}),
        (64 * KIB, {"MAX_OVERLAP": 1.0}),
        (256 * KIB, {}),
        (256 * KIB, {"MISS": 1e6, "STRIP_OF_L2": 1e-6}),
        (512 * KIB, {"START": 100.0, "RING_OF_L2": 0.01}),
        (64 * KIB * KIB, {}),
    ],
    ids=["one row and column", "narrow blocks", "small", "lowest strips", "low groups", "endless"],
)
def test_tilings_do_not_change_a_bit(
    monkeypatch: pytest.MonkeyPatch, name: str, l2_bytes: int, constants: dict[str, float]
) -> None:
    expected, usual = run(name)
    for constant, value in constants.items():
        monkeypatch.setattr(tiling, constant, value)
    found, chosen = run(name, on(4 * KIB, l2_bytes))
    # Small maps with short vectors fit into the usual cache as well as into an endless one.
    assert chosen != usual or (l2_bytes == 64 * KIB * KIB and ENGINE.target.lanes < 16)
    for endpoint, value in found.items():
        np.testing.assert_array_equal(value, expected[endpoint], endpoint)


@pytest.mark.parametrize("n_threads", [1, 2, 5])
@pytest.mark.parametrize("name", PLANS)
def test_no_result_depends_on_the_processor(name: str, n_threads: int) -> None:
    plan = PLANS[name]
    weights, x, last = folded_weights(plan), images(2), plan.nodes[-1].name
    other_width = replace(ENGINE.processor, half_width=not ENGINE.processor.half_width)
    usual, *others = (
        CompiledBackend(engine).compile(plan, weights, n_threads)(x, [last])[last]
        for engine in (
            ENGINE, on(4 * KIB, 4 * KIB), on(64 * KIB * KIB, 64 * KIB * KIB), ENGINE._replace(processor=other_width),
        )
    )  # fmt: skip
    for other in others:
        np.testing.assert_array_equal(other, usual)


def cut(height: int, width: int, channels: int, l2_bytes: int = 1024 * KIB, stride: int = 1) -> tiling.Tiling:
    """How a block of a float network is cut on AVX-512, which computes seven pixels together."""
    layout, geometry = tiling.layout_of_floats(Target(16, 32)), Geometry(stride, 1, ((1, 1), (1, 1)))
    size = (stride * height, stride * width, channels)
    return tiling.choose(
        layout, Processor(32 * KIB, l2_bytes), size, None, geometry, (height, width), tiling.Work(64, 64)
    )


def test_a_small_map_is_one_strip() -> None:
    tiles = cut(7, 7, 960)
    assert (tiles.rows, tiles.group_rows, tiles.columns) == (7, 7, 7)
    assert cut(3, 3, 960).ring_rows == 3, "no more than the map has"


def test_a_strip_may_be_a_single_row() -> None:
    assert cut(56, 56, 960, 64 * KIB).rows == 1


def test_strips_leave_no_part_of_a_tile() -> None:
    assert cut(33, 33, 384).rows % 7 == 0
    assert cut(35, 35, 384).rows % 7 != 0, "every row is whole tiles, so the cache alone decides"


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("size", [28, 56, 112])
def test_smaller_caches_get_smaller_pieces(size: int, stride: int) -> None:
    sizes = [cut(size, size, 192, l2_bytes * KIB, stride).scratch_bytes for l2_bytes in (128, 512, 2048, 8192)]
    assert sizes[0] < sizes[-1]
    for l2_bytes in (512, 2048, 8192):
        assert cut(size, size, 192, l2_bytes * KIB, stride).scratch_bytes <= 2 * l2_bytes * KIB


def test_blocks_of_columns_expand_few_columns_twice() -> None:
    for width in (57, 112, 257, 1000):
        tiles = cut(9, width, 96, 256 * KIB)
        assert tiles.columns >= min(width, 28)
    assert cut(9, 1000, 96, 256 * KIB).columns < 200
    assert cut(56, 224, 96, 8 << 20).columns == 224, "whole rows where they fit"


def test_bytes_are_filtered_two_rows_at_a_time() -> None:
    layout = tiling.layout_of_bytes(Target(16, 32))
    geometry, work = Geometry(1, 1, ((1, 1), (1, 1))), tiling.Work(27, 16)
    tiles = tiling.choose(layout, Processor(32 * KIB, 256 * KIB), (257, 257, 32), None, geometry, (257, 257), work)
    assert tiles.group_rows % 2 == 0


def test_a_full_convolution_stages_what_fits() -> None:
    window = tiling.Window(3, 3, 2, 4)
    rows = [tiling.conv_rows(Processor(size * KIB), window, (112, 112)) for size in (1, 32, 48, 512)]
    assert rows == [1, 2, 4, 48]


@pytest.mark.parametrize("registers", [16, 32])
def test_the_model_knows_the_tiles_of_the_kernels(registers: int) -> None:
    pytest.importorskip("numba")
    from npmnv2.kernels.device.integers.product import pixels_of
    from npmnv2.kernels.device.pointwise import TWO, tile_pixels

    target = Target(8, registers)
    assert tile_pixels(target)[TWO] == target.tile_pixels
    assert pixels_of(IntegerTarget(target, "xnnpack")) == target.byte_tile_pixels


@pytest.mark.parametrize("dilation", [1, 2, 4])
def test_rows_of_bytes_are_filtered_together(dilation: int) -> None:
    geometry = Geometry(1, dilation, ((dilation, dilation), (dilation, dilation)))
    # Of a block of DeepLab, whose strips leave room for several groups.
    layout, size = tiling.layout_of_bytes(Target(16, 32)), (33, 33, 384)
    tiles = tiling.choose(layout, Processor(32 * KIB, 512 * KIB), size, None, geometry, size[:2], tiling.Work(64, 64))
    assert layout.filter_unit(geometry) == 2 * dilation
    assert tiles.group_rows == tiles.rows or tiles.group_rows % (2 * dilation) == 0
