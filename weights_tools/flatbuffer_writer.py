"""A writer of FlatBuffers: tables of scalars, texts, vectors and tables, each aligned as the format asks.

Everything is written after what refers to it, since references lead forward. Format: https://flatbuffers.dev/internals/
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

# Buffers are mapped into memory and used in place, by vectors.
_VECTOR_ALIGNMENT = 16


@dataclass(frozen=True)
class Scalar:
    """A number inside a table, by its struct format."""

    form: str
    value: float


@dataclass(frozen=True)
class Table:
    """A table: what is in each slot, the position of a field in the schema. None is left out."""

    slots: Mapping[int, Any]


@dataclass
class _Writer:
    out: bytearray = field(default_factory=bytearray)

    def align(self, size: int, ahead: int = 0) -> None:
        """Fill up so that what comes `ahead` bytes later is aligned."""
        self.out += bytes(-(len(self.out) + ahead) % size)

    def refer(self, place: int, value: Any) -> None:
        """Write a value and, at a place before it, how far away it is."""
        target = self.write(value)
        struct.pack_into("<I", self.out, place, target - place)

    def write(self, value: Any) -> int:
        """Write anything but a scalar and return where it begins."""
        if isinstance(value, Table):
            return self.table(value)
        if isinstance(value, str):
            return self.vector(value.encode() + b"\0", len(value.encode()), 1)
        if isinstance(value, np.ndarray):
            data = np.ascontiguousarray(value, value.dtype.newbyteorder("<")).tobytes()
            return self.vector(data, value.size, _VECTOR_ALIGNMENT)
        return self.references(value)

    def vector(self, data: bytes, count: int, alignment: int) -> int:
        """A length and the items, the first of which is aligned."""
        self.align(max(4, alignment), ahead=4)
        start = len(self.out)
        self.out += struct.pack("<I", count) + data
        return start

    def references(self, values: Sequence[Any]) -> int:
        """A vector of tables or texts."""
        start = self.vector(bytes(4 * len(values)), len(values), 4)
        for at, value in enumerate(values):
            self.refer(start + 4 + 4 * at, value)
        return start

    def table(self, table: Table) -> int:
        """Its list of offsets, the table itself, and then what it refers to."""
        slots = {slot: value for slot, value in sorted(table.slots.items()) if value is not None}
        size, offsets = 4, [0] * (max(slots, default=-1) + 1)
        for slot, value in slots.items():
            width = struct.calcsize(value.form) if isinstance(value, Scalar) else 4
            size += -size % width
            offsets[slot] = size
            size += width
        self.align(2)
        vtable = len(self.out)
        self.out += struct.pack(f"<HH{len(offsets)}H", 4 + 2 * len(offsets), size, *offsets)
        self.align(8)
        start = len(self.out)
        self.out += struct.pack("<i", start - vtable) + bytes(size - 4)
        for slot, value in slots.items():
            if isinstance(value, Scalar):
                struct.pack_into(value.form, self.out, start + offsets[slot], value.value)
            else:
                self.refer(start + offsets[slot], value)
        return start


def flatbuffer(root: Table, identifier: bytes) -> bytes:
    """The bytes of a buffer with this root table and identifier of four bytes."""
    writer = _Writer(bytearray(bytes(4) + identifier))
    writer.refer(0, root)
    return bytes(writer.out)
