"""A reader of protocol buffers' wire format.

A message is a run of fields: a key (number and wire type) and a value. The caller
knows what a number means and which values are messages, so nesting goes no deeper than the caller's code.
Format: https://protobuf.dev/programming-guides/encoding/
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from npmnv2.weights.bounds import MAX_NAME_BYTES, Budget, damaged

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5


def varint(data: memoryview, position: int, path: Path) -> tuple[int, int]:
    """An unsigned integer of at most 64 bits and the position after it."""
    if position < len(data) and data[position] < 0x80:
        return data[position], position + 1
    value = 0
    for index, byte in enumerate(data[position : position + 10]):
        value |= (byte & 0x7F) << (7 * index)
        if byte < 0x80:
            if value >> 64:
                break
            return value, position + index + 1
    raise damaged(path, "a number that does not end or exceeds 64 bits", position)


def signed(value: int) -> int:
    """A varint read as a 64-bit two's complement integer."""
    return value - (1 << 64) if value >> 63 else value


@dataclass(frozen=True)
class Message:
    """One message: its bytes, and the budget of its file. Every parse is paid from it, repeated ones too."""

    data: memoryview
    budget: Budget

    @property
    def path(self) -> Path:
        """The file, for error messages."""
        return self.budget.path

    @cached_property
    def fields(self) -> dict[int, list[int | memoryview]]:
        """The values of every field, in order, by its number."""
        found: dict[int, list[int | memoryview]] = {}
        position, end = 0, len(self.data)
        while position < end:
            self.budget.step()
            key, position = varint(self.data, position, self.path)
            value, position = self._value(key & 7, position)
            found.setdefault(key >> 3, []).append(value)
        return found

    def _value(self, wire_type: int, position: int) -> tuple[int | memoryview, int]:
        if wire_type == _VARINT:
            return varint(self.data, position, self.path)
        if wire_type == _BYTES:
            length, position = varint(self.data, position, self.path)
        elif wire_type in (_FIXED32, _FIXED64):
            length = 4 if wire_type == _FIXED32 else 8
        else:
            raise damaged(self.path, f"wire type {wire_type}", position)
        if position + length > len(self.data):
            raise damaged(self.path, f"a field of {length} bytes in {len(self.data) - position}", position)
        return self.data[position : position + length], position + length

    def all(self, number: int) -> list[int | memoryview]:
        """Every value of one field."""
        return self.fields.get(number, [])

    def messages(self, number: int) -> Iterator[Message]:
        """Every value of a field that holds messages."""
        for value in self.all(number):
            yield Message(self._bytes(value), self.budget)

    def message(self, number: int) -> Message:
        """The last value of a field that holds a message; an empty one where it is absent."""
        values = self.all(number)
        return Message(self._bytes(values[-1]) if values else memoryview(b""), self.budget)

    def bytes(self, number: int) -> memoryview:
        """The last value of a field that holds bytes."""
        return self.message(number).data

    def integer(self, number: int) -> int:
        """The last value of an unsigned integer field, 0 where it is absent."""
        values = self.all(number)
        found = values[-1] if values else 0
        if isinstance(found, int):
            return found
        if len(found) not in (4, 8):
            raise damaged(self.path, f"field {number} is not a number")
        return int(struct.unpack("<I" if len(found) == 4 else "<Q", found)[0])

    def real(self, number: int) -> float:
        """The last value of a float field, 0 where it is absent."""
        return float(struct.unpack("<f", struct.pack("<I", self.integer(number) & 0xFFFFFFFF))[0])

    def integers(self, number: int) -> list[int]:
        """All values of a field of integers, each on its own or packed into bytes."""
        found: list[int] = []
        for value in self.all(number):
            if isinstance(value, int):
                found.append(value)
                continue
            position = 0
            while position < len(value):
                self.budget.step()
                packed, position = varint(value, position, self.path)
                found.append(packed)
        return found

    def text(self, number: int) -> str:
        """The last value of a field that holds a name."""
        return self.decoded(self.bytes(number))

    def texts(self, number: int) -> list[str]:
        """All values of a field that holds names."""
        return [self.decoded(self._bytes(value)) for value in self.all(number)]

    def decoded(self, value: memoryview) -> str:
        """Bytes as text, if they are no longer than a name may be."""
        if len(value) > MAX_NAME_BYTES:
            raise damaged(self.path, f"a name of {len(value)} bytes")
        return bytes(value).decode("utf-8", "replace")

    def _bytes(self, value: int | memoryview) -> memoryview:
        if isinstance(value, int):
            raise damaged(self.path, "a number stands where bytes are expected")
        return value
