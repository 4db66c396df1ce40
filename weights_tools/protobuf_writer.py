"""A writer of protocol buffers' wire format. Format: https://protobuf.dev/programming-guides/encoding/"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from typing import Any

_VARINT, _BYTES, _FIXED32 = 0, 2, 5


def message(fields: Mapping[int, Any]) -> bytes:
    """The bytes of a message, from its fields by number.

    A field is an integer, a float32, a text, bytes, a message as another mapping, or a list of any of these. None is
    left out.
    """
    return b"".join(_field(number, value) for number, value in fields.items() if value is not None)


def _field(number: int, value: Any) -> bytes:
    if isinstance(value, (list, tuple)):
        return b"".join(_field(number, item) for item in value)
    if isinstance(value, float):
        return _varint(number << 3 | _FIXED32) + struct.pack("<f", value)
    if isinstance(value, int):
        return _varint(number << 3 | _VARINT) + _varint(value)
    if isinstance(value, Mapping):
        value = message(value)
    data = value.encode() if isinstance(value, str) else value
    return _varint(number << 3 | _BYTES) + _varint(len(data)) + data


def _varint(value: int) -> bytes:
    """Seven bits a byte, the lowest first; a negative number as 64 bits in two's complement."""
    value &= (1 << 64) - 1
    found = bytearray()
    while value >= 0x80:
        found.append(value & 0x7F | 0x80)
        value >>= 7
    found.append(value)
    return bytes(found)
