"""TensorFlow's checkpoints (V2, "tensor bundle"): an index in LevelDB's table format, and files of raw
numbers.

`model.ckpt.index` maps names to type, shape, place and checksum; `model.ckpt.data-00000-of-00001` (or
several) holds the numbers. Formats: https://github.com/google/leveldb/blob/main/doc/table_format.md and
https://github.com/tensorflow/tensorflow/blob/master/tensorflow/core/protobuf/tensor_bundle.proto
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import BinaryIO, NamedTuple

from npmnv2.errors import WeightsError
from npmnv2.weights.assemble import Content, assemble, task_of
from npmnv2.weights.bounds import (
    MAX_FILE_BYTES,
    MAX_NAME_BYTES,
    MAX_TENSORS,
    Array,
    Budget,
    array_from_bytes,
    checked_shape,
    damaged,
    read_bytes,
)
from npmnv2.weights.checkpoint import Checkpoint
from npmnv2.weights.readers import checkpoint_prefix

from .crc32c import crc32c, masked
from .fake_quant import are_ranges, ranges_of_variables, with_ranges
from .protobuf import Message, signed, varint
from .variables import content

MAX_INDEX_BYTES = 64 << 20
OBJECT_GRAPH = "_CHECKPOINTABLE_OBJECT_GRAPH"
_MAGIC = 0xDB4775248B80FB57
_FOOTER_BYTES = 48
_TRAILER_BYTES = 5
_STRING = 7
DTYPES = {1: "<f4", 2: "<f8", 3: "<i4", 4: "<u1", 5: "<i2", 6: "<i1", 9: "<i8", 10: "?", 17: "<u2", 19: "<f2"}


# --- LevelDB's table ----------------------------------------------------------------------------------------


class Handle(NamedTuple):
    """Place of a block: offset and size without its trailer."""

    offset: int
    size: int


def table_entries(path: Path) -> Iterator[tuple[bytes, memoryview]]:
    """Every key and value of a table file.

    Blocks have to follow one another without overlap, so that reading all of them reads no byte twice.
    """
    data = memoryview(read_bytes(path, MAX_INDEX_BYTES))
    end, count = 0, 0
    for _, value in _block_entries(path, _block(path, data, _index_handle(path, data))):
        handle, _ = _handle(path, value, 0)
        if handle.offset < end:
            raise damaged(path, "blocks overlap", handle.offset)
        end = handle.offset + handle.size + _TRAILER_BYTES
        for entry in _block_entries(path, _block(path, data, handle)):
            count += 1
            if count > MAX_TENSORS:
                raise damaged(path, f"more than {MAX_TENSORS:,} entries")
            yield entry


def _index_handle(path: Path, data: memoryview) -> Handle:
    if len(data) < _FOOTER_BYTES:
        raise damaged(path, f"{len(data)} bytes are too few for a TensorFlow checkpoint index")
    footer = data[-_FOOTER_BYTES:]
    if struct.unpack("<Q", footer[-8:])[0] != _MAGIC:
        raise damaged(path, "no LevelDB table ends like this", len(data) - 8)
    _, position = _handle(path, footer, 0)
    return _handle(path, footer, position)[0]


def _handle(path: Path, data: memoryview, position: int) -> tuple[Handle, int]:
    offset, position = varint(data, position, path)
    size, position = varint(data, position, path)
    return Handle(offset, size), position


def _block(path: Path, data: memoryview, handle: Handle) -> memoryview:
    """The contents of a block, checksum verified."""
    end = handle.offset + handle.size
    if end + _TRAILER_BYTES > len(data):
        raise damaged(path, f"a block of {handle.size} bytes leads beyond the end", handle.offset)
    contents, kind = data[handle.offset : end], data[end]
    if masked(crc32c(data[handle.offset : end + 1])) != struct.unpack("<I", data[end + 1 : end + 5])[0]:
        raise damaged(path, "the checksum of a block is wrong", handle.offset)
    if kind != 0:
        raise damaged(path, "the index is compressed, which TensorFlow's writer never does", handle.offset)
    return contents


def _block_entries(path: Path, block: memoryview) -> Iterator[tuple[bytes, memoryview]]:
    """Keys and values of a block; a key shares its beginning with the previous one."""
    if len(block) < 4:
        raise damaged(path, "a block without restart points")
    restarts = struct.unpack("<I", block[-4:])[0]
    end = len(block) - 4 * (restarts + 1)
    if end < 0:
        raise damaged(path, f"a block of {len(block)} bytes with {restarts} restart points")
    position, key = 0, b""
    while position < end:
        shared, position = varint(block, position, path)
        own, position = varint(block, position, path)
        length, position = varint(block, position, path)
        if shared > len(key) or shared + own > MAX_NAME_BYTES or position + own + length > end:
            raise damaged(path, "an entry does not fit into its block", position)
        key = key[:shared] + bytes(block[position : position + own])
        yield key, block[position + own : position + own + length]
        position += own + length


# --- the bundle ---------------------------------------------------------------------------------------------


class Entry(NamedTuple):
    """Place, type and shape of a variable."""

    dtype: int
    shape: tuple[int, ...]
    shard: int
    offset: int
    size: int
    crc: int
    sliced: bool


@dataclass
class Bundle:
    """The variables of one checkpoint; a context manager, which closes the data files at the end.

    Attributes
    ----------
    prefix : Path
        What the names of all its files begin with.
    """

    prefix: Path
    _streams: ExitStack = field(default_factory=ExitStack, init=False)
    _open: dict[int, tuple[BinaryIO, int]] = field(default_factory=dict, init=False)

    def __enter__(self) -> Bundle:
        return self

    def __exit__(self, *error: object) -> None:
        self._streams.close()

    @cached_property
    def index(self) -> Path:
        """The index file."""
        return Path(f"{self.prefix}.index")

    @cached_property
    def _budget(self) -> Budget:
        files = (file for file in self.prefix.parent.iterdir() if file.name.startswith(f"{self.prefix.name}."))
        return Budget(self.index, sum(file.stat().st_size for file in files if file.is_file()))

    @cached_property
    def _table(self) -> dict[bytes, memoryview]:
        return dict(table_entries(self.index))

    @cached_property
    def shards(self) -> int:
        """Number of data files, from the header that the index has under the empty name."""
        if b"" not in self._table:
            raise damaged(self.index, "no header")
        header = Message(self._table[b""], self._budget)
        if header.integer(2) != 0:
            raise WeightsError(f"{self.index}: was written on a big-endian machine, which is not read")
        return header.integer(1)

    @cached_property
    def entries(self) -> dict[str, Entry]:
        """All variables by name."""
        return {
            key.decode("utf-8", "replace"): self._entry(Message(value, self._budget), key)
            for key, value in self._table.items()
            # A key that begins with zero is a slice of a partitioned variable, under an encoded name.
            if key and not key.startswith(b"\x00")
        }

    def _entry(self, message: Message, key: bytes) -> Entry:
        shape = tuple(signed(dimension.integer(1)) for dimension in message.message(2).messages(2))
        return Entry(
            dtype=message.integer(1),
            shape=checked_shape(self.index, shape, f"the entry of {key!r}"),
            shard=message.integer(3),
            offset=message.integer(4),
            size=message.integer(5),
            crc=message.integer(6),
            sliced=any(True for _ in message.all(7)),
        )

    def data_file(self, shard: int) -> Path:
        """One of the data files."""
        return Path(f"{self.prefix}.data-{shard:05d}-of-{self.shards:05d}")

    def _read(self, name: str) -> bytes:
        entry = self.entries[name]
        if entry.sliced:
            raise WeightsError(f"{self.index}: variable {name!r} is stored in partitions, which are not read")
        if entry.shard >= self.shards:
            raise damaged(self.index, f"shard {entry.shard} of {self.shards}", f"the entry of {name!r}")
        path = self.data_file(entry.shard)
        stream, size = self._stream(entry.shard)
        if entry.offset + entry.size > size:
            raise damaged(path, f"{name!r} ends at byte {entry.offset + entry.size} of {size}", entry.offset)
        if entry.size > MAX_FILE_BYTES:
            raise WeightsError(f"{self.index}: {name!r} has more than the {MAX_FILE_BYTES:,} bytes that are read")
        self._budget.take(entry.size)
        stream.seek(entry.offset)
        return stream.read(entry.size)

    def _stream(self, shard: int) -> tuple[BinaryIO, int]:
        """An open data file and its size; closed with the bundle."""
        if shard not in self._open:
            path = self.data_file(shard)
            if not path.is_file():
                raise WeightsError(f"{path}: is missing; a checkpoint is all of its files, not only the index")
            self._open[shard] = self._streams.enter_context(path.open("rb")), path.stat().st_size
        return self._open[shard]

    def value(self, name: str) -> Array:
        """The value of a variable, its checksum verified."""
        entry = self.entries[name]
        if entry.dtype not in DTYPES:
            raise WeightsError(
                f"{self.index}: variable {name!r} has TensorFlow's type {entry.dtype}, which is not read"
            )
        data = self._read(name)
        if masked(crc32c(data)) != entry.crc:
            raise damaged(self.data_file(entry.shard), f"the checksum of {name!r} is wrong", entry.offset)
        return array_from_bytes(self.index, data, DTYPES[entry.dtype], entry.shape, f"variable {name!r}")

    def text(self, name: str) -> bytes:
        """The value of a scalar string variable."""
        entry = self.entries[name]
        if entry.dtype != _STRING or entry.shape != ():
            raise damaged(self.index, "not a scalar string", f"the entry of {name!r}")
        data = memoryview(self._read(name))
        length, position = varint(data, 0, self.index)
        lengths = struct.pack("<I" if length < 1 << 32 else "<Q", length)
        body = data[position + 4 :]
        if masked(crc32c(lengths + bytes(data[position:]))) != entry.crc or len(body) != length:
            path = self.data_file(entry.shard)
            raise damaged(path, f"the checksum or the length of {name!r} is wrong", entry.offset)
        return bytes(body)

    @cached_property
    def names(self) -> dict[str, str]:
        """Variable's name → key of its entry.

        The two are the same in TensorFlow 1. TensorFlow 2 stores variables under their path through Python's
        objects and keeps their names in a graph of these objects.
        """
        if OBJECT_GRAPH not in self.entries:
            return {name: name for name in self.entries}
        return dict(self._object_graph_names())

    def _object_graph_names(self) -> Iterator[tuple[str, str]]:
        graph = Message(memoryview(self.text(OBJECT_GRAPH)), self._budget)
        for node in graph.messages(1):
            for attribute in node.messages(2):
                full_name, key = attribute.text(2), attribute.text(3)
                if key in self.entries and ".OPTIMIZER_SLOT" not in key:
                    yield full_name or key, key


def read(path: str | Path) -> Checkpoint:
    """Read a TensorFlow checkpoint of TF-slim, DeepLab, the Object Detection API or Keras.

    Parameters
    ----------
    path : str or Path
        The prefix (``model.ckpt``), one of its files, or a folder that holds nothing but one checkpoint.

    Returns
    -------
    Checkpoint
        Of exponential moving averages where the checkpoint has them (``source["ema"]``).

    Raises
    ------
    FileNotFoundError
    WeightsError
    """
    prefix = checkpoint_prefix(Path(path))
    if prefix is None:
        raise FileNotFoundError(f"{path}: no checkpoint there (a file that ends in .index)")
    with Bundle(prefix) as bundle:
        return read_bundle(bundle, "tf-checkpoint")


def read_bundle(bundle: Bundle, file_format: str) -> Checkpoint:
    """Read the variables of a bundle."""
    shapes = {name: bundle.entries[key].shape for name, key in bundle.names.items()}

    def value_of(name: str) -> Array:
        return bundle.value(bundle.names[name])

    found = content(bundle.index, shapes, value_of)
    if task_of(found.weights) == "detection":
        found = _described(bundle.index, found)
    checkpoint = assemble(bundle.index, file_format, found)
    if not are_ranges(shapes):
        return checkpoint
    return with_ranges(checkpoint, ranges_of_variables(shapes, value_of), str(bundle.index))


def _described(index: Path, content: Content) -> Content:
    """A detector's weights, and what the files beside them say of their use; what the graph shows counts most."""
    from .graph_def import settings_beside
    from .pipeline_config import PIPELINE_FILE, with_pipeline

    pipeline, graph = index.with_name(PIPELINE_FILE), index.with_suffix(".meta")
    if pipeline.is_file():
        content = with_pipeline(pipeline, content)
    return settings_beside(graph, content) if graph.is_file() else content
