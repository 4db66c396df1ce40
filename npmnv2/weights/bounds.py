"""What every reader shares: limits, a budget of work and memory, and errors that name file and place."""

from __future__ import annotations

from dataclasses import dataclass, field
from math import prod
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

# Each file may cost this much, and in addition an amount in proportion to its size.
_FREE_STEPS, _STEPS_PER_BYTE = 100_000, 1 / 8
_FREE_BYTES, _BYTES_PER_BYTE = 64 << 20, 4


@dataclass
class Budget:
    """What reading one file may cost, in proportion to its size.

    A file can say much in few bytes: parts that many others share, nested groups, compressed zeros. Whoever follows a
    reference or makes something of a few bytes takes it from here, so no file costs more than its size allows.

    Attributes
    ----------
    path : Path
        For error messages.
    size : int
        Bytes of the file.
    """

    path: Path
    size: int
    _steps: float = field(init=False)
    _bytes: float = field(init=False)

    def __post_init__(self) -> None:
        self._steps = _FREE_STEPS + _STEPS_PER_BYTE * self.size
        self._bytes = _FREE_BYTES + _BYTES_PER_BYTE * self.size

    def step(self, count: int = 1) -> None:
        """Take `count` small pieces of work.

        Raises
        ------
        WeightsError
            If the file has used up what it may cost; likewise in `take`.
        """
        self._steps -= count
        if self._steps < 0:
            raise self._exceeded("work")

    def take(self, count: int) -> None:
        """Take `count` bytes of memory."""
        self._bytes -= count
        if self._bytes < 0:
            raise self._exceeded("memory")

    @property
    def bytes_left(self) -> int:
        """Bytes of memory that may still be taken."""
        return int(self._bytes)

    def _exceeded(self, what: str) -> WeightsError:
        return damaged(self.path, f"it takes more {what} to read than a file of {self.size:,} bytes may")


def damaged(path: Path, what: str, place: str | int | None = None) -> WeightsError:
    """The error for a file that breaks the rules of its format, at a byte offset or a named place."""
    where = f" at byte {place}" if isinstance(place, int) else f" in {place}" if place else ""
    return WeightsError(f"{path}: damaged or not understood{where}: {what}")


def read_bytes(path: Path, limit: int = MAX_FILE_BYTES) -> bytes:
    """The whole file, or a WeightsError when it has more than `limit` bytes."""
    _check_size(path, limit)
    return path.read_bytes()


def read_buffer(path: Path) -> memoryview:
    """The whole file in memory that arrays can share and their owner may change."""
    buffer = np.empty(_check_size(path, MAX_FILE_BYTES), np.uint8)
    with path.open("rb", buffering=0) as file:
        done = 0
        while done < len(buffer) and (count := file.readinto(buffer[done:].data)):
            done += count
    return buffer[:done].data


def _check_size(path: Path, limit: int) -> int:
    size = file_size(path)
    if size > limit:
        raise WeightsError(f"{path}: has {size:,} bytes, more than the {limit:,} that are read of such a file")
    return size


def file_size(path: Path) -> int:
    """Bytes of a regular file; FileNotFoundError or WeightsError when there is none."""
    if not path.exists():
        raise FileNotFoundError(f"{path}: no such file")
    if not path.is_file():
        raise WeightsError(f"{path}: not a regular file")
    return path.stat().st_size


def checked_shape(path: Path, shape: tuple[int, ...], place: str) -> tuple[int, ...]:
    """The shape itself when its rank and extents are sane.

    Zeros do not count: NumPy refuses an empty array, too, whose other extents are too large.
    """
    if len(shape) > MAX_RANK or min(shape, default=0) < 0 or prod(filter(None, shape)) > MAX_FILE_BYTES:
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
