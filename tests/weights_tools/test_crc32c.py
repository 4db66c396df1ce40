"""The checksum of TensorFlow's files."""

from __future__ import annotations

import numpy as np
import pytest
from npmnv2.weights_tools.crc32c import crc32c


@pytest.mark.parametrize("length", [0, 1, 9, 8191, 8192, 8193, 8195, 20_000, 65_537])
def test_checksum(length) -> None:
    data = np.random.default_rng(length).bytes(length)
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82F63B78 if crc & 1 else 0)
    assert crc32c(data) == crc ^ 0xFFFFFFFF
