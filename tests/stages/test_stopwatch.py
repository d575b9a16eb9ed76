"""What a shard waits for: counted once, by its own thread, and kept out of the manifest."""

import json
import threading
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ovseg.stages import stopwatch as module
from ovseg.stages.device_turns import device_is_free, device_turn
from ovseg.stages.run import run_stage
from ovseg.stages.stopwatch import in_words, stopwatch, total, waiting, waiting_for
from tests.stages.test_stages import Squares, SquaresConfig


class Clock:
    """Seconds that pass only when told."""

    def __init__(self, monkeypatch) -> None:
        self.now = 0.0
        monkeypatch.setattr(module.time, "perf_counter", lambda: self.now)

    def passes(self, seconds: float) -> None:
        self.now += seconds


def test_a_part_within_another_is_counted_once(monkeypatch):
    clock = Clock(monkeypatch)
    with stopwatch() as waits:
        clock.passes(1)
        with waiting("device"):
            clock.passes(2)
            with waiting("decode"):
                clock.passes(4)
            clock.passes(8)
        clock.passes(16)
        with pytest.raises(ZeroDivisionError), waiting("write"):
            clock.passes(32)
            raise ZeroDivisionError
        clock.passes(64)
    assert waits == {"device": 10, "decode": 4, "write": 32}


def test_only_the_wait_for_an_item_counts(monkeypatch):
    clock = Clock(monkeypatch)

    def slow():
        for number in range(3):
            clock.passes(1)
            yield number
        clock.passes(1)

    found = []
    with stopwatch() as waits:
        for number in waiting_for(slow(), "decode"):
            clock.passes(10)
            found.append(number)
    assert found == [0, 1, 2] and waits == {"decode": 4}


def test_nothing_is_timed_without_a_stopwatch_or_in_another_thread():
    with waiting("device"):
        pass
    with stopwatch() as waits:

        def elsewhere():
            with waiting("device"):
                time.sleep(0.001)

        thread = threading.Thread(target=elsewhere)
        thread.start()
        thread.join()
    assert waits == {}


@given(st.lists(st.dictionaries(st.sampled_from(sorted(module.IN_WORDS)), st.floats(0, 9))))
def test_shards_add_up(shards):
    summed = total(shards)
    assert set(summed) == {part for shard in shards for part in shard}
    for part, seconds in summed.items():
        assert seconds == pytest.approx(sum(shard.get(part, 0.0) for shard in shards))


def test_shares_in_words():
    waits = {"write": 0.3, "device": 7.1, "decode": 1.8, "encode": 0.04}
    assert in_words(waits, 10) == "waited 71 % on the device, 18 % on decoding, 3 % on writing"
    assert in_words({}, 10) == in_words(waits, 0) == in_words({"write": 0.01}, 10) == ""


class Slow(Squares):
    """Waits for a device."""

    def write(self, *args, **kwargs):
        with waiting("device"):
            time.sleep(0.01)
        return super().write(*args, **kwargs)


def test_waits_are_facts_of_a_run_not_of_its_result(tmp_path: Path):
    done = run_stage(Slow(), SquaresConfig(), {}, tmp_path)
    waits = json.loads((done.folder / "run.json").read_text())["waits"]
    assert waits["device"] >= 0.03 and set(waits) == {"device", "write"}
    assert not any("waits" in path.read_text() for path in done.folder.glob("shard-*.json"))
    assert "waits" not in (done.folder / "manifest.json").read_text()


def test_the_next_shard_has_the_device_once_it_is_free():
    order: list[str] = []
    first_has_it, second_has_it = threading.Event(), threading.Event()

    def second() -> None:
        first_has_it.wait(10)
        with device_turn("a device"):
            order.append("second")
            second_has_it.set()

    thread = threading.Thread(target=second)
    thread.start()
    with device_turn("a device"):
        first_has_it.set()
        assert not second_has_it.wait(0.05)
        order.append("first")
        device_is_free()
        device_is_free()
        assert second_has_it.wait(10), "before the first shard is written"
    thread.join()
    assert order == ["first", "second"]
    with device_turn("a device"), device_turn(None):
        pass
    device_is_free()
