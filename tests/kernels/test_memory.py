"""Where arrays lie."""

from __future__ import annotations

import numpy as np
import pytest
from npmnv2.kernels.host.memory import address_of


@pytest.mark.parametrize("dtype", [np.float32, np.uint8, np.int64])
@pytest.mark.parametrize("shape", [(1,), (2, 3, 4), (0, 3)])
@pytest.mark.parametrize("writeable", [True, False])
def test_the_address_is_that_of_the_first_element(dtype, shape, writeable) -> None:
    array = np.zeros(shape, dtype)
    array.flags.writeable = writeable
    assert address_of(array) == array.__array_interface__["data"][0]


def test_of_a_piece_of_an_array_it_is_where_the_piece_starts() -> None:
    array = np.zeros((4, 5), np.float32)
    assert address_of(array[2:]) - address_of(array) == array[:2].nbytes


def test_the_array_may_still_be_resized() -> None:
    array = np.zeros(3, np.float32)
    address_of(array)
    array.resize(100_000, refcheck=False)
    assert len(array) == 100_000
