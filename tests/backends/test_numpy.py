"""The NumPy backend as a loop over nodes: what it keeps, and for how long."""

from __future__ import annotations

import weakref

import numpy as np

from npmnv2 import MobileNetV2Config, MobileNetV2ForImageClassification


def test_maps_are_freed_once_nothing_reads_them() -> None:
    """Seen from an activation of the user's own: of all maps that went through it, few are alive at any time."""
    seen: list[weakref.ref[np.ndarray]] = []
    alive: list[int] = []

    def relu(x: np.ndarray) -> np.ndarray:
        out = np.maximum(x, 0)
        seen.append(weakref.ref(out))
        alive.append(sum(reference() is not None for reference in seen))
        return out

    config = MobileNetV2Config(depth_multiplier=0.35, num_labels=3, hidden_act=relu)
    model = MobileNetV2ForImageClassification(config, seed=0, backend="numpy")
    x = np.zeros((1, 64, 64, 3), np.float32)
    model.run(x, ["predictions"])
    assert len(alive) == 35, "two of every block but the first, which has one, the stem and the last convolution"
    # The new map and the one it was made from.
    assert max(alive) <= 2
    seen.clear()
    alive.clear()
    model.run(x, ["predictions", "block_1_expand"])
    assert max(alive) == 3, "a map that was asked for stays"
