"""A reader of FlatBuffers, every access checked against the end of the buffer.

Only what reading needs: tables, scalars, strings and vectors. Nothing is followed unless the caller asks for
it, so a buffer whose offsets form a cycle costs no more than any other. Format:
https://flatbuffers.dev/internals/
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from npmnv2.weights.bounds import MAX_NAME_BYTES, MAX_TENSORS, Budget, damaged

Scalar = TypeVar("Scalar", int, float, bool)

_FORMATS = {
    "int8": "<b",
    "uint8": "<B",
    "int32": "<i",
    "uint32": "<I",
    "uint64": "<Q",
    "float32": "<f",
    "bool": "<?",
}


@dataclass(frozen=True)
class Buffer:
    """The bytes of one FlatBuffer, and what reading its file may cost."""

    data: bytes
    budget: Budget

    @property
    def path(self) -> Path:
        """The file, for error messages."""
        return self.budget.path

    def number(self, kind: str, position: int) -> int:
        """One little-endian integer at a byte position."""
        return int(self.unpack(_FORMATS[kind], position))

    def unpack(self, form: str, position: int) -> int | float | bool:
        """One value of a struct format at a byte position, or a WeightsError when it lies outside."""
        if not 0 <= position <= len(self.data) - struct.calcsize(form):
            raise damaged(self.path, f"an offset leads outside the {len(self.data)} bytes", position)
        value: int | float | bool = struct.unpack_from(form, self.data, position)[0]
        return value

    def slice(self, start: int, length: int) -> memoryview:
        """`length` bytes from `start`, as a view."""
        if start < 0 or length < 0 or start + length > len(self.data):
            raise damaged(self.path, f"a vector of {length} bytes does not fit into the file", start)
        return memoryview(self.data)[start : start + length]

    def root(self) -> Table:
        """The root table."""
        return Table(self, self.number("uint32", 0))


@dataclass(frozen=True)
class Table:
    """A table at a byte position. A field's slot is its place in the schema."""

    buffer: Buffer
    position: int

    def field(self, slot: int) -> int:
        """Byte position of a field's value, 0 when the field is absent."""
        self.buffer.budget.step()
        vtable = self.position - self.buffer.number("int32", self.position)
        entry = 4 + 2 * slot
        if entry + 2 > self.buffer.unpack("<H", vtable):
            return 0
        offset = int(self.buffer.unpack("<H", vtable + entry))
        return self.position + offset if offset else 0

    def scalar(self, slot: int, kind: str, default: Scalar) -> Scalar:
        """A number of one of the kinds in `_FORMATS`."""
        field = self.field(slot)
        return type(default)(self.buffer.unpack(_FORMATS[kind], field)) if field else default

    def _target(self, field: int) -> int:
        return field + self.buffer.number("uint32", field)

    def table(self, slot: int) -> Table | None:
        """A nested table."""
        field = self.field(slot)
        return Table(self.buffer, self._target(field)) if field else None

    def _vector(self, slot: int, itemsize: int) -> tuple[int, int]:
        """Position of the first item and number of items; the whole vector lies inside the buffer."""
        field = self.field(slot)
        if not field:
            return 0, 0
        target = self._target(field)
        count = self.buffer.number("uint32", target)
        self.buffer.slice(target + 4, count * itemsize)
        return target + 4, count

    def bytes(self, slot: int) -> memoryview:
        """A vector of bytes, not copied."""
        return self.buffer.slice(*self._vector(slot, 1))

    def text(self, slot: int) -> str:
        """A string; names longer than `MAX_NAME_BYTES` are refused."""
        start, length = self._vector(slot, 1)
        if length > MAX_NAME_BYTES:
            raise damaged(self.buffer.path, f"a name of {length} bytes", start)
        return bytes(self.buffer.slice(start, length)).decode("utf-8", "replace")

    def array(self, slot: int, dtype: npt.DTypeLike, limit: int = MAX_TENSORS) -> npt.NDArray[np.generic]:
        """A vector of at most `limit` numbers."""
        itemsize = np.dtype(dtype).itemsize
        start, count = self._vector(slot, itemsize)
        if count > limit:
            raise damaged(self.buffer.path, f"a vector of {count} numbers, at most {limit} make sense here", start)
        self.buffer.budget.step(count)
        return np.frombuffer(self.buffer.slice(start, count * itemsize), dtype=dtype)

    def tables(self, slot: int, limit: int = MAX_TENSORS) -> list[Table]:
        """A vector of at most `limit` tables."""
        start, count = self._vector(slot, 4)
        if count > limit:
            raise damaged(self.buffer.path, f"a vector of {count} tables, at most {limit} make sense here", start)
        self.buffer.budget.step(count)
        return [Table(self.buffer, self._target(start + 4 * index)) for index in range(count)]
