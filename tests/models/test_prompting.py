"""Prompt strategies: each against its texts written out, their digests, and the noun table."""

from collections import Counter
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from ovseg.config.data import ImagesConfig
from ovseg.config.mining import NounsConfig
from ovseg.config.registry import PROMPTINGS, TEMPLATES
from ovseg.config.scoring import BenchmarkConfig
from ovseg.data.listing import LIST_IMAGES
from ovseg.errors import OvsegError
from ovseg.mining.nouns.stage import NOUNS
from ovseg.models import build as systems
from ovseg.models.clip.context_vectors import ContextVectors
from ovseg.models.clip.load import clip_digest, load_clip
from ovseg.models.texts import strategies as prompting
from ovseg.models.texts.strategies import (
    ATTRIBUTES,
    PLACES,
    ContextualPrompts,
    LearnedPrompts,
    MinedPrompts,
    TemplatePrompts,
    context_template,
    read_contexts,
    text_prompts,
)
from ovseg.stages.run import run_stage

CONTEXTS = {
    "boat": [("place", "on the sea"), ("adjective", "old"), ("adjective", "red")],
    "sea": [("adjective", "calm")],
}


@pytest.fixture(scope="module")
def clip(tiny_clip):
    return load_clip(str(tiny_clip)).requires_grad_(False)


def mean_of(clip, texts: list[str]) -> torch.Tensor:
    """The ensemble written out."""
    total = torch.zeros(clip.embed_dim)
    for text in texts:
        total += clip.encode_texts([text])[0]
    return F.normalize(total / len(texts), dim=0)


def test_templates_and_their_period(clip):
    found = TemplatePrompts("scene").embed(clip, ["boat"])
    expected = mean_of(clip, [t.replace("{}", "boat") for t in TEMPLATES["scene"]])
    torch.testing.assert_close(found[0], expected, rtol=0, atol=1e-5)
    bare = text_prompts(BenchmarkConfig(templates="scene", period=False))
    assert bare.templates == ("a photo of a {}", "a picture of a {}", "a {} in the scene")


def test_the_grammar_has_a_prompt_an_attribute_and_a_place():
    templates = ContextualPrompts().templates
    assert len(templates) == 1 + len(ATTRIBUTES) + len(PLACES)
    assert {"a photo of a red {}", "a photo of a {} in the kitchen"} <= set(templates)
    assert context_template("adjective", "old") == "a photo of an old {}"


def test_mined_contexts_are_the_most_frequent_of_each_noun(clip):
    mined = MinedPrompts(CONTEXTS, most=2, fallback=TemplatePrompts("single"))
    boat = ["a photo of a boat", "a photo of a boat on the sea", "a photo of an old boat"]
    expected = torch.stack(
        [
            mean_of(clip, boat),
            mean_of(clip, ["a photo of a calm sea", "a photo of a sea"]),
            mean_of(clip, ["a photo of a moon."]),  # which no caption names
        ]
    )
    found = mined.embed(clip, ["boat", "sea", "moon"])
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)
    # a name that lists words takes the contexts of the first that captions have
    assert mined.templates("ship, Boat")[1] == "a photo of a {} on the sea"
    with pytest.raises(OvsegError, match="empty"):
        mined.embed(clip, [" "])
    assert mined.embed(clip, []).shape == (0, clip.embed_dim)


def test_learned_vectors_are_used_where_the_clip_has_them(tiny_clip, monkeypatch):
    clip = load_clip(str(tiny_clip)).requires_grad_(False)
    learned = LearnedPrompts(TemplatePrompts("vild"))
    assert torch.equal(learned.embed(clip, ["boat"]), TemplatePrompts("vild").embed(clip, ["boat"]))
    clip.text_prompts = ContextVectors(clip, "a {}")
    with torch.no_grad():
        clip.text_prompts.shared.mul_(3.0)
    found = learned.embed(clip, ["boat", "sea"])
    vectors = clip.text_prompts
    torch.testing.assert_close(found, vectors.encode(clip, vectors.tokens(clip, ["boat", "sea"])))
    assert not torch.allclose(found[:1], clip.encode_texts(["a boat"]), atol=1e-3)
    monkeypatch.setattr(prompting, "TEXTS_AT_ONCE", 1)
    torch.testing.assert_close(learned.embed(clip, ["boat", "sea"]), found)
    with pytest.raises(OvsegError, match="empty"):
        learned.embed(clip, [""])


def test_strategies_of_one_digest_are_equal():
    single = TemplatePrompts("single")
    assert single == TemplatePrompts(TEMPLATES["single"]) and len({single, single}) == 1
    others = [
        TemplatePrompts("scene"),
        TemplatePrompts("single", period=False),
        ContextualPrompts(),
        LearnedPrompts(single),
        MinedPrompts(CONTEXTS, most=1, fallback=single),
        MinedPrompts(CONTEXTS, most=2, fallback=single),
        MinedPrompts(CONTEXTS, most=2, fallback=ContextualPrompts()),
    ]
    assert len({single, *others}) == 8


def test_strategies_are_chosen_by_name():
    assert set(PROMPTINGS) == {"templates", "contextual", "mined", "learned"}
    assert text_prompts(BenchmarkConfig()) == TemplatePrompts("vild")
    with pytest.raises(OvsegError, match="prompting: unknown name 'mind'; choose one of templates"):
        text_prompts(BenchmarkConfig(prompting="mind"))
    with pytest.raises(OvsegError, match=r"set benchmarks\.contexts_from"):
        text_prompts(BenchmarkConfig(prompting="mined"))


def test_embeddings_are_kept_by_digest(tiny_clip, monkeypatch):
    calls = []
    embed = TemplatePrompts.embed
    monkeypatch.setattr(
        TemplatePrompts, "embed", lambda *args: calls.append(args[2]) or embed(*args)
    )
    name, digest = str(tiny_clip), clip_digest(str(tiny_clip))
    for strategy, names in (
        (TemplatePrompts("single"), ("boat", "a sea")),
        (TemplatePrompts(TEMPLATES["single"]), ("boat", "a sea")),  # the same by another name
        (TemplatePrompts("scene"), ("boat", "a sea")),
        (TemplatePrompts("single"), ("boat",)),
    ):
        assert len(systems._texts(strategy, digest, name, "cpu", names)) == len(names)
    assert calls == [("boat", "a sea"), ("boat", "a sea"), ("boat",)]


def test_contexts_are_counted_over_the_noun_table(tmp_path: Path):
    captions = [
        "a red boat on the sea",
        "a red boat and a blue boat",
        "a blue boat on the calm sea",
        "a boat on the grass",
        "a boat on the sea",
    ]
    lines = [f"{index}.png\t{caption}" for index, caption in enumerate(captions)]
    (tmp_path / "captions.tsv").write_text("\n".join(["image\tcaption", *lines]) + "\n")
    config = ImagesConfig(
        captions=tmp_path / "captions.tsv", image_root=tmp_path, max_bad_fraction=1.0
    )
    images = run_stage(LIST_IMAGES, config, {}, tmp_path)
    nouns = run_stage(NOUNS, NounsConfig(), {"images": images}, tmp_path)
    counted: dict[str, Counter] = {}
    for row in nouns.table().to_pylist():
        if row["kept"]:
            said = [("adjective", word) for word in row["adjectives"]]
            said += [("place", row["place"])] if row["place"] else []
            counted.setdefault(row["noun"], Counter()).update(said)
    found = read_contexts(nouns.folder)
    assert found["boat"] == sorted(
        counted["boat"], key=lambda context: (-counted["boat"][context], context)
    )
    first = ("place", "on the sea")
    assert found["boat"][0] == first and counted["boat"][first] == 3
    assert found["sea"] == [("adjective", "calm")]
    settings = BenchmarkConfig(prompting="mined", contexts=1, contexts_from=nouns.folder)
    assert text_prompts(settings).templates("boat") == (
        "a photo of a {}",
        "a photo of a {} on the sea",
    )
    with pytest.raises(OvsegError, match="is a stage of images_listed"):
        read_contexts(images.folder)
