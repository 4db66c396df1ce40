"""The queue before the workers. Workers stop at gates that the tests open, so that no test depends on time."""

import threading
from concurrent.futures import wait

import pytest

from npmnv2.serve.scheduler import Batch, Busy, Scheduler


class Gate:
    """Answers with the question and the image, once it is open; remembers the batches."""

    def __init__(self) -> None:
        self.open, self.entered = threading.Event(), threading.Semaphore(0)
        self.batches: list[Batch] = []

    def __call__(self, batch: Batch) -> list[object]:
        self.batches.append(batch)
        self.entered.release()
        assert self.open.wait(60)
        return [ValueError("bad") if image == b"bad" else (batch.question, image) for image in batch.images]


@pytest.fixture
def gate():
    return Gate()


@pytest.fixture
def start(gate):
    """Make a scheduler that runs until the test ends."""
    made = []

    def make(**options) -> Scheduler:
        scheduler = Scheduler(gate, **{"limit": 4, "workers": 1, **options})
        scheduler.start()
        made.append(scheduler)
        return scheduler

    yield make
    gate.open.set()
    for scheduler in made:
        scheduler.close()


def test_every_image_gets_its_answer(start, gate) -> None:
    gate.open.set()
    answers = start(limit=20, workers=3).submit("what?", [b"%d" % i for i in range(20)])
    assert [answer.result(60) for answer in answers] == [("what?", b"%d" % i) for i in range(20)]


def test_an_exception_is_that_of_its_image_alone(start, gate) -> None:
    gate.open.set()
    answers = start(batch_size=lambda _: 4).submit("what?", [b"a", b"bad", b"c"])
    assert answers[0].result(60) == ("what?", b"a")
    assert isinstance(answers[1].exception(60), ValueError)
    assert answers[2].result(60) == ("what?", b"c")


def test_a_failure_of_the_whole_batch_is_that_of_every_image() -> None:
    def fail(batch: Batch) -> list[object]:
        raise RuntimeError("broken")

    scheduler = Scheduler(fail, 4, 1, lambda _: 4)
    answers = scheduler.submit("what?", [b"a", b"b"])
    scheduler.start()
    assert [str(answer.exception(60)) for answer in answers] == ["broken", "broken"]
    scheduler.close()


def test_what_finds_no_room_is_refused_as_a_whole(start, gate) -> None:
    scheduler = start()
    scheduler.submit("what?", [b"at work"])
    assert gate.entered.acquire(timeout=60)
    scheduler.submit("what?", [b"1", b"2", b"3"])
    with pytest.raises(Busy) as busy:
        scheduler.submit("what?", [b"4", b"5"])
    assert busy.value.retry_after >= 1
    assert scheduler.waiting == 3
    scheduler.submit("what?", [b"4"])
    assert (scheduler.waiting, scheduler.running) == (4, 1)


def test_a_scheduler_that_stops_is_to_be_asked_again_in_a_second() -> None:
    scheduler = Scheduler(lambda batch: batch.images, 4, 1)
    scheduler.close()
    with pytest.raises(Busy) as busy:
        scheduler.submit("what?", [b"1"])
    assert busy.value.retry_after == 1


def test_the_longer_the_queue_the_later_to_retry() -> None:
    scheduler = Scheduler(lambda batch: batch.images, 1000, 2)
    scheduler._seconds_per_image = 0.1
    scheduler.submit("what?", [b""] * 500)
    with pytest.raises(Busy) as busy:
        scheduler.submit("what?", [b""] * 501)
    assert busy.value.retry_after == 25


def test_a_batch_holds_equal_questions_in_order_and_a_workers_share(gate) -> None:
    scheduler = Scheduler(gate, 20, 2, lambda question: 3 if question == "small" else 1)
    for question, images in (("small", [b"1", b"2"]), ("large", [b"3", b"4"]), ("small", [b"5", b"6", b"7", b"8"])):
        scheduler.submit(question, images)
    taken = []
    while scheduler.waiting:
        jobs = scheduler._take()
        taken.append(b"".join(job.image for job in jobs))
    # 8 wait: a share of 4 is cut by the question; then 4 wait, of which the share is 2; and so on.
    assert taken == [b"12", b"3", b"4", b"56", b"7", b"8"]


def test_an_image_is_alone_where_nothing_else_waits_or_runs(start, gate) -> None:
    scheduler = start(workers=2)
    first = scheduler.submit("what?", [b"1"])
    assert gate.entered.acquire(timeout=60)
    second = scheduler.submit("what?", [b"2"])
    assert gate.entered.acquire(timeout=60)
    gate.open.set()
    wait([*first, *second], 60)
    assert [batch.alone for batch in gate.batches] == [True, False]


def test_what_was_given_up_is_not_computed(start, gate) -> None:
    scheduler = start()
    scheduler.submit("what?", [b"at work"])
    assert gate.entered.acquire(timeout=60)
    given_up, kept = scheduler.submit("what?", [b"given up", b"kept"])
    assert given_up.cancel()
    gate.open.set()
    assert kept.result(60) == ("what?", b"kept")
    assert [batch.images for batch in gate.batches] == [[b"at work"], [b"kept"]]


def test_closing_answers_what_was_accepted_and_accepts_nothing_more(gate) -> None:
    scheduler = Scheduler(gate, 4, 2)
    answers = scheduler.submit("what?", [b"1", b"2", b"3"])
    scheduler.start()
    gate.open.set()
    scheduler.close()
    assert all(answer.done() for answer in answers)
    with pytest.raises(Busy):
        scheduler.submit("what?", [b"4"])
