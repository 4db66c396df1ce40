"""The benchmarks' own parts, and that the documentation shows what was recorded."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from PIL import Image

ROOT = Path(__file__).parents[2]

if not (ROOT / "benchmarks").is_dir():
    pytest.skip("needs the repository", allow_module_level=True)


@pytest.fixture
def benchmarks(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Makes the scripts of benchmarks/ importable by their names, which others may have, too: only for one test."""
    before = set(sys.modules)
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    yield
    for name in set(sys.modules) - before:
        if str(getattr(sys.modules[name], "__file__", "")).startswith(str(ROOT / "benchmarks")):
            del sys.modules[name]


@pytest.fixture
def harness(benchmarks: None) -> ModuleType:
    return __import__("harness")


MARKER = re.compile(r"<!-- /(\w+) -->")
PAGES = sorted(
    page.relative_to(ROOT).as_posix()
    for page in (*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("kernels/*.md"))
    if MARKER.search(page.read_text(encoding="utf-8"))
)


@pytest.mark.parametrize("page", PAGES)
def test_documentation_shows_the_recorded_figures(benchmarks: None, page: str) -> None:
    from table import TABLES, update

    text = (ROOT / page).read_text(encoding="utf-8")
    assert set(MARKER.findall(text)) <= set(TABLES)
    assert update(text) == text, f"run python benchmarks/table.py --update {page}"


def test_the_pages_with_tables_are_found() -> None:
    assert {"README.md", "docs/performance.md", "docs/numerics.md", "docs/segmentation.md", "docs/weights.md"} <= set(
        PAGES
    )


def test_the_plot_of_errors_shows_the_recorded_figures(benchmarks: None) -> None:
    from recorded import ACCURACY, read

    measured = read(ACCURACY)
    with Image.open(ROOT / "docs" / "images" / "accuracy.png") as image:
        assert json.loads(image.info["Description"]) == measured["errors"], "run python benchmarks/plot.py"
    assert {"npmnv2", "npmnv2 on NumPy", "tensorflow", "litert", "onnxruntime", "openvino", "transformers"} == set(
        measured["logits"]
    )
    for errors in measured["errors"].values():
        assert all(e is None or e <= bound for e, bound in zip(errors, measured["expected"])), "the model holds"


def test_what_fuzzing_prints_is_read(benchmarks: None) -> None:
    from fuzz import results
    from recorded import FUZZ, read

    files = read(FUZZ)["files"]
    assert all(file["refused"] + file["loaded"] == file["variants"] for file in files)
    printed = "".join(f"{json.dumps(file)}\n." for file in files) + "\n9 passed in 100 s\n"
    assert results(printed) == files


def test_the_plot_shows_the_figures_of_the_table(benchmarks: None) -> None:
    from recorded import OTHERS, RIVALS, recorded, shown
    from table import performance

    with Image.open(ROOT / "docs" / "images" / "performance.png") as image:
        drawn = json.loads(image.info["Description"])
    rows = {cells[1].strip(): cells[2:-2] for cells in (line.split("|") for line in performance().splitlines()[2:-2])}
    found = {name: [cell.strip(" *") for cell in row if cell.strip() != "–"] for name, row in rows.items()}
    assert drawn == found, "run python benchmarks/plot.py"
    for figures in recorded().values():
        assert list(shown(figures)) == [n for n in ("npmnv2", *RIVALS, *OTHERS) if n in figures["results"]]


def test_integer_comparisons_are_recorded_with_what_is_needed_to_judge_them(benchmarks: None) -> None:
    from plot import INTEGERS_TARGET, labels
    from recorded import INTEGER_WORKS, OURS_IN_FLOAT, recorded

    measured = recorded(INTEGER_WORKS)
    assert set(measured) == set(INTEGER_WORKS)
    for work, figures in measured.items():
        assert {name: figures[name] for name in work._fields} == work._asdict()
        assert "peak_gops" in figures
        assert {"onnxruntime", "openvino", "ai-edge-litert", "nncf"} <= set(figures["versions"])
        assert {"npmnv2", OURS_IN_FLOAT, "litert", "openvino", "onnxruntime"} <= set(figures["results"])
    with Image.open(INTEGERS_TARGET) as image:
        assert json.loads(image.info["Description"]) == labels(INTEGER_WORKS), "run python benchmarks/plot.py"


def test_the_table_of_integers(benchmarks: None, monkeypatch: pytest.MonkeyPatch) -> None:
    import recorded
    import table

    def result(ms: float) -> dict[str, object]:
        return {"ms_per_image": ms, "rounds_ms_per_image": [ms, 2 * ms], "gflops": 300.0}

    figures = {
        "results": {
            "npmnv2": result(1.0),
            "npmnv2, float32": result(5.0),
            "litert": result(4.0),
            "openvino": result(3.0),
            "openvino, 2 streams": result(2.5),
            "onnxruntime": result(3.5),
            "onnxruntime, signed": result(2.0),
        },
        "peak_gops": 400.0,
        "machine": {"processor": "P", "vectors": [], "system": "S"},
        "versions": {},
        "date": "today",
    }
    monkeypatch.setattr(recorded, "recorded", lambda works: {works[0]: figures})
    header, _, row, *_ = (line.strip("|").split("|") for line in table.integers().splitlines())
    cells = dict(zip(map(str.strip, header), map(str.strip, row)))
    assert cells == {
        "ms per image": "1.0_224 uint8, batch 1, 1 thread",
        "npmnv2": "**1.00**",
        "litert": "4.00",
        "openvino": "2.50",
        "onnxruntime": "2.00",
        "of the best": "0.50",
        "of litert": "0.25",
        "of our float32": "0.20",
        "of the peak": "75%",
    }


def test_the_better_of_two_ways_to_run_openvino_is_shown(benchmarks: None) -> None:
    from recorded import shown

    def result(ms: float) -> dict[str, object]:
        return {"ms_per_image": ms, "rounds_ms_per_image": [ms, ms + 1]}

    for one, two, better in ((3.0, 2.0, 2.0), (2.0, 3.0, 2.0)):
        results = {"openvino, 2 streams": result(two), "openvino": result(one), "npmnv2": result(1.0)}
        assert shown({"results": results}) == {"npmnv2": (1.0, [1.0, 2.0]), "openvino": (better, [better, better + 1])}


def test_every_comparison_is_recorded_with_what_is_needed_to_judge_it(benchmarks: None) -> None:
    from recorded import WORKS, recorded

    measured = recorded()
    assert set(measured) == set(WORKS)
    for work, figures in measured.items():
        assert {name: figures[name] for name in work._fields} == work._asdict()
        assert figures["machine"]["cpus_used"] == work.threads
        assert {"python", "numpy", "numba", "onnxruntime"} <= set(figures["versions"])
        assert {"npmnv2", "litert", "openvino", "onnxruntime"} <= set(figures["results"])


def test_the_picture_of_the_grid_shows_the_recorded_ratios(benchmarks: None) -> None:
    from plot import GRID_TARGET, ratios_of
    from recorded import GRID, read

    if not GRID.exists():
        pytest.skip("no grid is recorded")
    with Image.open(GRID_TARGET) as image:
        assert json.loads(image.info["Description"]) == ratios_of(read(GRID)), "run python benchmarks/plot.py"


def test_the_grid_goes_on_where_it_stopped(benchmarks: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    import grid

    def measure(work, rounds: int) -> dict[str, object]:
        if len(asked) == 3:
            raise KeyboardInterrupt
        asked.append(work)
        results = {
            name: {"ms_per_image": ms, "rounds_ms_per_image": [ms, 2 * ms]}
            for name, ms in {"npmnv2": 1.0, "litert": 2.0, "openvino": 3.0, "onnxruntime": 4.0}.items()
        }
        versions = dict.fromkeys(("ai-edge-litert", "openvino", "onnxruntime"), "1")
        return {"results": results, "date": "today", "machine": {"processor": "P"}, "versions": versions}

    monkeypatch.setattr(grid, "GRID", tmp_path / "grid.json")
    monkeypatch.setattr(grid, "measure", measure)
    for words, count in (((), 3), ((), 6), (("0.35_96, batch 1, 1 thread",), 6)):
        asked: list[object] = []
        monkeypatch.setattr(sys, "argv", ["grid.py", *words])
        if words:
            grid.main()
            assert asked == [grid.CELLS[0]]
        else:
            with pytest.raises(KeyboardInterrupt):
                grid.main()
            assert asked == list(grid.CELLS[count - 3 : count])
        assert [*grid.load()] == [str(work) for work in grid.CELLS[:count]]
    assert grid.load()[str(grid.CELLS[0])]["ratio"] == 0.5


def test_the_grid_says_where_it_lost(benchmarks: None) -> None:
    from recorded import sentence

    def cells(*ratios: float) -> dict[str, dict[str, float]]:
        return {f"cell {i}": {"ratio": ratio} for i, ratio in enumerate(ratios)}

    start = "Ahead of the best of LiteRT, OpenVINO and ONNX Runtime in"
    assert (
        sentence(cells(0.5, 0.9, 0.7))
        == f"{start} 3 of 3 cells, at a median of 0.70 of its time, at most 0.90 (cell 1)."
    )
    assert sentence(cells(0.5, 1.0, 1.25)) == (
        f"{start} 1 of 3 cells, at a median of 1.00 of its time; behind in cell 1 (1.00), cell 2 (1.25)."
    )


def test_no_path_of_the_machine_is_recorded() -> None:
    for file in (ROOT / "benchmarks" / "results").glob("*.json"):
        assert '"/' not in file.read_text(encoding="utf-8"), file.name


def test_rounds_rotate(harness: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    order: list[str] = []

    def median_seconds(call, seconds):
        call()
        return float(len(order))

    monkeypatch.setattr(harness, "median_seconds", median_seconds)
    figures = harness.rounds({name: lambda n=name: order.append(n) for name in "abc"}, 3, 0.0)
    assert "".join(order) == "abcbcacab"
    assert figures == {"a": [1, 6, 8], "b": [2, 4, 9], "c": [3, 5, 7]}


def test_ratio_pairs_the_rounds(harness: ModuleType) -> None:
    # In the second round the machine was slow for both.
    assert harness.ratio([2.0, 20.0, 3.0], [1.0, 10.0, 2.0]) == 2.0


def test_table_is_markdown(harness: ModuleType) -> None:
    lines = harness.table(["name", "ms"], [["a", "1.0"], ["longer", "12.0"]]).splitlines()
    assert lines == [
        "| name   |   ms |",
        "|--------|-----:|",
        "| a      |  1.0 |",
        "| longer | 12.0 |",
    ]


def test_machine_and_versions(harness: ModuleType) -> None:
    about = harness.machine()
    assert about["processor"]
    assert about["cpus_used"] >= 1
    versions = harness.versions(["numpy", "no-such-package"])
    assert versions["numpy"] == np.__version__
    assert "no-such-package" not in versions


@pytest.mark.parametrize("task", ["classify", "segment", "detect"])
def test_onnx_export_agrees_with_our_numbers(benchmarks: None, task: str) -> None:
    pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    from network import network
    from runtimes.adapters import OnnxRuntime, OursOnNumpy

    net = network(task, "0.35_65")
    weights, images = net.random_weights(), np.random.default_rng(0).uniform(-1, 1, (2, 65, 65, 3)).astype(np.float32)
    ours, theirs = (
        runtime.logits(runtime.run())
        for runtime in (kind(net, weights, images, 1) for kind in (OursOnNumpy, OnnxRuntime))
    )
    assert ours.shape == theirs.shape
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-4 * theirs.std())


def test_a_runtime_that_disagrees_stops_the_comparison(benchmarks: None) -> None:
    from comparison import check

    class Answers:
        def __init__(self, output: np.ndarray) -> None:
            self.output = output

        def run(self) -> np.ndarray:
            return self.output

        def logits(self, output: np.ndarray) -> np.ndarray:
            return output

    right = np.random.default_rng(0).normal(size=(1, 10))
    assert check({"a": Answers(right), "b": Answers(right), "c": Answers(right + 1e-6)})["c"] == pytest.approx(
        1e-6 / right.std(), rel=0.01
    )
    for wrong in (right + 1e-3, right * np.nan, right[:, :5]):
        with pytest.raises(SystemExit, match="differ"):
            check({"a": Answers(right), "b": Answers(right), "c": Answers(wrong)})


@pytest.mark.parametrize("dtype", ["uint8", "int8"])
@pytest.mark.parametrize("task", ["classify", "segment"])
def test_integers_are_litert_s_and_near_float32(benchmarks: None, task: str, dtype: str) -> None:
    pytest.importorskip("ai_edge_litert")
    from comparison import check_integers, set_up
    from network import network

    net = network(task, "0.35_65")
    images = np.random.default_rng(0).uniform(-1, 1, (2, 65, 65, 3)).astype(np.float32)
    ready = set_up(net, images, 1, ("npmnv2", "npmnv2, float32", "litert"), dtype)
    assert set(ready) == {"npmnv2", "npmnv2, float32", "litert"}
    differences = check_integers(ready)
    assert differences["npmnv2"] == differences["litert"] > 0
    zero_points = {q.zero_point for q in ready["npmnv2"].integers.quantization.kernels.values()}
    assert (zero_points == {0}) == (dtype == "int8")
    assert dtype == "int8" or max(abs(zero - 128) for zero in zero_points) > 10


@pytest.mark.slow
def test_tools_of_other_runtimes_make_integers_that_are_near(benchmarks: None) -> None:
    for package in ("onnxruntime", "onnx", "openvino", "nncf"):
        pytest.importorskip(package)
    from comparison import check_integers, set_up
    from network import network

    net = network("classify", "0.35_64")
    images = np.random.default_rng(0).uniform(-1, 1, (2, 64, 64, 3)).astype(np.float32)
    ready = set_up(net, images, 2, (), "int8")
    assert set(ready) >= {"onnxruntime", "onnxruntime, signed", "openvino", "openvino, 2 streams"}
    assert all(0 <= difference < 0.3 for difference in check_integers(ready).values())


def test_integers_that_are_not_litert_s_stop_the_comparison(benchmarks: None) -> None:
    from comparison import check_integers

    class Answers:
        def __init__(self, output: np.ndarray) -> None:
            self.output = output

        def run(self) -> np.ndarray:
            return self.output

        def logits(self, output: np.ndarray) -> np.ndarray:
            return output

    exact = np.random.default_rng(0).normal(size=(1, 10))
    near, far = exact + 0.1 * exact.std(), exact[:, ::-1]
    right = {"npmnv2, float32": Answers(exact), "litert": Answers(near), "npmnv2": Answers(near)}
    assert check_integers(right)["npmnv2"] == pytest.approx(0.1)
    with pytest.raises(SystemExit, match="1 outputs differ from LiteRT's"):
        check_integers({**right, "npmnv2": Answers(near + 0.01 * (np.arange(10) == 3))})
    with pytest.raises(SystemExit, match="openvino differs from float32"):
        check_integers({**right, "openvino": Answers(far)})


def test_the_peaks_are_measured(benchmarks: None) -> None:
    pytest.importorskip("numba")
    from npmnv2.kernels.device.probe import host_features
    from peak import measure, measure_bytes

    assert measure(0.01) > 0
    bytes_ = measure_bytes(0.01)
    assert (bytes_ or 0) > 0 if host_features() & {"avx512vnni", "avxvnni"} else bytes_ is None


def test_kernels_are_timed_on_every_shape_once(benchmarks: None) -> None:
    from kernels import cases
    from npmnv2.kernels import REGISTRY

    found = list(cases("1.0_224", ("classify", "segment")))
    assert {case.kernel for case in found} >= set(REGISTRY) - {"softmax"}
