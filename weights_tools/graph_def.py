"""Frozen graphs: a TensorFlow GraphDef (`.pb`) whose variables became constants (see `graph`). Schema:
https://github.com/tensorflow/tensorflow/blob/master/tensorflow/core/framework/graph.proto
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np

from npmnv2.errors import WeightsError
from npmnv2.weights.assemble import Content
from npmnv2.weights.bounds import Array, Budget, array_from_bytes, checked_shape, damaged, read_bytes
from npmnv2.weights.checkpoint import Checkpoint

from .graph import Attributes, Graph, Operation, read_graph, with_settings
from .protobuf import Message, signed
from .tf_checkpoint import DTYPES

# Where a tensor states integers of each type.
_INTEGER_FIELDS = {"<i4": 7, "<i2": 7, "<i1": 7, "<u1": 7, "<i8": 10}


@dataclass(frozen=True)
class _Attributes(Attributes):
    """The attributes that a node's message holds."""

    message: Message

    @cached_property
    def _values(self) -> dict[str, Message]:
        return {entry.text(1): entry.message(2) for entry in self.message.messages(5)}

    def value(self, key: str) -> Message:
        """The message of one attribute; an empty one where it is absent."""
        return self._values.get(key, Message(memoryview(b""), self.message.budget))

    def integers(self, key: str) -> list[int]:
        return self.value(key).message(1).integers(3)

    def texts(self, key: str) -> list[str]:
        return self.value(key).message(1).texts(2)

    def dimensions(self, key: str) -> list[int]:
        return [signed(dimension.integer(1)) for dimension in self.value(key).message(7).messages(2)]

    def real(self, key: str) -> float:
        return self.value(key).real(4)

    def flag(self, key: str) -> bool:
        return bool(self.value(key).integer(5))


@dataclass
class GraphDef(Graph):
    """The operations of a GraphDef.

    Attributes
    ----------
    path : Path
    data : bytes
    """

    data: bytes = field(repr=False, kw_only=True)

    @cached_property
    def budget(self) -> Budget:
        """What reading the graph may cost."""
        return Budget(self.path, len(self.data))

    def all_operations(self) -> Iterator[Operation]:
        """All operations in the file's order."""
        return map(_operation, Message(memoryview(self.data), self.budget).messages(1))

    def tensor(self, operation: Operation) -> Array:
        """The value of a constant."""
        assert isinstance(operation.attributes, _Attributes)
        tensor = operation.attributes.value("value").message(8)
        place = f"constant {operation.name!r}"
        dtype = DTYPES.get(tensor.integer(1))
        if dtype is None:
            raise WeightsError(f"{self.path}: {place} has TensorFlow's type {tensor.integer(1)}, which is not read")
        shape = tuple(signed(dimension.integer(1)) for dimension in tensor.message(2).messages(2))
        size = int(np.prod(checked_shape(self.path, shape, place), dtype=object)) * np.dtype(dtype).itemsize
        # A graph may state a constant as one number that is repeated.
        self.budget.take(size)
        content = tensor.bytes(4)
        if len(content):
            return array_from_bytes(self.path, content, dtype, shape, place)
        numbers = self._numbers(tensor, dtype, place)
        # Equal numbers at the end are stated once; none at all are zeros.
        count = int(np.prod(shape, dtype=np.int64))
        if len(numbers) > count:
            raise damaged(self.path, f"{len(numbers)} numbers for shape {shape}", place)
        value = np.full(count, numbers[-1] if len(numbers) else 0, np.dtype(dtype).newbyteorder("="))
        value[: len(numbers)] = numbers
        return value.reshape(shape)

    def _numbers(self, tensor: Message, dtype: str, place: str) -> Array:
        """The numbers that a constant states one by one or packed."""
        if dtype == "<f4":
            return np.frombuffer(b"".join(self._floats(tensor, place)), "<f4")
        if dtype not in _INTEGER_FIELDS:
            raise damaged(self.path, f"numbers of type {np.dtype(dtype).name} one by one", place)
        bits = np.iinfo(dtype).bits
        # A negative number is stated in 64 bits.
        numbers = np.array([signed(number) for number in tensor.integers(_INTEGER_FIELDS[dtype])], np.int64)
        if len(numbers) and max(abs(int(numbers.min())), abs(int(numbers.max()))) >> bits:
            raise damaged(self.path, f"numbers beyond {bits} bits", place)
        return numbers.astype(dtype)

    def _floats(self, tensor: Message, place: str) -> Iterator[memoryview]:
        """The bytes of real numbers."""
        for value in tensor.all(5):
            if isinstance(value, int) or len(value) % 4:
                raise damaged(self.path, "no numbers that are understood", place)
            yield value


def _operation(message: Message) -> Operation:
    inputs = (name.partition(":")[0] for name in message.texts(3) if not name.startswith("^"))
    return Operation(message.text(1), message.text(2), tuple(inputs), _Attributes(message))


def meta_graph(path: Path, data: memoryview, budget: Budget) -> GraphDef:
    """The graph in a MetaGraphDef, which TensorFlow writes beside a checkpoint and into a SavedModel."""
    return GraphDef(path, data=bytes(Message(data, budget).bytes(2)))


def settings_beside(path: Path, content: Content) -> Content:
    """A detector's weights, and what the graph beside its checkpoint (``.meta``) says of their use."""
    data = read_bytes(path)
    return with_settings(meta_graph(path, memoryview(data), Budget(path, len(data))), content)


def read(path: str | Path) -> Checkpoint:
    """Read a frozen graph of TF-slim, DeepLab, the Object Detection API or Keras.

    Parameters
    ----------
    path : str or Path
        A ``.pb`` file with a GraphDef.

    Returns
    -------
    Checkpoint
        Batch norms as they are in the graph: unfolded, or folded into kernels and biases.

    Raises
    ------
    WeightsError
    """
    path = Path(path)
    return read_graph(GraphDef(path, data=read_bytes(path)), "graph-def")
