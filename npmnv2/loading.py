"""`load`: from a name or a file to a model."""

from __future__ import annotations

import os
from typing import Any

from numpy.typing import DTypeLike

from npmnv2.errors import WeightsError
from npmnv2.hub.locate import locate
from npmnv2.models.base import MobileNetV2PreTrainedModel
from npmnv2.models.classification import MobileNetV2ForImageClassification
from npmnv2.models.features import MobileNetV2Model
from npmnv2.models.segmentation import MobileNetV2ForSemanticSegmentation
from npmnv2.weights.readers import read_checkpoint

_CLASSES: dict[str, type[MobileNetV2PreTrainedModel]] = {
    cls.task: cls for cls in (MobileNetV2Model, MobileNetV2ForImageClassification, MobileNetV2ForSemanticSegmentation)
}


def load(
    name_or_path: str | os.PathLike[str],
    *,
    backend: str = "auto",
    dtype: DTypeLike = "float32",
    n_threads: int | None = None,
    source: str | None = None,
    cache_dir: str | os.PathLike[str] | None = None,
    local_files_only: bool = False,
) -> Any:
    """Load a model by its name, downloading it where it is not in the cache, or from a file or directory.

    Parameters
    ----------
    name_or_path : str or path
        A name such as ``"mobilenet_v2_1.0_224"`` (``npmnv2 list`` shows all), a file in any format that npmnv2
        reads, or a directory made by ``save_pretrained``.
    backend : {"auto", "numba", "numpy"}
        "auto" is Numba where it is installed.
    dtype : {"float32", "float64"}
    n_threads : int, optional
        All CPUs that this process may use if not given.
    source : str, optional
        ``"keras"`` for Keras's version of a checkpoint (1000 classes).
    cache_dir : path, optional
        Where downloads are kept.
    local_files_only : bool
        Never use the network.

    Returns
    -------
    MobileNetV2ForImageClassification, MobileNetV2ForSemanticSegmentation or MobileNetV2Model
        By what the file holds.

    Raises
    ------
    ArgumentError
        If the name is unknown; the message has the nearest names.
    FileNotFoundError, WeightsError, OfflineError
    """
    path = locate(name_or_path, source=source, cache_dir=cache_dir, local_files_only=local_files_only)
    checkpoint = read_checkpoint(path)
    if checkpoint.task not in _CLASSES:
        raise WeightsError(f"{path} must hold a model for {' or '.join(_CLASSES)}, got {checkpoint.task}")
    options = {"backend": backend, "dtype": dtype, "n_threads": n_threads}
    return _CLASSES[checkpoint.task].from_checkpoint(checkpoint, str(path), **options)
