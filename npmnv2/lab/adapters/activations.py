"""Activations that anything dumped: arrays by name, in memory or in an `.npz` or `.h5` file."""

from __future__ import annotations

import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from npmnv2.errors import WeightsError
from npmnv2.kernels import Array
from npmnv2.lab.adapters.interface import Adapter
from npmnv2.lab.alignment import Tap
from npmnv2.weights import hdf5
from npmnv2.weights.readers import detect_format


class Activations(Adapter):
    """Arrays by name. They were computed from an input that only their maker knows; an array ``image`` says which.

    Parameters
    ----------
    values : mapping of str to array
    label : str
    """

    runtime: ClassVar[str] = "activations"

    def __init__(self, values: Mapping[str, Any], label: str = "activations") -> None:
        self.values = {str(name): np.asarray(value) for name, value in values.items()}
        self.label = label

    @classmethod
    def from_file(cls, path: str | Path) -> Activations:
        """Read an `.npz` or `.h5` file.

        Raises
        ------
        FileNotFoundError
        WeightsError
            If it is neither, or damaged.
        """
        path = Path(path)
        if detect_format(path) == "hdf5":
            arrays = hdf5.File.open(path).arrays()
            found = {array.path: array.values() for array in arrays if array.dtype is not None}
        else:
            found = _read_npz(path)
        return cls(found, f"{path.name} (activations)")

    def taps(self, x: Array) -> list[Tap]:
        """The arrays, whatever `x` is."""
        numbers = {name: value for name, value in self.values.items() if value.dtype.kind in "fiu"}
        return [Tap(name, value) for name, value in numbers.items()]


def _read_npz(path: Path) -> dict[str, Array]:
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
            return {name: archive[name] for name in archive.files}
    except (ValueError, OSError, zipfile.BadZipFile, AttributeError) as error:
        raise WeightsError(f"{path} must be an .npz or .h5 file of named arrays: {error}") from None
