"""Calls behind the caller: in order, bounded, and their errors are raised as they are."""

import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ovseg.stages.background import Background


def threads() -> list[str]:
    return [each.name for each in threading.enumerate() if each.name.startswith("encode")]


@given(st.lists(st.integers(0, 9), max_size=20), st.integers(0, 12))
def test_results_are_those_of_calls_at_once_in_order(weights, most):
    called: list[int] = []

    def call(number: int) -> int:
        called.append(number)
        return number * number

    with Background("encode", most=most) as background:
        futures = [
            background.submit(call, number, weight=weight) for number, weight in enumerate(weights)
        ]
    assert called == list(range(len(weights)))
    assert [future.result() for future in futures] == [number**2 for number in called]
    assert not threads()


def test_the_caller_waits_only_while_calls_weigh_too_much():
    finish = threading.Event()
    with Background("encode", most=10) as background:
        background.submit(finish.wait, 10, weight=6)
        background.submit(len, "abc", weight=4)
        late = threading.Timer(0.05, finish.set)
        late.start()
        background.submit(len, "abc", weight=1)
        assert finish.is_set(), "11 were too many"
        assert background.submit(len, "abc", weight=99).result() == 3
    late.join()


def test_an_error_is_raised_by_the_next_call_or_at_the_end():
    def broken() -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError), Background("encode", most=9) as background:
        background.submit(broken, weight=1)
    with pytest.raises(ZeroDivisionError), Background("encode", most=1) as background:
        background.submit(broken, weight=1)
        background.submit(len, "abc", weight=1)
        raise AssertionError("not reached")
    with pytest.raises(ZeroDivisionError), Background("encode", most=0) as background:
        background.submit(broken, weight=1)
        raise AssertionError("not reached")
    assert not threads()


def test_after_an_error_of_the_caller_calls_not_begun_are_dropped():
    begin, called = threading.Event(), []

    def first() -> None:
        begin.wait(10)

    with pytest.raises(KeyError), Background("encode", most=99) as background:
        background.submit(first, weight=1)
        waiting = background.submit(called.append, 1, weight=1)
        threading.Timer(0.05, begin.set).start()
        raise KeyError
    assert waiting.cancelled() and not called
    assert not threads()
