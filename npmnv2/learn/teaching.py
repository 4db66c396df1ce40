"""`teach`: from photos of your own classes to a classifier."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from npmnv2.errors import ArgumentError, WeightsError
from npmnv2.files import printable
from npmnv2.hub import PACKAGED
from npmnv2.images.streams import check_count
from npmnv2.kernels import softmax
from npmnv2.lab.quantization import dequantized
from npmnv2.learn.embedding import embeddings
from npmnv2.learn.logistic import Labels, LinearClassifier, Matrix, cross_validate, fit, require_sklearn
from npmnv2.learn.photos import LabeledPhoto, LabeledPhotos, check_classes, labeled_photos
from npmnv2.loading import load
from npmnv2.models.base import MobileNetV2PreTrainedModel, Transform
from npmnv2.models.classification import MobileNetV2ForImageClassification
from npmnv2.models.features import MobileNetV2Model
from npmnv2.network.architecture import CLASSIFIER
from npmnv2.results.teaching import Evaluation, LookAlike, TeachingReport, imbalance_notes
from npmnv2.similarity.vectors import Group, near_duplicates
from npmnv2.weights.checkpoint import Checkpoint
from npmnv2.weights_tools import unfolded, write, write_keras

FOLDS = 5

# Cosine of features less their mean from which photos count as near duplicates. Less the mean, since photos of one
# kind, such as digits, have large cosines to each other; docs/teach.md has the measurement.
_NEAR_DUPLICATE = 0.8

_FEW_PHOTOS = 20
_IMBALANCE = 5.0
_LARGEST_SEED = 2**32 - 1  # of NumPy's generators

Photos = str | os.PathLike[str] | Mapping[str, Iterable[Any]]


@dataclass(frozen=True, eq=False)
class TaughtClassifier:
    """A classifier of your own classes, and what is known of it.

    Attributes
    ----------
    model : MobileNetV2ForImageClassification
    report : TeachingReport
    """

    model: MobileNetV2ForImageClassification
    report: TeachingReport

    def save(self, path: str | os.PathLike[str], to: str | None = None) -> None:
        """Write the model. Atomic.

        Parameters
        ----------
        path : path
            ``.h5`` is npmnv2's own format, which Keras opens as well (``keras.models.load_model``); ``.tflite``,
            ``.onnx`` and ``.npz`` are those, and a name without such an ending is a directory for transformers.
        to : str, optional
            The format, where the name does not say it, as in `npmnv2.weights_tools.convert`.

        Raises
        ------
        WeightsError
            If the format cannot hold the network.
        ArgumentError
            If the name says no format.
        OSError
        """
        checkpoint, path = self.model.to_checkpoint(), Path(path)
        if to is None and path.suffix.lower() in (".h5", ".hdf5"):
            try:
                return write_keras(checkpoint, path)
            except WeightsError:
                to = "native"  # Keras has no such network
        write(checkpoint, path, to)


def teach(
    photos: Photos,
    *,
    model: str | os.PathLike[str] | MobileNetV2PreTrainedModel = PACKAGED,
    test: Photos | None = None,
    transform: Transform | None = None,
    recursive: bool = False,
    errors: Literal["raise", "skip"] = "raise",
    folds: int = FOLDS,
    seed: int = 0,
    batch_size: int = 8,
    backend: str = "auto",
    n_threads: int | None = None,
    on_photo: Callable[[], object] = lambda: None,
) -> TaughtClassifier:
    """Teach a classifier your own classes: logistic regression on the features of a network.

    Parameters
    ----------
    photos : path, or dict of str to list of images
        A folder with a folder of photos for each class, or the images of each class by its name. At least two classes
        of two photos each.
    model : str, path or model
        Whose features: a name, a file or a loaded model, of a classifier or of features. A network of integers is
        taken in real numbers (`npmnv2.lab.quantization.dequantized`), so that other programs can run the result.
    test : path or dict, optional
        Photos that were set aside, in the same form, to measure the result with.
    transform : {"hf", "slim", "keras", "raw", "deeplab", "ssd"} or MobileNetV2ImageProcessor, optional
        How photos are prepared, from now on by the result as well; as the model does if not given.
    recursive : bool
        Also take photos of folders inside the classes' folders.
    errors : {"raise", "skip"}
        What becomes of a photo that cannot be used: raise its exception, or leave it out and report it.
    folds : int
        Of cross-validation; fewer where a class has fewer photos.
    seed : int
        Of the division into folds. Everything else is the same in every run anyway.
    batch_size, backend, n_threads
        As in `load` and `features`.
    on_photo : callable
        Called after every photo, for a progress bar.

    Returns
    -------
    TaughtClassifier
        With `model`, `report` and `save`.

    Raises
    ------
    MissingPackageError
        Without scikit-learn.
    ArgumentError
        If there are too few classes or photos.
    WeightsError
        If the model has no features for that.
    FileNotFoundError, ImageError

    Examples
    --------
    >>> taught = npmnv2.teach("photos")                    # doctest: +SKIP
    >>> print(taught.report)                               # doctest: +SKIP
    >>> taught.save("mine.h5")                             # doctest: +SKIP
    """
    require_sklearn("teach")
    check_count("folds", folds)
    if folds < 2:
        raise ArgumentError(f"folds (={folds}) must be at least 2")
    if not isinstance(seed, (int, np.integer)) or not 0 <= seed <= _LARGEST_SEED:
        raise ArgumentError(f"seed (={seed!r}) must be an integer from 0 to {_LARGEST_SEED}")
    if errors not in ("raise", "skip"):
        raise ArgumentError(f"errors (={errors!r}) must be 'raise' or 'skip'")
    found = labeled_photos(photos, recursive)
    check_classes(found.labels, Counter(photo.label for photo in found.photos))
    test_photos = None if test is None else _test_photos(test, recursive, found.labels)
    backbone = features_model(model, transform, backend, n_threads)

    def embed(given: LabeledPhotos) -> _Embedded:
        return _embed(backbone, given, errors, batch_size, on_photo)

    learned = embed(found)
    check_classes(found.labels, Counter(learned.truth.tolist()))
    tested = embed(test_photos) if test_photos is not None else None
    head, report = _learn(_name(model), found, learned, folds, seed)
    taught = _with_head(backbone, head, report)
    if tested is not None and test_photos is not None:
        report = _tested(report, taught, learned, tested)
    return TaughtClassifier(taught, report)


@dataclass(frozen=True, eq=False)
class _Embedded:
    """Features (N, C) of the photos that could be used, their names and classes, and why others could not."""

    features: Matrix
    names: tuple[str, ...]
    truth: Labels
    skipped: tuple[str, ...]


def features_model(
    model: str | os.PathLike[str] | MobileNetV2PreTrainedModel,
    transform: Transform | None = None,
    backend: str = "auto",
    n_threads: int | None = None,
) -> MobileNetV2Model:
    """The backbone of a model in real numbers, with the batch norms that other programs want.

    Raises
    ------
    WeightsError
        If the model is for a different task than classification or features.
    """
    options: dict[str, Any] = {"backend": backend, "n_threads": n_threads}
    if not isinstance(model, MobileNetV2PreTrainedModel):
        model = load(model, task="features", **options)
    model = model if model.quantization is None else dequantized(model)
    checkpoint = model.to_checkpoint()
    weights = MobileNetV2Model.select(checkpoint, "model")
    assert checkpoint.config is not None
    # Before the features are computed: a batch norm that changes nothing may still change the last bit.
    checkpoint = replace(checkpoint, weights=unfolded(weights, checkpoint.config), task="features")
    processor = model._processor(transform)
    return MobileNetV2Model.from_checkpoint(checkpoint, processor=processor, **options)


def _name(model: Any) -> str:
    if isinstance(model, MobileNetV2PreTrainedModel):
        return str(model.source.get("file", type(model).__name__))
    return Path(model).name


def _test_photos(test: Photos, recursive: bool, labels: tuple[str, ...]) -> LabeledPhotos:
    """The photos set aside, with the classes' own numbers."""
    found = labeled_photos(test, recursive, "test")
    if unknown := [label for label in found.labels if label not in labels]:
        raise ArgumentError(f"test must have the classes of photos ({', '.join(labels)}), got {', '.join(unknown)}")
    numbers = [labels.index(label) for label in found.labels]
    return found._replace(labels=labels, photos=[photo._replace(label=numbers[photo.label]) for photo in found.photos])


def _embed(
    backbone: MobileNetV2Model, found: LabeledPhotos, errors: str, batch_size: int, on_photo: Callable[[], object]
) -> _Embedded:
    rows: list[Any] = []
    used: list[LabeledPhoto] = []
    skipped: list[str] = []
    vectors = embeddings(backbone, (photo.image for photo in found.photos), batch_size=batch_size)
    for photo, vector in zip(found.photos, vectors, strict=True):
        if isinstance(vector, Exception):
            if errors == "raise":
                raise vector
            reason = printable(str(vector))
            skipped.append(reason if photo.name in reason else f"{photo.name}: {reason}")
        else:
            rows.append(vector)
            used.append(photo)
        on_photo()
    features = np.array(rows, np.float64).reshape(len(rows), -1)
    truth = np.array([photo.label for photo in used], np.intp)
    return _Embedded(features, tuple(photo.name for photo in used), truth, tuple(skipped))


# --- learning ---------------------------------------------------------------------------------------------------------


def _learn(
    backbone: str, found: LabeledPhotos, learned: _Embedded, folds: int, seed: int
) -> tuple[LinearClassifier, TeachingReport]:
    features, truth, labels = learned.features, learned.truth, found.labels
    groups, near = _groups(features)
    independent = len(np.unique(groups))
    alone = [number for number in range(len(labels)) if len(np.unique(groups[truth == number])) < 2]
    for number in alone:
        # Nothing would be left to learn the class from.
        groups[truth == number] = len(truth) + np.flatnonzero(truth == number)
    folds = min(folds, *(len(np.unique(groups[truth == number])) for number in range(len(labels))))
    validation = cross_validate(features, truth, groups, folds, seed)
    head = fit(features, truth, len(labels), validation.inverse_strength).divided(validation.temperature)
    notes = [
        *found.notes,
        *imbalance_notes(labels, np.bincount(truth, minlength=len(labels)).tolist(), _FEW_PHOTOS, _IMBALANCE),
        *_names_alike(labels),
        *(f"all photos of {labels[number]} are near duplicates: its figures are too good" for number in alone),
    ]
    scores = np.asarray(softmax(validation.logits / validation.temperature), np.float64)
    report = TeachingReport(
        backbone,
        Evaluation(labels, learned.names, truth, scores, independent),
        folds,
        validation.inverse_strength,
        validation.temperature,
        look_alikes=_look_alikes(near, learned, labels),
        skipped=learned.skipped,
        notes=tuple(notes),
    )
    return head, report


def _names_alike(labels: Sequence[str]) -> Iterator[str]:
    """Sentences about names that differ by case only, which may be one class."""
    by_name: dict[str, list[str]] = {}
    for label in labels:
        by_name.setdefault(label.casefold(), []).append(label)
    for names in by_name.values():
        if len(names) > 1:
            yield f"names of different classes that differ by case only: {', '.join(names)}"


def _groups(features: Matrix) -> tuple[Labels, list[Group]]:
    """The number of the group of near duplicates that each photo is in, and the groups of several photos."""
    centered = features - features.mean(axis=0)
    # Photos that are all the same have no direction from their mean.
    found = near_duplicates(centered if centered.any() else features, _NEAR_DUPLICATE)
    numbers = np.arange(len(features))
    for group in found:
        numbers[list(group.others)] = group.keep
    return numbers, found


def _look_alikes(groups: Iterable[Group], learned: _Embedded, labels: Sequence[str]) -> tuple[LookAlike, ...]:
    """Near duplicates of different classes, most similar first."""
    pairs = []
    for keep, others, similarities in groups:
        for other, similarity in zip(others, similarities):
            if learned.truth[other] != learned.truth[keep]:
                first, second = (labels[learned.truth[at]] for at in (keep, other))
                pairs.append(LookAlike(learned.names[keep], first, learned.names[other], second, similarity))
    return tuple(sorted(pairs, key=lambda pair: -pair.similarity))


def _with_head(
    backbone: MobileNetV2Model, head: LinearClassifier, report: TeachingReport
) -> MobileNetV2ForImageClassification:
    """The backbone with a classifier of the new classes."""
    checkpoint: Checkpoint = backbone.to_checkpoint()
    assert checkpoint.config is not None
    labels = report.labels
    weights = {
        **checkpoint.weights,
        f"{CLASSIFIER}/kernel": head.kernel.astype(np.float32),
        f"{CLASSIFIER}/bias": head.bias.astype(np.float32),
    }
    facts = {
        "photos": len(report.validation.truth),
        "accuracy": round(report.accuracy, 4),
        "interval": [round(bound, 4) for bound in report.interval],
        "backbone": checkpoint.source,
    }
    taught = replace(
        checkpoint,
        weights=weights,
        task="classification",
        config=checkpoint.config.replace(num_labels=len(labels), id2label=dict(enumerate(labels))),
        labels=labels,
        source={"format": "teach", "taught": facts},
    )
    options: dict[str, Any] = {"backend": backbone.backend.name, "n_threads": backbone.n_threads}
    return MobileNetV2ForImageClassification.from_checkpoint(taught, processor=backbone.processor, **options)


def _tested(
    report: TeachingReport, model: MobileNetV2ForImageClassification, learned: _Embedded, tested: _Embedded
) -> TeachingReport:
    """The report with what the model's own weights make of the photos that were set aside."""
    kernel, bias = (model.weights[f"{CLASSIFIER}/{name}"].astype(np.float64) for name in ("kernel", "bias"))
    scores = np.asarray(softmax(tested.features @ kernel + bias), np.float64)
    numbers, _ = _groups(np.concatenate([learned.features, tested.features]))
    before, own = np.split(numbers, [len(learned.truth)])
    notes = report.notes
    if known := int(np.isin(own, before).sum()):
        notes = (*notes, f"test photos that are near duplicates of photos learned from, which is too easy: {known}")
    evaluation = Evaluation(report.labels, tested.names, tested.truth, scores, len(np.unique(own)))
    return replace(report, test=evaluation, notes=notes, skipped=(*report.skipped, *tested.skipped))
