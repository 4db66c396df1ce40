"""The wire format of protocol buffers."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from npmnv2.weights_tools.protobuf import Message, signed
from weight_files import field, varint

from npmnv2 import WeightsError
from npmnv2.weights.bounds import Budget
from npmnv2.weights_tools import protobuf

PATH = Path("file.pb")
UINT64 = st.integers(0, 2**64 - 1)


def message(data: bytes, size: int = 0) -> Message:
    return Message(memoryview(data), Budget(PATH, size))


@given(st.lists(UINT64, max_size=9), st.lists(UINT64, max_size=9), st.binary(max_size=20))
def test_what_is_written_is_read(single: list[int], packed: list[int], data: bytes) -> None:
    """Integers on their own or packed, bytes, and unknown fields in between."""
    text = b"".join(field(3, value) for value in single) + field(9, 1.5) + field(2, data)
    found = message(text + field(3, b"".join(map(varint, packed))))
    assert found.integers(3) == single + packed
    assert bytes(found.bytes(2)) == data
    assert found.real(9) == 1.5
    assert (found.integer(7), bytes(found.bytes(7)), found.text(7)) == (0, b"", "")


@given(st.integers(-(2**63), 2**63 - 1))
def test_negative_numbers(value: int) -> None:
    assert signed(message(field(1, value % 2**64)).integer(1)) == value


@given(UINT64)
def test_varints(value: int) -> None:
    data = memoryview(varint(value) + b"\xff")
    assert protobuf.varint(data, 0, PATH) == (value, len(data) - 1)


def test_fixed_numbers() -> None:
    data = varint(1 << 3 | 1) + struct.pack("<Q", 2**60) + varint(2 << 3 | 5) + struct.pack("<I", 7)
    assert (message(data).integer(1), message(data).integer(2)) == (2**60, 7)
    with pytest.raises(WeightsError, match="field 3 is not a number"):
        message(field(3, b"abc")).integer(3)


def test_every_parse_is_paid() -> None:
    """One step for each field; asking the same message again is free, making it anew is not."""
    inner = field(1, 1) * 10_000
    outer = message(field(2, inner))
    for _ in range(100):
        assert len(outer.fields[2]) == 1
    for _ in range(9):
        assert len(outer.message(2).all(1)) == 10_000
    with pytest.raises(WeightsError, match="more work"):
        outer.message(2).all(1)
