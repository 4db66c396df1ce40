"""From photos and a question to what the server says, in the words of ``npmnv2 predict --json``."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from typing import Any, NamedTuple

from npmnv2.serve.catalog import Catalog, Choice
from npmnv2.serve.limits import Limits
from npmnv2.serve.scheduler import Batch
from npmnv2.serve.uploads import Refused, check

# Numbers that /v1/features returns for one photo, about 20 bytes each.
MAX_FEATURES = 1 << 18

# Images of a classifier that run together where they wait: each then takes 4 to 10 % less. Maps and masks fill the
# processor's caches alone.
_MAX_BATCH = 8


class Question(NamedTuple):
    """What is asked of a photo.

    Attributes
    ----------
    choice : Choice
    task : str
        Of the model, or "features".
    options : tuple
        Arguments of `predict` by name, in order.
    mask, profile : bool
        Also return the label map as a PNG, and the time of every layer.
    endpoints : tuple of str
        For features; the embedding if empty.
    """

    choice: Choice
    task: str
    options: tuple[tuple[str, Any], ...] = ()
    mask: bool = False
    profile: bool = False
    endpoints: tuple[str, ...] = ()


def batch_size(question: Question) -> int:
    """How many images of a question a worker may run at once."""
    small = question.task == "classification" or (question.task == "features" and not question.endpoints)
    return _MAX_BATCH if small else 1


class Answerer:
    """Answers batches with the models of a catalog.

    Parameters
    ----------
    catalog : Catalog
    limits : Limits
    """

    def __init__(self, catalog: Catalog, limits: Limits) -> None:
        self._catalog, self._limits = catalog, limits

    def __call__(self, batch: Batch) -> list[Any]:
        """A result, as plain values, or an ImageError for every image."""
        question: Any = batch.question
        model = self._catalog.model(question.choice, batch.alone)
        refused = [self._refusal(image) for image in batch.images]
        good = [image for image, error in zip(batch.images, refused) if error is None]
        answers = iter(_answers(model, question, good) if good else ())
        return [error or next(answers) for error in refused]

    def _refusal(self, image: bytes) -> Refused | None:
        try:
            check(image, self._limits)
        except Refused as error:
            return error
        return None


def _answers(model: Any, question: Question, images: Sequence[bytes]) -> list[Any]:
    if question.task == "features":
        endpoints = question.endpoints or None
        found = model.features(images, endpoints, errors="return", batch_size=len(images))
        return [one if isinstance(one, Exception) else _features(one) for one in found]
    found = model.predict(images, errors="return", batch_size=len(images), **dict(question.options))
    return [
        one if isinstance(one, Exception) else _prediction(model, question, image, one)
        for image, one in zip(images, found)
    ]


def _features(values: Any) -> dict[str, Any] | Refused:
    maps = values if isinstance(values, dict) else {"": values}
    size = sum(value.size for value in maps.values())
    if size > MAX_FEATURES:
        return Refused(413, f"the maps hold {size} numbers, more than {MAX_FEATURES}: ask for fewer endpoints at once")
    lists = {name: value.tolist() for name, value in maps.items()}
    return {"source": None, "features": lists if isinstance(values, dict) else lists[""]}


def _prediction(model: Any, question: Question, image: bytes, result: Any) -> dict[str, Any]:
    answer: dict[str, Any] = result.to_dict()
    if question.mask and hasattr(result, "label_map"):
        answer["mask"] = _png(result.to_image())
    if question.profile:
        answer["profile"] = [timing._asdict() for timing in model.profile(image)]
    return answer


def _png(picture: Any) -> str:
    file = io.BytesIO()
    picture.save(file, "PNG")
    return base64.b64encode(file.getvalue()).decode()
