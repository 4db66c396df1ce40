"""NumPy archives (`.npz`) with TF-slim's or Keras's variable names, and one more entry for everything else.

Archives are opened as zip files, member by member: what a member's header says of its size must be what the
archive says, before anything is allocated, and object arrays (pickles) are refused.
"""

from __future__ import annotations

import re
import struct
import zipfile
import zlib
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from npmnv2.errors import WeightsError
from npmnv2.files import write_atomically
from npmnv2.weights.assemble import assemble
from npmnv2.weights.bounds import (
    MAX_FILE_BYTES,
    MAX_JSON_BYTES,
    MAX_TENSORS,
    Array,
    Budget,
    array_from_bytes,
    checked_shape,
    damaged,
    file_size,
)
from npmnv2.weights.checkpoint import Checkpoint
from npmnv2.weights.names import split

from .metadata import from_json, to_json
from .names import slim_name, to_slim_layout
from .variables import content

METADATA = "npmnv2.json"
_SUFFIX = ".npy"
# NumPy writes these two. The memory that bzip2 and LZMA take is the archive's choice.
COMPRESSIONS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
# What the standard library answers a damaged archive with.
ARCHIVE_ERRORS = (
    zipfile.BadZipFile,
    zlib.error,
    struct.error,
    NotImplementedError,
    RuntimeError,
    ValueError,
    OverflowError,
    OSError,
    EOFError,
)
_MAX_HEADER = 4096
# NumPy's header as NumPy itself writes it; a parser of Python's literals would run whatever depth a file wants.
_HEADER = re.compile(
    r"\{'descr': '(?P<dtype>[<>|=]?[fiub]\d{1,2})', 'fortran_order': (?P<fortran>True|False), "
    r"'shape': \((?P<shape>[0-9, ]{0,200})\),? ?\} *\n?"
)


class Member(NamedTuple):
    """One array of an archive: shape, and what it takes to read the rest."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    fortran_order: bool
    start: int
    info: zipfile.ZipInfo


def read(path: str | Path) -> Checkpoint:
    """Read an archive of variables.

    Parameters
    ----------
    path : str or Path
        A ``.npz`` file whose arrays have TF-slim's names (``MobilenetV2/Conv/weights``) or Keras's
        (``Conv1/kernel``).

    Raises
    ------
    FileNotFoundError
    WeightsError
        If the archive is damaged, holds pickles, or is not a MobileNetV2.
    """
    path = Path(path)
    budget = Budget(path, file_size(path))
    try:
        with zipfile.ZipFile(path) as archive:
            members = _members(path, archive, budget)
            stated = _metadata(path, archive, budget)
            shapes = {name: member.shape for name, member in members.items()}
            found = content(path, shapes, lambda name: _value(path, archive, members[name]))
    except WeightsError:
        raise
    except ARCHIVE_ERRORS as error:
        raise damaged(path, f"not a readable archive: {error}") from None
    return assemble(path, "npz", replace(found, **stated))


def _members(path: Path, archive: zipfile.ZipFile, budget: Budget) -> dict[str, Member]:
    infos = [info for info in archive.infolist() if info.filename != METADATA]
    if len(infos) > MAX_TENSORS or sum(info.file_size for info in infos) > MAX_FILE_BYTES:
        raise WeightsError(
            f"{path}: holds more than the {MAX_TENSORS:,} arrays or {MAX_FILE_BYTES:,} bytes that are read"
        )
    for info in infos:
        _allow(path, info, budget)
    return {info.filename.removesuffix(_SUFFIX): _member(path, archive, info) for info in infos}


def _allow(path: Path, info: zipfile.ZipInfo, budget: Budget) -> None:
    """Refuse members whose unpacking the budget does not cover."""
    if info.compress_type not in COMPRESSIONS:
        raise damaged(path, "compressed other than by deflate", f"member {info.filename!r}")
    budget.take(info.file_size)


def _member(path: Path, archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> Member:
    place = f"member {info.filename!r}"
    with archive.open(info) as stream:
        magic = stream.read(8)
        if magic not in (b"\x93NUMPY\x01\x00", b"\x93NUMPY\x02\x00"):
            raise damaged(path, "not a NumPy array", place)
        length = int.from_bytes(stream.read(2 * magic[6]), "little")
        header = stream.read(min(length, _MAX_HEADER)).decode("latin-1")
        start = stream.tell()
    if "O" in header.partition(",")[0]:
        raise WeightsError(f"{path}: {place} holds objects, which is not read: they would be pickles")
    match = _HEADER.fullmatch(header)
    if match is None:
        raise damaged(path, f"not the header of an array of numbers: {header[:80]!r}", place)
    shape = tuple(map(int, re.findall(r"[0-9]+", match["shape"])))
    return Member(
        checked_shape(path, shape, place), _dtype(path, match["dtype"], place), match["fortran"] == "True", start, info
    )


def _dtype(path: Path, name: str, place: str) -> np.dtype[Any]:
    try:
        return np.dtype(name)
    except TypeError:
        raise damaged(path, f"there is no type {name!r}", place) from None


def _value(path: Path, archive: zipfile.ZipFile, member: Member) -> Array:
    place = f"member {member.info.filename!r}"
    with archive.open(member.info) as stream:
        data = memoryview(stream.read(member.info.file_size))[member.start :]
    shape = member.shape[::-1] if member.fortran_order else member.shape
    value = array_from_bytes(path, data, member.dtype, shape, place)
    return value.T if member.fortran_order else value


def _metadata(path: Path, archive: zipfile.ZipFile, budget: Budget) -> dict[str, Any]:
    """Fields of `Content` that the archive states."""
    if METADATA not in archive.namelist():
        return {}
    info = archive.getinfo(METADATA)
    if info.file_size > MAX_JSON_BYTES:
        raise damaged(path, f"{info.file_size:,} bytes", METADATA)
    _allow(path, info, budget)
    return from_json(path, archive.read(info), METADATA)


def write(checkpoint: Checkpoint, path: str | Path) -> None:
    """Write an archive of variables with TF-slim's names, uncompressed; an existing file survives an error.

    Parameters
    ----------
    checkpoint : Checkpoint
    path : str or Path

    Raises
    ------
    OSError
    """
    detection = checkpoint.task == "detection"
    arrays = {
        slim_name(*split(name), detection): np.asarray(to_slim_layout(name, value), np.float32)
        for name, value in checkpoint.weights.items()
    }
    archive = BytesIO()
    np.savez(archive, **arrays)  # type: ignore[arg-type]  # its stubs take allow_pickle for all of them
    with zipfile.ZipFile(archive, "a") as opened:
        opened.writestr(METADATA, to_json(checkpoint))
    with write_atomically(Path(path)) as temporary:
        temporary.write_bytes(archive.getbuffer())
