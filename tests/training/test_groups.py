"""What a phase trains gets gradients and nothing else does, whichever method it is."""

import pytest
import torch

from ovseg.config.registry import METHODS
from ovseg.config.training import FinetuneConfig
from ovseg.models.clip.load import load_clip
from ovseg.models.clip.save import save_clip
from ovseg.models.texts.templates import text_embeddings
from ovseg.training.clip.stage import starting_clip
from ovseg.training.clip.trainer import Trainer

NOUNS = ("fence", "leaf", "moon", "sea")
PHASES = [
    (trains, embedder)
    for trains, method in METHODS.items()
    for embedder in ("crops", "mask_tokens")
    if embedder == "crops" or not method.prompts_regions  # mask tokens leave prompts aside
]


def phase(trains: str, **settings) -> FinetuneConfig:
    return FinetuneConfig(
        trains=trains,
        device="cpu",
        pixel_background=0.5,
        learn_background=True,
        visual_tokens=5,
        warmup_steps=0,
        **settings,
    )


@pytest.fixture(scope="module")
def full_clip(tiny_clip, tmp_path_factory) -> str:
    """A CLIP with all that any method trains, so that each finds something it has to leave."""
    model = load_clip(str(tiny_clip))
    for trains, method in METHODS.items():
        method.prepare(model, phase(trains), NOUNS)
    return str(save_clip(model, tmp_path_factory.mktemp("full")))


@pytest.mark.parametrize("train_logit_scale", [True, False])
@pytest.mark.parametrize(("trains", "embedder"), PHASES)
def test_what_is_frozen_receives_no_gradient_and_stays(
    full_clip, trains, embedder, train_logit_scale
):
    region = "image" if embedder == "mask_tokens" else "mean"
    config = phase(trains, train_logit_scale=train_logit_scale, embedder=embedder, region=region)
    model = starting_clip(full_clip, config, NOUNS)
    texts = text_embeddings(model, NOUNS, templates=[config.template])
    trainer = Trainer(model, texts, nouns=NOUNS, config=config, total_steps=1)
    named = dict(model.named_parameters())
    before = {name: parameter.detach().clone() for name, parameter in named.items()}

    masks = torch.zeros(4, 32, 32, dtype=torch.bool)
    for index in range(4):
        masks[index, 4 * index : 4 * index + 12, 3:20] = True  # some patches are blank
    pixels = torch.randn(4, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    trainer.step(pixels, masks, torch.arange(4))

    says = METHODS[trains].parameters
    trained = {name for name in named if name.startswith(says)}
    trained |= {"clip.logit_scale"} if train_logit_scale else set()
    assert trained and trained < named.keys()
    assert any(not name.startswith("clip.") for name in named.keys() - trained)  # others' prompts
    assert {name for name, p in named.items() if p.grad is not None} == trained
    assert {name for name, p in named.items() if p.requires_grad} == trained
    assert [name for name in trained if not named[name].grad.any()] == []
    assert {name for name, p in named.items() if not torch.equal(before[name], p)} == trained
    optimised = [id(p) for group in trainer.optimizer.param_groups for p in group["params"]]
    assert sorted(optimised) == sorted(id(named[name]) for name in trained)
