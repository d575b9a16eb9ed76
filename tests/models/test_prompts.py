"""The text side: templates verbatim, names verbatim, the ensemble's two normalisations."""

import pytest
import torch
import torch.nn.functional as F
from tiny import clip_config, make_clip

from ovseg.config.registry import TEMPLATES
from ovseg.errors import OvsegError
from ovseg.models.clip.mask_adapted import MaskAdaptedCLIP
from ovseg.models.clip.text_tower import encode_trimmed
from ovseg.models.texts import templates as prompting
from ovseg.models.texts.templates import fill_templates, text_embeddings

SMALLER = {"image_size": 16, "layers": 1}
FULL = {"context_length": 77, "vocab_size": 49408}


@pytest.fixture(scope="module")
def clip() -> MaskAdaptedCLIP:
    return make_clip(None, clip_config(vision=SMALLER, text={**FULL, "layers": 1}))


def test_templates_are_verbatim():
    assert TEMPLATES["mining"] == ("a photo of a {}",)
    assert TEMPLATES["single"] == ("a photo of a {}.",)
    scene = TEMPLATES["scene"]
    assert scene == ("a photo of a {}.", "a picture of a {}.", "a {} in the scene.")
    vild = TEMPLATES["vild"]
    assert len(vild) == 14 and len(set(vild)) == 14
    without_period = [index for index, template in enumerate(vild) if not template.endswith(".")]
    assert without_period == [1, 2, 3, 4]
    assert vild[3] == "There is the {} in the scene"
    assert len(TEMPLATES["imagenet"]) == 80
    assert TEMPLATES["imagenet"][:2] == ("a bad photo of a {}.", "a photo of many {}.")
    assert all(template.count("{}") == 1 for of_set in TEMPLATES.values() for template in of_set)


def test_names_enter_verbatim_but_stripped():
    filled = fill_templates([" road, route ", "wall-brick", "a {b}"], ["the {}."])
    assert filled == [["the road, route."], ["the wall-brick."], ["the a {b}."]]


@pytest.mark.parametrize(
    ("names", "templates", "message"),
    [
        (["boat"], "vilt", "choose one of single, mining, scene, vild, imagenet"),
        (["boat"], [], "needs one {}"),
        (["boat"], ["a photo"], "needs one {}"),
        (["boat", "  "], "vild", "class name 2 of 2 is empty"),
    ],
)
def test_bad_templates_and_names_are_refused(names: list[str], templates: object, message: str):
    with pytest.raises(OvsegError, match=message):
        fill_templates(names, templates)  # type: ignore[arg-type]


def test_each_template_is_normalised_before_the_mean_and_the_mean_again(
    clip: MaskAdaptedCLIP, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(prompting, "BATCH_SIZE", 5)
    names = ["boat", "sea", "tree house"]
    found = text_embeddings(clip, names, templates="vild")
    with torch.no_grad():
        tokens = [clip.tokenizer([t.replace("{}", n) for t in TEMPLATES["vild"]]) for n in names]
        raw = torch.stack([clip.clip.encode_text(of_name) for of_name in tokens])
    expected = F.normalize(F.normalize(raw, dim=-1).mean(dim=1), dim=-1)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-6)
    assert not found.requires_grad
    torch.testing.assert_close(found.norm(dim=-1), torch.ones(3))
    assert text_embeddings(clip, [], templates="vild").shape == (0, 16)


@pytest.mark.parametrize("tower", [{}, {"no_causal_mask": True}, {"pool_type": "last"}])
def test_trimmed_texts_embed_as_whole_ones(tower: dict):
    """Of a tower that looks behind the end of a text, all of the context is computed."""
    clip = make_clip(None, clip_config(vision=SMALLER, text={**FULL, "layers": 2, **tower}))
    tokens = clip.tokenizer(["a boat", "a much longer text about a boat on the sea", ""])
    with torch.no_grad():
        trimmed, whole = encode_trimmed(clip, tokens), clip.encode_tokens(tokens)
    torch.testing.assert_close(trimmed, whole, rtol=0, atol=1e-6)
