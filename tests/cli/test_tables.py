from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from npmnv2.cli.main import main

pytest.importorskip("distributed")
pytest.importorskip("pyarrow")


@pytest.fixture
def scheduler() -> Any:
    import distributed

    options = {"processes": False, "protocol": "tcp", "dashboard_address": ":0"}
    with distributed.LocalCluster(n_workers=1, threads_per_worker=1, **options) as cluster:
        yield cluster.scheduler_address


def test_predict_and_features_write_tables(
    folder: Path, model: str, scheduler: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    import pyarrow.parquet

    common = ["-m", model, "--scheduler", scheduler, "--part-size", "2"]
    assert main(["predict", str(folder), "-k", "1", "--out", str(tmp_path / "classes"), *common]) == 0
    assert f"wrote 3 photos to {tmp_path / 'classes'}" in capsys.readouterr().err
    table = pyarrow.parquet.read_table(tmp_path / "classes").to_pylist()
    assert [len(row["candidates"]) for row in table] == [1, 1, 1]
    (folder / "d.png").write_bytes(b"no photo")
    assert main(["features", f"{folder}/*.*g", "--out", str(tmp_path / "vectors"), *common]) == 1
    assert "1 of 2 photos could not be used; their rows have an error" in capsys.readouterr().err
    assert main(["predict", str(folder), "-k", "2", "--out", str(tmp_path / "classes"), *common]) == 1
    assert "holds a table of other settings: options.top_k 1, not 2" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--workers", "1", "a.jpg"], "--out must say where"),
        (["--workers", "1", "--out", "x", "--json", "a.jpg"], "--json must be left out"),
        (["--part-size", "8", "a.jpg"], "--part-size is for tables"),
        (["--masks", "a.jpg"], "--masks is for tables"),
        (
            ["--workers", "1", "--out", "x", "--threshold", "0.5", "a.jpg"],
            "--threshold must be left out: this model is for cl",
        ),
        (["--workers", "1", "--out", "x", "--masks", "a.jpg"], "masks must be left out"),
        (["--scheduler", "tcp://127.0.0.1:1", "--out", "x", "-"], "standard input cannot be read again"),
    ],
)
def test_what_does_not_go_together(
    arguments: list[str], message: str, model: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["predict", *arguments[-1:], "-m", model, *arguments[:-1]]) == 1
    assert message in capsys.readouterr().err


def test_an_interrupt_says_how_to_go_on(
    folder: Path, model: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupt(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("npmnv2.scale.write_table", interrupt)
    assert main(["predict", str(folder), "-m", model, "--workers", "1", "--out", "there"]) == 130
    assert "the same command goes on with there" in capsys.readouterr().err
