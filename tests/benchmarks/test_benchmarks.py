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


def test_comparisons_of_bfloat16_are_recorded(benchmarks: None) -> None:
    from recorded import BFLOAT16_WORKS, OURS_IN_FLOAT, recorded

    measured = recorded(BFLOAT16_WORKS)
    assert set(measured) == set(BFLOAT16_WORKS)
    for work, figures in measured.items():
        assert {name: figures[name] for name in work._fields} == work._asdict()
        assert "avx512_bf16" in figures["machine"]["vectors"]
        assert {"npmnv2", OURS_IN_FLOAT, "openvino"} <= set(figures["results"])


def test_the_table_of_bfloat16(benchmarks: None, monkeypatch: pytest.MonkeyPatch) -> None:
    import recorded
    import table

    def figures(ours: float, openvino: float, single: float) -> dict[str, object]:
        times = {"npmnv2": ours, "openvino": openvino, "npmnv2, float32": single}
        results = {name: {"ms_per_image": ms, "rounds_ms_per_image": [ms]} for name, ms in times.items()}
        about = {"processor": "P", "vectors": [], "system": "S"}
        return {"results": results, "machine": about, "versions": {}, "date": "today"}

    found = dict(zip(recorded.BFLOAT16_WORKS, (figures(3.0, 4.0, 6.0), figures(2.0, 4.0, 2.5))))
    monkeypatch.setattr(recorded, "recorded", lambda works: found)
    header, _, row, *_ = (line.strip("|").split("|") for line in table.bfloat16().splitlines())
    assert dict(zip(map(str.strip, header), map(str.strip, row))) == {
        "ms per image": "1.0_224 bf16, batch 1, 1 thread",
        "npmnv2": "**3.00**",
        "openvino": "4.00",
        "npmnv2, float32": "6.00",
        "of openvino": "0.75",
        "of our float32": "0.50",
    }
    assert table.bfloat16_ratios() == (
        "Products of bfloat16 take 0.50 to 0.80 of float32's time, and 0.50 to 0.75 of that of OpenVINO in bfloat16."
    )
    monkeypatch.setattr(recorded, "recorded", lambda works: {})
    assert table.bfloat16() == table.bfloat16_ratios() == "Not recorded yet."


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
    from plot import GRID_TARGET, shown_ratios
    from recorded import GRID, read

    if not GRID.exists():
        pytest.skip("no grid is recorded")
    with Image.open(GRID_TARGET) as image:
        assert json.loads(image.info["Description"]) == shown_ratios(read(GRID)), "run python benchmarks/plot.py"


@pytest.fixture
def small_grid(benchmarks: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> ModuleType:
    """The script, which believes that no cell is recorded yet."""
    grid = __import__("grid")
    monkeypatch.setattr(grid, "GRID", tmp_path / "grid.json")
    monkeypatch.setattr(grid, "others_seconds", lambda: 0.0)
    return grid


def test_the_grid_goes_on_where_it_stopped(small_grid: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    def measure(work, options) -> dict[str, object]:
        if len(asked) == 3:
            raise KeyboardInterrupt
        asked.append(work)
        results = {
            name: {"ms_per_image": ms, "rounds_ms_per_image": [ms, 2 * ms]}
            for name, ms in {"npmnv2": 1.0, "litert": 2.0, "openvino": 3.0, "onnxruntime": 4.0}.items()
        }
        versions = dict.fromkeys(("ai-edge-litert", "openvino", "onnxruntime"), "1")
        return {"results": results, "date": "today", "machine": {"processor": "P"}, "versions": versions}

    works = small_grid.GRID_WORKS
    monkeypatch.setattr(small_grid, "measure", measure)
    for words, count in (((), 3), ((), 6), (("0.35_96, batch 1, 1 thread",), 6)):
        asked: list[object] = []
        monkeypatch.setattr(sys, "argv", ["grid.py", "--models", "unused", *words])
        if words:
            small_grid.main()
            assert asked == [works[0]]
        else:
            with pytest.raises(KeyboardInterrupt):
                small_grid.main()
            assert asked == list(works[count - 3 : count])
        assert [*small_grid.load()] == [str(work) for work in works[:count]]
    cell = small_grid.load()[str(works[0])]
    assert cell["ratio"] == 0.5
    assert cell["versions"] == "ai-edge-litert 1, openvino 1, onnxruntime 1"


def test_a_disturbed_cell_is_measured_again(benchmarks: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    import grid

    clock = iter(range(100))
    monkeypatch.setattr(grid.time, "monotonic", lambda: float(next(clock)))
    for shares, expected in (([0.5, 0.01], 1), ([0.01], 0), ([0.5, 0.2, 0.3], 1)):
        taken = iter([second for share in shares for second in (0.0, share)])
        monkeypatch.setattr(grid, "others_seconds", lambda taken=taken: next(taken))
        runs = iter(range(10))
        figures, others = grid.undisturbed(lambda runs=runs: {"run": next(runs)})
        assert figures == {"run": expected}
        assert others == pytest.approx(shares[expected])


def test_what_others_take_of_the_cpus(benchmarks: None, tmp_path: Path) -> None:
    import os

    from grid import others_seconds

    (tmp_path / "stat").write_text("cpu  100000 20000 30000 9000000 5000 600 700 80 90 1\ncpu0 1\n")
    expected = 151380 / os.sysconf("SC_CLK_TCK")
    assert others_seconds(tmp_path / "stat") == pytest.approx(expected - sum(os.times()[:4]), abs=1)
    assert others_seconds(tmp_path / "none") == 0


def test_the_grid_stops_when_its_time_is_over(small_grid: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(small_grid, "measure", None)
    monkeypatch.setattr(small_grid.recorded, "sentence", str)
    monkeypatch.setattr(sys, "argv", ["grid.py", "--models", "unused", "--minutes", "-1"])
    small_grid.main()
    assert not small_grid.GRID.exists()


def test_the_grid_covers_what_it_claims(benchmarks: None) -> None:
    from grid import runtimes
    from recorded import COLUMNS, FLOAT_GRID, GRID_WORKS, INTEGER_GRID, OFFICIAL, Work

    assert len(OFFICIAL) == 22
    assert len(FLOAT_GRID) == 22 * 6 + 4 * 2 + 2 * 2
    assert len(INTEGER_GRID) == 22 * 6 + 4 * 2
    assert len(set(map(str, GRID_WORKS))) == len(GRID_WORKS)
    once = [work for work in GRID_WORKS if {"ncnn", "mnn"} <= set(runtimes(work))]
    assert once == [Work("1.0_224", *column) for column in COLUMNS]


def test_the_grid_says_how_often_it_is_ahead(benchmarks: None) -> None:
    from recorded import FLOAT_GRID, INTEGER_GRID, lost, sentence

    def cells(works, *ratios: float) -> dict[str, dict[str, float]]:
        return {str(work): {"ratio": ratio} for work, ratio in zip(works, ratios)}

    start = "Ahead of the best of LiteRT, OpenVINO and ONNX Runtime"
    floats, integers = cells(FLOAT_GRID, 0.5, 1.0, 1.25), cells(INTEGER_GRID, 0.4, 0.6)
    text = f"{start} in 1 of 3 cells in float32 (median of the ratio 1.00)"
    assert sentence(floats) == f"{text}."
    assert (
        sentence({**floats, **integers}) == f"{text} and in 2 of 2 cells in 8-bit integers (median of the ratio 0.50)."
    )
    assert lost({**integers, **floats}) == [f"{FLOAT_GRID[2]} (1.25)", f"{FLOAT_GRID[1]} (1.00)"]


def test_the_table_of_the_grid(benchmarks: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    import table

    def cell(ratio: float, **ms: float) -> dict[str, object]:
        return {"ratio": ratio, "ms": ms, "processor": "P", "date": "today", "versions": "V 1"}

    recorded_cells = {
        "1.0_224, batch 1, 1 thread": cell(1.5, npmnv2=1.0, litert=3.0, ncnn=2.0, mnn=4.0),
        "1.0_224 int8, batch 1, 1 thread": cell(0.5, npmnv2=1.0, litert=2.0),
    }
    monkeypatch.setattr(table, "GRID", tmp_path / "grid.json")
    assert table.grid() == "Not recorded yet."
    table.GRID.write_text(json.dumps(recorded_cells))
    first, _, header, _, row, _, last = table.grid_details().splitlines()
    assert first == "Cells not ahead: 1.0_224, batch 1, 1 thread (1.50)."
    found = dict(zip(map(str.strip, header.split("|")), map(str.strip, row.split("|"))))
    del found[""]
    assert found == {
        "ms per image": "1.0_224, batch 1, 1 thread",
        "npmnv2": "**1.00**",
        "ncnn": "2.00",
        "mnn": "4.00",
        "of ncnn": "0.50",
        "of mnn": "0.25",
    }
    assert last == "P, today; V 1."


def test_models_are_converted_once_and_never_half(benchmarks: None, tmp_path: Path) -> None:
    from prepared import Models

    def stop(folder: Path) -> None:
        (folder / "half").touch()
        raise KeyboardInterrupt

    def convert(folder: Path) -> None:
        assert not list(folder.iterdir())
        (folder / "model").write_text("whole")

    kept, temporary = Models(), Models()
    kept.keep_in(tmp_path / "kept")
    with pytest.raises(KeyboardInterrupt):
        kept("a b", stop)
    for models in (kept, temporary):
        found = models("a b", convert)
        assert (found / "model").read_text() == "whole"
        assert models("a b", stop) == found
    again = Models()
    again.keep_in(tmp_path / "kept")
    assert again("a b", stop) == tmp_path / "kept" / "a_b"


def test_what_follows_every_call_works_nothing_out_anew(benchmarks: None, monkeypatch: pytest.MonkeyPatch) -> None:
    from network import network

    from npmnv2.network.plan import Plan

    net, output = network("classify", "0.35_96"), [np.zeros((1, 1001))]
    assert net.finish(output) is output
    monkeypatch.setattr(Plan, "shapes", None)
    assert net.finish(output) is output


def test_choices_are_measured_beside_the_model_s(benchmarks: None) -> None:
    import choices
    from npmnv2.kernels.host.engine import find_engine
    from recorded import Work

    engine = find_engine()
    if engine is None:
        pytest.skip("needs compiled kernels")
    found = choices.measure(engine, Work("0.35_32", 1, 2), 3, 0.0)
    assert {"the model", "START, half", "FETCH, double", "second level of 64 KB"} <= set(found["ratios"])
    assert found["ms"] > 0
    assert choices.chosen(["no such work"]) == {}


def test_a_choice_that_changes_bits_stops_the_comparison(benchmarks: None, monkeypatch: pytest.MonkeyPatch) -> None:
    import choices
    from recorded import Work

    results = iter(range(100))
    monkeypatch.setattr(choices, "compiler", lambda work: lambda engine: lambda: {"x": np.array(next(results))})
    with pytest.raises(SystemExit, match="changes the result"):
        choices.measure(Engine(), Work("0.35_32", 1, 1), 1, 0.0)


class Engine:
    """An engine that only has to be there."""

    processor = None

    def _replace(self, **_: object) -> Engine:
        return self


def test_no_choice_of_the_model_loses_much(benchmarks: None) -> None:
    """Where another constant is much better, the model is wrong; two threads' times scatter too much to tell."""
    import recorded

    for work, figures in recorded.read(recorded.CHOICES)["works"].items():
        if "1 thread" in work:
            assert min(figures["ratios"].values()) > 0.98, work


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


@pytest.mark.parametrize(("name", "package"), [("Ncnn", "ncnn"), ("Mnn", "MNN")])
@pytest.mark.parametrize("model", ["0.35_65", "0.5_64"])
def test_ncnn_and_mnn_agree_with_our_numbers(benchmarks: None, name: str, package: str, model: str) -> None:
    pytest.importorskip(package)
    import runtimes.adapters
    from network import network

    net = network("classify", model)
    size, weights = net.input_shape[0], net.random_weights()
    images = np.random.default_rng(0).uniform(-1, 1, (2, size, size, 3)).astype(np.float32)
    ours, theirs = (
        getattr(runtimes.adapters, kind)(net, weights, images, threads)
        for kind, threads in (("OursOnNumpy", 1), (name, 2))
    )
    theirs.run()  # a second run must not find the first one's values in the input's place
    expected, found = (runtime.logits(runtime.run()) for runtime in (ours, theirs))
    assert expected.shape == found.shape
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-4 * expected.std())


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
    from comparison import check_coarse, set_up
    from network import network

    net = network(task, "0.35_65")
    images = np.random.default_rng(0).uniform(-1, 1, (2, 65, 65, 3)).astype(np.float32)
    ready = set_up(net, images, 1, ("npmnv2", "npmnv2, float32", "litert"), dtype)
    assert set(ready) == {"npmnv2", "npmnv2, float32", "litert"}
    differences = check_coarse(ready, 0.5)
    assert differences["npmnv2"] == differences["litert"] > 0
    zero_points = {q.zero_point for q in ready["npmnv2"].integers.quantization.kernels.values()}
    assert (zero_points == {0}) == (dtype == "int8")
    assert dtype == "int8" or max(abs(zero - 128) for zero in zero_points) > 10


@pytest.mark.slow
def test_tools_of_other_runtimes_make_integers_that_are_near(benchmarks: None) -> None:
    for package in ("onnxruntime", "onnx", "openvino", "nncf"):
        pytest.importorskip(package)
    from comparison import check_coarse, set_up
    from network import network

    net = network("classify", "0.35_64")
    images = np.random.default_rng(0).uniform(-1, 1, (2, 64, 64, 3)).astype(np.float32)
    ready = set_up(net, images, 2, (), "int8")
    assert set(ready) >= {"onnxruntime", "onnxruntime, signed", "openvino", "openvino, 2 streams"}
    assert all(0 <= difference < 0.3 for difference in check_coarse(ready, 0.5).values())


def test_integers_that_are_not_litert_s_stop_the_comparison(benchmarks: None) -> None:
    from comparison import check_coarse

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
    assert check_coarse(right, 0.5)["npmnv2"] == pytest.approx(0.1)
    with pytest.raises(SystemExit, match="1 outputs differ from LiteRT's"):
        check_coarse({**right, "npmnv2": Answers(near + 0.01 * (np.arange(10) == 3))}, 0.5)
    with pytest.raises(SystemExit, match="openvino differs from float32"):
        check_coarse({**right, "openvino": Answers(far)}, 0.5)


def test_products_of_bfloat16_are_near_float32(benchmarks: None) -> None:
    pytest.importorskip("openvino")
    pytest.importorskip("onnx")
    from comparison import LIMITS, check_coarse, set_up
    from network import network
    from npmnv2.kernels.host.engine import find_bfloat16_engine

    net = network("classify", "0.35_64")
    images = np.random.default_rng(0).uniform(-1, 1, (2, 64, 64, 3)).astype(np.float32)
    ready = set_up(net, images, 2, (), "bf16")
    assert ("npmnv2" in ready) == (find_bfloat16_engine() is not None)
    assert set(ready) - {"npmnv2"} == {"openvino", "openvino, 2 streams", "npmnv2, float32"}
    differences = check_coarse(ready, LIMITS["bf16"])
    assert "npmnv2" not in ready or differences["npmnv2"] > 1e-3


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
