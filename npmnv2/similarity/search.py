"""`similar` and `duplicates`: an index that is brought up to date, and then asked."""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, Literal, overload

from npmnv2.errors import ArgumentError, IndexFileError
from npmnv2.files import user_cache
from npmnv2.hub import PACKAGED
from npmnv2.images.loading import ImageSource
from npmnv2.images.streams import check_count, is_one_image
from npmnv2.loading import load
from npmnv2.models.base import MobileNetV2PreTrainedModel
from npmnv2.results.similarity import DuplicateGroup, SimilarPhotos
from npmnv2.similarity.collection import Collection
from npmnv2.similarity.index import FORMAT_VERSION, Index
from npmnv2.similarity.model_digest import model_digest
from npmnv2.similarity.update import Files, find_files, update
from npmnv2.similarity.vectors import NEAR_DUPLICATE, check_threshold

PathLike = str | os.PathLike[str]
Model = PathLike | MobileNetV2PreTrainedModel


# The order matters: a path is a sequence of strings too.
@overload
def similar(  # type: ignore[overload-overlap]
    query: ImageSource,
    folder: PathLike,
    *,
    top: int = ...,
    threshold: float = ...,
    model: Model = ...,
    index: PathLike | None = ...,
) -> SimilarPhotos: ...
@overload
def similar(
    query: Iterable[ImageSource],
    folder: PathLike,
    *,
    top: int = ...,
    threshold: float = ...,
    model: Model = ...,
    index: PathLike | None = ...,
) -> list[SimilarPhotos]: ...
def similar(
    query: Any,
    folder: PathLike,
    *,
    top: int = 10,
    threshold: float = 0.0,
    model: Model = PACKAGED,
    index: PathLike | None = None,
) -> Any:
    """Find the photos of a folder that resemble a photo most.

    Parameters
    ----------
    query
        One image (path, PIL image, array), or a list of them. A file of the folder is not found as its own neighbor.
    folder : path
        Folders inside it are searched as well.
    top : int
        Photos for each query, at most.
    threshold : float
        Least cosine of the two embeddings, from -1 to 1.
    model : str, path or model
        A name or a file, as `load` takes them, or a loaded model; the classifier in the package if not given.
    index : path, optional
        File in which the embeddings are kept; one in this user's cache if not given. It is made if there is none, and
        brought up to date: only photos that are new or have changed are computed.

    Returns
    -------
    SimilarPhotos or list of SimilarPhotos
        As `query` came.

    Raises
    ------
    ArgumentError, FileNotFoundError
    ImageError
        If a query cannot be used. A photo of the folder that cannot be is left out, with a warning in the log
        ``npmnv2``.
    IndexFileError
        If the index is damaged, not an index, or made with a different model.
    """
    _check(top, threshold)
    loaded = _loaded(model)
    collection = open_collection(folder, loaded, index)
    _log_errors(collection)
    one = is_one_image(query)
    found = find_similar(collection, loaded, [query] if one else list(query), top, threshold)
    return found[0] if one else found


def duplicates(
    folder: PathLike, *, threshold: float = NEAR_DUPLICATE, model: Model = PACKAGED, index: PathLike | None = None
) -> list[DuplicateGroup]:
    """Group the photos of a folder that are near duplicates: scaled, cropped a little, compressed, brightened, ….

    Every photo of a group resembles the first one, which has the most pixels: the one to keep. Similarity does not
    chain, so a photo that only resembles one of the others is not in the group. Nothing is ever deleted.

    Parameters
    ----------
    folder : path
        Folders inside it are searched as well.
    threshold : float
        Least cosine of two embeddings, above 0 and up to 1; about 1 finds copies in other formats only.
    model, index
        As for `similar`.

    Returns
    -------
    list of DuplicateGroup
        The photos with the most pixels first.

    Raises
    ------
    ArgumentError, FileNotFoundError, IndexFileError
    """
    check_threshold(threshold)
    collection = open_collection(folder, _loaded(model), index)
    _log_errors(collection)
    return collection.duplicates(threshold)


def open_collection(
    folder: PathLike,
    model: MobileNetV2PreTrainedModel,
    index: PathLike | None = None,
    progress: Callable[[Files], Callable[[], object]] = lambda _: lambda: None,
) -> Collection:
    """Bring the index of a folder up to date and read it; what `progress` returns is called for every file."""
    place = Path(folder)
    if not place.is_dir():
        raise FileNotFoundError(f"folder (={str(folder)!r}) must be an existing folder")
    files, digest = find_files(place), model_digest(model)
    path = default_index(place, digest) if index is None else Path(index)
    with Index(path, digest, _name(model)) as opened:
        errors = update(opened, place, model, progress(files), files)
        return Collection(place, opened, errors)


def find_similar(
    collection: Collection,
    model: MobileNetV2PreTrainedModel,
    images: Sequence[ImageSource],
    top: int,
    threshold: float,
    errors: Literal["raise", "return"] = "raise",
) -> list[SimilarPhotos | Exception]:
    """The photos of a collection nearest to each image; an image that lies in the folder is not among its own."""
    _check(top, threshold)
    rows = [collection.row(image) if isinstance(image, (str, os.PathLike)) else None for image in images]
    computed = iter(model.features([image for image, row in zip(images, rows) if row is None], errors=errors))
    vectors: list[Any] = [next(computed) if row is None else collection.embeddings[row] for row in rows]
    usable = [at for at, vector in enumerate(vectors) if not isinstance(vector, Exception)]
    found = collection.nearest([vectors[at] for at in usable], [rows[at] for at in usable], top, threshold)
    answers = dict(zip(usable, found, strict=True))
    return [
        vector if isinstance(vector, Exception) else SimilarPhotos(answers[at], _path(images[at]))
        for at, vector in enumerate(vectors)
    ]


def _check(top: int, threshold: float) -> None:
    check_count("top", top)
    if not -1 <= threshold <= 1:
        raise ArgumentError(f"threshold (={threshold!r}) must be from -1 to 1")


def _path(image: ImageSource) -> str | None:
    return os.fspath(image) if isinstance(image, (str, os.PathLike)) else None


def default_index(folder: Path, digest: str) -> Path:
    """Where the index of a folder is kept for a model: in this user's cache, never in the folder itself."""
    place = user_cache() / "similarity"
    try:
        place.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise IndexFileError(
            f"{place} cannot be made to keep the index in: {error.strerror}; name a file for it (index=, --index)"
        ) from error
    key = hashlib.sha256(os.fsencode(folder.resolve()) + bytes.fromhex(digest)).hexdigest()
    return place / f"{key[:32]}-{FORMAT_VERSION}.sqlite"


def _loaded(model: Model) -> MobileNetV2PreTrainedModel:
    found: MobileNetV2PreTrainedModel = model if isinstance(model, MobileNetV2PreTrainedModel) else load(model)
    return found


def _name(model: MobileNetV2PreTrainedModel) -> str:
    return str(model.source.get("file") or model.source.get("name") or type(model).__name__)


def _log_errors(collection: Collection) -> None:
    for error in collection.errors.values():
        logging.getLogger("npmnv2").warning("a photo was left out: %s", error)
