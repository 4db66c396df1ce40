"""How blocks are cut into strips, row groups and blocks of columns: to any size, and never at the cost of a bit."""

from __future__ import annotations

import numpy as np
import pytest
from engines import require_engine
from networks import CONFIGS, folded_weights, images
from npmnv2.kernels.host import tiling

from npmnv2.backends.compiled import CompiledBackend
from npmnv2.network.architecture import classifier

ENGINE = require_engine()

ENDPOINTS = [f"block_{number}" for number in range(1, 17)]


def run(name: str, height: int = 71, width: int = 65) -> tuple[dict[str, np.ndarray], set[tuple[int, int]]]:
    """All blocks of a network, run fused, and (rows, height) of all tilings that were chosen for it."""
    chosen: set[tuple[int, int]] = set()
    original = tiling.choose

    def noted(target, size, window, geometry, output, **options):
        tiles = original(target, size, window, geometry, output, **options)
        chosen.add((tiles.rows, output[0]))
        return tiles

    plan = classifier(CONFIGS[name])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tiling, "choose", noted)
        found = CompiledBackend(ENGINE).compile(plan, folded_weights(plan), 1)(images(1, height, width), ENDPOINTS)
    return found, chosen


@pytest.mark.parametrize("name", CONFIGS)
@pytest.mark.parametrize(
    ("ring", "strip", "narrowest"),
    [(1, 1, 1), (1, 1 << 30, 5), (12_000, 1, 28), (4096, 20_000, 3), (20_000, 9000, 9)],
    ids=["one row and column", "narrow blocks", "strips of a whole group", "small", "uneven"],
)
def test_tilings_do_not_change_a_bit(
    monkeypatch: pytest.MonkeyPatch, name: str, ring: int, strip: int, narrowest: int
) -> None:
    expected, _ = run(name)
    for setting, value in (("RING_BYTES", ring), ("STRIP_BYTES", strip), ("MIN_BLOCK_COLUMNS", narrowest)):
        monkeypatch.setattr(tiling, setting, value)
    found, chosen = run(name)
    assert strip > 20_000 or any(rows < height for rows, height in chosen), "some maps are cut into strips"
    for endpoint, value in found.items():
        np.testing.assert_array_equal(value, expected[endpoint], endpoint)
