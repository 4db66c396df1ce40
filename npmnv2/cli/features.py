"""``npmnv2 features``: vectors and feature maps of photos, as JSON lines or a file of arrays."""

from __future__ import annotations

import argparse
import csv
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from npmnv2.cli import tables
from npmnv2.cli.arguments import add_command, add_photos
from npmnv2.cli.console import log_stderr
from npmnv2.cli.photos import exit_code, find_photos, images_of, load_model, run_options, usable_results
from npmnv2.errors import ArgumentError, MissingPackageError
from npmnv2.files import check_target, printable, write_atomically
from npmnv2.kernels import Array

_EXAMPLES = (
    "features photos/ --out features.npz",
    "features cat.jpg --endpoint block_13_expand --out map.npy",
    "features photos/ -r --out features.parquet",
    "features 's3://bucket/**/*.jpg' --out features.parquet --workers 8",
)
_FEATURES = "features"


def add_to(commands: Any) -> None:
    """Add the command to the parser."""
    command = add_command(commands, "features", features, _EXAMPLES)
    add_photos(command)
    command.add_argument(
        "--endpoint", action="append", metavar="LAYER", help="such as block_13_expand; may be repeated"
    )
    forms = ", ".join(_WRITERS)
    command.add_argument("-o", "--out", metavar="FILE", help=f"write {forms} instead of JSON lines")
    tables.add_options(command)


def features(options: argparse.Namespace) -> int:
    """Embed photos, or read feature maps inside the network."""
    if tables.is_wanted(options):
        return tables.write(options, load_model(options), features=True)
    write = _writer(options)
    photos = find_photos(options)
    if not photos:
        return exit_code(0, 0)
    model = load_model(options)
    for endpoint in options.endpoint or ():
        model.plan.resolve(endpoint)  # one message here instead of one for every photo
    results = model.features(images_of(photos), options.endpoint, errors="return", **run_options(options))
    names, rows = [], []
    for photo, result in usable_results(results, photos, options):
        names.append(photo.name)
        if write:
            rows.append(result if options.endpoint else {_FEATURES: result})
        else:
            print(_json_line(photo.name, result))
    if write and rows:
        arrays = {name: np.stack([row[name] for row in rows]) for name in rows[0]}
        write(Path(options.out), names, arrays)
        log_stderr(f"wrote {', '.join(f'{k} {v.shape}' for k, v in arrays.items())} to {options.out}")
    return exit_code(len(names), len(photos))


def _json_line(name: str, result: Any) -> str:
    values = {key: value.tolist() for key, value in result.items()} if isinstance(result, dict) else result.tolist()
    return json.dumps({"source": name, "features": values}, ensure_ascii=False)


# --- files ------------------------------------------------------------------------------------------------------------

Writer = Callable[[Path, Sequence[str], dict[str, Array]], None]


def _writer(options: argparse.Namespace) -> Writer | None:
    """What writes the file that was asked for, after everything that can be checked before the network runs."""
    if options.out is None:
        return None
    suffix = Path(options.out).suffix.lower()
    if suffix not in _WRITERS:
        raise ArgumentError(f"--out (={options.out!r}) must end in {', '.join(_WRITERS)}")
    if suffix == ".npy" and len(options.endpoint or ()) > 1:
        raise ArgumentError("a .npy file holds one array: give one --endpoint, or write .npz")
    if suffix in (".csv", ".parquet") and options.endpoint:
        raise ArgumentError(f"a {suffix} file holds vectors, not the maps of --endpoint: write .npz")
    if suffix == ".parquet":
        _pyarrow()
    check_target(options.out)
    return _WRITERS[suffix]


def _write_npz(path: Path, names: Sequence[str], arrays: dict[str, Array]) -> None:
    with write_atomically(path) as temporary, temporary.open("wb") as file:
        np.savez(file, allow_pickle=False, source=np.array(names), **arrays)


def _write_npy(path: Path, names: Sequence[str], arrays: dict[str, Array]) -> None:
    (array,) = arrays.values()
    with write_atomically(path) as temporary, temporary.open("wb") as file:
        np.save(file, array, allow_pickle=False)


def _write_csv(path: Path, names: Sequence[str], arrays: dict[str, Array]) -> None:
    vectors = arrays[_FEATURES]
    with (
        write_atomically(path) as temporary,
        temporary.open("w", newline="", encoding="utf-8", errors="backslashreplace") as file,
    ):
        writer = csv.writer(file)
        writer.writerow(["source", *range(vectors.shape[1])])
        for name, vector in zip(names, vectors):
            writer.writerow([name, *map(str, vector)])


def _write_parquet(path: Path, names: Sequence[str], arrays: dict[str, Array]) -> None:
    pyarrow = _pyarrow()
    vectors = arrays[_FEATURES]
    # A name that is not valid UTF-8 has no place in a column of strings.
    sources = [printable(name) for name in names]
    columns = pyarrow.FixedSizeListArray.from_arrays(pyarrow.array(vectors.ravel()), vectors.shape[1])
    with write_atomically(path) as temporary:
        pyarrow.parquet.write_table(pyarrow.table({"source": sources, _FEATURES: columns}), str(temporary))


def _pyarrow() -> Any:
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError:
        raise MissingPackageError("a .parquet file needs PyArrow: pip install 'npmnv2[parquet]'") from None
    return pyarrow


_WRITERS: dict[str, Writer] = {
    ".npz": _write_npz,
    ".npy": _write_npy,
    ".csv": _write_csv,
    ".parquet": _write_parquet,
}
