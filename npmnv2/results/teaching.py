"""What `teach` reports: how well a classifier does on photos that it has not seen, and where it does not."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from npmnv2.errors import MissingPackageError
from npmnv2.results.tables import html_figure, json_line, percent

_HARDEST = 8
# Two-sided 95 % of a normal distribution.
_Z = 1.959964
_BINS = 10
_NAME_WIDTH = 28

# Of a plot: inches of a cell and of the rest, and points of letters, smaller for many classes.
_CELL_INCHES, _MARGIN_INCHES = 0.25, 2.4
_POINTS, _SMALL_POINTS = 10, 7
_CLASSES_AT_FULL_SIZE = 12


class LookAlike(NamedTuple):
    """Two photos of different classes that are nearly the same: their names, classes and similarity (a cosine)."""

    first: str
    first_label: str
    second: str
    second_label: str
    similarity: float


class HardPhoto(NamedTuple):
    """A photo that is not recognized well: its name and class, the likeliest class, and the scores of both."""

    name: str
    label: str
    score: float
    predicted: str
    predicted_score: float


def wilson_interval(successes: float, trials: float) -> tuple[float, float]:
    """95 % interval of a share of successes (Wilson 1927), which keeps to 0…1 and holds for few trials."""
    if not trials:
        return 0.0, 1.0
    share, square = successes / trials, _Z**2
    center = share + square / (2 * trials)
    half = _Z * np.sqrt(share * (1 - share) / trials + square / (4 * trials**2))
    low, high = (float((center + sign * half) / (1 + square / trials)) for sign in (-1, 1))
    return max(low, 0.0), min(high, 1.0)


@dataclass(frozen=True, eq=False)
class Evaluation:
    """Predictions for photos whose classes are known.

    Attributes
    ----------
    labels : tuple of str
    names : tuple of str
        Of the photos.
    truth : array of int [shape=(N,)]
        Their classes.
    scores : array [shape=(N, classes)]
        Probabilities.
    independent : int
        Photos that count for the interval: near duplicates count as one.
    """

    labels: tuple[str, ...]
    names: tuple[str, ...]
    truth: NDArray[np.intp]
    scores: NDArray[np.float64]
    independent: int

    @property
    def predicted(self) -> NDArray[np.intp]:
        """The likeliest class of every photo."""
        best: NDArray[np.intp] = self.scores.argmax(axis=1)
        return best

    @property
    def accuracy(self) -> float:
        """Share of photos whose likeliest class is right."""
        return float((self.predicted == self.truth).mean())

    @property
    def interval(self) -> tuple[float, float]:
        """95 % interval of the accuracy."""
        return wilson_interval(self.accuracy * self.independent, self.independent)

    @property
    def confusion(self) -> NDArray[np.intp]:
        """Number of photos by their class (rows) and by the likeliest class (columns)."""
        counts = np.zeros((len(self.labels),) * 2, np.intp)
        np.add.at(counts, (self.truth, self.predicted), 1)
        return counts

    @property
    def recall(self) -> NDArray[np.float64]:
        """Share of each class's photos that are recognized; NaN for a class without photos."""
        counts = self.confusion
        totals = counts.sum(axis=1)
        shares = np.full(len(counts), np.nan)
        np.divide(np.diag(counts), totals, out=shares, where=totals > 0)
        return shares

    @property
    def calibration_error(self) -> float:
        """Mean distance of the scores of likeliest classes from how often these are right, in ten bins."""
        scores, right = self.scores.max(axis=1), self.predicted == self.truth
        bins = np.minimum((scores * _BINS).astype(int), _BINS - 1)
        gaps = np.bincount(bins, scores, _BINS) - np.bincount(bins, right, _BINS)
        return float(np.abs(gaps).sum() / len(scores))

    def hardest(self, count: int = _HARDEST) -> list[HardPhoto]:
        """The photos with the lowest scores for their own classes, lowest first."""
        own = self.scores[np.arange(len(self.truth)), self.truth]
        found = []
        for at in np.argsort(own, kind="stable")[:count].tolist():
            best = int(self.predicted[at])
            label, predicted = self.labels[self.truth[at]], self.labels[best]
            found.append(HardPhoto(self.names[at], label, float(own[at]), predicted, float(self.scores[at, best])))
        return found

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return {
            "photos": len(self.truth),
            "independent": self.independent,
            "accuracy": self.accuracy,
            "interval": list(self.interval),
            "calibration_error": self.calibration_error,
            "confusion": self.confusion.tolist(),
            "hardest": [photo._asdict() for photo in self.hardest()],
        }


@dataclass(frozen=True, eq=False)
class TeachingReport:
    """What is known of a classifier that was taught.

    Attributes
    ----------
    backbone : str
        Whose features the classifier uses.
    validation : Evaluation
        Predictions for all photos, each by a classifier that learned from other folds.
    folds : int
    inverse_strength : float
        Of the regularization, as scikit-learn's ``C``.
    temperature : float
        What the logits were divided by, so that scores are probabilities.
    test : Evaluation, optional
        Predictions of the classifier itself for photos set aside.
    look_alikes : tuple of LookAlike
        Near duplicates in different classes: one of each two may be in the wrong folder.
    skipped : tuple of str
        Why photos could not be used.
    notes : tuple of str
        What should be known of the photos, such as classes with few of them.
    """

    backbone: str
    validation: Evaluation
    folds: int
    inverse_strength: float
    temperature: float
    test: Evaluation | None = None
    look_alikes: tuple[LookAlike, ...] = ()
    skipped: tuple[str, ...] = ()
    notes: tuple[str, ...] = field(default=())

    @property
    def labels(self) -> tuple[str, ...]:
        """Names of the classes."""
        return self.validation.labels

    @property
    def accuracy(self) -> float:
        """Of predictions for photos that the classifier had not seen."""
        return self.validation.accuracy

    @property
    def interval(self) -> tuple[float, float]:
        """95 % interval of `accuracy`."""
        return self.validation.interval

    def sentence(self) -> str:
        """The accuracy in words."""
        return f"{accuracy_text(self.validation)} on photos not seen, by {self.folds}-fold cross-validation"

    def __str__(self) -> str:
        """All of it as text."""
        return "\n".join(
            [
                f"accuracy {self.sentence()}",
                *([f"accuracy {accuracy_text(self.test)} on the test photos"] if self.test else []),
                f"scores are off by {percent(self.validation.calibration_error)} on average",
                "",
                *_class_lines(self.validation),
                *_titled("hardest photos", [hard_text(photo) for photo in self.validation.hardest()]),
                *_titled("near duplicates in different classes", map(look_alike_text, self.look_alikes)),
                *_titled("notes", self.notes),
            ]
        )

    def __repr__(self) -> str:
        """Classes and accuracy."""
        return f"<TeachingReport: {len(self.labels)} classes, accuracy {accuracy_text(self.validation)}>"

    def _repr_html_(self) -> str:
        """A table of the classes: what notebooks show."""
        rows = [("class", "photos", "recognized", "most often mistaken for"), *class_rows(self.validation)]
        return html_figure(f"accuracy {self.sentence()}", None, rows)

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return {
            "backbone": self.backbone,
            "labels": list(self.labels),
            "folds": self.folds,
            "inverse_strength": self.inverse_strength,
            "temperature": self.temperature,
            "validation": self.validation.to_dict(),
            "test": self.test and self.test.to_dict(),
            "look_alikes": [pair._asdict() for pair in self.look_alikes],
            "skipped": list(self.skipped),
            "notes": list(self.notes),
        }

    def to_json(self) -> str:
        """One line of JSON."""
        return json_line(self.to_dict())

    def plot(self, axes: Any = None) -> Any:
        """Draw the confusion matrix into axes of Matplotlib, new ones if not given; return them.

        Raises
        ------
        MissingPackageError
            If Matplotlib is not installed.
        """
        try:
            from matplotlib import pyplot
        except ImportError:
            raise MissingPackageError("plot needs Matplotlib: pip install 'npmnv2[plot]'") from None
        counts = self.validation.confusion
        axes = _square_axes(pyplot, len(counts)) if axes is None else axes
        shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
        size = _POINTS if len(counts) <= _CLASSES_AT_FULL_SIZE else _SMALL_POINTS
        axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
        for (row, column), number in np.ndenumerate(counts):
            if number:
                color = "white" if shares[row, column] > 0.5 else "black"
                axes.text(column, row, str(number), ha="center", va="center", color=color, fontsize=size)
        places = range(len(self.labels))
        axes.set_xticks(places, self.labels, rotation=0 if max(map(len, self.labels)) < 4 else 90, fontsize=size)
        axes.set_yticks(places, self.labels, fontsize=size)
        axes.set_xlabel("recognized as")
        axes.set_ylabel("class")
        axes.set_title(f"{percent(self.accuracy)} of {len(self.validation.truth)} photos")
        return axes


def _square_axes(pyplot: Any, classes: int) -> Any:
    """Axes with room for a number in every cell, and for the names."""
    side = max(4.8, _MARGIN_INCHES + _CELL_INCHES * classes)
    return pyplot.subplots(figsize=(max(6.4, side), side), layout="constrained")[1]


def accuracy_text(evaluation: Evaluation) -> str:
    """Accuracy, interval and number of photos."""
    low, high = evaluation.interval
    count, independent = len(evaluation.truth), evaluation.independent
    of_which = f", {independent} without near duplicates" if independent < count else ""
    return f"{percent(evaluation.accuracy)} (95 % interval {percent(low)} to {percent(high)}, {count} photos{of_which})"


def hard_text(photo: HardPhoto) -> str:
    """One photo and what it is taken for."""
    seen = "recognized" if photo.label == photo.predicted else f"taken for {photo.predicted}"
    return f"{photo.name}: {photo.label} {percent(photo.score)}, {seen} ({percent(photo.predicted_score)})"


def look_alike_text(pair: LookAlike) -> str:
    """Two photos and their classes."""
    first, second = f"{pair.first} ({pair.first_label})", f"{pair.second} ({pair.second_label})"
    return f"{first} and {second}, similarity {pair.similarity:.2f}"


def mistaken_for(evaluation: Evaluation, label: int) -> str:
    """What photos of a class are most often taken for, with the number of times; empty if never."""
    counts = evaluation.confusion[label].copy()
    counts[label] = 0
    return f"{evaluation.labels[counts.argmax()]} ({counts.max()})" if counts.max() else ""


def class_rows(evaluation: Evaluation) -> list[tuple[str, str, str, str]]:
    """Name, number of photos, share that is recognized, and what is mistaken, of every class."""
    totals = evaluation.confusion.sum(axis=1)
    return [
        (label, str(total), percent(recall) if total else "–", mistaken_for(evaluation, number))
        for number, (label, total, recall) in enumerate(zip(evaluation.labels, totals, evaluation.recall))
    ]


def _class_lines(evaluation: Evaluation) -> list[str]:
    width = min(max(5, *map(len, evaluation.labels)), _NAME_WIDTH)
    lines = [f"{'class':{width}}  photos  recognized  most often mistaken for"]
    for label, total, recall, mistaken in class_rows(evaluation):
        lines.append(f"{label:{width}}  {total:>6}  {recall:>10}  {mistaken}".rstrip())
    return lines


def _titled(title: str, lines: Any) -> list[str]:
    lines = list(lines)
    return ["", f"{title}:", *(f"  {line}" for line in lines)] if lines else []


def imbalance_notes(labels: Sequence[str], counts: Sequence[int], few: int, ratio: float) -> list[str]:
    """Sentences about classes with few photos, and about numbers that differ much."""
    notes = []
    if small := [f"{label} ({count})" for label, count in zip(labels, counts) if count < few]:
        notes.append(f"classes with fewer than {few} photos, whose figures say little: {', '.join(small)}")
    least, most = int(np.argmin(counts)), int(np.argmax(counts))
    if counts[most] > ratio * counts[least]:
        notes.append(
            f"{labels[most]} has {counts[most]} photos, {labels[least]} {counts[least]}: "
            "the classifier expects the same shares of the photos to come"
        )
    return notes
