"""MobileNetV2 in pure NumPy with Numba kernels: classification, segmentation, detection and features on a CPU.

>>> import npmnv2
>>> model = npmnv2.load("mobilenet_v2_1.0_224")     # doctest: +SKIP
>>> print(model.predict("cat.jpg"))                 # doctest: +SKIP
"""

from __future__ import annotations

import importlib
import os.path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from npmnv2.errors import ArgumentError as ArgumentError
    from npmnv2.errors import ArgumentTypeError as ArgumentTypeError
    from npmnv2.errors import ImageError as ImageError
    from npmnv2.errors import IndexFileError as IndexFileError
    from npmnv2.errors import MissingPackageError as MissingPackageError
    from npmnv2.errors import Npmnv2Error as Npmnv2Error
    from npmnv2.errors import OfflineError as OfflineError
    from npmnv2.errors import WeightsError as WeightsError
    from npmnv2.hub.fetch import cache_info as cache_info
    from npmnv2.hub.fetch import clear_cache as clear_cache
    from npmnv2.hub.fetch import download as download
    from npmnv2.hub.fetch import fetch as fetch
    from npmnv2.images.processor import MobileNetV2FeatureExtractor as MobileNetV2FeatureExtractor
    from npmnv2.images.processor import MobileNetV2ImageProcessor as MobileNetV2ImageProcessor
    from npmnv2.lab.compare import compare as compare
    from npmnv2.learn.teaching import TaughtClassifier as TaughtClassifier
    from npmnv2.learn.teaching import teach as teach
    from npmnv2.learn.transformer import MobileNetV2Features as MobileNetV2Features
    from npmnv2.loading import load as load
    from npmnv2.models.classification import MobileNetV2ForImageClassification as MobileNetV2ForImageClassification
    from npmnv2.models.detection import MobileNetV2ForObjectDetection as MobileNetV2ForObjectDetection
    from npmnv2.models.features import MobileNetV2Model as MobileNetV2Model
    from npmnv2.models.segmentation import MobileNetV2ForSemanticSegmentation as MobileNetV2ForSemanticSegmentation
    from npmnv2.network.config import MobileNetV2Config as MobileNetV2Config
    from npmnv2.results.detection import Detections as Detections
    from npmnv2.results.prediction import Prediction as Prediction
    from npmnv2.results.segmentation import Segmentation as Segmentation
    from npmnv2.results.similarity import DuplicateGroup as DuplicateGroup
    from npmnv2.results.similarity import SimilarPhotos as SimilarPhotos
    from npmnv2.results.teaching import TeachingReport as TeachingReport
    from npmnv2.similarity.search import duplicates as duplicates
    from npmnv2.similarity.search import similar as similar

__version__ = "0.1.0"

# An installation has `kernels` and `weights_tools` in here. A checkout has them beside this folder, and Python started
# in its root imports it instead of the installation.
if not os.path.isdir(os.path.join(__path__[0], "kernels")):
    __path__.append(os.path.dirname(__path__[0]))

# Imported when first used, so that `import npmnv2` costs next to nothing and each part needs only what it uses.
_MODULES = {
    "ArgumentError": "errors",
    "ArgumentTypeError": "errors",
    "Detections": "results.detection",
    "DuplicateGroup": "results.similarity",
    "ImageError": "errors",
    "IndexFileError": "errors",
    "MobileNetV2Config": "network.config",
    "MobileNetV2FeatureExtractor": "images.processor",
    "MobileNetV2Features": "learn.transformer",
    "MobileNetV2ForImageClassification": "models.classification",
    "MobileNetV2ForObjectDetection": "models.detection",
    "MobileNetV2ForSemanticSegmentation": "models.segmentation",
    "MobileNetV2ImageProcessor": "images.processor",
    "MissingPackageError": "errors",
    "MobileNetV2Model": "models.features",
    "Npmnv2Error": "errors",
    "OfflineError": "errors",
    "Prediction": "results.prediction",
    "Segmentation": "results.segmentation",
    "SimilarPhotos": "results.similarity",
    "TaughtClassifier": "learn.teaching",
    "TeachingReport": "results.teaching",
    "WeightsError": "errors",
    "cache_info": "hub.fetch",
    "clear_cache": "hub.fetch",
    "compare": "lab.compare",
    "download": "hub.fetch",
    "duplicates": "similarity.search",
    "fetch": "hub.fetch",
    "load": "loading",
    "similar": "similarity.search",
    "teach": "learn.teaching",
}

__all__ = [
    "ArgumentError",
    "ArgumentTypeError",
    "Detections",
    "DuplicateGroup",
    "ImageError",
    "IndexFileError",
    "MissingPackageError",
    "MobileNetV2Config",
    "MobileNetV2FeatureExtractor",
    "MobileNetV2Features",
    "MobileNetV2ForImageClassification",
    "MobileNetV2ForObjectDetection",
    "MobileNetV2ForSemanticSegmentation",
    "MobileNetV2ImageProcessor",
    "MobileNetV2Model",
    "Npmnv2Error",
    "OfflineError",
    "Prediction",
    "Segmentation",
    "SimilarPhotos",
    "TaughtClassifier",
    "TeachingReport",
    "WeightsError",
    "__version__",
    "cache_info",
    "clear_cache",
    "compare",
    "download",
    "duplicates",
    "fetch",
    "load",
    "similar",
    "teach",
]


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module 'npmnv2' has no attribute {name!r}")
    return getattr(importlib.import_module(f"npmnv2.{_MODULES[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
