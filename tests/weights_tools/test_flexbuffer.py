"""Maps of numbers in FlexBuffers, against Google's own writer."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from npmnv2.weights_tools.flexbuffer import numbers

from npmnv2 import WeightsError
from npmnv2.weights.bounds import Budget

flexbuffers = pytest.importorskip("flatbuffers.flexbuffers")

FLOATS = st.floats(width=32, allow_nan=False)
VALUES = st.one_of(st.booleans(), st.integers(-(1 << 63), (1 << 63) - 1), FLOATS)
NAMES = st.text(st.characters(codec="ascii", exclude_characters="\0"), min_size=1, max_size=20)


def read(data: bytes) -> dict[str, float]:
    return numbers(memoryview(data), Budget(Path("model.tflite"), len(data)))


@given(st.dictionaries(NAMES, VALUES, max_size=20))
def test_numbers(options) -> None:
    found = read(bytes(flexbuffers.Dumps(options)))
    assert found == {name: np.float32(value) if isinstance(value, float) else value for name, value in options.items()}


def test_numbers_that_are_pointed_to() -> None:
    builder = flexbuffers.Builder()
    with builder.Map():
        builder.IndirectInt("a", -5)
        builder.IndirectUInt("b", 1 << 40)
        builder.IndirectFloat("c", 0.5)
        builder.String("d", "text")
    assert read(bytes(builder.Finish())) == {"a": -5, "b": 1 << 40, "c": 0.5}


@pytest.mark.parametrize("data", [b"", b"\0", b"\x05\x04\x01", bytes(flexbuffers.Dumps([1, 2])), b"\xff\x24\x01"])
def test_no_maps(data) -> None:
    with pytest.raises(WeightsError, match="the options of a custom operator"):
        read(data)


@given(st.data())
def test_damage(data) -> None:
    whole = bytearray(flexbuffers.Dumps({"y_scale": 10.0, "num_classes": 90, "use_regular_nms": False}))
    for _ in range(data.draw(st.integers(1, 4))):
        whole[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    try:
        assert isinstance(read(bytes(whole)), dict)
    except WeightsError as error:
        assert "model.tflite" in str(error)  # noqa: PT017
