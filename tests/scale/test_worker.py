from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from npmnv2.scale import job, run, worker
from npmnv2.scale.job import Execution, Job
from npmnv2.scale.manifest import Output
from npmnv2.scale.worker import Task, WorkerError, compute_part


@pytest.fixture
def begun(tmp_path: Path, model: Any, photos: Path) -> Task:
    """The first part of a run."""
    output = Output(str(tmp_path / "out"))
    digest = run._begin(output, Job(model), {})
    output.record([str(path) for path in sorted(photos.rglob("*.png"))], 5, lambda *_: None)
    worker._job.cache_clear()
    return Task(output.url, digest, Execution(), 0)


def test_a_part_is_what_the_job_gives(begun: Task, model: Any) -> None:
    for number in range(3):
        compute_part(begun._replace(number=number))
    output = Output(begun.url)
    assert output.done() == {0, 1, 2}
    for number in range(3):
        expected, _ = Job(model).part(output.names(number))
        assert (Path(begun.url) / f"part-{number:06}.parquet").read_bytes() == expected


def test_the_model_is_loaded_once(begun: Task, monkeypatch: pytest.MonkeyPatch) -> None:
    loaded = []
    load = job.load
    monkeypatch.setattr(job, "load", lambda *a, **k: (loaded.append(a), load(*a, **k))[1])
    compute_part(begun)
    compute_part(begun._replace(number=1))
    assert len(loaded) == 1


def test_other_versions_are_refused(begun: Task, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker, "versions", lambda: {**job.versions(), "pillow": "1.0"})
    with pytest.raises(WorkerError, match=r"it has pillow 1\.0, not"):
        compute_part(begun)
    assert Output(begun.url).done() == set()


def test_other_bits_are_refused(begun: Task) -> None:
    with pytest.raises(WorkerError, match="other bits"):
        compute_part(begun._replace(execution=Execution("numpy")))
    assert Output(begun.url).done() == set()
