"""The photos of a folder with their embeddings, in memory, to be asked."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from npmnv2.errors import IndexFileError
from npmnv2.kernels import Array
from npmnv2.results.similarity import DuplicateGroup, DuplicatePhoto, SimilarPhoto
from npmnv2.similarity.index import Index
from npmnv2.similarity.vectors import Group, Neighbors, near_duplicates, nearest


class Collection:
    """Photos of a folder.

    Attributes
    ----------
    folder : Path
    entries : list of Entry
        The files, by name.
    embeddings : Array [shape=(N, C)]
        One row for each.
    errors : dict of str to Exception
        Why other files could not be used, by name.
    """

    def __init__(self, folder: Path, index: Index, errors: Mapping[str, Exception] | None = None) -> None:
        self.folder, self.errors = folder, dict(errors or {})
        entries, contents = index.entries(), {}
        rows: list[Array] = []
        for content in index.contents():
            contents[content.digest] = len(rows), content.width, content.height
            rows.append(content.embedding)
        self.entries = [entry for _, entry in sorted(entries.items()) if entry.digest in contents]
        self._contents = [contents[entry.digest] for entry in self.entries]
        self.embeddings = _stacked(rows, [row for row, _, _ in self._contents], index)
        self._rows = {entry.name: row for row, entry in enumerate(self.entries)}

    def __len__(self) -> int:
        return len(self.entries)

    def row(self, path: str | os.PathLike[str]) -> int | None:
        """Row of a file of the folder, by any path that leads to it; None if it is not among the photos."""
        place, root = Path(path).parent.resolve() / Path(path).name, self.folder.resolve()
        return self._rows.get(str(place.relative_to(root))) if root in place.parents else None

    def nearest(
        self, queries: Sequence[Array], without: Sequence[int | None], top: int, threshold: float
    ) -> list[tuple[SimilarPhoto, ...]]:
        """The photos nearest to each embedding (C,), but for one row each, `without`."""
        found = nearest(np.stack(queries), self.embeddings, top + 1, threshold) if queries else []
        return [self._photos(one, own, top) for one, own in zip(found, without, strict=True)]

    def _photos(self, found: Neighbors, without: int | None, top: int) -> tuple[SimilarPhoto, ...]:
        pairs = [pair for pair in zip(found.rows, found.similarities, strict=True) if pair[0] != without]
        return tuple(SimilarPhoto(self._path(row), similarity) for row, similarity in pairs[:top])

    def duplicates(self, threshold: float) -> list[DuplicateGroup]:
        """Groups of near duplicates; of each the photo with the most pixels, or else the larger file, is kept."""
        sizes = [(width * height, entry.stamp.bytes) for (_, width, height), entry in zip(self._contents, self.entries)]
        ranks = {size: rank for rank, size in enumerate(sorted(set(sizes)))}
        groups = near_duplicates(self.embeddings, threshold, [ranks[size] for size in sizes])
        return [self._group(group) for group in groups]

    def _group(self, group: Group) -> DuplicateGroup:
        first: dict[bytes, str] = {}
        photos = []
        for row, similarity in zip((group.keep, *group.others), (1.0, *group.similarities)):
            _, width, height = self._contents[row]
            entry, path = self.entries[row], self._path(row)
            original = first.setdefault(entry.digest, path)
            same = original if original != path else None
            photos.append(DuplicatePhoto(path, similarity, same, width, height, entry.stamp.bytes))
        return DuplicateGroup(tuple(photos))

    def _path(self, row: int) -> str:
        return str(self.folder / self.entries[row].name)


def _stacked(rows: Sequence[Array], order: Sequence[int], index: Index) -> Array:
    if len({row.shape for row in rows}) > 1:
        raise IndexFileError(f"index {index.path} is damaged (embeddings differ in length): delete it")
    stacked = np.empty((len(order), rows[0].size if rows else 0), np.float32)
    for at, row in enumerate(order):
        stacked[at] = rows[row]
    return stacked
