"""Captions parsed by several processes: the same nouns, no hang, nothing left running."""

import multiprocessing
import os
import signal
import sys
import threading
import time
from pathlib import Path

import pytest
import spacy
from thinc.api import PyTorchWrapper
from torch import nn

from ovseg.data.listing import LIST_IMAGES
from ovseg.errors import OvsegError
from ovseg.mining.nouns import mentions
from ovseg.mining.nouns import stage as noun_stage
from ovseg.mining.nouns.mentions import Rules, extract, load_parser
from ovseg.mining.nouns.parsing_team import ParsingTeam
from ovseg.mining.nouns.stage import NOUNS
from ovseg.mining.nouns.stop_nouns import StopNouns
from ovseg.stages.run import run_stage, stage_folder
from ovseg.storybook.captions import describe
from ovseg.storybook.scenes import draw_scene
from ovseg.storybook.world import scene_seeds
from tests.stages.test_interrupts import alive, ended, ready, start

RULES = Rules(compounds=True, proper_nouns=True, stop_nouns=StopNouns.none())


def threads() -> set[str]:
    return {thread.name for thread in threading.enumerate()}


@pytest.mark.parametrize("workers", [2, 3])
def test_tables_do_not_depend_on_the_number_of_processes(
    workers: int, source, tmp_path: Path, monkeypatch
):
    images = run_stage(
        LIST_IMAGES, source.images.model_copy(update={"shard_size": 5}), {}, tmp_path
    )
    monkeypatch.setattr(noun_stage, "WORTH_A_TEAM", 1)
    before = set(multiprocessing.active_children())
    found = []
    for number in (1, workers):
        config = source.nouns.model_copy(update={"workers": number, "batch_size": 1})
        noun_stage._memory.cache_clear()
        nouns = run_stage(NOUNS, config, {"images": images}, tmp_path / str(number))
        found.append([record.sha256 for record in nouns.shards])
    assert found[0] == found[1]
    assert set(multiprocessing.active_children()) <= before
    assert "parsing team" not in threads()


@pytest.mark.parametrize("processes", [2, 3])
def test_the_shipped_tagger_finds_the_same_nouns_in_several_processes(processes: int):
    captions = [c for seed in scene_seeds("mining", 12) for c in describe(draw_scene(seed))]
    nlp, stop = load_parser("storybook"), StopNouns.load()
    alone = extract(captions, nlp, stop_nouns=stop, batch_size=3)
    team = ParsingTeam("storybook", processes)
    try:
        together = extract(captions, nlp, stop_nouns=stop, batch_size=3, team=team)
    finally:
        team.close()
    assert together == alone


def test_few_captions_start_no_process(source, tmp_path: Path, monkeypatch):
    images = run_stage(LIST_IMAGES, source.images, {}, tmp_path)
    monkeypatch.setattr(noun_stage, "ParsingTeam", None)
    config = source.nouns.model_copy(update={"workers": 2})
    assert run_stage(NOUNS, config, {"images": images}, tmp_path).rows


def test_the_number_of_processes_is_not_in_the_digest(source, tmp_path: Path):
    images = run_stage(LIST_IMAGES, source.images, {}, tmp_path)
    folders = {
        stage_folder(NOUNS, config, {"images": images}, tmp_path)[0]
        for config in (source.nouns, source.nouns.model_copy(update={"workers": 7}))
    }
    assert len(folders) == 1


def test_a_dead_process_is_an_error_not_a_hang(tiny):
    nlp, before = load_parser(tiny.parser), set(multiprocessing.active_children())
    team = ParsingTeam(tiny.parser, 2)

    def here(batch):
        """End the colleague, once there is one."""
        for process in set(multiprocessing.active_children()) - before:
            os.kill(process.pid, signal.SIGKILL)
        time.sleep(0.01)
        return mentions.nouns_of(batch, nlp, RULES)

    try:
        with pytest.raises(OvsegError, match=r"set mining\.nouns\.workers to 1") as raised:
            team.parse([["a boat"]] * 2000, RULES, here, needs_torch=True)
    finally:
        team.close()
    assert "\n" not in str(raised.value)
    assert "parsing team" not in threads()


def test_errors_of_either_side_are_raised_as_they_are(tiny, tmp_path: Path):
    team = ParsingTeam(str(tmp_path / "none"), 2)
    nlp = load_parser(tiny.parser)

    def broken(batch):
        raise ZeroDivisionError

    def slow(batch):
        time.sleep(0.01)
        return mentions.nouns_of(batch, nlp, RULES)

    try:
        with pytest.raises(OvsegError, match="parser"):
            team.parse([["a boat"]] * 2000, RULES, slow, needs_torch=True)
    finally:
        team.close()
    team = ParsingTeam(tiny.parser, 2)
    try:
        with pytest.raises(ZeroDivisionError):
            team.parse([["a boat"]] * 9, RULES, broken, needs_torch=True)
    finally:
        team.close()
    assert "parsing team" not in threads()


def test_only_pipelines_that_wrap_torch_need_it():
    assert not mentions._needs_torch(load_parser("storybook"))
    wrapped = spacy.blank("en")
    wrapped.add_pipe("tok2vec").model = PyTorchWrapper(nn.Linear(2, 2))
    assert mentions._needs_torch(wrapped)

    @spacy.Language.component("somebody_elses")
    def component(doc):
        return doc

    unknown = spacy.blank("en")
    unknown.add_pipe("somebody_elses")
    assert mentions._needs_torch(unknown)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="looks into /proc")
def test_an_interrupt_ends_the_processes_too(tiny, tmp_path: Path):
    process = start(
        tmp_path,
        f"""
        from ovseg.mining.nouns.mentions import Rules
        from ovseg.mining.nouns.parsing_team import ParsingTeam
        from ovseg.mining.nouns.stop_nouns import StopNouns
        rules = Rules(compounds=True, proper_nouns=True, stop_nouns=StopNouns.none())
        team = ParsingTeam({tiny.parser!r}, 2)
        def here(batch):
            import multiprocessing
            while not (colleagues := multiprocessing.active_children()):
                time.sleep(0.01)
            print(colleagues[0].pid, flush=True)
            time.sleep(1000)
        team.parse([["a boat"]] * 9, rules, here, needs_torch=False)
        """,
    )
    colleague = int(ready(process))
    assert alive(colleague)
    os.killpg(process.pid, signal.SIGINT)
    assert ended(process) == (130, ["ovseg: interrupted"])
    assert not alive(colleague)
