"""What every reader and writer shares: limits, bounded reading, errors that name file and place."""

from __future__ import annotations

import struct
import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from npmnv2.errors import WeightsError

Array = npt.NDArray[Any]

# Limits far above any MobileNetV2 file (the largest official one, a training checkpoint with all its
# optimizer slots, has 140 MB and 2,000 tensors) and far below what would harm the reader's machine.
MAX_FILE_BYTES = 1 << 30
MAX_TENSORS = 20_000
MAX_NAME_BYTES = 4_096
MAX_RANK = 8
MAX_JSON_BYTES = 16 << 20

# What the standard library answers a damaged zip archive with.
ARCHIVE_ERRORS = (
    zipfile.BadZipFile,
    zlib.error,
    struct.error,
    NotImplementedError,
    RuntimeError,
    ValueError,
    OSError,
    EOFError,
)


def damaged(path: Path, what: str, place: str | int | None = None) -> WeightsError:
    """The error for a file that breaks the rules of its format, at a byte offset or a named place."""
    where = f" at byte {place}" if isinstance(place, int) else f" in {place}" if place else ""
    return WeightsError(f"{path}: damaged or not understood{where}: {what}")


def read_bytes(path: Path, limit: int = MAX_FILE_BYTES) -> bytes:
    """The whole file, or a WeightsError when it has more than `limit` bytes."""
    size = file_size(path)
    if size > limit:
        raise WeightsError(f"{path}: has {size:,} bytes, more than the {limit:,} that are read of such a file")
    return path.read_bytes()


def file_size(path: Path) -> int:
    """Bytes of a regular file; FileNotFoundError or WeightsError when there is none."""
    if not path.exists():
        raise FileNotFoundError(f"{path}: no such file")
    if not path.is_file():
        raise WeightsError(f"{path}: not a regular file")
    return path.stat().st_size


def checked_shape(path: Path, shape: tuple[int, ...], place: str) -> tuple[int, ...]:
    """The shape itself when its rank and extents are sane."""
    if len(shape) > MAX_RANK or any(not 0 <= extent < 1 << 31 for extent in shape):
        raise damaged(path, f"impossible shape {shape[:MAX_RANK]}", place)
    return shape


def array_from_bytes(
    path: Path, data: bytes | memoryview, dtype: npt.DTypeLike, shape: tuple[int, ...], place: str
) -> Array:
    """A read-only view of `data` as an array; the byte count must be exactly that of shape and dtype."""
    expected = int(np.prod(checked_shape(path, shape, place), dtype=object)) * np.dtype(dtype).itemsize
    if len(data) != expected:
        raise damaged(path, f"{len(data)} bytes of data for shape {shape}, expected {expected}", place)
    return np.frombuffer(data, dtype=dtype).reshape(shape)
