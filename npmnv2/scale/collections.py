"""The rows of a table inside a computation of Dask's: on a bag of names, or on a column of a dataframe."""

from __future__ import annotations

from typing import Any

from npmnv2.errors import ArgumentError, ArgumentTypeError
from npmnv2.models.base import MobileNetV2PreTrainedModel
from npmnv2.scale.job import Job
from npmnv2.scale.table import ERROR, SOURCE, pyarrow


def map(
    model: MobileNetV2PreTrainedModel,
    photos: Any,
    column: str | None = None,
    *,
    features: bool = False,
    masks: bool = False,
    **options: Any,
) -> Any:
    """Predict, or embed, the photos of a Dask collection; lazily, as all of Dask.

    Parameters
    ----------
    model : MobileNetV2PreTrainedModel
        Travels once with the graph. Load it with ``n_threads=1`` where tasks run beside each other.
    photos : dask.bag.Bag or dask.dataframe.DataFrame
        Names: paths, or URLs of fsspec.
    column : str, optional
        The column of names, of a dataframe.
    features, masks : bool
        As in `write_table`.
    **options
        Of the model's `predict` or `features`.

    Returns
    -------
    dask.bag.Bag or dask.dataframe.DataFrame
        Of a bag, dictionaries of the columns of `write_table`. Of a dataframe, itself with these columns but `source`.

    Examples
    --------
    >>> import dask.bag
    >>> names = dask.bag.from_sequence(["cats/1.jpg", "cats/2.jpg"])
    >>> npmnv2.scale.map(npmnv2.load(n_threads=1), names).pluck("candidates")  # doctest: +SKIP
    """
    from dask.delayed import delayed

    job = Job(model, features, masks, **options)
    travelling = delayed(job)
    if hasattr(photos, "map_partitions") and not hasattr(photos, "columns") and hasattr(photos, "pluck"):
        if column is not None:
            raise ArgumentError(f"column (={column!r}) must be left out for a bag")
        return photos.map_partitions(_rows, travelling)
    if not (hasattr(photos, "map_partitions") and hasattr(photos, "columns")):
        raise ArgumentTypeError(f"photos must be a Dask bag or dataframe, got {type(photos).__name__}")
    if column not in photos.columns:
        raise ArgumentError(f"column (={column!r}) must be one of {', '.join(photos.columns)}")
    return photos.map_partitions(_with_columns, travelling, column, meta=_joined(photos._meta, job.columns, []))


def _rows(names: Any, job: Job) -> list[dict[str, Any]]:
    empty = dict.fromkeys(job.columns.names)
    return [{**empty, **row} for row in job.rows(list(names))]


def _with_columns(frame: Any, job: Job, column: str) -> Any:
    return _joined(frame, job.columns, list(job.rows(list(frame[column]))))


def _joined(frame: Any, columns: Any, rows: list[dict[str, Any]]) -> Any:
    """A frame with the columns of rows beside its own."""
    own = pyarrow().Table.from_pylist(rows, columns).drop_columns([SOURCE]).to_pandas()
    own.index = frame.index[: len(own)]
    return frame.join(own.astype({ERROR: object}))
