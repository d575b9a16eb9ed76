"""Images decoded by other processes: in order, bounded, and without a hang."""

import multiprocessing
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ovseg.data import image_reader as module
from ovseg.data.image_reader import decode_ahead
from ovseg.data.images import ImageError
from ovseg.errors import OvsegError
from tests.data.test_images import photo, save


def some_files(folder: Path, count: int = 9) -> list[tuple[Path, str | None]]:
    for number in range(count):
        save(folder / f"{number}.png", Image.fromarray(photo(seed=number)))
    (folder / "3.png").write_bytes(b"")
    return [(folder / f"{number}.png", None) for number in range(count)]


@pytest.mark.parametrize("workers", [0, 2])
def test_images_come_in_order_and_bad_ones_with_them(tmp_path: Path, workers: int, monkeypatch):
    monkeypatch.setattr(module, "AHEAD", 2)
    wanted = some_files(tmp_path)
    found = list(decode_ahead(wanted, workers=workers))
    assert len(found) == 9
    for number, image in enumerate(found):
        if number == 3:
            assert isinstance(image, ImageError) and image.reason == "zero_bytes"
        else:
            assert np.array_equal(image, photo(seed=number))


def test_no_more_is_read_than_may_wait(tmp_path: Path, monkeypatch):
    monkeypatch.setattr(module, "AHEAD", 2)
    asked = []

    def wanted():
        for one in some_files(tmp_path):
            asked.append(one)
            yield one

    reading = decode_ahead(wanted(), workers=1)
    next(reading)
    assert len(asked) == 3
    reading.close()
    assert len(asked) == 3


def test_fewer_large_images_wait(tmp_path: Path, monkeypatch):
    monkeypatch.setattr(module, "AHEAD", 5)
    asked = []

    def wanted():
        for number in range(9):
            asked.append(number)
            yield save(tmp_path / f"{number}.png", Image.new("L", (60, 50))), None

    monkeypatch.setattr(module, "AHEAD_PIXELS", 2 * 60 * 50)
    reading = decode_ahead(wanted(), workers=1)
    next(reading)
    assert len(asked) == 1 + 2, "two of this size may wait"
    monkeypatch.setattr(module, "AHEAD_PIXELS", 1)
    next(reading)
    assert len(asked) == 1 + 2, "none is asked for while one waits"
    next(reading)
    assert len(asked) == 1 + 3, "one a worker always waits"
    assert len(list(reading)) == 6
    asked.clear()
    monkeypatch.setattr(module, "AHEAD_PIXELS", 2**28)
    reading = decode_ahead(wanted(), workers=1)
    next(reading)
    assert len(asked) == 1 + 5
    reading.close()


def test_a_dead_worker_is_an_error_not_a_hang(tmp_path: Path, monkeypatch):
    monkeypatch.setattr(module, "AHEAD", 2)
    before = set(multiprocessing.active_children())
    reading = decode_ahead(some_files(tmp_path) * 20, workers=1)
    next(reading)
    (worker,) = set(multiprocessing.active_children()) - before
    os.kill(worker.pid, signal.SIGKILL)
    with pytest.raises(OvsegError, match="decode_workers"):
        list(reading)


def test_workers_import_nothing_heavy():
    code = (
        "import ovseg.data.image_reader, sys;"
        "print([m for m in ('torch', 'pyarrow', 'spacy', 'transformers') if m in sys.modules])"
    )
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert shown.stdout.strip() == "[]"
