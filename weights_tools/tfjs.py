"""TensorFlow.js models: ``model.json``, which holds a graph or a Keras model, and the files of weights beside it.

The manifest in ``model.json`` lists groups of files ("shards"), whose bytes follow one another, and the weights that
lie there. Weights may be quantized: as 8 or 16 bits with scale and minimum, or as float16. Graphs, whose notation is
protocol buffers' JSON, are read as frozen graphs are (`graph`); batch norms are folded in part: into the kernels of
full convolutions, but not of depthwise ones. Formats:
https://github.com/tensorflow/tfjs/blob/master/tfjs-core/src/io/types.ts
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from npmnv2.errors import WeightsError
from npmnv2.weights.bounds import (
    MAX_FILE_BYTES,
    MAX_JSON_BYTES,
    MAX_NAME_BYTES,
    MAX_TENSORS,
    Array,
    Budget,
    array_from_bytes,
    checked_shape,
    damaged,
    file_size,
    read_bytes,
)
from npmnv2.weights.checkpoint import Checkpoint
from npmnv2.weights.keras import canonical_from_path, checkpoint_from_keras

from .graph import Attributes, Graph, Operation, read_graph

MODEL_FILE = "model.json"
_DTYPES = {"float32": "<f4", "int32": "<i4", "bool": "?", "uint8": "<u1", "uint16": "<u2", "float16": "<f2"}
_KINDS: dict[str, type | tuple[type, ...]] = {"object": dict, "list": list, "text": str, "number": (int, float)}


@dataclass(frozen=True)
class Entry:
    """One object of the JSON text, whose values are checked as they are asked for.

    Attributes
    ----------
    path : Path
    place : str
        What messages call it.
    values : dict
    """

    path: Path
    place: str
    values: dict[str, Any]

    def get(self, key: str, kind: str, default: Any = None) -> Any:
        """A value of a kind ("object", "list", "text" or "number"); an error without a default if it is absent."""
        value = self.values.get(key, default)
        if not isinstance(value, _KINDS[kind]) or isinstance(value, bool):
            raise damaged(self.path, f"{key!r} must be a JSON {kind}, got {value!r:.60}", self.place)
        return value

    def name(self, key: str) -> str:
        """A text that is no longer than a name may be."""
        value: str = self.get(key, "text")
        if len(value) > MAX_NAME_BYTES:
            raise damaged(self.path, f"a name of {len(value)} characters", self.place)
        return value

    def entry(self, key: str, place: str, default: Any = None) -> Entry:
        """An object inside."""
        return Entry(self.path, place, self.get(key, "object", default))

    def entries(self, key: str, place: str) -> Iterator[Entry]:
        """The objects of a list inside, which messages number."""
        for number, values in enumerate(self.get(key, "list")):
            if not isinstance(values, dict):
                raise damaged(self.path, f"must be a JSON object, got {values!r:.60}", f"{place} {number}")
            yield Entry(self.path, f"{place} {number}", values)

    def integers(self, key: str) -> list[int]:
        """A list of integers, which protocol buffers' JSON writes as text."""
        return [_integer(self, value) for value in self.get(key, "list", [])]


def _integer(entry: Entry, value: Any) -> int:
    text = isinstance(value, str) and len(value) < 20
    if isinstance(value, bool) or not (isinstance(value, int) or text):
        raise damaged(entry.path, f"{value!r:.60} must be an integer", entry.place)
    try:
        return int(value)
    except ValueError:
        raise damaged(entry.path, f"{value!r} must be an integer", entry.place) from None


@dataclass(frozen=True)
class Model:
    """A ``model.json`` and the files beside it.

    Attributes
    ----------
    root : Entry
    size : int
        Bytes of the JSON text.
    """

    root: Entry
    size: int

    @classmethod
    def open(cls, path: Path) -> Model:
        """Read the JSON text; the weights are not read yet."""
        data = read_bytes(path, MAX_JSON_BYTES)
        try:
            values = json.loads(data)
        except (ValueError, RecursionError) as error:
            raise damaged(path, f"no JSON text: {error}") from None
        if not isinstance(values, dict):
            raise damaged(path, f"must hold a JSON object, got {values!r:.60}")
        return cls(Entry(path, "", values), len(data))

    @property
    def path(self) -> Path:
        """The file of the JSON text."""
        return self.root.path

    @cached_property
    def groups(self) -> list[tuple[Entry, list[Path]]]:
        """Groups of the manifest, with the files that hold their weights."""
        return [(group, _shards(group)) for group in self.root.entries("weightsManifest", "group")]

    @cached_property
    def budget(self) -> Budget:
        """What reading the model may cost."""
        size = self.size + sum(file_size(shard) for _, shards in self.groups for shard in shards)
        if size > MAX_FILE_BYTES:
            raise WeightsError(
                f"{self.path}: its files have {size:,} bytes, more than {MAX_FILE_BYTES:,} that are read"
            )
        return Budget(self.path, size)

    @cached_property
    def arrays(self) -> dict[str, Array]:
        """All weights by name, those that are quantized as what they stand for; no texts."""
        found: dict[str, Array] = {}
        for group, shards in self.groups:
            # A group may name a file more than once.
            self.budget.take(sum(map(file_size, shards)))
            data = memoryview(b"".join(map(read_bytes, shards)))
            for weight in group.entries("weights", f"{group.place}, weight"):
                name = weight.name("name")
                if name in found or len(found) == MAX_TENSORS:
                    raise damaged(self.path, f"two weights have the name {name!r}, or more than {MAX_TENSORS:,}")
                value, data = self._array(weight, name, data)
                if value is not None:
                    found[name] = value
            if len(data):
                raise damaged(self.path, f"{len(data):,} bytes more than the weights take", group.place)
        return found

    def _array(self, weight: Entry, name: str, data: memoryview) -> tuple[Array | None, memoryview]:
        """A weight at the beginning of some bytes, None for texts, and the bytes after it."""
        self.budget.step()
        place = f"weight {name!r}"
        shape = checked_shape(self.path, tuple(weight.integers("shape")), place)
        if weight.get("dtype", "text") == "string":
            return None, self._after_texts(math.prod(shape), data, place)
        quantization = weight.entry("quantization", f"the quantization of {name!r}", {})
        stored = quantization.get("dtype", "text") if quantization.values else weight.get("dtype", "text")
        if stored not in _DTYPES:
            raise WeightsError(f"{self.path}: {place} has the type {stored!r:.40}, which is not read")
        size = math.prod(shape) * np.dtype(_DTYPES[stored]).itemsize
        value = array_from_bytes(self.path, data[:size], _DTYPES[stored], shape, place)
        return self._real(value, quantization) if quantization.values else value, data[size:]

    def _after_texts(self, count: int, data: memoryview, place: str) -> memoryview:
        """The bytes after texts, each of which begins with its length."""
        self.budget.step(count)
        for _ in range(count):
            length = 4 + int.from_bytes(data[:4], "little")
            if length > len(data):
                raise damaged(self.path, f"a text of {length - 4:,} bytes in {len(data):,}", place)
            data = data[length:]
        return data

    def _real(self, value: Array, quantization: Entry) -> Array:
        """The numbers that quantized ones stand for."""
        self.budget.take(4 * value.size)
        if value.dtype.kind == "f":
            return value.astype(np.float32)
        scale, minimum = quantization.get("scale", "number"), quantization.get("min", "number")
        self.budget.take(8 * value.size)
        with np.errstate(over="ignore", invalid="ignore"):
            # As TensorFlow.js computes it, in float64.
            return (value * float(scale) + float(minimum)).astype(np.float32)


def _shards(group: Entry) -> list[Path]:
    """The files of a group. They lie beside the JSON text: a name that leads elsewhere is refused."""
    names = group.get("paths", "list")
    for name in names:
        if not isinstance(name, str) or not name.strip(".") or set(name) & set("/\\:\0") or len(name) > 255:
            raise damaged(group.path, f"{name!r:.80} must be the name of a file in the same folder", group.place)
    shards = [group.path.with_name(name) for name in names]
    for shard in shards:
        if not shard.exists():
            raise WeightsError(f"{shard}: is missing; {group.path.name} lists it among the files of its weights")
    return shards


# --- graphs -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Attributes(Attributes):
    """The attributes that JSON holds."""

    values: Entry

    def _value(self, key: str) -> Entry:
        return self.values.entry(key, f"{self.values.place}, {key!r}", {})

    def _list(self, key: str) -> Entry:
        value = self._value(key)
        return value.entry("list", value.place, {})

    def integers(self, key: str) -> list[int]:
        return self._list(key).integers("i")

    def texts(self, key: str) -> list[str]:
        return [_text(value) for value in self._list(key).get("s", "list", [])]

    def dimensions(self, key: str) -> list[int]:
        shape = self._value(key).entry("shape", self.values.place, {"dim": []})
        return [
            _integer(each, each.values.get("size", 0)) for each in shape.entries("dim", f"{shape.place}, dimension")
        ]

    def real(self, key: str) -> float:
        return float(self._value(key).get("f", "number", 0))

    def flag(self, key: str) -> bool:
        return self._value(key).values.get("b") is True


def _text(value: Any) -> str:
    """A text in base64 or, in older files, as a list of the codes of its bytes."""
    import base64
    import binascii

    try:
        return (bytes(value) if isinstance(value, list) else base64.b64decode(value)).decode("utf-8", "replace")
    except (TypeError, ValueError, binascii.Error):
        return ""


@dataclass
class TensorFlowJSGraph(Graph):
    """The operations of a graph model.

    Attributes
    ----------
    path : Path
    model : Model
    """

    model: Model = field(repr=False, kw_only=True)

    @property
    def budget(self) -> Budget:
        """What reading the graph may cost."""
        return self.model.budget

    def all_operations(self) -> Iterator[Operation]:
        """All operations in the file's order."""
        for node in self.model.root.entry("modelTopology", "the topology").entries("node", "node"):
            self.budget.step()
            yield _operation(node)

    def tensor(self, operation: Operation) -> Array:
        """The value of a constant."""
        value = self.model.arrays.get(operation.name)
        if value is None:
            raise damaged(self.path, f"the manifest lists no numbers for the constant {operation.name!r}")
        return value


def _operation(node: Entry) -> Operation:
    sources = node.get("input", "list", [])
    if not all(isinstance(source, str) for source in sources):
        raise damaged(node.path, "'input' must be a list of names", node.place)
    inputs = (source.partition(":")[0] for source in sources if not source.startswith("^"))
    return Operation(node.name("name"), node.name("op"), tuple(inputs), _Attributes(node.entry("attr", node.place, {})))


# --- Keras models -----------------------------------------------------------------------------------------------------


def _keras_checkpoint(model: Model, topology: dict[str, Any]) -> Checkpoint:
    """The checkpoint of a layers model, whose weights have Keras's names."""
    found: dict[str, Array] = {}
    for name, value in model.arrays.items():
        known = canonical_from_path(name) or name
        if known in found:
            raise WeightsError(f"{model.path}: holds {known} more than once")
        found[known] = value
    return checkpoint_from_keras(found, topology, model.path, "tfjs")


def read(path: str | Path) -> Checkpoint:
    """Read a graph model or a layers model of TensorFlow.js.

    Parameters
    ----------
    path : str or Path
        The ``model.json``, or the folder that holds it.

    Returns
    -------
    Checkpoint

    Raises
    ------
    FileNotFoundError
    WeightsError
        If a file is damaged or missing, or they do not hold exactly one MobileNetV2.
    """
    path = Path(path)
    model = Model.open(path / MODEL_FILE if path.is_dir() else path)
    topology = model.root.get("modelTopology", "object")
    if "node" in topology:
        return read_graph(TensorFlowJSGraph(model.path, model=model), "tfjs")
    return _keras_checkpoint(model, topology)
