"""The comparisons that the documentation shows, and the files in which their figures are kept."""

from __future__ import annotations

import json
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
# Runtimes in the order in which tables and plots show them. Ours is compared with the rivals.
OURS, RIVALS, OTHERS = "npmnv2", ("litert", "openvino", "onnxruntime"), ("tensorflow", "transformers")
SPLIT_OPENVINO = "openvino, 2 streams"
# A runtime's second way to do the same; the better one is shown.
WAYS = {SPLIT_OPENVINO: "openvino", "onnxruntime, signed": "onnxruntime"}
OURS_IN_FLOAT = "npmnv2, float32"

NODES, KERNELS, COLD_START, MEMORY, GRID, FUZZ, QUANTIZATION = (
    RESULTS / f"{name}.json" for name in ("nodes", "kernels", "cold_start", "memory", "grid", "fuzz", "quantization")
)
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
    return {name: timings[name] for name in (OURS, *RIVALS, *OTHERS, OURS_IN_FLOAT) if name in timings}


def recorded(works: Iterable[Work] = WORKS) -> dict[Work, dict[str, Any]]:
    """Figures of all comparisons that have been made."""
    return {work: read(work.file) for work in works if work.file.exists()}


def sentence(cells: dict[str, Any]) -> str:
    """In how many cells of the grid we are ahead, and by how much; a cell is lost from 1.00 up."""
    ratios = sorted((cell["ratio"], name) for name, cell in cells.items())
    lost = [f"{name} ({ratio:.2f})" for ratio, name in ratios if ratio >= 1]
    middle, (last, where) = ratios[len(ratios) // 2][0], ratios[-1]
    text = (
        f"Ahead of the best of LiteRT, OpenVINO and ONNX Runtime in {len(ratios) - len(lost)} of {len(ratios)} cells, "
        f"at a median of {middle:.2f} of its time"
    )
    return f"{text}; behind in {', '.join(lost)}." if lost else f"{text}, at most {last:.2f} ({where})."
