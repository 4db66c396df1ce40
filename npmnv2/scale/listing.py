"""Names of photos, one after the other: files, folders, patterns and archives of any file system.

A name is what ``fsspec.open`` takes: an absolute path, a URL, or ``zip://inner::outer`` for a member of an archive. The
order follows from the names alone, so that a listing can be repeated.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator
from typing import Any

from npmnv2.images.folders import SUFFIXES
from npmnv2.scale.storage import absolute, is_local, locate

_ARCHIVES = {".zip": "zip", ".tar": "tar", ".tar.gz": "tar", ".tgz": "tar", ".tar.bz2": "tar", ".tar.xz": "tar"}
_MAGIC = re.compile(r"[*?[]")
_HIDDEN = re.compile(r"/\.(?!/)")  # but not the "./" of archives that were made by `tar cf photos.tar .`
# Names that are fetched at once, where a store is asked page by page.
_PAGE = 1000


def list_photos(sources: Iterable[str], recursive: bool = False) -> Iterator[str]:
    """Names of all photos, found as they are asked for.

    Parameters
    ----------
    sources
        Files, folders, patterns (``*``, ``?``, ``[…]``, ``**`` for any folders) and archives; paths or URLs. Hidden
        ones are left out, and of folders and archives all that have no suffix of a photo. In a ``.txt``
        file each line is a name.
    recursive : bool
        Also search folders inside folders.

    Raises
    ------
    FileNotFoundError
        When the turn comes to a source that has no photos.
    """
    for source in sources:
        found = _found(absolute(source), recursive)
        try:
            first = next(found)
        except (StopIteration, FileNotFoundError):
            raise FileNotFoundError(f"{source} matches no photo") from None
        yield first
        yield from found


def _found(url: str, recursive: bool) -> Iterator[str]:
    fs, path = locate(url)
    if url.endswith(".txt"):
        with fs.open(path, "rt", encoding="utf-8") as lines:
            yield from (absolute(line.strip()) for line in lines if line.strip())
        return
    chain = url.partition("::")[2]
    for name in _paths(fs, path, recursive, in_archive=bool(chain)):
        full = name if is_local(fs) else fs.unstrip_protocol(name)
        full = f"{full}::{chain}" if chain else full
        if not chain and (kind := _archive(name)):
            yield from _found(f"{kind}://**::{full}", recursive)
        else:
            yield full


def _archive(name: str) -> str | None:
    return next((kind for suffix, kind in _ARCHIVES.items() if name.lower().endswith(suffix)), None)


def _paths(fs: Any, path: str, recursive: bool, in_archive: bool) -> Iterator[str]:
    """Paths of what one source means in its file system."""
    if in_archive and path.strip("/") == "**":
        yield from filter(_is_photo, _visible(fs, "", None))
    elif (magic := _MAGIC.search(path)) and not fs.exists(path):
        from fsspec.utils import glob_translate

        root = path[: magic.start()].rpartition("/")[0]
        depth = None if "**" in path else path[magic.start() :].count("/") + 1
        matches = re.compile(glob_translate(path)).match
        yield from filter(matches, _visible(fs, root or ("/" if path.startswith("/") else ""), depth))
    elif fs.isdir(path):
        yield from filter(_is_photo, _visible(fs, path, None if recursive else 1))
    else:
        yield path


def _is_photo(path: str) -> bool:
    return os.path.splitext(path)[1].lower() in SUFFIXES


def _visible(fs: Any, folder: str, depth: int | None) -> Iterator[str]:
    """Paths of files, but for those that are hidden or in hidden folders."""
    return (path for path in _files(fs, folder, depth) if not _HIDDEN.search(f"/{path[len(folder) :].lstrip('/')}"))


def _files(fs: Any, folder: str, depth: int | None) -> Iterator[str]:
    """Paths of files down to some depth of folders, those of a folder before those of its folders.

    fsspec's own walk would silently leave out a folder that cannot be read.
    """
    folders = []
    for path, is_folder in _entries(fs, folder, flat=depth is None):
        if is_folder:
            folders.append(path)
        else:
            yield path
    if depth is None or depth > 1:
        for path in folders:
            yield from _files(fs, path, depth and depth - 1)


def _entries(fs: Any, folder: str, flat: bool) -> Iterator[tuple[str, bool]]:
    """(path, whether it is a folder) of what is in a folder; flat, of all files below it if the store can do that."""
    if is_local(fs):
        with os.scandir(folder) as entries:
            # Links to folders are not followed: they may lead in circles.
            found = [(e.path, e.is_dir()) for e in entries if not (e.is_symlink() and e.is_dir())]
        yield from sorted(found)
    elif hasattr(fs, "_iterdir"):  # s3fs: `ls` would first read every page of a million names
        yield from _pages(fs, folder, flat)
    else:
        found = [(entry["name"].rstrip("/"), entry["type"] == "directory") for entry in fs.ls(folder, detail=True)]
        fs.invalidate_cache(folder)  # memory would grow with every folder
        yield from sorted(entry for entry in found if entry[0] != folder.rstrip("/"))


def _pages(fs: Any, folder: str, flat: bool) -> Iterator[tuple[str, bool]]:
    from fsspec.asyn import sync
    from s3fs.errors import translate_boto_error

    bucket, prefix, _ = fs.split_path(folder)
    prefix = prefix and prefix.rstrip("/") + "/"
    entries = fs._iterdir(bucket, prefix=prefix, delimiter="" if flat else "/")

    async def page() -> list[Any]:
        found = []
        try:
            async for entry in entries:
                found.append(entry)
                if len(found) == _PAGE:
                    break
        except Exception as error:
            raise translate_boto_error(error) from error  # what Python calls a missing bucket, no permission, ...
        return found

    while found := sync(fs.loop, page):
        # An object whose name ends so stands for a folder.
        yield from ((e["name"], e["type"] == "directory") for e in found if not e["name"].endswith("/"))
