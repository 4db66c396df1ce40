"""What `similar` and `duplicates` return."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, astuple, dataclass, fields
from typing import Any, overload

from npmnv2.results.tables import csv_lines, json_line


@dataclass(frozen=True)
class SimilarPhoto:
    """A photo that resembles the query.

    Attributes
    ----------
    source : str
        Path of the file.
    similarity : float
        Cosine of the two embeddings, up to 1.
    """

    source: str
    similarity: float


@dataclass(frozen=True, repr=False)
class SimilarPhotos(Sequence[SimilarPhoto]):
    """The photos that resemble one query, nearest first.

    Attributes
    ----------
    photos : tuple of SimilarPhoto
    source : str or None
        Path of the query, if it is a file.
    """

    photos: tuple[SimilarPhoto, ...]
    source: str | None = None

    @overload
    def __getitem__(self, index: int) -> SimilarPhoto: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[SimilarPhoto, ...]: ...
    def __getitem__(self, index: int | slice) -> SimilarPhoto | tuple[SimilarPhoto, ...]:
        """Photo by rank."""
        return self.photos[index]

    def __len__(self) -> int:
        return len(self.photos)

    def __repr__(self) -> str:
        """The query and the nearest photo."""
        nearest = f": {self.photos[0].similarity:.3f} {self.photos[0].source}" if self.photos else ""
        more = f", … {len(self) - 1} more" if len(self) > 1 else ""
        return f"<SimilarPhotos{f' of {self.source}' if self.source else ''}{nearest}{more}>"

    def __str__(self) -> str:
        """A table: similarity and path."""
        lines = [self.source] if self.source else []
        return "\n".join([*lines, *(f"  {photo.similarity:6.3f}  {photo.source}" for photo in self.photos)])

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return {"source": self.source, "similar": [asdict(photo) for photo in self.photos]}

    def to_json(self) -> str:
        """One line of JSON."""
        return json_line(self.to_dict())

    def to_csv(self, header: bool = True) -> str:
        """Lines of CSV: query, rank, source, similarity."""
        columns = ["query", "rank", *(f.name for f in fields(SimilarPhoto))]
        rows = ([self.source or "", rank, *astuple(photo)] for rank, photo in enumerate(self.photos, start=1))
        return csv_lines(columns, rows, header)


@dataclass(frozen=True)
class DuplicatePhoto:
    """A photo of a group of near duplicates.

    Attributes
    ----------
    source : str
        Path of the file.
    similarity : float
        Cosine of its embedding to that of the photo to keep, up to 1.
    same_bytes_as : str or None
        Path of the first photo of the group whose file has the very same content, if it is not the first itself.
    width, height : int
        In pixels.
    bytes : int
        Size of the file.
    """

    source: str
    similarity: float
    same_bytes_as: str | None
    width: int
    height: int
    bytes: int


@dataclass(frozen=True, repr=False)
class DuplicateGroup(Sequence[DuplicatePhoto]):
    """Near duplicates: the one to keep first, then those that resemble it.

    Attributes
    ----------
    photos : tuple of DuplicatePhoto
    """

    photos: tuple[DuplicatePhoto, ...]

    @overload
    def __getitem__(self, index: int) -> DuplicatePhoto: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[DuplicatePhoto, ...]: ...
    def __getitem__(self, index: int | slice) -> DuplicatePhoto | tuple[DuplicatePhoto, ...]:
        """Photo by position."""
        return self.photos[index]

    def __len__(self) -> int:
        return len(self.photos)

    @property
    def keep(self) -> DuplicatePhoto:
        """The photo with the most pixels."""
        return self.photos[0]

    @property
    def others(self) -> tuple[DuplicatePhoto, ...]:
        """The near duplicates of the photo to keep."""
        return self.photos[1:]

    def __repr__(self) -> str:
        """The photo to keep, and how many resemble it."""
        return f"<DuplicateGroup: keep {self.keep.source}, {len(self.others)} more>"

    def __str__(self) -> str:
        """A table: the photo to keep, and below it similarity, path and size of the others."""
        return "\n".join([f"{self.keep.source}  {_size(self.keep)}, keep", *map(_line, self.others)])

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return {"keep": asdict(self.keep), "others": [asdict(photo) for photo in self.others]}

    def to_json(self) -> str:
        """One line of JSON."""
        return json_line(self.to_dict())

    def to_csv(self, header: bool = True) -> str:
        """Lines of CSV: keep, source, similarity, same_bytes_as, width, height, bytes. The first photo keeps itself."""
        columns = ["keep", *(f.name for f in fields(DuplicatePhoto))]
        rows = ([self.keep.source, *_cells(photo)] for photo in self.photos)
        return csv_lines(columns, rows, header)


def _line(photo: DuplicatePhoto) -> str:
    same = f", same bytes as {photo.same_bytes_as}" if photo.same_bytes_as else ""
    return f"  {photo.similarity:6.3f}  {photo.source}  {_size(photo)}{same}"


def _size(photo: DuplicatePhoto) -> str:
    return f"{photo.width} × {photo.height}"


def _cells(photo: DuplicatePhoto) -> list[Any]:
    return ["" if value is None else value for value in astuple(photo)]
