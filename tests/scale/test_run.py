"""Whole runs; the undisturbed one is the measure of all others, byte for byte."""

from __future__ import annotations

import errno
import json
import threading
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import pytest

from npmnv2 import ArgumentError
from npmnv2.scale import run, worker
from npmnv2.scale.manifest import Output
from npmnv2.scale.run import RunError, write_table
from npmnv2.scale.table import pyarrow

PART_SIZE = 2


def contents(folder: Path) -> dict[str, bytes]:
    """Every file below a folder."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


@pytest.fixture(autouse=True)
def without_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run, "PAUSES_SECONDS", (0.0, 0.0))


@pytest.fixture(scope="module")
def undisturbed(model: Any, photos: Path, scheduler: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("run") / "out"
    summary = write_table(model, [str(photos / "**" / "*.png")], str(out), scheduler=scheduler, part_size=PART_SIZE)
    assert summary == (str(out), 12, 1)
    return out


@pytest.fixture
def again(model: Any, photos: Path, scheduler: str, tmp_path: Path) -> Any:
    """Runs to another output."""
    options = {"scheduler": scheduler, "part_size": PART_SIZE}
    return lambda **more: write_table(
        model, [str(photos / "**" / "*.png")], str(tmp_path / "out"), **{**options, **more}
    )


def test_the_table_is_what_predict_gives(undisturbed: Path, model: Any, photos: Path) -> None:
    table = pyarrow().parquet.read_table(undisturbed).to_pylist()
    names = [str(path) for folder in ("0", "1") for path in sorted((photos / folder).iterdir())]
    assert [row["source"] for row in table] == names
    for row, expected in zip(table, model.predict(names, errors="return"), strict=True):
        assert row["candidates"] == (None if row["error"] else expected.to_dict()["candidates"])
    assert json.loads((undisturbed / "_SUCCESS").read_text()) == {"photos": 12, "failed": 1}


def test_other_readers_see_the_table_alone(undisturbed: Path) -> None:
    import dask.dataframe
    import pandas

    assert len(pandas.read_parquet(undisturbed)) == 12
    assert len(dask.dataframe.read_parquet(undisturbed)) == 12


def test_a_run_that_is_complete_computes_nothing(
    undisturbed: Path, model: Any, photos: Path, scheduler: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run, "compute_part", None)
    before = contents(undisturbed)
    sources = [str(photos / "**" / "*.png")]
    assert write_table(model, sources, str(undisturbed), scheduler=scheduler, part_size=PART_SIZE).photos == 12
    assert contents(undisturbed) == before


@pytest.mark.parametrize(
    ("more", "message"),
    [({"top_k": 3}, "top_k"), ({"part_size": 3}, "part_size 2, not 3"), ({"features": True}, "task")],
)
def test_other_settings_are_refused(
    undisturbed: Path, model: Any, photos: Path, scheduler: str, more: dict, message: str
) -> None:
    options = {"scheduler": scheduler, "part_size": PART_SIZE, **more}
    with pytest.raises(ArgumentError, match=f"other settings: .*{message}"):
        write_table(model, [str(photos / "**" / "*.png")], str(undisturbed), **options)


def test_another_model_is_refused(undisturbed: Path, model: Any, photos: Path, scheduler: str) -> None:
    bias = model.weights["predictions/bias"] + np.float32(1)
    other = type(model)(model.config, {**model.weights, "predictions/bias": bias}, processor=model.processor)
    with pytest.raises(ArgumentError, match="other settings: model "):
        write_table(other, [str(photos / "**/*.png")], str(undisturbed), scheduler=scheduler, part_size=PART_SIZE)


def test_a_pattern_without_a_match(model: Any, tmp_path: Path, scheduler: str) -> None:
    with pytest.raises(FileNotFoundError, match="matches no photo"):
        write_table(model, [str(tmp_path / "*.jpg")], str(tmp_path / "out"), scheduler=scheduler)
    assert not (tmp_path / "out").exists()


# --- disturbances -----------------------------------------------------------------------------------------------------


def test_a_full_disk_stops_the_run_which_goes_on(
    again: Any, undisturbed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write, room = Output.write_part, iter(range(3))

    def until_full(self: Output, number: int, content: bytes) -> None:
        if next(room, None) is None:
            raise OSError(errno.ENOSPC, "No space left on device")
        write(self, number, content)

    with monkeypatch.context() as patch:
        patch.setattr(Output, "write_part", until_full)
        with pytest.raises(RunError, match=r"No space left on device\. Mend that"):
            again()
    assert len(Output(str(tmp_path / "out")).done()) == 3
    again()
    assert contents(tmp_path / "out") == contents(undisturbed)


def test_a_store_that_cannot_be_reached_for_a_while(
    again: Any, undisturbed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    names, failing = Output.names, threading.Semaphore(4)

    def unreachable(self: Output, number: int) -> list[str]:
        if failing.acquire(blocking=False):
            raise ConnectionError("the store is away")
        return names(self, number)

    monkeypatch.setattr(run, "PAUSES_SECONDS", (0.0,) * 5)
    monkeypatch.setattr(Output, "names", unreachable)
    again()
    assert contents(tmp_path / "out") == contents(undisturbed)
    assert "is tried again: ConnectionError: the store is away" in caplog.text


def test_a_listing_that_fails_halfway_is_begun_again(
    again: Any, undisturbed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    list_photos, failing = run.list_photos, iter([True])

    def halfway(*arguments: Any) -> Any:
        for at, name in enumerate(list_photos(*arguments)):
            if at == 5 and next(failing, False):
                raise TimeoutError("slow")
            yield name

    monkeypatch.setattr(run, "list_photos", halfway)
    again()
    assert contents(tmp_path / "out") == contents(undisturbed)


def test_one_part_that_fails_for_good_stops_none_of_the_others(
    again: Any, undisturbed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = Output.names

    def one_fails(self: Output, number: int) -> list[str]:
        if number == 1:
            raise PermissionError("secret.jpg")
        return names(self, number)

    with monkeypatch.context() as patch:
        patch.setattr(Output, "names", one_fails)
        with pytest.raises(RunError, match=r"1 of 6 parts .*000001\.json: PermissionError: secret\.jpg"):
            again()
    assert Output(str(tmp_path / "out")).done() == {0, 2, 3, 4, 5}
    assert not (tmp_path / "out" / "_SUCCESS").exists()
    again()
    assert contents(tmp_path / "out") == contents(undisturbed)


def test_a_part_of_which_workers_died_is_not_given_to_more(again: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from distributed.scheduler import KilledWorker

    class Worker:
        address = "tcp://127.0.0.1:1"

    names, deaths = Output.names, []

    def kill(self: Output, number: int) -> list[str]:
        if number == 1:
            deaths.append(number)
            raise KilledWorker("part", Worker(), 3)
        return names(self, number)

    monkeypatch.setattr(Output, "names", kill)
    with pytest.raises(RunError, match=r"1 of 6 parts .*: KilledWorker"):
        again()
    assert deaths == [1]


def test_an_interrupt_leaves_a_run_that_goes_on(
    again: Any, undisturbed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    advance = run._Run._advance

    def interrupt(self: Any, number: int) -> None:
        advance(self, number)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(run._Run, "_advance", interrupt)
        with pytest.raises(KeyboardInterrupt):
            again()
    assert not (tmp_path / "out" / "_SUCCESS").exists()
    again()
    assert contents(tmp_path / "out") == contents(undisturbed)


def test_a_worker_that_would_write_other_bits_ends_the_run(again: Any, tmp_path: Path) -> None:
    worker._job.cache_clear()
    with pytest.raises(worker.WorkerError, match="other bits"):
        again(backend="numpy")
    assert Output(str(tmp_path / "out")).done() == set()


def test_a_table_with_rows_missing_is_not_finished(again: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names = Output.names
    monkeypatch.setattr(Output, "names", lambda self, number: names(self, number)[: 1 if number == 2 else None])
    with pytest.raises(RunError, match="a row for each of 12 photos, got 11"):
        again()
    assert not (tmp_path / "out" / "_SUCCESS").exists()


class Slow(fsspec.AbstractFileSystem):
    """Photos in folders; those beyond the first are listed once somebody allows it."""

    protocol = "slow"
    cachable = False
    photo = b""
    allowed = threading.Event()

    def ls(self, path: str, detail: bool = True, **_: Any) -> Any:
        if not path.strip("/"):
            return [{"name": f"/{number}", "type": "directory", "size": 0} for number in range(3)]
        if path.strip("/") != "0":
            assert self.allowed.wait(60)
        return [{"name": f"{path}/{number}.png", "type": "file", "size": 1} for number in range(3)]

    def exists(self, path: str, **_: Any) -> bool:
        return False

    def _open(self, path: str, *_: Any, **__: Any) -> Any:
        import io

        return io.BytesIO(self.photo)


def test_parts_are_computed_before_all_names_are_listed(
    model: Any, photos: Path, scheduler: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fsspec.register_implementation("slow", Slow, clobber=True)
    Slow.photo = (photos / "0" / "00.png").read_bytes()
    write = Output.write_part
    # A first part allows the rest of the listing: were the listing awaited, this would hang.
    monkeypatch.setattr(Output, "write_part", lambda *a: (write(*a), Slow.allowed.set()))
    summary = write_table(model, ["slow:///**/*.png"], str(tmp_path / "out"), scheduler=scheduler, part_size=3)
    assert (summary.photos, summary.failed) == (9, 0)


@pytest.mark.parametrize("where", ["memory://tables/out"])
def test_the_table_may_be_in_a_store(where: str, model: Any, undisturbed: Path, photos: Path, scheduler: str) -> None:
    write_table(model, [str(photos / "**/*.png")], where, scheduler=scheduler, part_size=PART_SIZE)
    store = fsspec.filesystem("memory")
    for path in sorted(undisturbed.glob("part-*")):
        assert store.cat_file(f"/tables/out/{path.name}") == path.read_bytes()


# --- one decision at a time, without a cluster ------------------------------------------------------------------------


class Future:
    def __init__(self, status: str) -> None:
        self.status = status


class Client(Future):
    """A client of Dask's, by its status."""


@pytest.fixture
def bare() -> Any:
    """A run of which nothing is done yet."""
    made = run._Run(type("Output", (), {"done": lambda self: set()})(), None, PART_SIZE, True)
    made._advance = lambda number: None
    return made


def test_what_a_scheduler_forgot_is_submitted_again(bare: Any) -> None:
    futures = [Future(status) for status in ("pending", "lost", "cancelled")]
    bare._running.update(zip(futures, (4, 5, 6)))
    bare._check(Client("running"))
    assert (sorted(bare._again), list(bare._running.values())) == ([5, 6], [4])
    with pytest.raises(run._Lost):
        bare._check(Client("closed"))


def test_a_part_that_succeeds_ends_a_row_of_failures(bare: Any) -> None:
    killed = type("KilledWorker", (Exception,), {})("a worker died of it")
    done = Future("finished")
    for number in (0, 1):
        bare._retry(number, killed)
    bare._running[done] = 2
    bare._finished(done)
    for number in (3, 4):
        bare._retry(number, killed)
    with pytest.raises(RunError, match="3 parts in a row could not be computed: KilledWorker"):
        bare._retry(5, killed)
    assert sorted(bare._failed) == [0, 1, 3, 4, 5]
