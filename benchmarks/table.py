"""Write tables between a page's markers: recorded figures, and what follows from the code.

    python benchmarks/table.py --update README.md

A table NAME of `TABLES` stands between ``<!-- NAME -->`` and ``<!-- /NAME -->``. A test compares all pages.
"""

from __future__ import annotations

import argparse
import re
import statistics
from collections.abc import Callable
from pathlib import Path

import harness
import recorded
from recorded import (
    ACCURACY,
    CHOICES,
    COLD_START,
    FUZZ,
    GRID,
    KERNELS,
    MEMORY,
    NODES,
    ONCE_PER_COLUMN,
    OTHERS,
    OURS,
    OURS_IN_FLOAT,
    QUANTIZATION,
    RIVALS,
    SCALE,
)

from npmnv2 import MobileNetV2Config
from npmnv2.network.deeplab import LOGITS, segmenter
from npmnv2.network.layers import InvertedResidual


def performance() -> str:
    """Milliseconds per image of every runtime, one line per comparison, and what they were measured with."""
    lines, about = [], {}
    for work, about in recorded.recorded().items():
        timings = recorded.shown(about)
        best = min(RIVALS, key=lambda name: timings[name].ms)
        share = harness.ratio(timings[OURS].rounds, timings[best].rounds)
        cells = [f"{timings[name].ms:.2f}" if name in timings else "–" for name in (*RIVALS, *OTHERS)]
        lines.append([str(work), f"**{timings[OURS].ms:.2f}**", *cells, f"{share:.2f}"])
    header = ["ms per image", OURS, *RIVALS, *OTHERS, "of the best"]
    return f"{harness.table(header, lines)}\n\n{basis(about)}"


def integers() -> str:
    """The same of quantized networks, beside our own float32, and what share of the processor's best it is."""
    lines, about = [], {}
    for work, about in recorded.recorded(recorded.INTEGER_WORKS).items():
        timings, results = recorded.shown(about), about["results"]
        best = min((name for name in RIVALS if name in timings), key=lambda name: timings[name].ms)
        others = timings[best], timings["litert"], timings[OURS_IN_FLOAT]
        cells = [f"{timings[name].ms:.2f}" if name in timings else "–" for name in RIVALS]
        ratios = [harness.ratio(timings[OURS].rounds, other.rounds) for other in others]
        peak = about["peak_gops"]
        share = f"{results[OURS]['gflops'] / peak:.0%}" if peak else "–"
        lines.append([str(work), f"**{timings[OURS].ms:.2f}**", *cells, *(f"{ratio:.2f}" for ratio in ratios), share])
    header = ["ms per image", OURS, *RIVALS, "of the best", "of litert", "of our float32", "of the peak"]
    return f"{harness.table(header, lines)}\n\n{basis(about)}" if lines else "Not recorded yet."


def bfloat16() -> str:
    """The same of products of bfloat16, beside OpenVINO's and our own float32."""
    lines, about = [], {}
    for work, about in recorded.recorded(recorded.BFLOAT16_WORKS).items():
        timings = recorded.shown(about)
        cells = [f"{timings[name].ms:.2f}" for name in ("openvino", OURS_IN_FLOAT)]
        ratios = [f"{ratio:.2f}" for ratio in _bfloat16_ratios(about)]
        lines.append([str(work), f"**{timings[OURS].ms:.2f}**", *cells, *ratios])
    header = ["ms per image", OURS, "openvino", OURS_IN_FLOAT, "of openvino", "of our float32"]
    return f"{harness.table(header, lines)}\n\n{basis(about)}" if lines else "Not recorded yet."


def bfloat16_ratios() -> str:
    """The same in a sentence."""
    found = recorded.recorded(recorded.BFLOAT16_WORKS).values()
    if not found:
        return "Not recorded yet."
    rival, ours = zip(*map(_bfloat16_ratios, found))
    return (
        f"Products of bfloat16 take {min(ours):.2f} to {max(ours):.2f} of float32's time, and {min(rival):.2f} to "
        f"{max(rival):.2f} of that of OpenVINO in bfloat16."
    )


def _bfloat16_ratios(figures: dict) -> list[float]:
    timings = recorded.shown(figures)
    return [harness.ratio(timings[OURS].rounds, timings[name].rounds) for name in ("openvino", OURS_IN_FLOAT)]


def quantization() -> str:
    """What quantization costs a classifier, by scheme."""
    measured = recorded.read(QUANTIZATION)
    rows = [
        [
            f"{row['dtype']}, {row['method']}",
            "yes" if row["correct_biases"] else "no",
            "yes" if row["equalize"] else "no",
            f"{row['snr']:.1f}",
            f"{row['agreement']:.1%}",
        ]
        for row in measured["rows"]
    ]
    header = ["type, ranges", "biases corrected", "equalized", "logits' SNR, dB", "same best class"]
    about = f"{measured['network']}, {measured['crops']} crops of {measured['photos']} photos"
    return f"{harness.table(header, rows)}\n\n{about}; calibrated on {measured['calibration']} others."


def basis(about: dict) -> str:
    machine, versions = about["machine"], about["versions"]
    shown = ", ".join(f"{name} {version}" for name, version in versions.items() if name != OURS)
    return f"{machine['processor']}, {' '.join(machine['vectors'])}, {machine['system']}, {about['date']}; {shown}."


def nodes() -> str:
    """What every node of the classification network took, and the whole."""
    measured = recorded.read(NODES)
    total = sum(node["us"] for node in measured["nodes"])
    rows = [
        [
            node["name"],
            f"{node['us']:.0f}",
            f"{2e-3 * node['multiply_adds'] / node['us']:.0f}",
            f"{node['us'] / total:.1%}",
        ]
        for node in measured["nodes"]
    ]
    share = measured["gflops"] / measured["peak_gflops"]
    whole = f"{measured['ms_in_one_call']:.2f} ms, {measured['gflops']:.0f} GFLOP/s, {share:.0%} of the core's peak"
    return f"{harness.table(['node', 'µs', 'GFLOP/s', 'share'], rows)}\n\nAll in one call: {whole}."


def kernels() -> str:
    """Every kernel on the shapes of the classification network."""
    measured = recorded.read(KERNELS)
    rows = [
        [
            row["kernel"],
            row["input"],
            row["output"],
            row["details"],
            f"{row['us']:.1f}",
            f"{row['gflops']:.0f}",
            f"{row['of_peak']:.0%}",
            f"{row['gb_per_s']:.0f}",
        ]
        for row in measured["rows"]
    ]
    header = ["kernel", "input", "output", "", "µs", "GFLOP/s", "of peak", "GB/s"]
    return f"{harness.table(header, rows)}\n\nPeak of one core: {measured['peak_gflops']:.0f} GFLOP/s."


def grid() -> str:
    """In how many cells of the grid npmnv2 is ahead."""
    return f"{recorded.sentence(recorded.read(GRID))}" if GRID.exists() else "Not recorded yet."


def grid_details() -> str:
    """Where it is not ahead, beside ncnn and MNN, and where the grid was measured."""
    cells = recorded.read(GRID) if GRID.exists() else {}
    lost = ", ".join(recorded.lost(cells)) or "none"
    basis = sorted({f"{cell['processor']}, {cell['date']}; {cell['versions']}" for cell in cells.values()}, key=len)
    rows = [once_per_column(work, cells[str(work)]["ms"]) for work in COLUMN_WORKS if str(work) in cells]
    header = ["ms per image", OURS, *ONCE_PER_COLUMN, *(f"of {name}" for name in ONCE_PER_COLUMN)]
    return f"Cells not ahead: {lost}.\n\n{harness.table(header, rows)}\n\n{'; '.join(basis[-1:])}."


COLUMN_WORKS = [work for work in recorded.FLOAT_GRID if work.model == recorded.COLUMNS_MODEL]


def once_per_column(work: recorded.Work, ms: dict[str, float]) -> list[str]:
    others = [ms.get(name) for name in ONCE_PER_COLUMN]
    times = [f"{other:.2f}" if other else "–" for other in others]
    return [
        str(work),
        f"**{ms[OURS]:.2f}**",
        *times,
        *(f"{ms[OURS] / other:.2f}" if other else "–" for other in others),
    ]


def choices() -> str:
    """What every choice of the tiling model is worth: times of variants in those of the model's choice."""
    measured = recorded.read(CHOICES)
    kinds = {kind: [] for kind in ("AVX-512", "AVX2", "8-bit integers", "2 threads")}
    for name, work in measured["works"].items():
        kinds[_kind_of(name)].append(work["ratios"])
    names = dict.fromkeys(variant for works in kinds.values() for ratios in works for variant in ratios)
    rows = [
        [words, *(_range([ratios[name] for ratios in works if name in ratios]) for works in kinds.values())]
        for name, words in ((name, _words(name, measured["model"])) for name in names)
        if words
    ]
    copies = [[ratios[name] for name in names if name.startswith("the model")] for w in kinds.values() for ratios in w]
    spread = max(max(each) - min(each) for each in copies)
    about = f"Works: {len(copies)}. The model's own choice, measured three times, differed by up to {spread:.1%}."
    return f"{harness.table(['time in that of the model', *kinds], rows)}\n\n{about} {_where(measured)}"


def _kind_of(work: str) -> str:
    if "2 threads" in work:
        return "2 threads"
    if "int8" in work:
        return "8-bit integers"
    return "AVX-512" if work.startswith("avx512") else "AVX2"


def _range(ratios: list[float]) -> str:
    """The median, and what lies at both ends."""
    if not ratios:
        return "–"
    return f"{statistics.median(ratios):.2f} ({min(ratios):.2f} … {max(ratios):.2f})"


def _words(variant: str, model: dict[str, float]) -> str:
    """A variant in the terms of the page; none for the model itself."""
    constant, _, how = variant.partition(", ")
    if constant in model:
        return f"`{constant}` {how}: {model[constant] * {'half': 0.5, 'double': 2.0}[how]:.4g}"
    return "" if constant == "the model" else variant


def _where(measured: dict) -> str:
    caches = " + ".join(f"{measured['model'][f'l{level}_bytes'] // 1024} KB" for level in (1, 2))
    return f"{measured['machine']['processor']}, {caches}, {measured['date']}."


def footprint() -> str:
    """Seconds to the first prediction in a new process, memory beyond Python and NumPy, and megabytes installed."""
    memory = recorded.read(MEMORY)["results"]
    rows = []
    for name, r in recorded.read(COLD_START)["results"].items():
        used = [f"{memory[name][work]:.0f}" if work in memory[name] else "–" for work in MEMORY_WORKS]
        rows.append([name, f"{r['seconds']:.2f}", *used, f"{r['mb']:.0f}"])
        if "cold_seconds" in r:
            rows.append([f"{name}, nothing compiled yet", f"{r['cold_seconds']:.1f}", "", "", ""])
    header = ["runtime", "first prediction, s", "memory of 1.0_224, MB", "of DeepLabV3 513, MB", "installed, MB"]
    return harness.table(header, rows)


MEMORY_WORKS = ("classify 1.0_224", "segment 1.0_513")


def fuzz() -> str:
    """What became of damaged files, format by format."""
    rows = [
        [
            f"`{file['file']}`",
            *(f"{file[count]:,}" for count in ("variants", "refused", "loaded")),
            f"{file['longest_s']:.2f}",
            f"{file['memory_mib']}",
        ]
        for file in recorded.read(FUZZ)["files"]
    ]
    return harness.table(["file", "variants", "refused", "loaded", "longest, s", "memory, MiB"], rows)


def scale() -> str:
    """Photos per second of a plain loop, and of tables by workers and what they do at once."""
    measured = recorded.read(SCALE)
    loops, tables = measured["plain"], measured["tables"]
    rows = [["plain loop", "", "", threads, "", f"{rate:.0f}", ""] for threads, rate in loops.items()]
    for name, figures in tables.items():
        rate, start = figures["per_second"], f"{max(0, figures['start_s']):.1f}"
        rows.append(["table", *name.split(" × "), start, f"{rate:.0f}", f"{rate / loops['1']:.2f}"])
    header = ["", "workers", "tasks of each", "threads of a task", "start, s", "photos/s", "of the loop on 1 thread"]
    about = f"{measured['photos']} photos of the cat in the package, 8-bit classifier. {basis(measured)}"
    return f"{harness.table(header, rows)}\n\n{about}"


def rate() -> str:
    """The two figures of a table: of one worker beside a loop, and of all."""
    measured = recorded.read(SCALE)
    cpus, tables = measured["machine"]["cpus_used"], measured["tables"]
    share = tables["1 × 1 × 1"]["per_second"] / measured["plain"]["1"]
    return (
        f"One worker makes {share:.0%} of the photos per second of a plain loop; {cpus} workers on {cpus} CPUs made "
        f"{tables[f'{cpus} × 1 × 1']['per_second']:.0f} photos a second."
    )


def million() -> str:
    """Arithmetic for a million photos on a hundred machines of eight CPUs."""
    measured = recorded.read(SCALE)
    workers = measured["machine"]["cpus_used"]
    per_cpu = measured["tables"][f"{workers} × 1 × 1"]["per_second"] / workers
    parts = 1_000_000 // PART_PHOTOS + 1
    cpus, rounds = MACHINES * CPUS, -(-parts // (MACHINES * CPUS))
    seconds = rounds * PART_PHOTOS / per_cpu
    return (
        f"One CPU does {per_cpu:.0f} photos a second while its neighbor works, too. {MACHINES} machines of {CPUS} CPUs "
        f"would do {cpus * per_cpu:,.0f}, and a million in {1e6 / (cpus * per_cpu):.0f} s, if all ended at once. "
        f"{parts:,} parts on {cpus} CPUs are {rounds} rounds of {PART_PHOTOS / per_cpu:.1f} s: {seconds:.0f} s. "
        "At 100 kB a photo that is "
        f"{1e6 * 0.1 / 1e3 / seconds:.1f} GB/s from the store."
    )


def names() -> str:
    """How long many names take, and what they take of memory."""
    measured = recorded.read(SCALE)["names"]
    (few, base), (many, figures) = sorted(measured.items(), key=lambda item: int(item[0]))
    return (
        f"{int(many):,} names in folders of a thousand, of a file system in memory, were listed and recorded in "
        f"{figures['listed_s']:.0f} s beside the work of one thread; the first part was written after "
        f"{figures['first_part_s']:.1f} s. The process, worker included, took at most {figures['peak_mb']:.0f} MB by "
        f"then; with {int(few):,} names it took {base['peak_mb']:.0f} MB."
    )


# Of the default --part-size, and of an imagined cluster.
PART_PHOTOS, MACHINES, CPUS = 256, 100, 8


def strides() -> str:
    """What the output strides of a segmentation network change; nothing here is measured."""
    return harness.table(
        ["output stride", "logits for 513×513", *STRIDED_BLOCKS, "multiply-adds"], [_stride(n) for n in (32, 16, 8)]
    )


STRIDED_BLOCKS = {"block_6": "block_6", "block_7 … 12": "block_7", "block_13": "block_13", "block_14 … 16": "block_14"}


def _stride(output_stride: int) -> list[str]:
    plan = segmenter(MobileNetV2Config(output_stride=output_stride, num_labels=21))
    layers = {node.name: node.layer for node in plan.nodes}
    height, width, _ = plan.shapes(513, 513)[LOGITS]
    billions = plan.multiply_adds(513) / 1e9
    cells = [_window(layers[name]) for name in STRIDED_BLOCKS.values()]
    return [str(output_stride), f"{height}×{width}", *cells, f"{billions:.2f} · 10⁹"]


def _window(block: InvertedResidual) -> str:
    words = [f"{word} {n}" for word, n in (("stride", block.stride), ("dilation", block.dilation)) if n > 1]
    return ", ".join(words) or "–"


def accuracy() -> str:
    """Every runtime's distance from float64: of the logits, and where it comes from."""
    measured = recorded.read(ACCURACY)
    layers, errors = measured["layers"], measured["errors"]
    rows = []
    for name, error in sorted(measured["logits"].items(), key=lambda item: item[1]["rms"]):
        inner = errors.get(name)
        shown = [f"{inner[layers.index(layer)]:.1f}" if inner else "–" for layer in INNER_LAYERS]
        label = f"**{name}**" if name.startswith(OURS) else name
        rows.append([label, f"{error['rms']:.1f}", f"{error['largest']:.1f}", *shown])
    header = ["error in u = 2⁻²⁴", "logits, rms", "logits, largest", *(f"`{layer}`" for layer in INNER_LAYERS)]
    return f"{harness.table(header, rows)}\n\n{basis(measured)}"


INNER_LAYERS = ("Conv1", "block_5_project", "block_10_expand", "Conv_1", "global_average_pooling2d")


def layer_bounds() -> str:
    """Bounds of some layers beside what both backends have."""
    measured = recorded.read(ACCURACY)
    rows = []
    for layer in (*INNER_LAYERS, measured["layers"][-1]):
        at = measured["layers"].index(layer)
        found = [f"{measured['errors'][name][at]:.1f}" for name in (OURS, f"{OURS} on NumPy")]
        rows.append([f"`{layer}`", f"{measured['worst'][at]:.0f}", f"{measured['expected'][at]:.0f}", *found])
    header = ["error in u", "worst case of the layer", "expected in the network, rms", OURS, f"{OURS} on NumPy"]
    return harness.table(header, rows)


def classifier() -> str:
    """What the classifier alone rounds: both backends, and chains in blocks."""
    measured = recorded.read(ACCURACY)
    rows = [[name, f"{error:.1f}"] for name, error in measured["classifier alone"].items()]
    words = {"1": "one chain from the bias", "bias last": "one chain, the bias last"}
    rows += [[words.get(how, f"{how} chains, added"), f"{error:.1f}"] for how, error in measured["chains"].items()]
    return harness.table(["the classifier alone", "error in u, rms"], rows)


TABLES: dict[str, Callable[[], str]] = {
    "performance": performance,
    "layer_bounds": layer_bounds,
    "classifier": classifier,
    "integers": integers,
    "bfloat16": bfloat16,
    "bfloat16_ratios": bfloat16_ratios,
    "choices": choices,
    "grid": grid,
    "grid_details": grid_details,
    "fuzz": fuzz,
    "scale": scale,
    "rate": rate,
    "million": million,
    "names": names,
    "strides": strides,
    "footprint": footprint,
    "accuracy": accuracy,
    "quantization": quantization,
    "nodes": nodes,
    "kernels": kernels,
}


def update(page: str) -> str:
    """Return a page with the tables between its markers made anew."""
    for name, make in TABLES.items():
        start, end = f"<!-- {name} -->", f"<!-- /{name} -->"
        if start in page:
            content = f"{start}\n{make()}\n{end}"
            page = re.sub(f"{re.escape(start)}.*?{re.escape(end)}", lambda _, c=content: c, page, flags=re.DOTALL)
    return page


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--update", type=Path, metavar="PAGE", required=True)
    page = parser.parse_args().update
    page.write_text(update(page.read_text(encoding="utf-8")), encoding="utf-8")


if __name__ == "__main__":
    main()
