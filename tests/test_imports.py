"""What a first prediction does not import: every module here costs the time or memory of a new process."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from npmnv2 import MobileNetV2Config, MobileNetV2ForImageClassification, MobileNetV2ImageProcessor
from npmnv2.weights.native import WEIGHTS_FILE

# By who needs them: downloads, foreign files, pictures, quantized networks, messages.
DOWNLOADS = ("requests", "pooch", "tqdm", "platformdirs", "tarfile", "zipfile", "ssl", "socket", "urllib.request")
FILES = ("h5py", "subprocess", "tempfile", "shutil", "npmnv2.weights_tools", "npmnv2.hub.fetch", "npmnv2.hub.registry")
PICTURES = ("npmnv2.results.pictures", "PIL", "matplotlib", "csv", "html")
QUANTIZED = (
    "npmnv2.kernels.quantized",
    "npmnv2.backends.integers",
    "npmnv2.network.quantization",
    "npmnv2.weights.calibration",
)
TASKS = ("npmnv2.models.segmentation", "npmnv2.models.features", "npmnv2.results.segmentation")
OTHERS = ("numba", "llvmlite", "logging", "difflib", "importlib.metadata", "importlib.resources", "npmnv2.lab")
LEFT_OUT = (*DOWNLOADS, *FILES, *PICTURES, *QUANTIZED, *TASKS, *OTHERS)

# Prints which of the modules that the arguments name are imported by what stands before it, beyond NumPy's.
REPORT = "print(*[name for name in sys.argv[2:] if name in sys.modules and name not in known], sep='\\n')"
NUMPY = "import sys, numpy as np; known = set(sys.modules)"
PREDICT = "import npmnv2; print(npmnv2.load(sys.argv[1], backend={backend!r}).predict({image})[0].index >= 0)"


@pytest.fixture(scope="module")
def model_file(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("model")
    config = MobileNetV2Config(depth_multiplier=0.35, image_size=32, num_labels=3)
    processor = MobileNetV2ImageProcessor.preset("slim", 32)  # whose resize is ours; that of others is Pillow's
    MobileNetV2ForImageClassification(config, seed=0, backend="numpy", processor=processor).save_pretrained(folder)
    return str(folder / WEIGHTS_FILE)


def run(code: str, *arguments: str) -> list[str]:
    command = [sys.executable, "-c", code, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


def imported(backend: str, image: str, file: str, names: tuple[str, ...]) -> list[str]:
    predict = PREDICT.format(backend=backend, image=image)
    first, *found = run("\n".join([NUMPY, predict, REPORT]), file, *names)
    assert first == "True"
    return found


ARRAY = "np.zeros((32, 32, 3), np.uint8)"


def test_an_array_needs_numpy_alone(model_file: str) -> None:
    assert imported("numpy", ARRAY, model_file, LEFT_OUT) == []


def test_the_native_library_needs_no_more(model_file: str) -> None:
    from npmnv2.kernels.host.engine import library_engine

    if library_engine("", "float") is None:
        pytest.skip("needs the native kernels")
    assert imported("compiled", ARRAY, model_file, LEFT_OUT) == []


def test_a_photo_needs_pillow_and_its_usual_formats_alone(model_file: str, tmp_path: Path) -> None:
    from PIL import Image

    photo = tmp_path / "photo.png"
    Image.new("RGB", (40, 35)).save(photo)
    names = (
        *DOWNLOADS,
        *QUANTIZED,
        "PIL",
        "PIL.PngImagePlugin",
        "PIL.TiffImagePlugin",
        "PIL.WebPImagePlugin",
        "PIL.ImageDraw",
    )
    assert imported("numpy", repr(str(photo)), model_file, names) == ["PIL", "PIL.PngImagePlugin"]


def test_the_package_itself_needs_nothing() -> None:
    code = "\n".join(["import sys; known = set(sys.modules)", "import npmnv2", REPORT])
    assert run(code, "", "numpy", "npmnv2.errors", "npmnv2.loading", "json", "dataclasses", *LEFT_OUT) == []
