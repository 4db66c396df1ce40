"""From what a user writes, a name or a path, to the path of weights."""

from __future__ import annotations

import os
from pathlib import Path

from npmnv2.errors import ArgumentError

# What has one of these is meant as a file, and one that is missing should not be reported as an unknown name.
_SUFFIXES = {".h5", ".hdf5", ".keras", ".npz", ".pb", ".tflite", ".safetensors", ".index", ".ckpt", ".bin", ".pth"}


def locate(
    name_or_path: str | os.PathLike[str],
    *,
    source: str | None = None,
    cache_dir: str | os.PathLike[str] | None = None,
    local_files_only: bool = False,
) -> Path:
    """Path of weights: that of an existing file or directory as it is, otherwise of a checkpoint in the cache.

    Parameters
    ----------
    name_or_path : str or path
        Existing paths come first. The prefix that the files of a TensorFlow checkpoint share is also a path.
    source, cache_dir, local_files_only
        As in :func:`npmnv2.hub.fetch.fetch`.

    Raises
    ------
    ArgumentError
        If it is neither a path nor a name.
    FileNotFoundError
        If it looks like a path and nothing is there.
    OfflineError, WeightsError, OSError
        As :func:`npmnv2.hub.fetch.fetch` raises them.
    """
    if not isinstance(name_or_path, (str, os.PathLike)) or not str(name_or_path):
        raise ArgumentError(f"name_or_path (={name_or_path!r}) must be a name, a file or a directory")
    path = Path(name_or_path).expanduser()
    if path.exists() or Path(f"{path}.index").is_file():
        return path
    from npmnv2.hub.registry import advice, entry, is_name

    if not isinstance(name_or_path, str) or (_looks_like_a_path(name_or_path) and not is_name(name_or_path)):
        raise FileNotFoundError(f"weights (={str(name_or_path)!r}) must be an existing file or directory")
    if not is_name(name_or_path):
        what = f"{name_or_path!r} is neither an existing file nor the name of a checkpoint"
        raise ArgumentError(f"{what}. {advice(name_or_path, source)}")
    if (packaged := entry(name_or_path, source).packaged) is not None:
        return packaged
    # Half of what `load` would import, and of no use to those who have a file.
    from npmnv2.hub.fetch import fetch

    return fetch(name_or_path, source=source, cache_dir=cache_dir, local_files_only=local_files_only)


def _looks_like_a_path(text: str) -> bool:
    starts = text.startswith((".", "~", os.sep)) or (Path(text).parent.is_dir() and Path(text).parent != Path())
    return starts or Path(text).suffix.lower() in _SUFFIXES
