"""Results as tables: one row per photo, with the columns of ``--json`` and the error of a photo that has no result.

Written as Parquet, equal rows give equal bytes with one version of PyArrow.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from npmnv2.errors import ArgumentError, MissingPackageError
from npmnv2.files import printable

SOURCE, ERROR, FEATURES, MASK = "source", "error", "features", "mask"
# Python names objects by their place in memory, which is another one in each run.
_ADDRESS = re.compile(r" at 0x[0-9a-f]+")


def pyarrow() -> Any:
    """The module.

    Raises
    ------
    MissingPackageError
    """
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError:
        raise MissingPackageError("a table needs PyArrow: pip install 'npmnv2[scale]'") from None
    return pyarrow


def schema(task: str, masks: bool = False) -> Any:
    """Columns of a table.

    Parameters
    ----------
    task : {"classification", "segmentation", "detection", "features"}
    masks : bool
        Add a column of PNG files, for segmentation.

    Returns
    -------
    pyarrow.Schema
        ``source``, what `npmnv2.results` calls its values, and ``error``. All but ``source`` may be null.
    """
    pa = pyarrow()
    text, integer, single, double = pa.string(), pa.int32(), pa.float32(), pa.float64()
    pixels = pa.int64()
    columns = {
        "classification": {"candidates": {"index": integer, "wnid": text, "label": text, "score": single}},
        "detection": {"detections": {"label": text, "id": integer, "score": single, "box": pa.list_(double, 4)}},
        "segmentation": {
            "width": integer,
            "height": integer,
            "legend": {"index": integer, "label": text, "color": text, "pixels": pixels, "share": double},
        },
        # Not of a fixed size: PyArrow 19 cannot read such beside a null.
        FEATURES: {FEATURES: pa.list_(single)},
    }
    if task not in columns:
        raise ArgumentError(f"task (={task!r}) must be one of {', '.join(columns)}")
    own = {n: pa.list_(pa.struct(list(t.items()))) if isinstance(t, dict) else t for n, t in columns[task].items()}
    if masks:
        own[MASK] = pa.binary()
    return pa.schema([pa.field(SOURCE, text, nullable=False), *own.items(), (ERROR, text)])


def row(name: str, result: Any, masks: bool = False) -> dict[str, Any]:
    """Values of one photo: of a result, of a vector of features, or of the exception in its place."""
    source = printable(name)
    if isinstance(result, Exception):
        message = printable(f"{type(result).__name__}: {result}")
        return {SOURCE: source, ERROR: _ADDRESS.sub("", message)}
    if not hasattr(result, "to_dict"):
        return {SOURCE: source, FEATURES: result}
    values = {**result.to_dict(), SOURCE: source}
    return {**values, MASK: _png(result)} if masks else values


def _png(result: Any) -> bytes:
    from io import BytesIO

    file = BytesIO()
    result.to_image().save(file, "PNG")
    return file.getvalue()


def parquet(rows: Iterable[dict[str, Any]], columns: Any) -> bytes:
    """The bytes of a Parquet file of one row group."""
    pa = pyarrow()
    table = pa.Table.from_pylist(list(rows), columns)
    sink = pa.BufferOutputStream()
    pa.parquet.write_table(table, sink, compression="zstd", row_group_size=max(1, len(table)))
    return sink.getvalue().to_pybytes()  # type: ignore[no-any-return]
