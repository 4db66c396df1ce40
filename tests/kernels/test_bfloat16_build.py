"""Weights as pairs of bfloat16."""

from __future__ import annotations

import numpy as np
from npmnv2.kernels.host.bfloat16_build import pair_rows


def test_two_rows_of_weights_make_one_of_words() -> None:
    words = pair_rows(np.array([[1.0], [2.0], [3.0], [-1.0]], np.float32)).view(np.uint32)
    assert words.tolist() == [[0x40003F80], [0xBF804040]]
