"""The safetensors container, through the package of that name: a JSON header and raw numbers, nothing that
runs.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from npmnv2.errors import MissingPackageError, WeightsError

from .files import MAX_FILE_BYTES, MAX_JSON_BYTES, MAX_TENSORS, Array, damaged, file_size

_FLOATS = ("F64", "F32", "F16")


def read_tensors(path: Path) -> dict[str, Array]:
    """All tensors of a safetensors file by name.

    Raises
    ------
    ModuleNotFoundError
        If the package safetensors is not installed.
    WeightsError
        If the file is damaged or holds numbers that NumPy has no type for.
    """
    safetensors = _package()
    if file_size(path) > MAX_FILE_BYTES:
        raise WeightsError(f"{path}: has more than the {MAX_FILE_BYTES:,} bytes that are read of such a file")
    try:
        with safetensors.safe_open(path, framework="np") as file:
            names = list(file.keys())
            if len(names) > MAX_TENSORS:
                raise damaged(path, f"{len(names)} tensors", "its header")
            return {name: _tensor(path, file, name) for name in names}
    except (safetensors.SafetensorError, OSError) as error:
        raise damaged(path, str(error), "its header") from None


def is_safetensors(head: bytes) -> bool:
    """Whether a file begins like a safetensors file: the length of its header, and the header's opening
    brace.
    """
    return len(head) > 8 and head[8:9] == b"{" and int.from_bytes(head[:8], "little") <= MAX_FILE_BYTES


def tensor_names(path: Path) -> list[str]:
    """Names of all tensors of a safetensors file.

    Raises
    ------
    ModuleNotFoundError, WeightsError
        As `read_tensors`.
    """
    safetensors = _package()
    try:
        with safetensors.safe_open(path, framework="np") as file:
            return list(file.keys())
    except (safetensors.SafetensorError, OSError) as error:
        raise damaged(path, str(error), "its header") from None


def _package() -> Any:
    try:
        import safetensors
    except ModuleNotFoundError as error:
        raise MissingPackageError("safetensors files need one more package: pip install 'npmnv2[convert]'") from error
    return safetensors


def _tensor(path: Path, file: Any, name: str) -> Array:
    kind = file.get_slice(name).get_dtype()
    if kind == "I64" and name.endswith("num_batches_tracked"):
        return np.zeros((), np.int64)
    if kind not in _FLOATS:
        raise WeightsError(f"{path}: tensor {name!r} has type {kind}; {', '.join(_FLOATS)} are read")
    value: Array = file.get_tensor(name)
    return value


def write_tensors(path: Path, tensors: Mapping[str, Array]) -> None:
    """Write a safetensors file that PyTorch's side reads; all arrays must be C-contiguous."""
    _package()
    from safetensors.numpy import save_file

    save_file(dict(tensors), path, metadata={"format": "pt"})


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


def read_json(path: Path) -> dict[str, Any]:
    """The object in a JSON file of sane size."""
    if file_size(path) > MAX_JSON_BYTES:
        raise WeightsError(f"{path}: has more than the {MAX_JSON_BYTES:,} bytes that are read of such a file")
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise damaged(path, f"not JSON: {error}") from None
    if not isinstance(value, dict):
        raise damaged(path, f"a JSON object is expected, found {type(value).__name__}")
    return value
