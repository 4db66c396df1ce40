"""`load`: from a name or a file to a model."""

from __future__ import annotations

import os
from importlib import import_module
from typing import TYPE_CHECKING, Any, Literal, TypedDict, overload

from numpy.typing import DTypeLike

from npmnv2.errors import ArgumentError, WeightsError
from npmnv2.hub import PACKAGED
from npmnv2.hub.locate import locate
from npmnv2.weights.readers import read_checkpoint

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from npmnv2.models.base import MobileNetV2PreTrainedModel
    from npmnv2.models.classification import MobileNetV2ForImageClassification
    from npmnv2.models.detection import MobileNetV2ForObjectDetection
    from npmnv2.models.features import MobileNetV2Model
    from npmnv2.models.segmentation import MobileNetV2ForSemanticSegmentation

Task = Literal["classification", "segmentation", "detection", "features"]
Backend = Literal["auto", "compiled", "numba", "numpy"]
Precision = Literal["float32", "bf16"]
Arithmetic = Literal["xnnpack", "reference", "fakequant"]
Source = Literal["tensorflow", "keras", "huggingface", "pypi", "package"]

# Module and class by task, imported when a file needs it.
_CLASSES = {
    "features": ("npmnv2.models.features", "MobileNetV2Model"),
    "classification": ("npmnv2.models.classification", "MobileNetV2ForImageClassification"),
    "segmentation": ("npmnv2.models.segmentation", "MobileNetV2ForSemanticSegmentation"),
    "detection": ("npmnv2.models.detection", "MobileNetV2ForObjectDetection"),
}

# The registry's names, so that a type checker and an editor know what `load` returns for each.
ClassifierName = Literal[
    "mobilenet_v2_1.4_224", "mobilenet_v2_1.3_224", "mobilenet_v2_1.0_224", "mobilenet_v2_1.0_192",
    "mobilenet_v2_1.0_160", "mobilenet_v2_1.0_128", "mobilenet_v2_1.0_96", "mobilenet_v2_0.75_224",
    "mobilenet_v2_0.75_192", "mobilenet_v2_0.75_160", "mobilenet_v2_0.75_128", "mobilenet_v2_0.75_96",
    "mobilenet_v2_0.5_224", "mobilenet_v2_0.5_192", "mobilenet_v2_0.5_160", "mobilenet_v2_0.5_128",
    "mobilenet_v2_0.5_96", "mobilenet_v2_0.35_224", "mobilenet_v2_0.35_192", "mobilenet_v2_0.35_160",
    "mobilenet_v2_0.35_128", "mobilenet_v2_0.35_96", "google/mobilenet_v2_1.4_224", "google/mobilenet_v2_1.0_224",
    "google/mobilenet_v2_0.75_160", "google/mobilenet_v2_0.35_96", "dogs19_mobilenet_v2_1.0_160",
    "mobilenet_v2_1.0_224_quant",
]  # fmt: skip
SegmenterName = Literal[
    "deeplabv3_mnv2_pascal_train_aug", "deeplabv3_mnv2_pascal_trainval", "deeplabv3_mnv2_dm05_pascal_trainaug",
    "deeplabv3_mnv2_dm05_pascal_trainval", "deeplabv3_mnv2_cityscapes_train", "deeplabv3_mnv2_ade20k_train",
    "google/deeplabv3_mobilenet_v2_1.0_513",
]  # fmt: skip
DetectorName = Literal["ssdlite_mobilenet_v2_coco", "ssd_mobilenet_v2_coco", "pedestrian_ssdlite_mobilenet_v2"]
BackboneName = Literal[
    "mobilenet_v2_1.4_224_no_top", "mobilenet_v2_1.3_224_no_top", "mobilenet_v2_1.0_224_no_top",
    "mobilenet_v2_1.0_192_no_top", "mobilenet_v2_1.0_160_no_top", "mobilenet_v2_1.0_128_no_top",
    "mobilenet_v2_1.0_96_no_top", "mobilenet_v2_0.75_224_no_top", "mobilenet_v2_0.75_192_no_top",
    "mobilenet_v2_0.75_160_no_top", "mobilenet_v2_0.75_128_no_top", "mobilenet_v2_0.75_96_no_top",
    "mobilenet_v2_0.5_224_no_top", "mobilenet_v2_0.5_192_no_top", "mobilenet_v2_0.5_160_no_top",
    "mobilenet_v2_0.5_128_no_top", "mobilenet_v2_0.5_96_no_top", "mobilenet_v2_0.35_224_no_top",
    "mobilenet_v2_0.35_192_no_top", "mobilenet_v2_0.35_160_no_top", "mobilenet_v2_0.35_128_no_top",
    "mobilenet_v2_0.35_96_no_top",
]  # fmt: skip


class LoadOptions(TypedDict, total=False):
    """Options of `load`, for type checkers."""

    backend: Backend
    dtype: DTypeLike
    precision: Precision
    n_threads: int | None
    arithmetic: Arithmetic | None
    source: Source | None
    cache_dir: str | os.PathLike[str] | None
    local_files_only: bool


@overload
def load(
    name_or_path: ClassifierName = ..., *, task: Literal["classification"] | None = ..., **options: Unpack[LoadOptions]
) -> MobileNetV2ForImageClassification: ...
@overload
def load(
    name_or_path: SegmenterName, *, task: Literal["segmentation"] | None = ..., **options: Unpack[LoadOptions]
) -> MobileNetV2ForSemanticSegmentation: ...
@overload
def load(
    name_or_path: DetectorName, *, task: Literal["detection"] | None = ..., **options: Unpack[LoadOptions]
) -> MobileNetV2ForObjectDetection: ...
@overload
def load(
    name_or_path: BackboneName, *, task: Literal["features"] | None = ..., **options: Unpack[LoadOptions]
) -> MobileNetV2Model: ...
@overload
def load(
    name_or_path: str | os.PathLike[str], *, task: Literal["classification"], **options: Unpack[LoadOptions]
) -> MobileNetV2ForImageClassification: ...
@overload
def load(
    name_or_path: str | os.PathLike[str], *, task: Literal["segmentation"], **options: Unpack[LoadOptions]
) -> MobileNetV2ForSemanticSegmentation: ...
@overload
def load(
    name_or_path: str | os.PathLike[str], *, task: Literal["detection"], **options: Unpack[LoadOptions]
) -> MobileNetV2ForObjectDetection: ...
@overload
def load(
    name_or_path: str | os.PathLike[str], *, task: Literal["features"], **options: Unpack[LoadOptions]
) -> MobileNetV2Model: ...
@overload
def load(name_or_path: str | os.PathLike[str], *, task: None = ..., **options: Unpack[LoadOptions]) -> Any: ...
def load(
    name_or_path: str | os.PathLike[str] = PACKAGED,
    *,
    task: Task | None = None,
    backend: str = "auto",
    dtype: DTypeLike = "float32",
    precision: str = "float32",
    n_threads: int | None = None,
    arithmetic: str | None = None,
    source: str | None = None,
    cache_dir: str | os.PathLike[str] | None = None,
    local_files_only: bool = False,
) -> Any:
    """Load a model by name, from a file or from a directory. A name that is not in the cache is downloaded.

    Parameters
    ----------
    name_or_path : str or path
        A name such as ``"mobilenet_v2_1.0_224"`` (``npmnv2 list`` shows all), a file in any format that npmnv2
        reads, or a directory made by ``save_pretrained``. Without it, the ImageNet classifier that comes with the
        package: the official 8-bit ``mobilenet_v2_1.0_224_quant``, which needs no network.
    task : {"classification", "segmentation", "detection", "features"}, optional
        What the model must be for. "features" takes the backbone of a classifier. Without it the file decides, and a
        type checker knows the class of the result for the registry's names only.
    backend : {"auto", "compiled", "numba", "numpy"}
        "auto" is Numba where it is installed.
    dtype : {"float32", "float64"}
    precision : {"float32", "bf16"}
        What the products of a float32 network multiply. "bf16" rounds weights and maps to bfloat16, 8 bits of mantissa:
        faster where a processor has AVX-512 BF16, an error where it has not, and never chosen by itself since results
        differ (docs/numerics.md).
    n_threads : int, optional
        All CPUs that this process may use if not given.
    arithmetic : {"xnnpack", "reference", "fakequant"}, optional
        How a quantized network rounds: as LiteRT does on x86 (the default), as TensorFlow Lite's reference kernels, or
        in float32 as it was trained.
    source : str, optional
        ``"keras"`` for Keras's version of a checkpoint (1000 classes).
    cache_dir : path, optional
        Where downloads are kept.
    local_files_only : bool
        Never use the network.

    Returns
    -------
    MobileNetV2ForImageClassification, MobileNetV2ForSemanticSegmentation, MobileNetV2ForObjectDetection or
    MobileNetV2Model
        By `task`, or else by what the file holds.

    Raises
    ------
    ArgumentError
        If the name is unknown; the message has the nearest names.
    WeightsError
        If the file cannot be used, or is for a different task.
    FileNotFoundError, OfflineError
    """
    if task is not None and task not in _CLASSES:
        raise ArgumentError(f"task (={task!r}) must be one of {', '.join(sorted(_CLASSES))}")
    path = locate(name_or_path, source=source, cache_dir=cache_dir, local_files_only=local_files_only)
    checkpoint = read_checkpoint(path)
    if checkpoint.task not in _CLASSES:
        raise WeightsError(f"{path} must hold a model for {' or '.join(_CLASSES)}, got {checkpoint.task}")
    options = {
        "backend": backend, "dtype": dtype, "precision": precision, "n_threads": n_threads, "arithmetic": arithmetic,
    }  # fmt: skip
    return _class_for(task or checkpoint.task).from_checkpoint(checkpoint, str(path), **options)


def _class_for(task: str) -> type[MobileNetV2PreTrainedModel]:
    module, name = _CLASSES[task]
    found: type[MobileNetV2PreTrainedModel] = getattr(import_module(module), name)
    return found
