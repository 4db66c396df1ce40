"""NumPy archives (`.npz`) with TF-slim's or Keras's variable names, and one more entry for what variables do
not say.

Archives are opened as zip files, member by member: what a member's header says of its size must be what the
archive says, before anything is allocated, and object arrays (pickles) are refused.
"""

from __future__ import annotations

import json
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from npmnv2.errors import WeightsError
from npmnv2.files import write_atomically
from npmnv2.network.config import MobileNetV2Config
from npmnv2.weights.checkpoint import Checkpoint

from .assemble import assemble
from .files import ARCHIVE_ERRORS, MAX_FILE_BYTES, MAX_JSON_BYTES, MAX_TENSORS, Array, array_from_bytes, damaged
from .names import slim_name, split, to_slim_layout
from .variables import content

METADATA = "npmnv2.json"
_SUFFIX = ".npy"


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
        If the archive is damaged, holds pickles, or is no MobileNetV2.
    """
    path = Path(path)
    try:
        with zipfile.ZipFile(path) as archive:
            members = _members(path, archive)
            stated = _metadata(path, archive)
            shapes = {name: member.shape for name, member in members.items()}
            found = content(path, shapes, lambda name: _value(path, archive, members[name]))
    except WeightsError:
        raise
    except ARCHIVE_ERRORS as error:
        raise damaged(path, f"not a readable archive: {error}") from None
    return assemble(path, "npz", replace(found, **stated))


def _members(path: Path, archive: zipfile.ZipFile) -> dict[str, Member]:
    infos = [info for info in archive.infolist() if info.filename != METADATA]
    if len(infos) > MAX_TENSORS or sum(info.file_size for info in infos) > MAX_FILE_BYTES:
        raise WeightsError(
            f"{path}: holds more than the {MAX_TENSORS:,} arrays or {MAX_FILE_BYTES:,} bytes that are read"
        )
    return {info.filename.removesuffix(_SUFFIX): _member(path, archive, info) for info in infos}


def _member(path: Path, archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> Member:
    place = f"member {info.filename!r}"
    with archive.open(info) as stream:
        try:
            version = np.lib.format.read_magic(stream)
            reader = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}[version]
            shape, fortran_order, dtype = reader(stream)
        except (ValueError, KeyError, TypeError, SyntaxError, RecursionError) as error:
            raise damaged(path, f"not a NumPy array: {error}", place) from None
        start = stream.tell()
    if dtype.kind not in "fiub":
        raise WeightsError(f"{path}: {place} holds {dtype}, which is not read (objects would be pickles)")
    return Member(shape, dtype, fortran_order, start, info)


def _value(path: Path, archive: zipfile.ZipFile, member: Member) -> Array:
    place = f"member {member.info.filename!r}"
    with archive.open(member.info) as stream:
        data = stream.read(member.info.file_size)[member.start :]
    shape = member.shape[::-1] if member.fortran_order else member.shape
    value = array_from_bytes(path, data, member.dtype, shape, place)
    return value.T if member.fortran_order else value


def _metadata(path: Path, archive: zipfile.ZipFile) -> dict[str, Any]:
    """Fields of `Content` that the archive states."""
    if METADATA not in archive.namelist():
        return {}
    info = archive.getinfo(METADATA)
    if info.file_size > MAX_JSON_BYTES:
        raise damaged(path, f"{info.file_size:,} bytes", METADATA)
    try:
        values = json.loads(archive.read(info))
        labels = values["labels"]
        return {
            "config": MobileNetV2Config.from_dict(values["config"]) if values["config"] else None,
            "labels": tuple(map(str, labels)) if labels is not None else None,
            "preprocessing": dict(values["preprocessing"]),
            "source": dict(values["source"]),
        }
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise damaged(path, repr(error), METADATA) from None


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
    metadata = {
        "config": checkpoint.config.to_dict() if checkpoint.config else None,
        "labels": checkpoint.labels,
        "preprocessing": checkpoint.preprocessing,
        "source": checkpoint.source,
    }
    with write_atomically(Path(path)) as temporary:
        with temporary.open("wb") as stream:
            np.savez(stream, **arrays)  # type: ignore[arg-type]  # its stubs take allow_pickle for all of them
        with zipfile.ZipFile(temporary, "a") as archive:
            archive.writestr(METADATA, json.dumps(metadata, ensure_ascii=False))
