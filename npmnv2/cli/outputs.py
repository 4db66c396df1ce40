"""Files that ``npmnv2 predict`` writes for photos: where each goes, and that none is written over another."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from npmnv2.cli.photos import Photo
from npmnv2.errors import ArgumentError
from npmnv2.images.folders import SUFFIXES


def targets(where: str | None, photos: Sequence[Photo], suffix: str) -> dict[str, Path]:
    """Where the file of each photo goes: `where` itself, or `where` as a folder, with the photo's name."""
    if where is None:
        return {}
    if len(photos) == 1 and Path(where).suffix and not Path(where).is_dir():
        return {photos[0].name: Path(where)}
    if len(photos) > 1 and Path(where).suffix.lower() in SUFFIXES and not Path(where).is_dir():
        raise ArgumentError(f"{where} must be a folder where there are {len(photos)} photos")
    return {photo.name: Path(where) / (photo.stem + suffix) for photo in photos}


def make_folders(files: Sequence[Path], photos: Sequence[Photo]) -> None:
    """Make the folders of files that are to be written.

    Raises
    ------
    ArgumentError
        If two results would be written to one file, or one over a photo.
    """
    taken = {Path(photo.name).resolve(): "is a photo" for photo in photos}
    for file in files:
        place = file.resolve()
        if place in taken:
            raise ArgumentError(f"{file} must not be written: it {taken[place]}; choose another folder")
        taken[place] = "would be written twice, by photos of one name or by --out and --overlay"
    for file in files:
        file.parent.mkdir(parents=True, exist_ok=True)
