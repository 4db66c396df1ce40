"""The safetensors container: a JSON header and raw numbers, nothing that runs.

Format: https://github.com/huggingface/safetensors#format
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from npmnv2.errors import WeightsError
from npmnv2.weights.bounds import (
    MAX_JSON_BYTES,
    MAX_NAME_BYTES,
    MAX_TENSORS,
    Array,
    Budget,
    array_from_bytes,
    damaged,
    read_bytes,
)

_DTYPES = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "I64": "<i8"}
_FLOATS = ("F64", "F32", "F16", "BF16")
_METADATA = "__metadata__"


def read_tensors(path: Path) -> dict[str, Array]:
    """All tensors of a safetensors file by name.

    Raises
    ------
    FileNotFoundError
    WeightsError
        If the file is damaged or holds numbers that are not read.
    """
    data = memoryview(read_bytes(path))
    length = int.from_bytes(data[:8], "little")
    if len(data) < 8 or length > min(len(data) - 8, MAX_JSON_BYTES):
        raise damaged(path, f"a header of {length:,} bytes", 0)
    entries = _header(path, bytes(data[8 : 8 + length]))
    budget = Budget(path, len(data))
    return {name: _tensor(path, data[8 + length :], budget, name, entry) for name, entry in entries.items()}


def _header(path: Path, text: bytes) -> dict[str, Any]:
    try:
        entries = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise damaged(path, f"not JSON: {error}", "its header") from None
    if (
        not isinstance(entries, dict)
        or len(entries) > MAX_TENSORS
        or any(len(name) > MAX_NAME_BYTES for name in entries)
    ):
        raise damaged(path, "not a table of tensors", "its header")
    entries.pop(_METADATA, None)
    return entries


def _tensor(path: Path, data: memoryview, budget: Budget, name: str, entry: Any) -> Array:
    place = f"tensor {name!r}"
    try:
        kind, shape, (start, end) = entry["dtype"], tuple(entry["shape"]), entry["data_offsets"]
    except (KeyError, TypeError, ValueError):
        raise damaged(path, "not a description of a tensor", place) from None
    if any(type(number) is not int for number in (*shape, start, end)) or not 0 <= start <= end <= len(data):
        raise damaged(path, "impossible shape or offsets", place)
    if kind not in _FLOATS and not (kind == "I64" and name.endswith("num_batches_tracked")):
        raise WeightsError(f"{path}: {place} has type {kind!r:.20}; {', '.join(_FLOATS)} are read")
    # Tensors may overlap.
    budget.take(2 * (end - start))
    if kind == "BF16":
        # The upper half of a float32.
        upper = array_from_bytes(path, data[start:end], "<u2", shape, place)
        return (upper.astype("<u4") << 16).view("<f4")
    return array_from_bytes(path, data[start:end], _DTYPES[kind], shape, place)


def write_tensors(path: Path, tensors: Mapping[str, Array]) -> None:
    """Write a safetensors file that PyTorch's side reads."""
    kinds = {np.dtype(dtype): kind for kind, dtype in _DTYPES.items()}
    header: dict[str, Any] = {_METADATA: {"format": "pt"}}
    end = 0
    for name, value in tensors.items():
        start, end = end, end + value.nbytes
        header[name] = {"dtype": kinds[value.dtype], "shape": value.shape, "data_offsets": [start, end]}
    text = json.dumps(header, ensure_ascii=False).encode()
    # Spaces fill the header, so that the numbers begin at a multiple of 8.
    text += b" " * (-len(text) % 8)
    with path.open("wb") as stream:
        stream.write(len(text).to_bytes(8, "little") + text)
        for value in tensors.values():
            stream.write(np.ascontiguousarray(value).data)


def renamed(
    tensors: Mapping[str, Array],
    canonical_name: Callable[[str], str | None],
    layout: Callable[[str, Array], Array],
) -> tuple[dict[str, Array], tuple[str, ...]]:
    """The network's variables under canonical names, and the names of all others.

    Batch norms' step counters, which PyTorch keeps beside the statistics, are neither.
    """
    weights: dict[str, Array] = {}
    others: list[str] = []
    for name, value in tensors.items():
        known = canonical_name(name)
        if known is not None and known not in weights:
            weights[known] = layout(known, value)
        elif not name.endswith(".num_batches_tracked"):
            others.append(name)
    return weights, tuple(others)
