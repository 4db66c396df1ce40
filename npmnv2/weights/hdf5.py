"""A reader of HDF5 in Python: groups, arrays of numbers, and text attributes, as Keras's `.h5` files have them.

The HDF5 library overruns its memory on some damaged files, which a program that opens other people's weights cannot
have. So files are written with h5py and read with this: every offset is checked, nothing is visited twice, and no array
is larger than the bytes that hold it. It reads the layout that h5py writes unless told otherwise (superblock 0 or 1,
symbol tables, contiguous arrays). Files of other layouts (chunks, compression, newer superblocks, a user block) are
first rewritten in this one by the library, in a child process: `npmnv2.weights.repack`.

Format: https://support.hdfgroup.org/documentation/hdf5/latest/_f_m_t11.html
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from npmnv2.errors import WeightsError
from npmnv2.weights.bounds import MAX_NAME_BYTES, Budget, checked_shape, read_buffer
from npmnv2.weights.repack import repack

SIGNATURE = b"\x89HDF\r\n\x1a\n"
# Where the signature may stand: after a user block, such as MATLAB's of 512 bytes.
USER_BLOCKS = (0, 512, 1024, 2048, 4096)

_MAX_DEPTH = 32
_UNDEFINED = (1 << 64) - 1

# Types of the messages that an object's header is made of.
_DATASPACE, _NEW_LINKS, _DATATYPE, _EXTERNAL, _LAYOUT, _FILTERS, _ATTRIBUTE, _CONTINUATION, _SYMBOL_TABLE = (
    0x01, 0x02, 0x03, 0x07, 0x08, 0x0B, 0x0C, 0x10, 0x11,
)  # fmt: skip
_SHARED = 0x02

# Numbers that lie side by side.
_BYTES = struct.Struct("<BB")
_PAIR = struct.Struct("<QQ")
_HEADER = struct.Struct("<BxH4xI")  # of an object: version, number of messages, bytes of the first block
_MESSAGE = struct.Struct("<HHB")  # its type, size and flags
_ENTRY = struct.Struct("<QQI")  # of a group: where its name is, the object's address, and of what kind it is

_INTEGER, _FLOAT, _STRING, _VARIABLE_LENGTH = 0, 1, 3, 9
# Position and size of the exponent, then of the mantissa: what tells the IEEE types from all others.
_FLOATS = {b"\x0a\x05\x00\x0a": "<f2", b"\x17\x08\x00\x17": "<f4", b"\x34\x0b\x00\x34": "<f8"}
# Size and sign of the integers that quantized networks have.
_INTEGERS = {(1, False): "u1", (1, True): "i1", (4, True): "<i4"}


class UnsupportedLayoutError(WeightsError):
    """An HDF5 file with parts that this reader does not read, but the HDF5 library may."""


class Array(NamedTuple):
    """One array of a file: where it is in the tree of groups, what it looks like, and its bytes.

    `dtype` is None for anything but floats and the integers of quantized networks.
    """

    path: str
    shape: tuple[int, ...]
    dtype: str | None
    data: memoryview

    def values(self) -> NDArray[Any]:
        """The numbers, as a view of the file's bytes in memory."""
        return np.frombuffer(self.data, self.dtype).reshape(self.shape)


class Message(NamedTuple):
    """One message of an object's header."""

    kind: int
    flags: int
    at: int
    size: int


@dataclass
class File:
    """An HDF5 file.

    Attributes
    ----------
    path : Path
    """

    path: Path
    _data: memoryview = field(repr=False)
    _objects: dict[str, list[Message]] = field(default_factory=dict, init=False, repr=False)

    @classmethod
    def open(cls, path: Path) -> File:
        """Read a file of any layout; the library rewrites it first where this reader does not know the layout.

        Raises
        ------
        WeightsError
            If the file is damaged, or neither this reader nor the library reads it.
        """
        file = cls(path, read_buffer(path))
        try:
            file.arrays()
        except UnsupportedLayoutError as unsupported:
            try:
                file = cls(path, memoryview(bytearray(repack(path, file._budget.bytes_left))))
            except ValueError as error:
                raise WeightsError(f"{unsupported}; the HDF5 library says: {error}") from None
        return file

    @cached_property
    def _budget(self) -> Budget:
        return Budget(self.path, len(self._data))

    # --- bytes --------------------------------------------------------------------------------------------------------

    def _wrong(self, what: str, at: int) -> WeightsError:
        return WeightsError(f"{self.path} is not a readable HDF5 file (truncated or damaged?): {what} at byte {at}")

    def _unsupported(self, what: str) -> UnsupportedLayoutError:
        return UnsupportedLayoutError(
            f"{self.path} holds {what}, which is not read; write it again with Keras, or with h5py's default settings"
        )

    def _bytes(self, at: int, size: int) -> memoryview:
        if at < 0 or size < 0 or at + size > len(self._data):
            raise self._wrong(f"{size} bytes are not there", at)
        return self._data[at : at + size]

    def _number(self, at: int, size: int = 8) -> int:
        if at < 0 or at + size > len(self._data):
            raise self._wrong(f"{size} bytes are not there", at)
        return int.from_bytes(self._data[at : at + size], "little")

    def _fields(self, layout: struct.Struct, at: int) -> tuple[Any, ...]:
        """Numbers that lie side by side: one check for all, since a file has thousands."""
        if at < 0 or at + layout.size > len(self._data):
            raise self._wrong(f"{layout.size} bytes are not there", at)
        return layout.unpack_from(self._data, at)

    def _expect(self, at: int, signature: bytes) -> None:
        if bytes(self._bytes(at, len(signature))) != signature:
            raise self._wrong(f"{signature.decode()} is missing", at)

    def _name(self, at: int) -> str:
        text = bytes(self._data[at : at + MAX_NAME_BYTES])
        end = text.find(b"\0")
        if end < 0:
            raise self._wrong("a name does not end", at)
        return text[:end].decode("utf-8", "replace")

    # --- groups -------------------------------------------------------------------------------------------------------

    def arrays(self) -> list[Array]:
        """All arrays in alphabetical order of their paths. An array with several names comes once.

        Raises
        ------
        WeightsError
            If the file is damaged or uses parts of HDF5 that are not read.
        """
        return self._arrays

    @cached_property
    def _arrays(self) -> list[Array]:
        found: list[Array] = []
        visited: set[int] = set()
        waiting = [("", self._root())]
        total = 0
        while waiting:
            path, address = waiting.pop()
            if address in visited:
                continue
            visited.add(address)
            if path.count("/") > _MAX_DEPTH:
                raise self._wrong(f"groups are nested deeper than {_MAX_DEPTH}", address)
            self._budget.take(len(path))
            messages = self._objects[path] = self._header(address)
            table = _first(messages, _SYMBOL_TABLE)
            if table is not None:
                links = list(self._links(table, visited))
                waiting += [(f"{path}/{name}".lstrip("/"), target) for name, target in reversed(links)]
            elif _first(messages, _LAYOUT) is not None:
                found.append(self._array(path, messages))
                total += len(found[-1].data)
                if total > len(self._data):
                    raise self._wrong("arrays overlap", address)
        return found

    def _root(self) -> int:
        """Address of the root group's header."""
        if bytes(self._data[:8]) != SIGNATURE:
            if any(bytes(self._data[at : at + 8]) == SIGNATURE for at in USER_BLOCKS):
                raise self._unsupported("a user block")
            raise self._wrong("the HDF5 signature is missing", 0)
        version = self._number(8, 1)
        if version not in (0, 1):
            raise self._unsupported(f"HDF5's newer file layout (superblock {version})")
        if (self._number(13, 1), self._number(14, 1)) != (8, 8):
            raise self._wrong("offsets must have 8 bytes", 13)
        start = 24 if version == 0 else 28
        if self._number(start) != 0:
            raise self._unsupported("a base address")
        return self._number(start + 40)

    def _header(self, address: int) -> list[Message]:
        """The messages of an object's header, which may continue elsewhere."""
        if bytes(self._bytes(address, 4)) == b"OHDR":
            raise self._unsupported("HDF5's newer object headers")
        version, count, first_size = self._fields(_HEADER, address)
        if version != 1:
            raise self._wrong("no object header", address)
        blocks = [(address + 16, first_size)]
        messages: list[Message] = []
        # Each block begins with a message, so there are no more blocks than messages.
        for at, size in blocks:
            end = at + size
            while at + 8 <= end and len(messages) < count:
                self._budget.step()
                kind, length, flags = self._fields(_MESSAGE, at)
                messages.append(Message(kind, flags, at + 8, length))
                if kind == _CONTINUATION:
                    blocks.append(self._fields(_PAIR, at + 8))
                elif kind == _NEW_LINKS:
                    raise self._unsupported("HDF5's newer groups")
                at += 8 + length
                if at > len(self._data):
                    raise self._wrong(f"{length} bytes are not there", at - length)
        return messages

    def _links(self, table: Message, visited: set[int]) -> Iterator[tuple[str, int]]:
        """Name and header address of everything in a group, in the alphabet's order."""
        tree, heap = self._number(table.at), self._number(table.at + 8)
        self._expect(heap, b"HEAP")
        names = self._number(heap + 24)
        for leaf in self._leaves(tree, visited):
            self._expect(leaf, b"SNOD")
            for entry in range(leaf + 8, leaf + 8 + 40 * self._number(leaf + 6, 2), 40):
                self._budget.step()
                name, address, kind = self._fields(_ENTRY, entry)
                if kind == 2:
                    raise self._unsupported("symbolic links")
                yield self._name(names + name), address

    def _leaves(self, tree: int, visited: set[int]) -> Iterator[int]:
        """Addresses of the leaves of a group's B-tree."""
        waiting = [tree]
        while waiting:
            node = waiting.pop()
            if node in visited:
                raise self._wrong("a tree has a node twice", node)
            visited.add(node)
            self._expect(node, b"TREE\0")
            level, used = self._number(node + 5, 1), self._number(node + 6, 2)
            self._budget.step(used)
            # Keys and children alternate, with a key at either end.
            children = [self._number(node + 32 + 16 * index) for index in range(used)]
            if level == 0:
                yield from children
            else:
                waiting += reversed(children)

    # --- arrays -------------------------------------------------------------------------------------------------------

    def _array(self, path: str, messages: list[Message]) -> Array:
        layout, space, kind = (_first(messages, wanted) for wanted in (_LAYOUT, _DATASPACE, _DATATYPE))
        if layout is None or space is None or kind is None:
            raise self._wrong(f"array {path!r} lacks a part of its description", messages[0].at)
        if _first(messages, _EXTERNAL) is not None:
            raise WeightsError(f"{self.path}: {path} points to another file, which is not followed")
        if _first(messages, _FILTERS) is not None:
            raise self._unsupported(f"an array ({path}) that is compressed")
        if (space.flags | kind.flags) & _SHARED:
            raise self._unsupported(f"an array ({path}) of a shared type")
        shape = checked_shape(self.path, self._shape(space.at), f"array {path!r}")
        dtype, itemsize = self._numbers(kind.at)
        size = itemsize
        for length in shape:
            size *= length
        return Array(path, shape, dtype, self._contiguous(path, layout, size))

    def _contiguous(self, path: str, layout: Message, size: int) -> memoryview:
        version, kind = self._fields(_BYTES, layout.at)
        if version != 3 or kind > 1:
            raise self._unsupported(f"an array ({path}) in chunks or pieces")
        if kind == 0:
            at, held = layout.at + 4, self._number(layout.at + 2, 2)
        else:
            at, held = self._fields(_PAIR, layout.at + 2)
        if size == 0:
            return memoryview(b"")
        if at == _UNDEFINED or held != size:
            raise self._wrong(
                f"array {path!r} must have {size} bytes, got {0 if at == _UNDEFINED else held}", layout.at
            )
        return self._bytes(at, size)

    def _shape(self, at: int) -> tuple[int, ...]:
        version, rank = self._fields(_BYTES, at)
        if version not in (1, 2) or rank > 32:
            raise self._wrong("no dataspace", at)
        start = at + (8 if version == 1 else 4)
        return tuple(self._number(start + 8 * axis) for axis in range(rank))

    def _numbers(self, at: int) -> tuple[str | None, int]:
        """NumPy's name of a little-endian type of numbers, None for other types, and its size."""
        kind, size = self._number(at, 1) & 0x0F, self._number(at + 4, 4)
        if kind == _INTEGER:
            whole = (self._number(at + 8, 2), self._number(at + 10, 2)) == (0, 8 * size)
            flags = self._number(at + 1, 1)
            return (_INTEGERS.get((size, bool(flags & 0x08))) if whole and not flags & 0x01 else None), size
        if kind != _FLOAT:
            return None, size
        dtype = _FLOATS.get(bytes(self._bytes(at + 12, 4)))
        if dtype is None or self._number(at + 1, 1) & 0x41 or size != np.dtype(dtype).itemsize:
            return None, size
        return dtype, size

    # --- attributes ---------------------------------------------------------------------------------------------------

    def text(self, path: str, name: str) -> str | None:
        """A text attribute of an object that `arrays` has met ('' is the root); None where there is none."""
        for message in self._objects.get(path, []):
            if message.kind == _ATTRIBUTE:
                found = self._attribute(message, name)
                if found is not None:
                    return found.rstrip(b"\0").decode("utf-8", "replace")
        return None

    def _attribute(self, message: Message, name: str) -> bytes | None:
        """The text of an attribute if it has this name and is one text."""
        at = message.at
        version = self._number(at, 1)
        sizes = [self._number(at + 2 + 2 * part, 2) for part in range(3)]
        # Version 1 pads each part to a multiple of 8 bytes; version 3 has one more byte in front.
        lengths = [-(-size // 8) * 8 if version == 1 else size for size in sizes]
        start = at + (9 if version == 3 else 8)
        if version not in (1, 2, 3) or bytes(self._bytes(start, sizes[0])).rstrip(b"\0") != name.encode():
            return None
        kind = start + lengths[0]
        space = kind + lengths[1]
        value = space + lengths[2]
        if any(length != 1 for length in self._shape(space)):
            return None
        if self._number(kind, 1) & 0x0F == _STRING:
            return bytes(self._bytes(value, self._number(kind + 4, 4)))
        if self._number(kind, 1) & 0x0F == _VARIABLE_LENGTH:
            return self._from_heap(value)
        return None

    def _from_heap(self, at: int) -> bytes:
        """A value of variable length, from the global heap."""
        length, collection, wanted = self._number(at, 4), self._number(at + 4), self._number(at + 12, 4)
        self._expect(collection, b"GCOL")
        end = collection + self._number(collection + 8)
        at = collection + 16
        while at + 16 <= end:
            self._budget.step()
            index, size = self._number(at, 2), self._number(at + 8)
            if index == wanted:
                return bytes(self._bytes(at + 16, min(length, size)))
            if index == 0:
                break
            at += 16 + -(-size // 8) * 8
        raise self._wrong(f"heap object {wanted} is missing", collection)


def _first(messages: list[Message], kind: int) -> Message | None:
    return next((message for message in messages if message.kind == kind), None)
