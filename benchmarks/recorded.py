"""The comparisons that the documentation shows, and the files in which their figures are kept."""

from __future__ import annotations

import itertools
import json
import statistics
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).parent.parent
RESULTS = ROOT / "benchmarks" / "results"


class Work(NamedTuple):
    """What is timed: arguments of peers.py."""

    model: str
    batch: int
    threads: int
    task: str = "classify"
    numbers: str = "float32"

    @property
    def file(self) -> Path:
        model = self.model if self.numbers == "float32" else f"{self.model}_{self.numbers}"
        return RESULTS / f"{self.task}_{model}_batch{self.batch}_threads{self.threads}.json"

    def __str__(self) -> str:
        task = {"classify": "", "segment": "DeepLabV3 ", "detect": "SSDLite "}[self.task]
        threads = "1 thread" if self.threads == 1 else f"{self.threads} threads"
        numbers = "" if self.numbers == "float32" else f" {self.numbers}"
        return f"{task}{self.model}{numbers}, batch {self.batch}, {threads}"


WORKS = (
    Work("1.0_224", 1, 1),
    Work("1.0_224", 1, 2),
    Work("1.0_224", 32, 1),
    Work("1.0_224", 32, 2),
    Work("1.4_224", 1, 1),
    Work("0.35_96", 1, 1),
    Work("1.0_513", 1, 1, "segment"),
    Work("1.0_513", 1, 2, "segment"),
    Work("1.0_300", 1, 1, "detect"),
    Work("1.0_300", 1, 2, "detect"),
)
INTEGER_WORKS = (
    Work("1.0_224", 1, 1, numbers="uint8"),
    Work("1.0_224", 1, 2, numbers="uint8"),
    Work("1.0_224", 1, 1, numbers="int8"),
    Work("1.0_224", 1, 2, numbers="int8"),
    Work("1.0_224", 32, 1, numbers="int8"),
    Work("1.0_224", 32, 2, numbers="int8"),
    Work("1.0_513", 1, 1, "segment", "uint8"),
    Work("1.0_513", 1, 2, "segment", "uint8"),
)
BFLOAT16_WORKS = (
    *(Work("1.0_224", batch, threads, numbers="bf16") for batch in (1, 32) for threads in (1, 2)),
    *(Work("1.0_513", 1, threads, "segment", "bf16") for threads in (1, 2)),
)
# The grid: all official classifiers by all batches and threads, and what runs on one image at a time.
OFFICIAL = (
    *(f"{m}_{s}" for m, s in itertools.product(("0.35", "0.5", "0.75", "1.0"), (96, 128, 160, 192, 224))),
    "1.3_224",
    "1.4_224",
)
COLUMNS = ((1, 1), (1, 2), (8, 1), (8, 2), (32, 1), (32, 2))  # batch and threads
SEGMENTERS = ("1.0_257", "1.0_257_8", "1.0_513", "1.0_513_8")
DETECTORS = ("1.0_300", "1.0_320")
FLOAT_GRID = (
    *(Work(model, *column) for column in COLUMNS for model in OFFICIAL),
    *(Work(model, 1, threads, "segment") for threads in (1, 2) for model in SEGMENTERS),
    *(Work(model, 1, threads, "detect") for threads in (1, 2) for model in DETECTORS),
)
INTEGER_GRID = (
    *(Work(model, *column, numbers="int8") for column in COLUMNS for model in OFFICIAL),
    *(Work(model, 1, threads, "segment", "uint8") for threads in (1, 2) for model in SEGMENTERS),
)
GRID_WORKS = (*FLOAT_GRID, *INTEGER_GRID)
# Runtimes in the order in which tables and plots show them. Ours is compared with the rivals.
OURS, RIVALS, OTHERS = "npmnv2", ("litert", "openvino", "onnxruntime"), ("tensorflow", "transformers")
# Measured in one cell of each column of the grid, that of this network.
ONCE_PER_COLUMN, COLUMNS_MODEL = ("ncnn", "mnn"), "1.0_224"
# A runtime's second way to do the same; the better one is shown.
WAYS = {"openvino, 2 streams": "openvino", "onnxruntime, signed": "onnxruntime"}
OURS_IN_FLOAT = "npmnv2, float32"

NODES, KERNELS, COLD_START, MEMORY, GRID, FUZZ, QUANTIZATION, CHOICES = (
    RESULTS / f"{name}.json"
    for name in ("nodes", "kernels", "cold_start", "memory", "grid", "fuzz", "quantization", "choices")
)
SCALE = RESULTS / "scale.json"
ACCURACY = RESULTS / "accuracy.json"


def read(file: Path) -> Any:
    return json.loads(file.read_text(encoding="utf-8"))


class Timing(NamedTuple):
    """What is shown of one runtime: milliseconds per image, and of every round."""

    ms: float
    rounds: list[float]


def shown(figures: dict[str, Any]) -> dict[str, Timing]:
    """Timings of one comparison in the order of the tables; of two ways to run a runtime the better one's."""
    timings = {n: Timing(r["ms_per_image"], r["rounds_ms_per_image"]) for n, r in figures["results"].items()}
    for way, name in WAYS.items():
        if way in timings:
            timings[name] = min(timings.get(name, timings[way]), timings[way])
    return {
        name: timings[name] for name in (OURS, *RIVALS, *ONCE_PER_COLUMN, *OTHERS, OURS_IN_FLOAT) if name in timings
    }


def recorded(works: Iterable[Work] = WORKS) -> dict[Work, dict[str, Any]]:
    """Figures of all comparisons that have been made."""
    return {work: read(work.file) for work in works if work.file.exists()}


def sentence(cells: dict[str, Any]) -> str:
    """In how many cells of the grid we are ahead, and by how much; a cell is lost from 1.00 up."""
    parts = [(words, ratios_of(cells, works)) for words, works in NUMBERS.items()]
    counts = [
        f"in {sum(ratio < 1 for ratio in ratios.values())} of {len(ratios)} cells {words} "
        f"(median of the ratio {statistics.median(ratios.values()):.2f})"
        for words, ratios in parts
        if ratios
    ]
    return f"Ahead of the best of LiteRT, OpenVINO and ONNX Runtime {' and '.join(counts)}."


NUMBERS = {"in float32": FLOAT_GRID, "in 8-bit integers": INTEGER_GRID}


def ratios_of(cells: dict[str, Any], works: Iterable[Work]) -> dict[Work, float]:
    """Our time divided by the best of the others, in the cells that are recorded."""
    return {work: cells[str(work)]["ratio"] for work in works if str(work) in cells}


def lost(cells: dict[str, Any]) -> list[str]:
    """The cells that are lost, the worst first."""
    found = {str(work): ratio for work, ratio in ratios_of(cells, GRID_WORKS).items() if ratio >= 1}
    return [f"{name} ({ratio:.2f})" for name, ratio in sorted(found.items(), key=lambda item: -item[1])]
