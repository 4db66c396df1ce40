"""The folders in which downloaded weights are kept: npmnv2's own, and those of Keras and huggingface_hub.

npmnv2's holds one native HDF5 file a checkpoint, ``<source>/<name>.h5``, and beside it a ``.json`` record of what was
downloaded for it and with which digests.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypedDict
from urllib.parse import urlsplit

from npmnv2.errors import WeightsError
from npmnv2.files import user_cache, write_atomically
from npmnv2.hub.locks import locked
from npmnv2.hub.registry import Entry

__all__ = [
    "Downloaded",
    "cache_home",
    "exclusive_write",
    "find_in_other_caches",
    "other_cache_paths",
    "read_record",
    "write_record",
]

# A second process waits for as long as the largest archive takes over a slow line.
_LOCK_TIMEOUT = 3600.0


class Downloaded(TypedDict):
    """What a record says of one file."""

    url: str
    sha256: str
    bytes: int


def cache_home(cache_dir: str | os.PathLike[str] | None = None) -> Path:
    """The directory of downloaded weights: ``cache_dir``, ``$NPMNV2_HOME`` or the user's own cache."""
    if chosen := cache_dir or os.environ.get("NPMNV2_HOME"):
        return Path(chosen).expanduser()
    return user_cache()


@contextmanager
def exclusive_write(target: Path) -> Iterator[Path]:
    """Hold the sole right to make the file ``target``, with an empty folder to work in that is removed afterwards.

    Raises
    ------
    OSError
        If the folder of ``target`` cannot be made or written to.
    TimeoutError
        If another process works on the file for more than an hour.
    """
    workspace = target.with_suffix(".tmp")
    _make_writable_folder(target.parent)
    with locked(target.with_suffix(".lock"), _LOCK_TIMEOUT):
        # A killed process leaves its workspace.
        shutil.rmtree(workspace, ignore_errors=True)
        workspace.mkdir()
        try:
            yield workspace
        finally:
            shutil.rmtree(workspace, ignore_errors=True)


def _make_writable_folder(folder: Path) -> None:
    hint = "set NPMNV2_HOME or cache_dir= to a directory that can be written to"
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OSError(error.errno, f"the cache {folder} cannot be made ({error.strerror}): {hint}") from None
    if not os.access(folder, os.W_OK):
        raise PermissionError(f"the cache {folder} cannot be written to: {hint}")


def read_record(target: Path) -> dict[str, Downloaded]:
    """What was downloaded for ``target``, by URL; empty if nothing was.

    Raises
    ------
    WeightsError
        If the record is damaged.
    """
    record = target.with_suffix(".json")
    if not record.is_file():
        return {}
    try:
        files = json.loads(record.read_text(encoding="utf-8"))["files"]
        return {file["url"]: Downloaded(url=file["url"], sha256=file["sha256"], bytes=file["bytes"]) for file in files}
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise WeightsError(f"{record} is damaged ({error!r}): delete it to trust the next download anew") from None


def write_record(target: Path, entry: Entry, files: list[Downloaded]) -> None:
    """Record what was downloaded for ``target``."""
    content: dict[str, Any] = {"name": entry.name, "source": entry.source, "files": files}
    with write_atomically(target.with_suffix(".json")) as temporary:
        temporary.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


def find_in_other_caches(entry: Entry) -> Path | None:
    """Where Keras, huggingface_hub or the package have this checkpoint already: a file, or a repository's directory."""
    if entry.source == "keras":
        file = _keras_file(entry)
        return file if file.is_file() else None
    if entry.source == "huggingface":
        return next(filter(_is_complete, _snapshots(entry)), None)
    return entry.packaged


def other_cache_paths(entry: Entry) -> list[Path]:
    """Where :func:`find_in_other_caches` looks."""
    if entry.source == "keras":
        return [_keras_file(entry)]
    return [_hub_folder(entry)] if entry.source == "huggingface" else []


def _keras_file(entry: Entry) -> Path:
    home = Path(os.environ.get("KERAS_HOME") or "~/.keras").expanduser()
    return home / "models" / urlsplit(entry.urls[0]).path.rpartition("/")[2]


def _hub_folder(entry: Entry) -> Path:
    """The folder of a repository, found by huggingface_hub's rules."""
    home = os.environ.get("HF_HOME") or os.environ.get("XDG_CACHE_HOME", "~/.cache") + "/huggingface"
    hub = Path(os.environ.get("HF_HUB_CACHE") or f"{home}/hub").expanduser()
    return hub / f"models--{entry.name.replace('/', '--')}"


def _snapshots(entry: Entry) -> list[Path]:
    """Downloaded revisions of a repository: first the one that ``main`` stands for, then the newest."""
    folder = _hub_folder(entry)
    main = folder / "refs" / "main"
    current = main.read_text(encoding="utf-8").strip() if main.is_file() else ""
    snapshots = (folder / "snapshots").glob("*")
    return sorted(snapshots, key=lambda path: (path.name != current, -path.stat().st_mtime))


def _is_complete(snapshot: Path) -> bool:
    return all((snapshot / file).is_file() for file in ("config.json", "model.safetensors"))
