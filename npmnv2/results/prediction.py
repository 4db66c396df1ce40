"""What `predict` returns for a classifier: neat to print, easy to store."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import astuple, dataclass, field, fields
from typing import TypedDict, overload

import numpy as np

from npmnv2.kernels import Array, softmax
from npmnv2.results.tables import csv_lines, html_figure, json_line, percent

# Candidates that a repr shows.
_SHOWN = 2


class CandidateDict(TypedDict):
    """`Candidate` as plain values."""

    index: int
    wnid: str | None
    label: str
    score: float


class PredictionDict(TypedDict):
    """`Prediction` as plain values."""

    source: str | None
    candidates: list[CandidateDict]


@dataclass(frozen=True)
class Candidate:
    """One class of a prediction.

    Attributes
    ----------
    index : int
        Number of the class in the model; with 1001 classes 0 is the background.
    wnid : str or None
        WordNet id, for ImageNet's classes. Names are not unique, ids are.
    label : str
    score : float
        Probability, 0…1.
    """

    index: int
    wnid: str | None
    label: str
    score: float

    def to_dict(self) -> CandidateDict:
        """Plain values, for JSON."""
        return CandidateDict(index=self.index, wnid=self.wnid, label=self.label, score=self.score)


@dataclass(frozen=True, repr=False)
class Prediction(Sequence[Candidate]):
    """The likeliest classes of one image, best first.

    Attributes
    ----------
    candidates : tuple of Candidate
    source : str or None
        Name of the file.
    logits : Array [shape=(classes,)]
        Scores of all classes before softmax.
    """

    candidates: tuple[Candidate, ...]
    source: str | None = None
    logits: Array = field(default_factory=lambda: np.empty(0), compare=False)

    @classmethod
    def from_logits(
        cls,
        logits: Array,
        labels: Sequence[str],
        top_k: int = 5,
        source: str | None = None,
        wnids: Sequence[str | None] | None = None,
    ) -> Prediction:
        """Rank the classes of one image; equal scores rank by index."""
        scores = softmax(logits)
        order = np.argsort(-scores, kind="stable")[:top_k]
        found = (Candidate(int(i), wnids[i] if wnids else None, labels[i], float(scores[i])) for i in order)
        return cls(tuple(found), source, logits)

    @overload
    def __getitem__(self, index: int) -> Candidate: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[Candidate, ...]: ...
    def __getitem__(self, index: int | slice) -> Candidate | tuple[Candidate, ...]:
        """Candidate by rank."""
        return self.candidates[index]

    def __len__(self) -> int:
        return len(self.candidates)

    @property
    def top(self) -> Candidate:
        """The likeliest class."""
        return self.candidates[0]

    def __repr__(self) -> str:
        """The file and the first classes."""
        shown = [f"{percent(c.score)} {c.label}" for c in self.candidates[:_SHOWN]]
        more = [f"… {len(self) - _SHOWN} more"] if len(self) > _SHOWN else []
        return f"<Prediction{f' {self.source}' if self.source else ''}: {', '.join([*shown, *more])}>"

    def __str__(self) -> str:
        """A table: rank by rank score, index, WordNet id and label."""
        lines = [self.source] if self.source else []
        known = any(candidate.wnid for candidate in self.candidates)
        for candidate in self.candidates:
            wnid = f"{candidate.wnid or '':9}  " if known else ""
            lines.append(f"  {percent(candidate.score):>6}  {candidate.index:4d}  {wnid}{candidate.label}")
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        """The photo, if it is a file that is still there, and the table: what notebooks show."""
        from npmnv2.results.pictures import thumbnail_of_file

        rows = [(percent(c.score), str(c.index), c.wnid or "", c.label) for c in self.candidates]
        return html_figure(self.source or "", thumbnail_of_file(self.source), rows)

    def to_dict(self) -> PredictionDict:
        """Plain values, for JSON."""
        return PredictionDict(source=self.source, candidates=[candidate.to_dict() for candidate in self.candidates])

    def to_json(self) -> str:
        """One line of JSON."""
        return json_line(self.to_dict())

    def to_csv(self, header: bool = True) -> str:
        """Lines of CSV: source, rank, index, wnid, label, score."""
        columns = ["source", "rank", *(f.name for f in fields(Candidate))]
        rows = ([self.source or "", rank, *astuple(c)] for rank, c in enumerate(self.candidates, start=1))
        return csv_lines(columns, rows, header)
