"""Items made ahead in another thread: the same, in order, with their errors; and nothing after the caller stops."""

import threading
import time
from contextlib import closing

import pytest

from vaegaze.redirecting.ahead import ahead


def test_the_items_come_in_order_from_another_thread():
    makers = set()

    def items():
        for number in range(20):
            makers.add(threading.get_ident())
            yield number

    assert list(ahead(items(), most=3)) == list(range(20))
    assert len(makers) == 1 and threading.get_ident() not in makers


def test_an_error_comes_after_the_items_before_it():
    def items():
        yield 1
        yield 2
        raise ValueError("no third")

    got = []
    with pytest.raises(ValueError, match="no third"):
        got.extend(ahead(items(), most=8))
    assert got == [1, 2]


def test_no_more_is_made_than_may_wait_and_nothing_after_the_caller_stops():
    made, ended = [], []

    def items():
        try:
            for number in range(1000):
                made.append(number)
                yield number
        finally:
            ended.append(threading.get_ident())

    with closing(ahead(items(), most=2)) as numbers:
        assert next(numbers) == 0
        time.sleep(0.2)
        assert len(made) <= 4  # the one taken, two that wait, one that waits to wait
    count = len(made)
    time.sleep(0.1)
    assert len(made) == count and len(ended) == 1 and ended[0] != threading.get_ident()


def test_a_stop_waits_neither_for_the_next_item_nor_for_long_for_its_making(monkeypatch):
    monkeypatch.setattr("vaegaze.redirecting.ahead._LAST_ITEM_SEC", 0.2)
    never, stop = threading.Event(), threading.Event()

    def items():
        yield from range(3)
        stop.set()
        never.wait(60)
        yield 3

    began = time.monotonic()
    assert list(ahead(items(), most=8, should_stop=stop.is_set)) == [0, 1, 2]
    assert time.monotonic() - began < 5
    never.set()


def test_whoever_is_patient_waits_for_the_item_in_the_making(monkeypatch):
    monkeypatch.setattr("vaegaze.redirecting.ahead._LAST_ITEM_SEC", 0.1)
    began, made = threading.Event(), []

    def items():
        yield 0
        began.set()
        time.sleep(0.5)
        made.append(1)
        yield 1

    with closing(ahead(items(), most=1, patient=True)) as numbers:
        assert next(numbers) == 0 and began.wait(5)
    assert made == [1]


def test_a_patient_end_does_not_wait_for_what_waits_itself(monkeypatch):
    """Also where the end comes while an item is waited for, as Ctrl-C does."""
    monkeypatch.setattr("vaegaze.redirecting.ahead._LAST_ITEM_SEC", 0.1)
    never, over, waits = threading.Event(), threading.Event(), threading.Event()

    def interrupted() -> bool:
        waits.wait(5)
        raise KeyboardInterrupt

    def read():
        yield 0
        waits.set()
        never.wait(60)

    def drawn(items):
        with closing(items):
            yield from items

    began = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        list(ahead(drawn(ahead(read(), 1, over.is_set)), 1, interrupted, patient=True, over=over))
    never.set()
    assert time.monotonic() - began < 20
