"""What `predict` returns for a classifier: neat to print, easy to store."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, fields
from typing import Any, overload

import numpy as np

from npmnv2.kernels import Array, softmax


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


@dataclass(frozen=True)
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
    logits: Array = field(default_factory=lambda: np.empty(0), repr=False, compare=False)

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

    def __str__(self) -> str:
        """A table: rank by rank score, index, WordNet id and label."""
        lines = [self.source] if self.source else []
        known = any(candidate.wnid for candidate in self.candidates)
        for candidate in self.candidates:
            wnid = f"{candidate.wnid or '':9}  " if known else ""
            lines.append(f"  {candidate.score:6.1%}  {candidate.index:4d}  {wnid}{candidate.label}")
        return "\n".join(lines)

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return {"source": self.source, "candidates": [asdict(candidate) for candidate in self.candidates]}

    def to_json(self) -> str:
        """One line of JSON."""
        return json.dumps(self.to_dict(), ensure_ascii=False)

    def to_csv(self, header: bool = True) -> str:
        """Lines of CSV: source, rank, index, wnid, label, score."""
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        if header:
            writer.writerow(["source", "rank", *(f.name for f in fields(Candidate))])
        for rank, candidate in enumerate(self.candidates, start=1):
            *identity, score = asdict(candidate).values()
            writer.writerow([self.source or "", rank, *identity, f"{score:.6f}"])
        return text.getvalue()
