"""Regions cut in every epoch: the order they are shown in, and what is decoded and kept for it."""

from collections import Counter
from contextlib import closing

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from toy_phases import log_of

from ovseg.training.clip import streamed
from ovseg.training.clip.mapped import MappedRegions
from ovseg.training.clip.pairs import ImagePairs, read_pairs
from ovseg.training.clip.regions import RegionCut, cut_image
from ovseg.training.clip.streamed import StreamedRegions, image_windows

CUT = RegionCut(size=16, mean=(0.48, 0.46, 0.41), std=(0.27, 0.26, 0.28))


@given(
    st.lists(st.integers(0, 30), min_size=1, max_size=120),
    st.integers(2, 40),
    st.integers(0, 3),
)
@settings(deadline=None, max_examples=100)
def test_windows_hold_whole_images_and_every_pair_once(images, window, epoch):
    of_item = np.array(images)
    windows = image_windows(of_item, window=window, seed=1, epoch=epoch)
    order = np.concatenate(windows)
    assert sorted(order.tolist()) == list(range(len(images)))
    assert all(len(each) >= window for each in windows[:-1])
    largest = max(Counter(images).values())
    assert all(len(each) < window + largest for each in windows)
    places = [set(of_item[each].tolist()) for each in windows]
    assert sum(map(len, places)) == len(set(images))  # an image is in one window
    again = image_windows(of_item, window=window, seed=1, epoch=epoch)
    assert all(np.array_equal(a, b) for a, b in zip(windows, again, strict=True))


def test_epochs_and_seeds_differ_and_a_window_is_shuffled():
    of_item = np.repeat(np.arange(200), 4)
    orders = {
        (seed, epoch): np.concatenate(image_windows(of_item, window=80, seed=seed, epoch=epoch))
        for seed in (0, 1)
        for epoch in (0, 1)
    }
    assert len({order.tobytes() for order in orders.values()}) == 4
    order = of_item[orders[0, 0]]
    together = np.mean(order[1:] == order[:-1])
    assert together < 0.1  # of pairs side by side, 3 in 79 are of one image
    # every image is as likely early as late
    first = [
        np.concatenate(image_windows(of_item, window=80, seed=s, epoch=0))[:80] for s in range(50)
    ]
    assert 300 < np.unique(of_item[np.concatenate(first)]).size * 2 <= 400


@pytest.mark.parametrize("workers", [0, 2])
def test_an_image_is_decoded_once_an_epoch_and_few_windows_are_held(
    training_set, tmp_path, monkeypatch, workers
):
    data = training_set(12)
    pairs = ImagePairs(read_pairs(data.curated, [data.table]), data.image_root)
    whole = MappedRegions(pairs, CUT, folder=tmp_path / "r")
    decoded = []

    def cut(image, how):
        decoded.append(image.rows)
        return cut_image(image, how)

    with closing(
        StreamedRegions(pairs, CUT, window=6, folder=tmp_path / "r", workers=workers)
    ) as stream:
        monkeypatch.setattr(streamed, "cut_image", cut)
        for epoch in range(2):
            order = stream.order(seed=3, epoch=epoch)
            assert sorted(order.tolist()) == list(range(24))
            for rows in order.split(5):
                batch, expected = stream.regions(rows.tolist()), whole.regions(rows.tolist())
                assert torch.equal(batch.pixels, expected.pixels)
                assert torch.equal(batch.masks, expected.masks)
                assert len(stream._ready) <= 2 and len(stream._waiting) <= 1
    if not workers:
        assert Counter(decoded) == dict.fromkeys(set(decoded), 2) and len(decoded) == 24
    # anywhere in an epoch, as a resumed training begins
    fresh = StreamedRegions(pairs, CUT, window=6, folder=tmp_path / "r")
    rows = fresh.order(seed=3, epoch=1)[17:].tolist()
    assert torch.equal(fresh.regions(rows).pixels, whole.regions(rows).pixels)


def test_images_are_checked_once_for_all_phases(training_set, tmp_path, monkeypatch):
    data = training_set(6)
    pairs = ImagePairs(read_pairs(data.curated, [data.table]), data.image_root)
    StreamedRegions(pairs, CUT, window=4, folder=tmp_path / "r")
    (place,) = (tmp_path / "r").iterdir()
    assert (place / "regions.bin").stat().st_size == 0  # only the outcome
    monkeypatch.setattr("ovseg.training.clip.mapped.cut_ahead", None)
    StreamedRegions(pairs, CUT, window=8, folder=tmp_path / "r")


def test_a_stream_is_a_training_of_its_own_that_workers_do_not_change(training_set, finetune):
    data = training_set(16)
    mapped = finetune(data, root="mapped")
    stream = finetune(data, root="stream", input="stream", window=8)
    by_workers = finetune(data, root="workers", input="stream", window=8, decode_workers=2)
    assert stream.digest == by_workers.digest
    assert stream.content_digest == by_workers.content_digest
    assert stream.content_digest != mapped.content_digest
    assert len(log_of(stream)["loss"]) == len(log_of(mapped)["loss"])


def test_a_killed_stream_resumes_to_the_same_end(training_set, finetune):
    data = training_set(16)
    settings = {"input": "stream", "window": 8, "epochs": 4, "checkpoint_every": 3}
    whole = finetune(data, root="whole", **settings)
    seen = []

    def kill(advance: int) -> None:
        seen.append(advance)
        if sum(seen) == 5:
            raise RuntimeError("killed")

    with pytest.raises(RuntimeError):
        finetune(data, root="killed", progress=kill, **settings)
    seen = []
    resumed = finetune(data, root="killed", progress=seen.append, **settings)
    assert seen[0] == 3
    assert resumed.content_digest == whole.content_digest
