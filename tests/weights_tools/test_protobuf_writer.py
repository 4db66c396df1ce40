"""Protocol buffers that are written, read by our own reader."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from npmnv2.weights_tools.protobuf import Message, signed
from npmnv2.weights_tools.protobuf_writer import message

from npmnv2.weights.bounds import Budget


def read(data: bytes) -> Message:
    return Message(memoryview(data), Budget(Path("file"), len(data)))


@given(st.integers(-(2**63), 2**63 - 1), st.text(), st.binary(), st.floats(width=32, allow_nan=False))
def test_every_kind_of_field(number, text, data, real) -> None:
    found = read(message({1: number, 2: text, 3: data, 4: real, 5: {1: number}, 6: None}))
    assert signed(found.integer(1)) == number
    assert (found.text(2), bytes(found.bytes(3)), found.real(4)) == (text, data, real)
    assert signed(found.message(5).integer(1)) == number
    assert sorted(found.fields) == [1, 2, 3, 4, 5]


@given(st.lists(st.integers(0, 2**63 - 1), max_size=9))
def test_lists_repeat_the_field(numbers) -> None:
    found = read(message({7: numbers, 8: [{1: n} for n in numbers]}))
    assert found.integers(7) == numbers
    assert [inner.integer(1) for inner in found.messages(8)] == numbers


@pytest.mark.parametrize(
    ("number", "expected"), [(0, b"\x08\x00"), (300, b"\x08\xac\x02"), (-1, b"\x08" + b"\xff" * 9 + b"\x01")]
)
def test_the_specifications_own_examples(number, expected) -> None:
    assert message({1: number}) == expected
