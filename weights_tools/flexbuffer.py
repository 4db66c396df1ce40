"""A reader of FlexBuffers' maps of numbers, in which TFLite keeps the options of custom operators.

Such a buffer is read from its end: the last byte is the width of the root, the one before it its type. Offsets point
backwards. A map is a vector of values, each with a type, and before it the way to a vector of its sorted keys. Format:
https://github.com/google/flatbuffers/blob/master/include/flatbuffers/flexbuffers.h
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass

from npmnv2.weights.bounds import MAX_NAME_BYTES, Budget, damaged

_MAP = 9
# Numbers that stand in the vector itself, and those that it points to.
_INLINE = {1: "bhiq", 2: "BHIQ", 3: " efd", 26: "BHIQ"}
_INDIRECT = {6: "bhiq", 7: "BHIQ", 8: " efd"}
_MAX_OPTIONS = 1000


@dataclass(frozen=True)
class _Buffer:
    data: memoryview
    budget: Budget

    def unpack(self, form: str, position: int, width: int) -> float:
        """A number of `width` bytes, by the letters that `struct` has for widths 1, 2, 4 and 8."""
        self.budget.step()
        letter = form[(1, 2, 4, 8).index(width)]
        if letter == " " or not 0 <= position <= len(self.data) - width:
            raise damaged(self.budget.path, "a number that lies outside", "the options of a custom operator")
        number: float = struct.unpack_from(f"<{letter}", self.data, position)[0]
        return number

    def unsigned(self, position: int, width: int) -> int:
        return int(self.unpack("BHIQ", position, width))

    def target(self, position: int, width: int) -> int:
        """Where an offset leads."""
        return position - self.unsigned(position, width)

    def key(self, position: int) -> str:
        """A text that ends with a zero."""
        piece = bytes(self.data[max(position, 0) : max(position, 0) + MAX_NAME_BYTES])
        self.budget.step(len(piece) // 64)
        return piece.partition(b"\0")[0].decode("utf-8", "replace")


def numbers(data: memoryview, budget: Budget) -> dict[str, float]:
    """The entries of a map that are numbers; booleans are 0 and 1.

    Raises
    ------
    WeightsError
        If the buffer is no map, or is damaged.
    """
    buffer = _Buffer(data, budget)
    width, kind = buffer.unsigned(len(data) - 1, 1), buffer.unsigned(len(data) - 2, 1)
    if kind >> 2 != _MAP or width not in (1, 2, 4, 8):
        raise damaged(budget.path, "no map", "the options of a custom operator")
    return dict(_entries(buffer, buffer.target(len(data) - 2 - width, width), 1 << (kind & 3)))


def _entries(buffer: _Buffer, values: int, width: int) -> Iterator[tuple[str, float]]:
    size = buffer.unsigned(values - width, width)
    key_width = buffer.unsigned(values - 2 * width, width)
    if size > _MAX_OPTIONS or key_width not in (1, 2, 4, 8):
        raise damaged(buffer.budget.path, f"{size} options", "the options of a custom operator")
    keys = buffer.target(values - 3 * width, width)
    for index in range(size):
        kind = buffer.unsigned(values + size * width + index, 1)
        position = values + index * width
        name = buffer.key(buffer.target(keys + index * key_width, key_width))
        if kind >> 2 in _INLINE:
            yield name, buffer.unpack(_INLINE[kind >> 2], position, width)
        elif kind >> 2 in _INDIRECT:
            yield name, buffer.unpack(_INDIRECT[kind >> 2], buffer.target(position, width), 1 << (kind & 3))
