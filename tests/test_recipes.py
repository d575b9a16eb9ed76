"""The recipes of CONTRIBUTING.md, run as they stand there, each through its real stage."""

import importlib
import json
import re
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ovseg.ablations.tables.registry import TABLES
from ovseg.catalog.catalog import build_catalog, open_catalog
from ovseg.catalog.query import failed_checks, relations
from ovseg.config.data import ImagesConfig, ScreeningConfig
from ovseg.config.mining import (
    CurationConfig,
    NounsConfig,
    PairingConfig,
    ProposalsConfig,
    TableConfig,
    TextsConfig,
)
from ovseg.config.presets import load_preset
from ovseg.config.registry import EMBEDDERS, FORMATS, METHODS, PROMPTINGS, READERS, SOURCES
from ovseg.config.scoring import BenchmarkConfig
from ovseg.config.systems import SYSTEMS
from ovseg.config.training import FinetuneConfig
from ovseg.data import masks
from ovseg.data.listing import LIST_IMAGES
from ovseg.data.screening import SCREEN_IMAGES
from ovseg.errors import OvsegError
from ovseg.files import sql_files
from ovseg.files.digests import module_digest
from ovseg.mining.proposals.stage import PROPOSALS
from ovseg.stages.run import run_stage

TEXT = (Path(__file__).resolve().parents[1] / "CONTRIBUTING.md").read_text(encoding="utf-8")
CAPTIONS = ("a boat on the sea", "the moon over a house", "a dog and a boat", "a tree")


def blocks(title: str, language: str) -> list[str]:
    """The code of one recipe."""
    (section,) = re.findall(rf"^### {title}\n(.*?)(?=^### |\Z)", TEXT, re.MULTILINE | re.DOTALL)
    found = re.findall(rf"^```{language}\n(.*?)^```", section, re.MULTILINE | re.DOTALL)
    assert found, f"the recipe {title!r} shows no {language}"
    return found


@pytest.fixture
def follow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Runs a recipe's Python as a module; what it registered is gone after the test."""
    monkeypatch.syspath_prepend(tmp_path)
    registries = (FORMATS, SOURCES, READERS, SYSTEMS, EMBEDDERS, PROMPTINGS, METHODS, TABLES)
    before = [dict(registry) for registry in registries]

    def run(title: str) -> None:
        for number, code in enumerate(blocks(title, "python")):
            name = f"recipe_{re.sub(r'[^a-z]+', '_', title.lower())}_{number}"
            (tmp_path / f"{name}.py").write_text(code)
            importlib.invalidate_caches()
            module_digest.cache_clear()
            monkeypatch.delitem(sys.modules, name, raising=False)
            importlib.import_module(name)

    yield run
    for registry, entries in zip(registries, before):
        registry.clear()
        registry.update(entries)


@pytest.fixture
def listed(tmp_path: Path) -> ImagesConfig:
    """Four images of blocks and a line of caption each, as the first recipe wants them."""
    root = tmp_path / "flowers"
    root.mkdir()
    for number in range(len(CAPTIONS)):
        colours = np.random.default_rng(number).integers(0, 256, (4, 4, 3), dtype=np.uint8)
        Image.fromarray(colours.repeat(12, axis=0).repeat(16, axis=1)).save(root / f"{number}.png")
    lines = [f"{number}.png\t{text}" for number, text in enumerate(CAPTIONS)]
    path = tmp_path / "flowers.tsv"
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return ImagesConfig(
        dataset="flowers",
        captions=path,
        captions_format="lines",
        image_root=root,
        min_shards=2,
    )


def test_a_caption_source(follow, listed, tmp_path):
    with pytest.raises(OvsegError, match=r"captions_format: unknown name 'lines'"):
        run_stage(LIST_IMAGES, listed, {}, tmp_path / "runs")
    follow("A caption source")
    images = run_stage(LIST_IMAGES, listed, {}, tmp_path / "runs")
    rows = images.table().to_pylist()
    texts = {row["image_path"]: row["captions"][0]["text"] for row in rows}
    assert texts == {f"{number}.png": text for number, text in enumerate(CAPTIONS)}
    assert all(row["kept"] for row in rows) and len(images.shards) == 2


def test_a_proposal_source_a_training_method_and_what_lies_between(
    follow, listed, tiny_clip, tmp_path
):
    from ovseg.mining.nouns.embeddings import TEXTS
    from ovseg.mining.nouns.stage import NOUNS
    from ovseg.mining.pairs.curation import CURATE
    from ovseg.mining.pairs.stage import PAIRS
    from ovseg.mining.pairs.table import PAIR_TABLE
    from ovseg.models.clip.load import load_clip
    from ovseg.training.clip.stage import FINETUNE

    for title in ("A caption source", "A proposal source", "A training method"):
        follow(title)
    root, clip = tmp_path / "runs", str(tiny_clip)
    images = run_stage(LIST_IMAGES, listed, {}, root)
    setting = ProposalsConfig(source="squares", image_root=listed.image_root)
    proposals = run_stage(PROPOSALS, setting, {"images": images}, root)
    rows = proposals.table().to_pylist()
    assert len(rows) == 16 * len(CAPTIONS) and {row["proposal_model"] for row in rows} == {
        "squares"
    }
    squares = masks.decode([row["mask_counts"] for row in rows[:16]], (48, 64))
    assert (squares.sum(axis=0) == 1).all(), "they tile the image"

    nouns = run_stage(NOUNS, NounsConfig(), {"images": images}, root)
    parts = {"images": images, "nouns": nouns, "proposals": proposals}
    parts["texts"] = run_stage(TEXTS, TextsConfig(clip=clip, device="cpu"), {"nouns": nouns}, root)
    pairing = PairingConfig(
        dataset="flowers", clip=clip, image_root=listed.image_root, device="cpu"
    )
    pairs = run_stage(PAIRS, pairing, parts, root)
    table = run_stage(PAIR_TABLE, TableConfig(dataset="flowers"), {"pairs": pairs}, root)
    query = CurationConfig(query="all", sql="select pair_id, noun from kept_pairs")
    curated = run_stage(CURATE, query, {"table": table}, root)
    phase = FinetuneConfig(
        trains="projection",
        clip=clip,
        epochs=2,
        batch_size=2,
        warmup_steps=1,
        learning_rate=1e-2,
        train_logit_scale=False,
        image_root=listed.image_root,
        device="cpu",
    )
    tuned = run_stage(FINETUNE, phase, {"curated": curated, "table": table}, root)
    before, after = (
        dict(load_clip(name).named_parameters()) for name in (clip, str(tuned.payload()))
    )
    changed = {name for name in after if not after[name].equal(before[name])}
    assert changed == {
        "clip.visual.proj",
        "clip.visual.ln_post.weight",
        "clip.visual.ln_post.bias",
    }


@pytest.fixture
def two_tone(tiny_clip, tiny_maskformer, tmp_path) -> BenchmarkConfig:
    """Two images and their label maps, as the recipe of a benchmark wants them."""
    root = tmp_path / "two-tone"
    root.mkdir()
    stored = np.array([[20, 20, 0], [10, 10, 10]], dtype=np.uint8).repeat(16, 0).repeat(16, 1)
    for number in range(2):
        pixels = np.stack([stored * 10, stored * 5, 255 - stored], axis=-1).astype(np.uint8)
        Image.fromarray(pixels).save(root / f"{number}.png")
        Image.fromarray(stored).save(root / f"{number}_labels.png")
    return BenchmarkConfig(
        benchmark="two-tone",
        root=root,
        clip=str(tiny_clip),
        maskformer=str(tiny_maskformer),
        short_side=32,
        max_side=64,
        device="cpu",
    )


def test_a_benchmark(follow, two_tone, tmp_path):
    from ovseg.evaluation.benchmark import BENCHMARK

    with pytest.raises(OvsegError, match=r"classes\.txt"):  # taken for a prepared folder
        BENCHMARK.plan(two_tone, {})
    follow("A benchmark")
    scored = run_stage(BENCHMARK, two_tone, {}, tmp_path / "runs")
    assert (scored.stats["n"], scored.stats["bad"]) == (2, 0)
    assert scored.stats["class_names"] == ["road", "sky"]
    pixels = [shard.stats["counts"]["gt_pixels"] for shard in scored.shards]
    assert np.sum(pixels, axis=0).tolist() == [2 * 3 * 256, 2 * 2 * 256]
    assert 0 <= scored.stats["scores"]["miou_union"] <= 1


def test_a_system(follow, two_tone, tmp_path):
    from ovseg.evaluation.benchmark import BENCHMARK

    named = {"benchmarks.system": "boxes"}
    with pytest.raises(OvsegError, match=r"benchmarks\.system: unknown name 'boxes'"):
        load_preset("storybook", named)
    follow("A benchmark")
    follow("A system")
    assert load_preset("storybook", named).benchmarks[0].short_side == 160
    by_hand = {
        f"benchmarks.{field}": getattr(two_tone, field) for field in two_tone.model_fields_set
    }
    config = load_preset("storybook", {**named, **by_hand, "benchmarks.seen": ("road",)})
    assert config.arms == {"original": ()}
    scored = run_stage(BENCHMARK, config.scored[0], {}, tmp_path / "runs")
    assert (scored.stats["n"], scored.stats["bad"], scored.stats["seen"]) == (2, 0, ["road"])
    shown = {name: scored.config[name] for name in ("system", "region", "ensemble", "short_side")}
    assert shown == {
        "system": "boxes",
        "region": "box",
        "ensemble": "clip_only",
        "short_side": 32,
    }


def test_an_embedder(follow, two_tone, tmp_path):
    import torch

    from ovseg.evaluation.benchmark import BENCHMARK
    from ovseg.models.regions.embedders import region_embedder

    def of(**changed):
        return two_tone.model_copy(update=changed)

    def embeddings(setting):
        """Of both sides of an image's diagonal, and of a mask without foreground."""
        whole = torch.ones(32, 48, dtype=torch.bool)
        sides = torch.stack([whole.tril(), whole.triu(), ~whole])
        image = np.random.default_rng(0).integers(0, 256, (32, 48, 3), dtype=np.uint8)
        embedder = region_embedder(setting, clip=setting.clip, device="cpu")
        return embedder.embed(image, sides, threshold=None)

    with pytest.raises(OvsegError, match=r"benchmarks\.embedder: unknown name 'two_views'"):
        embeddings(of(embedder="two_views"))
    follow("A benchmark")
    follow("An embedder")
    rows, valid = embeddings(of(embedder="two_views"))
    assert valid.tolist() == [True, True, False] and rows.shape == (2, 16)
    views = [embeddings(of(region=region))[0] for region in ("mean", "box")]
    assert not views[0].allclose(views[1])
    torch.testing.assert_close(rows, torch.nn.functional.normalize(sum(views) / 2, dim=-1))
    scored = run_stage(BENCHMARK, of(embedder="two_views"), {}, tmp_path / "runs")
    assert (scored.stats["n"], scored.stats["bad"], scored.stats["masks"]) == (2, 0, 4)


def test_a_prompt_strategy(follow, two_tone, tmp_path):
    import torch

    from ovseg.evaluation.benchmark import BENCHMARK
    from ovseg.models.clip.load import load_clip
    from ovseg.models.texts.strategies import TemplatePrompts, text_prompts

    setting = two_tone.model_copy(update={"prompting": "each_word"})
    with pytest.raises(OvsegError, match=r"benchmarks\.prompting: unknown name 'each_word'"):
        text_prompts(setting)
    follow("A benchmark")
    follow("A prompt strategy")
    strategy, clip = text_prompts(setting), load_clip(setting.clip)
    plain = TemplatePrompts("mining").embed(clip, ["ship", "boat"])
    found = strategy.embed(clip, ["ship, boat", "boat"])
    torch.testing.assert_close(found[0], torch.nn.functional.normalize(plain.sum(0), dim=-1))
    torch.testing.assert_close(found[1], plain[1])
    with pytest.raises(OvsegError, match="class name 2 of 2 is empty"):
        strategy.embed(clip, ["ship, "])
    scored = run_stage(BENCHMARK, setting, {}, tmp_path / "runs")
    assert (scored.stats["n"], scored.stats["bad"]) == (2, 0)
    assert scored.weights["texts"] == strategy.digest


def test_an_ablation(follow, tiny_clip, tiny_maskformer, tmp_path):
    from ovseg.cli.ablations import plan_request
    from ovseg.comparison.stage import STUDY
    from ovseg.data.storybook import WORLD
    from ovseg.evaluation.benchmark import BENCHMARK

    small = {
        "data.benchmark_world.scenes": 2,
        "data.benchmark_world.size": 64,
        "benchmarks.clip": str(tiny_clip),
        "benchmarks.maskformer": str(tiny_maskformer),
        "benchmarks.short_side": 64,
        "benchmarks.device": "cpu",
    }
    request = {"seeds": 1, "root": tmp_path / "runs", "overrides": small}
    with pytest.raises(OvsegError, match="unknown ablation 'thresholds'"):
        plan_request(["thresholds"], "storybook", **request)
    follow("An ablation")
    plan = plan_request(["thresholds"], "storybook", **request)
    (planned,) = plan.tables
    scored = {}
    for cell in planned.runs:
        world = run_stage(WORLD, cell.config.data.benchmark_world, {}, cell.config.root)
        config = cell.config.with_benchmark_root("storybook", world.payload())
        scored[cell.key] = run_stage(BENCHMARK, config.scored[0], {}, config.root)
    cuts = {key: manifest.config["mask_threshold"] for key, manifest in scored.items()}
    assert cuts == {"0/loose": 0.2, "0/tight": 0.7}
    comparison = planned.comparison("storybook", list(scored))
    compared = run_stage(STUDY, comparison, scored, plan.root)
    assert compared.stats["arms"] == ["loose", "tight"]
    assert list(compared.stats["verdicts"]) == ["tight-masks"]
    assert "masks cut at 0.7" in (compared.payload() / "study.md").read_text(encoding="utf-8")


def test_a_view_a_query_and_a_check(follow, listed, tmp_path, monkeypatch):
    view, check = blocks("A view, a query, a check", "sql")
    folder = tmp_path / "sql"
    shutil.copytree(sql_files.sql_folder(), folder)
    (folder / "views" / "80_caption_words.sql").write_text(view, encoding="utf-8")
    (folder / "queries" / "caption_words.sql").write_text(view, encoding="utf-8")
    (folder / "tests" / "captions_have_words.sql").write_text(check, encoding="utf-8")
    monkeypatch.setattr(sql_files, "sql_folder", lambda: folder)
    follow("A caption source")
    listing = run_stage(LIST_IMAGES, listed, {}, tmp_path / "runs")
    images = run_stage(
        SCREEN_IMAGES, ScreeningConfig(), {"images_listed": listing}, tmp_path / "runs"
    )
    build_catalog(tmp_path / "runs", {"images": images})
    with open_catalog(tmp_path / "runs") as con:
        words = sum(len(text.split()) for text in CAPTIONS) / len(CAPTIONS)
        assert con.sql("from caption_words").fetchall() == [("flowers", len(CAPTIONS), words)]
        assert failed_checks(con) == {}
        assert "words the captions" in relations()["caption_words"]
        assert con.sql(check.replace("< 1", "> 1")).fetchall(), "the check can find something"


def test_settings_of_the_recipes_are_settings():
    from ovseg.config.overrides import parse_setting

    named = dict(parse_setting(text) for text in re.findall(r"--set ([\w.]+=[^\s`]+)", TEXT))
    assert set(named) == {
        *("data.captions_format", "mining.proposals.source"),
        *("benchmarks.embedder", "benchmarks.prompting"),
    }
    config = load_preset("paper", named)
    assert json.loads(config.model_dump_json())["mining"]["proposals"]["source"] == "squares"
