"""The photos of every class, from a folder of folders or from a dictionary."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from npmnv2.errors import ArgumentError, ArgumentTypeError
from npmnv2.files import printable
from npmnv2.images.folders import SUFFIXES, photos_in
from npmnv2.images.streams import is_one_image

_SHOWN = 8

# Cross-validation needs a photo to learn from and one to check with.
MINIMUM_PHOTOS = 2


class LabeledPhoto(NamedTuple):
    """One photo: what reports call it, what a model takes, and the number of its class."""

    name: str
    image: Any
    label: int


class LabeledPhotos(NamedTuple):
    """The photos of all classes, class by class, and what should be known about how they were found."""

    labels: tuple[str, ...]
    photos: list[LabeledPhoto]
    notes: tuple[str, ...] = ()


def labeled_photos(photos: Any, recursive: bool = False, argument: str = "photos") -> LabeledPhotos:
    """Photos by class.

    Parameters
    ----------
    photos : path, or dict of str to list of images
        A folder with a folder for each class, or the images of each class by its name.
    recursive : bool
        Also take photos of folders inside the classes' folders.
    argument : str
        What messages call `photos`.

    Raises
    ------
    FileNotFoundError
        If there is no such folder.
    ArgumentError, ArgumentTypeError
        If there are no classes, or a class has no photos.
    """
    if isinstance(photos, Mapping):
        found = _from_mapping(photos, argument)
    elif isinstance(photos, (str, os.PathLike)):
        found = _from_folder(Path(photos), recursive, argument)
    else:
        raise ArgumentTypeError(
            f"{argument} must be a folder or a dictionary from classes to images, got {type(photos).__name__}"
        )
    counts = Counter(photo.label for photo in found.photos)
    if empty := [label for number, label in enumerate(found.labels) if not counts[number]]:
        hint = "" if recursive or isinstance(photos, Mapping) else "; --recursive (recursive=True) searches deeper"
        raise ArgumentError(f"{argument} must have photos for every class, got none for {_listed(empty)}{hint}")
    return found


def check_classes(labels: tuple[str, ...], counts: Mapping[int, int]) -> None:
    """Raise an ArgumentError unless there are two classes, each with photos enough to learn from and to check with."""
    if len(labels) < 2:
        raise ArgumentError(f"photos must be of at least two classes, got {len(labels)} ({_listed(labels)})")
    few = [f"{label} ({counts.get(at, 0)})" for at, label in enumerate(labels) if counts.get(at, 0) < MINIMUM_PHOTOS]
    if few:
        raise ArgumentError(
            f"every class must have at least {MINIMUM_PHOTOS} photos that can be used, one to learn from and one to "
            f"check with; too few are of {_listed(few)}: add photos, or leave the class out"
        )


def _from_mapping(photos: Mapping[Any, Any], argument: str) -> LabeledPhotos:
    found: list[LabeledPhoto] = []
    labels = tuple(printable(str(label)) for label in photos)
    if len(set(labels)) < len(labels) or not all(labels):
        raise ArgumentError(f"{argument} must have a name of its own for every class, got {_listed(map(repr, photos))}")
    for number, (label, images) in enumerate(zip(labels, photos.values())):
        if is_one_image(images) or not isinstance(images, Iterable):
            raise ArgumentTypeError(f"{argument}[{label!r}] must be a list of images, got {type(images).__name__}")
        for at, image in enumerate(images):
            name = printable(str(image)) if isinstance(image, (str, os.PathLike)) else f"{label}[{at}]"
            found.append(LabeledPhoto(name, image, number))
    return LabeledPhotos(labels, found)


def _from_folder(folder: Path, recursive: bool, argument: str) -> LabeledPhotos:
    if not folder.is_dir():
        raise FileNotFoundError(f"{argument} (={str(folder)!r}) must be an existing folder")
    classes = sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))
    if not classes:
        raise ArgumentError(
            f"{argument} (={str(folder)!r}) must hold a folder of photos for each class, such as "
            f"{folder / 'cat' / '1.jpg'}, got no folders"
        )
    found = [
        LabeledPhoto(printable(str(path)), str(path), number)
        for number, path_of_class in enumerate(classes)
        for path in photos_in(path_of_class, recursive)
    ]
    labels = tuple(printable(path.name) for path in classes)
    return LabeledPhotos(labels, found, tuple(_left_out(folder, classes, recursive)))


def _left_out(folder: Path, classes: list[Path], recursive: bool) -> Iterator[str]:
    """Sentences about files that are not used."""
    if outside := len(photos_in(folder, recursive=False)):
        yield f"{_photos(outside)} directly in {folder} left out: of no class"
    if not recursive:
        deeper = sum(len(photos_in(path, True)) - len(photos_in(path, False)) for path in classes)
        if deeper:
            yield f"{_photos(deeper)} in folders inside the classes left out; --recursive takes them"
    endings = Counter(
        file.suffix.lower() or "none"
        for path in classes
        for file in (path.rglob("*") if recursive else path.iterdir())
        if file.is_file() and not file.name.startswith(".") and file.suffix.lower() not in SUFFIXES
    )
    if endings:
        named = ", ".join(f"{count} {ending}" for ending, count in sorted(endings.items()))
        yield f"files of other types left out: {named}"


def _photos(count: int) -> str:
    return f"{count} photo{'s' if count != 1 else ''}"


def _listed(names: Iterable[str]) -> str:
    names = list(names)
    return ", ".join(names[:_SHOWN]) + (f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else "")
