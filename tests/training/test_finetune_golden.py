"""Three AdamW steps of each phase against those recorded from the official implementation."""

import json
import math
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from ovseg.config.training import FinetuneConfig
from ovseg.evaluation.counts import rank
from ovseg.models.clip.load import create_clip
from ovseg.models.clip.mask_adapted import PROMPT_KEY, MaskAdaptedCLIP
from ovseg.models.clip.prompted_tower import patch_masks
from ovseg.models.ensemble import COSINE_SCALE
from ovseg.models.texts.templates import text_embeddings
from ovseg.training.clip.trainer import Trainer

FOLDER = "clip_finetune_loss"

CLEAR, ROUNDING = 0.05, 7.3e-7
"""Gradients, as parts of the largest: clear of rounding above one, rounded by the other (measured,
and in the table). AdamW makes of a rounding r in a gradient g one of rate * r / g: at rate 0.05
three such steps move a prompt by 1e-5 of the largest where g is `CLEAR`."""

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


def prompts_agree(agrees, case: str, ours: Tensor, recorded: Tensor, gradients: Tensor) -> None:
    """Prompts after the steps, by the size of the gradients that moved them.

    Args:
        agrees: the fixture.
        case: for the table.
        ours: prompts after the steps.
        recorded: the same.
        gradients: `(steps, ...)` their sizes as parts of the step's largest. Recorded are those of
            step 0, which agree; these are our own of all steps.
    """
    what, scale = f"{PROMPT_KEY} after 3 steps", recorded.abs().max()
    still = (gradients == 0).all(dim=0)
    clear = (gradients > CLEAR).all(dim=0)
    for part, chosen, tolerance in (
        (f"the {still.float().mean():.0%} without gradient", still, 0.0),
        (f"the {clear.float().mean():.0%} of clear gradients", clear, 1e-5),
    ):
        assert chosen.float().mean() > 0.05  # not a handful
        # all others equal, so that the scale stays that of all prompts
        mine = torch.where(chosen, ours, recorded)
        agrees(case, f"{what}, {part}", mine, recorded, tolerance=tolerance)
    error = (ours - recorded).abs()
    within = (error <= 1e-5 * scale).float().mean()
    assert within > 0.995, f"{within:.2%} of the prompts agree to 1e-5"
    # the others are off by what rounding explains, each for itself; other orders of sums double it
    explained = (PHASES["mpt"].learning_rate * ROUNDING / gradients).sum(dim=0)
    assert (error <= 1e-5 * scale + 3 * explained)[~still].all()


@pytest.mark.parametrize("phase", PHASES)
def test_three_steps_are_the_recorded_ones(agrees, reference_data: Path, phase: str):
    folder = reference_data / "golden" / FOLDER
    batch, golden = (
        load_file(folder / "batch.safetensors"),
        load_file(folder / f"{phase}.safetensors"),
    )
    recorded = json.loads((folder / "results.json").read_text())["modes"][phase]
    model = recorded_clip(folder, prompts=phase != "finetune")
    case = f"{FOLDER}/{phase}"
    with torch.no_grad():
        texts = model.encode_tokens(batch["tokens"])
        images = model.encode_regions(batch["images"], batch["masks"])
    agrees(case, "text embeddings", texts, golden["step0.text_features"], tolerance=2e-6)
    agrees(case, "image embeddings", images, golden["step0.image_features"], tolerance=2e-6)
    patches = patch_masks(batch["masks"], model.patch_size)
    agrees(case, "patch masks", patches, batch["patch_mask"], tolerance=0)
    before = {name: tensor.clone() for name, tensor in model.checkpoint_state().items()}
    trainer = Trainer(model, texts, config=PHASES[phase], total_steps=1000)

    named = {f"clip.{name}": name for name in recorded["trainable"]} | {"mask_prompts": PROMPT_KEY}
    trained = sorted(named[name] for name in trainer.parameters)
    agrees(case, "trained parameters", trained, sorted(recorded["trainable"]), tolerance=0)
    undecayed = {
        named[name]
        for name, parameter in trainer.parameters.items()
        for group in trainer.optimizer.param_groups
        if group["weight_decay"] == 0 and any(parameter is other for other in group["params"])
    }
    groups = recorded["param_groups(no_decay, mask, decay)"]
    expected = sorted(name for group in groups[:-1] for name in group)
    agrees(case, "parameters without decay", sorted(undecayed), expected, tolerance=0)

    losses, moved = [], []
    for step in range(3):
        losses.append(trainer.step(batch["images"], batch["masks"], torch.arange(6)))
        if phase == "mpt":
            sizes = trainer.parameters["mask_prompts"].grad.abs()
            moved.append(sizes / sizes.max())
        for name, parameter in trainer.parameters.items() if step == 0 else ():
            if (key := f"step0.grad.{named[name]}") in golden:
                what = f"gradient of {named[name]}"
                agrees(case, what, parameter.grad, golden[key], tolerance=1e-5)
    steps = recorded["steps"]
    agrees(case, "losses", losses, [step["loss"] for step in steps], tolerance=2e-6)
    _, _, _, rates, scales = zip(*trainer.log)
    agrees(case, "learning rates", rates, [step["lr"] for step in steps], tolerance=1e-12)
    expected = [step["logit_scale_exp"] for step in steps]
    agrees(case, "logit scales", scales, expected, tolerance=2e-6)

    after = model.checkpoint_state()
    for key, expected in golden.items():
        if key.startswith("after3steps.") and key != "after3steps.image_features":
            name = key.removeprefix("after3steps.")
            prompts = phase == "mpt" and name == PROMPT_KEY
            # AdamW moves prompts whose gradient is rounding alone as far as others: how far these
            # differ depends on the processor, and `prompts_agree` looks at each
            tolerance = 1e-3 if prompts else 1e-5
            agrees(case, f"{name} after 3 steps", after[name], expected, tolerance=tolerance)
            if prompts:
                prompts_agree(agrees, case, after[name], expected, torch.stack(moved))
    with torch.no_grad():
        images = model.encode_regions(batch["images"], batch["masks"])
    what, expected = "image embeddings after 3 steps", golden["after3steps.image_features"]
    agrees(case, what, images, expected, tolerance=1e-5)
    changed = sorted(name for name in before if not torch.equal(before[name], after[name]))
    what, expected = "parameters that changed", sorted(recorded["changed_after_3_steps"])
    agrees(case, what, changed, expected, tolerance=0)


def test_naming_as_the_official_training_reports_it(agrees, reference_data: Path):
    folder = reference_data / "golden" / FOLDER
    golden, batch = (load_file(folder / f"{name}.safetensors") for name in ("zero_shot", "batch"))
    about = json.loads((folder / "meta.json").read_text())["files"]["zero_shot.safetensors"]
    model = recorded_clip(folder, prompts=False)
    with torch.no_grad():
        table = model.clip.token_embedding.weight
        table.zero_()
        table[golden["token_embedding.weight.rows_index"]] = golden[
            "token_embedding.weight.rows_value"
        ]
        images = model.encode_regions(batch["images"])
    case = f"{FOLDER}/zero-shot naming"
    texts = text_embeddings(model, about["classes"], templates="vild")
    agrees(case, "class embeddings", texts.T, golden["classifier"], tolerance=2e-6)
    agrees(case, "image embeddings", images, golden["image_features"], tolerance=2e-6)
    logits = COSINE_SCALE * images @ texts.T
    agrees(case, "logits", logits, golden["logits"], tolerance=2e-6)
    agrees(case, "first choices", logits.argmax(1), golden["pred_top1"], tolerance=0)
    ranks = [rank(row.numpy(), int(gt)) for row, gt in zip(logits, golden["target"])]
    counts = [sum(place <= best for place in ranks) for best in (1, 2)]
    expected = [int(about["acc1_count"]), int(about["acc2_count"])]
    agrees(case, "right among the first 1 and 2", counts, expected, tolerance=0)


def test_the_temperature_stays_within_its_bounds(reference_data: Path):
    """The official loop clamps `logit_scale` to 0 and ln 100 after every step."""
    folder = reference_data / "golden" / FOLDER
    batch = load_file(folder / "batch.safetensors")
    for start in (-0.5, 7.0):
        model = recorded_clip(folder, prompts=False)
        with torch.no_grad():
            model.logit_scale.fill_(start)
            texts = model.encode_tokens(batch["tokens"])
        trainer = Trainer(model, texts, config=PHASES["finetune"], total_steps=10)
        trainer.step(batch["images"], batch["masks"], torch.arange(6))
        assert model.logit_scale.item() == pytest.approx(0 if start < 0 else math.log(100))
