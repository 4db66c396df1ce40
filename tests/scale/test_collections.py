from __future__ import annotations

from pathlib import Path
from typing import Any

import dask.bag
import dask.dataframe
import numpy as np
import pandas
import pytest

import npmnv2.scale
from npmnv2 import ArgumentError, ArgumentTypeError
from npmnv2.scale.job import Job


def names_of(photos: Path) -> list[str]:
    return [str(path) for path in sorted(photos.rglob("*.png"))]


def test_a_bag_of_names_gives_rows(model: Any, photos: Path) -> None:
    names = names_of(photos)
    found = npmnv2.scale.map(model, dask.bag.from_sequence(names, npartitions=3), top_k=1)
    rows = found.compute(scheduler="threads")
    assert rows == [
        {"source": None, "candidates": None, "error": None, **row} for row in Job(model, top_k=1).rows(names)
    ]


def test_a_dataframe_gets_columns(model: Any, photos: Path) -> None:
    names = names_of(photos)
    frame = pandas.DataFrame({"path": names, "year": range(len(names))}, index=range(10, 22))
    found = npmnv2.scale.map(model, dask.dataframe.from_pandas(frame, npartitions=3), "path", features=True)
    assert list(found.columns) == ["path", "year", "features", "error"]
    table = found.compute(scheduler="threads")
    assert table.index.equals(frame.index)
    assert table.error.notna().sum() == 1
    np.testing.assert_array_equal(np.stack(table.features[:2]), model.features(names[:2]))


def test_what_cannot_be_mapped(model: Any) -> None:
    frame = dask.dataframe.from_pandas(pandas.DataFrame({"path": ["a"]}), npartitions=1)
    with pytest.raises(ArgumentError, match=r"column \(='file'\) must be one of path"):
        npmnv2.scale.map(model, frame, "file")
    with pytest.raises(ArgumentError, match="left out for a bag"):
        npmnv2.scale.map(model, dask.bag.from_sequence(["a"]), "path")
    with pytest.raises(ArgumentTypeError, match="list"):
        npmnv2.scale.map(model, ["a"])
