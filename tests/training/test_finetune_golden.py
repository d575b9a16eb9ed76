"""Three AdamW steps of each phase against those recorded from the official implementation."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from ovseg.config import FinetuneConfig
from ovseg.models.clip import create_clip
from ovseg.models.mask_prompts import PROMPT_KEY, MaskAdaptedCLIP
from ovseg.training.trainer import Trainer

PHASES = {
    "finetune": FinetuneConfig(trains="image_encoder", learning_rate=5e-6, warmup_steps=2),
    "mpt": FinetuneConfig(trains="mask_prompts", learning_rate=0.05, warmup_steps=2),
    "joint_ft_mpt": FinetuneConfig(trains="joint", learning_rate=5e-6, warmup_steps=2),
}
MODEL = {
    "embed_dim": 32,
    "quick_gelu": True,
    "vision_cfg": {
        "layers": 3,
        "width": 64,
        "head_width": 32,
        "patch_size": 8,
        "image_size": 56,
    },
    "text_cfg": {
        "context_length": 77,
        "vocab_size": 49408,
        "width": 64,
        "heads": 2,
        "layers": 2,
    },
}


def recorded_clip(folder: Path, *, prompts: bool) -> MaskAdaptedCLIP:
    state = load_file(folder / "weights.safetensors")
    rows = state.pop("token_embedding.weight.rows_index")
    state["token_embedding.weight"] = torch.zeros(49408, 64)
    state["token_embedding.weight"][rows] = state.pop("token_embedding.weight.rows_value")
    model = create_clip(MODEL)
    model.load_checkpoint_state(state, prompts=prompts)
    return model


@pytest.mark.parametrize("phase", PHASES)
def test_three_steps_are_the_recorded_ones(reference_data: Path, phase: str):
    folder = reference_data / "golden/clip_finetune_loss"
    batch, golden = (
        load_file(folder / "batch.safetensors"),
        load_file(folder / f"{phase}.safetensors"),
    )
    recorded = json.loads((folder / "results.json").read_text())["modes"][phase]
    model = recorded_clip(folder, prompts=phase != "finetune")
    with torch.no_grad():
        texts = model.encode_tokens(batch["tokens"])
    torch.testing.assert_close(texts, golden["step0.text_features"], rtol=0, atol=2e-6)
    before = {name: tensor.clone() for name, tensor in model.checkpoint_state().items()}
    trainer = Trainer(model, texts, config=PHASES[phase], total_steps=1000)

    named = {f"clip.{name}": name for name in recorded["trainable"]} | {"mask_prompts": PROMPT_KEY}
    assert sorted(named[name] for name in trainer.parameters) == sorted(recorded["trainable"])
    undecayed = {
        named[name]
        for name, parameter in trainer.parameters.items()
        for group in trainer.optimizer.param_groups
        if group["weight_decay"] == 0 and any(parameter is other for other in group["params"])
    }
    groups = recorded["param_groups(no_decay, mask, decay)"]
    assert undecayed == {name for group in groups[:-1] for name in group}

    for step, expected in enumerate(recorded["steps"]):
        loss = trainer.step(batch["images"], batch["masks"], torch.arange(6))
        if step == 0:
            for name, parameter in trainer.parameters.items():
                if (key := f"step0.grad.{named[name]}") in golden:
                    torch.testing.assert_close(
                        parameter.grad, golden[key], rtol=1e-3, atol=2e-5, msg=key
                    )
        assert loss == pytest.approx(expected["loss"], rel=1e-5)
        _, _, _, rate, scale = trainer.log[-1]
        assert rate == pytest.approx(expected["lr"], rel=1e-12)
        assert scale == pytest.approx(expected["logit_scale_exp"], rel=1e-5)

    after = model.checkpoint_state()
    # of the order of one step where a gradient is near 0, as AdamW divides by its size
    loose = 0.01 * PHASES[phase].learning_rate
    for key, expected in golden.items():
        if key.startswith("after3steps.") and key != "after3steps.image_features":
            name = key.removeprefix("after3steps.")
            torch.testing.assert_close(after[name], expected, rtol=1e-5, atol=loose, msg=key)
    with torch.no_grad():
        images = model.encode_regions(batch["images"], batch["masks"])
    torch.testing.assert_close(images, golden["after3steps.image_features"], rtol=0, atol=1e-4)
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed == set(recorded["changed_after_3_steps"])
