"""Bringing an index up to date: only what is new or changed is computed, what is gone is forgotten."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from io import BytesIO
from pathlib import Path
from typing import NamedTuple

import numpy as np

from npmnv2.images.folders import photos_in
from npmnv2.images.loading import file_content
from npmnv2.images.streams import IMAGE_ERRORS, map_ahead
from npmnv2.kernels import Array
from npmnv2.kernels.host.cpus import usable_cpus
from npmnv2.models.base import MobileNetV2PreTrainedModel
from npmnv2.models.photo import Photo
from npmnv2.similarity.index import Content, Entry, Index, Stamp

BATCH_SIZE = 8

# Photos that are decoded before the network asks for them, beside those at work: 0.6 MB each.
_AHEAD = 4 * BATCH_SIZE

# What was computed is written this often; an interrupted run loses no more.
_WRITE_SECONDS = 1.0

Files = dict[str, Stamp]


class _Read(NamedTuple):
    """A file that was read: for the index, and, unless its content is known, for the network."""

    entry: Entry
    size: tuple[int, int] = (0, 0)
    x: Array | None = None


def find_files(folder: Path) -> Files:
    """Stamps of the photos in a folder and those inside it, by their names there.

    A link to a file of the folder is left out: it is the same photo.
    """
    root = folder.resolve()
    stamps = {}
    for path in photos_in(folder, recursive=True):
        if not (path.is_symlink() and root in path.resolve().parents):
            with suppress(FileNotFoundError):  # removed since it was listed
                status = path.stat()
                stamps[str(path.relative_to(folder))] = Stamp(status.st_size, status.st_mtime_ns)
    return stamps


def update(
    index: Index,
    folder: Path,
    model: MobileNetV2PreTrainedModel,
    on_file: Callable[[], object] = lambda: None,
    files: Files | None = None,
) -> dict[str, Exception]:
    """Bring an index up to date with a folder.

    Parameters
    ----------
    index : Index
    folder : Path
    model : MobileNetV2PreTrainedModel
    on_file : callable
        Called once for every file.
    files : dict of str to Stamp, optional
        What `find_files` gives, if that is known.

    Returns
    -------
    dict of str to Exception
        Why files could not be used, by name.
    """
    files = find_files(folder) if files is None else files
    known = index.entries()
    changed = [name for name, stamp in files.items() if name not in known or known[name].stamp != stamp]
    for _ in range(len(files) - len(changed)):
        on_file()
    updater = _Updater(index, folder, model, files, on_file)
    updater.run(changed, index.digests())
    # Contents that a different process has removed meanwhile.
    updater.run(list(updater.missing), set())
    index.remove(known.keys() - files.keys() | updater.errors.keys() & known.keys())
    return updater.errors


class _Updater:
    """Reads files in threads, runs the network beside them, and writes what is known from time to time."""

    def __init__(
        self, index: Index, folder: Path, model: MobileNetV2PreTrainedModel, files: Files, on_file: Callable[[], object]
    ) -> None:
        self._index, self._folder, self._model, self._files = index, folder, model, files
        self._on_file = on_file
        self._entries: list[Entry] = []
        self._contents: list[Content] = []
        self._written = time.monotonic()
        self.errors: dict[str, Exception] = {}
        self.missing: list[str] = []

    def run(self, names: Sequence[str], digests: set[bytes]) -> None:
        """Compute the files of these names, except for those whose content's digest is known."""
        if not names:
            return
        _ = self._model.executable  # built now, so that an impossible option is reported once
        threads = self._model.n_threads or usable_cpus()
        try:
            for batch in _batches(map_ahead(lambda name: self._read(name, digests), names, threads, threads + _AHEAD)):
                self._attempt(batch)
                digests.update(content.digest for content in self._contents)
                if time.monotonic() - self._written > _WRITE_SECONDS:
                    self._write()
        finally:
            self._write()

    def _read(self, name: str, digests: set[bytes]) -> _Read | None:
        try:
            # The stamp is from before: a change in between shows at the next update.
            path = str(self._folder / name)
            content = file_content(path, path)
            entry = Entry(name, self._files[name], hashlib.sha256(content).digest())
            if entry.digest in digests:
                return _Read(entry)
            photo = Photo.load(_named(content, path), self._model.processor)
            return _Read(entry, photo.size, photo.network_input(self._model.processor))
        except IMAGE_ERRORS as error:
            self.errors[name] = error
            return None
        finally:
            self._on_file()

    def _attempt(self, batch: Sequence[_Read]) -> None:
        try:
            self._embed(batch)
        except IMAGE_ERRORS as error:  # inputs that are too small for the network
            self.errors.update((read.entry.name, error) for read in batch)

    def _embed(self, batch: Sequence[_Read]) -> None:
        new = [(read, read.x) for read in batch if read.x is not None]
        if new:
            vectors = self._model.embed(np.concatenate([x for _, x in new]))
            self._contents += [
                Content(read.entry.digest, read.size[1], read.size[0], vector)
                for (read, _), vector in zip(new, vectors, strict=True)
            ]
        self._entries += [read.entry for read in batch]

    def _write(self) -> None:
        self.missing += self._index.add(self._entries, self._contents)
        self._entries, self._contents = [], []
        self._written = time.monotonic()


def _named(content: bytes, name: str) -> BytesIO:
    """A file in memory that messages call `name`."""
    file = BytesIO(content)
    file.name = name
    return file


def _batches(reads: Iterable[_Read | None]) -> Iterator[list[_Read]]:
    """Neighbors whose inputs have one size, up to `BATCH_SIZE`."""
    batch: list[_Read] = []
    for read in reads:
        if read is None:
            continue
        if len(batch) == BATCH_SIZE or (batch and _shape(read) != _shape(batch[-1])):
            yield batch
            batch = []
        batch.append(read)
    if batch:
        yield batch


def _shape(read: _Read) -> tuple[int, ...]:
    return () if read.x is None else read.x.shape
