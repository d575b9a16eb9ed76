"""Context vectors: they begin as their template, agree with prompts put together by hand, train."""

import dataclasses
import json

import pytest
import torch
import torch.nn.functional as F
from tiny import clip_config, make_clip

from ovseg.config.training import FinetuneConfig
from ovseg.errors import OvsegError
from ovseg.models.clip.context_vectors import CONFIG_FILE, TENSORS_FILE, ContextVectors
from ovseg.models.clip.load import clip_digest, load_clip
from ovseg.models.clip.mask_adapted import MaskAdaptedCLIP
from ovseg.models.clip.save import save_clip
from ovseg.models.texts.strategies import LearnedPrompts, TemplatePrompts
from ovseg.training.clip.methods import freeze_except, method, phase_groups

SMALLER = {"image_size": 16, "layers": 1}
TEXT = {"context_length": 16, "vocab_size": 49408, "layers": 2}
NAMES = ["boat", "sea", "tree house"]
TEMPLATE = "a photo of a {} here."


@pytest.fixture
def clip() -> MaskAdaptedCLIP:
    return make_clip(None, clip_config(vision=SMALLER, text=TEXT))


def moved(vectors: ContextVectors) -> ContextVectors:
    """The same with vectors that are no longer words."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in vectors.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator))
    return vectors


def by_hand(clip: MaskAdaptedCLIP, vectors: ContextVectors, name: str) -> torch.Tensor:
    """The embedding of one name, its prompt put together token by token."""
    context = vectors.shared
    if name in vectors.nouns:
        context = vectors.specific[vectors.nouns.index(name)]
    (ids,) = clip.tokenizer([TEMPLATE.replace("{}", name)])
    end = int(ids.argmax())
    before, after = 4, 2  # a photo of a; here .
    rows = []
    for place in range(end + 1):
        if 1 <= place <= before:
            rows.append(context[place - 1])
        elif end - after <= place < end:
            rows.append(context[before + place - (end - after)])
        else:
            rows.append(clip.clip.token_embedding.weight[ids[place]])
    x = torch.stack(rows) + clip.clip.positional_embedding[: len(rows)]
    mask = torch.full((len(rows), len(rows)), -torch.inf).triu(1)
    x = clip.clip.ln_final(clip.clip.transformer(x[None], attn_mask=mask))[0, -1]
    return F.normalize(x @ clip.clip.text_projection, dim=-1)


@torch.no_grad()
def test_they_begin_as_the_template(clip):
    vectors = ContextVectors(clip, TEMPLATE)
    assert vectors.shared.shape == (6, 32) and vectors.specific is None
    found = vectors.encode(clip, vectors.tokens(clip, NAMES))
    expected = clip.encode_texts([TEMPLATE.replace("{}", name) for name in NAMES])
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)
    vectors.specialize(["sea", "boat"])
    found = vectors.encode(clip, vectors.tokens(clip, NAMES))
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)


@torch.no_grad()
def test_against_prompts_put_together_by_hand(clip):
    vectors = ContextVectors(clip, TEMPLATE)
    vectors.specialize(["sea", "fence"])
    moved(vectors)
    tokens = vectors.tokens(clip, NAMES)
    found = vectors.encode(clip, tokens)
    assert found.dtype == torch.float32 and found.shape == (3, 16)
    torch.testing.assert_close(found.norm(dim=1), torch.ones(3))
    expected = torch.stack([by_hand(clip, vectors, name) for name in NAMES])
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)
    some = tokens[torch.tensor([2, 0])]
    torch.testing.assert_close(vectors.encode(clip, some), found[[2, 0]], rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    ("trains", "trained"),
    [("text_prompts", "text_prompts.shared"), ("class_text_prompts", "text_prompts.specific")],
)
def test_gradients_reach_the_vectors_and_nothing_of_clip(clip, trains, trained):
    config = FinetuneConfig(trains=trains, template=TEMPLATE)
    method(trains).prepare(clip, config, ["boat", "sea"])
    parameters = freeze_except(clip, trains, train_logit_scale=False)
    assert list(parameters) == [trained]
    vectors = clip.text_prompts
    assert isinstance(vectors, ContextVectors)
    vectors.encode(clip, vectors.tokens(clip, NAMES))[:, 0].sum().backward()
    for name, parameter in clip.named_parameters():
        assert (parameter.grad is not None) == (name == trained), name
    assert parameters[trained].grad.abs().sum() > 0
    (group,) = phase_groups(parameters, weight_decay=0.3, prompt_weight_decay=0.0)
    assert group["weight_decay"] == 0


def test_vectors_of_nouns_begin_where_the_shared_ones_ended(clip):
    shared = FinetuneConfig(trains="text_prompts", template=TEMPLATE)
    method("text_prompts").prepare(clip, shared, [])
    trained = moved(clip.text_prompts).shared.detach().clone()
    single = shared.model_copy(update={"trains": "class_text_prompts"})
    method("class_text_prompts").prepare(clip, single, ["boat", "sea"])
    assert torch.equal(clip.text_prompts.shared, trained)
    assert torch.equal(clip.text_prompts.specific, trained.repeat(2, 1, 1))
    moved(clip.text_prompts)
    kept = clip.text_prompts.specific.detach().clone()
    method("class_text_prompts").prepare(clip, single, ["sea", "moon"])
    assert torch.equal(clip.text_prompts.specific[0], kept[1])
    assert torch.equal(clip.text_prompts.specific[1], clip.text_prompts.shared)
    method("text_prompts").prepare(clip, shared, [])
    assert clip.text_prompts.specific is None and clip.text_prompts.nouns == ()


@torch.no_grad()
def test_a_class_finds_the_vectors_of_its_noun_however_it_is_spelled(clip):
    vectors = moved(ContextVectors(clip, TEMPLATE))
    vectors.specialize(["sea", "traffic light", "Traffic-Light"])
    vectors.specific.add_(torch.arange(3.0)[:, None, None])
    clip.text_prompts = vectors
    names = ["Sea", "traffic_light", "Traffic-Light", "ocean, sea", "boat, ship"]
    nouns = LearnedPrompts.nouns(vectors, names)
    assert nouns == ["sea", "traffic light", "Traffic-Light", "sea", "boat, ship"]
    assert vectors.tokens(clip, names, nouns).rows.tolist() == [0, 1, 2, 0, -1]
    found = LearnedPrompts(TemplatePrompts([TEMPLATE])).embed(clip, ["Traffic_light", "Sea"])
    tokens = vectors.tokens(clip, ["Traffic_light", "Sea"])
    tokens = dataclasses.replace(tokens, rows=torch.tensor([1, 0]))
    torch.testing.assert_close(found, vectors.encode(clip, tokens))


@pytest.mark.parametrize("nouns", [[], ["boat", "sea"]])
def test_they_are_kept_beside_their_clip(clip, nouns, tmp_path):
    folder = save_clip(clip, tmp_path / "clip")
    before = clip_digest(str(folder))
    clip.text_prompts = ContextVectors(clip, TEMPLATE)
    if nouns:
        clip.text_prompts.specialize(nouns)
    moved(clip.text_prompts)
    save_clip(clip, folder)
    assert clip_digest(str(folder)) != before
    loaded = load_clip(str(folder))
    assert isinstance(loaded.text_prompts, ContextVectors)
    assert loaded.text_prompts.nouns == tuple(nouns) and loaded.text_prompts.template == TEMPLATE
    for model in (clip, loaded):
        model.requires_grad_(False)
    tokens = clip.text_prompts.tokens(clip, NAMES)
    torch.testing.assert_close(
        loaded.text_prompts.encode(loaded, tokens), clip.text_prompts.encode(clip, tokens)
    )
    clip.text_prompts = None
    save_clip(clip, folder)
    assert load_clip(str(folder)).text_prompts is None and clip_digest(str(folder)) == before


def test_damaged_files_are_refused(clip, tmp_path):
    clip.text_prompts = ContextVectors(clip, TEMPLATE)
    folder = save_clip(clip, tmp_path / "clip")
    text = json.loads((folder / CONFIG_FILE).read_text())
    (folder / CONFIG_FILE).write_text(json.dumps({**text, "template": "a {}"}))
    with pytest.raises(OvsegError, match="no learned prompts of this CLIP"):
        load_clip(str(folder))
    (folder / CONFIG_FILE).write_text(json.dumps(text))
    (folder / TENSORS_FILE).write_bytes(b"nothing")
    with pytest.raises(OvsegError, match=r"train them again|is damaged"):
        load_clip(str(folder))


@pytest.mark.parametrize("template", ["{}", "a photo", "{} and {}", "a " * 30 + "{}"])
def test_templates_that_give_no_vectors_are_refused(clip, template):
    with pytest.raises(OvsegError, match=r"choose another|fix it"):
        ContextVectors(clip, template)


@torch.no_grad()
def test_a_name_that_is_too_long_is_cut(clip):
    vectors = ContextVectors(clip, "a {}")
    tokens = vectors.tokens(clip, ["tree " * 40, "sea"])
    assert tokens.ids.shape == (2, 16) and int(tokens.ends[0]) == 15
    assert vectors.encode(clip, tokens).isfinite().all()
