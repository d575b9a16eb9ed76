"""Write a CLIP to a folder that `load_clip` reads: safetensors and a configuration."""

import copy
import json
from pathlib import Path

import torch
from safetensors.torch import save_file

from ovseg.config.model_names import CLIP_CONFIG
from ovseg.files.publish import permit
from ovseg.models.clip.context_vectors import FILES, ContextVectors, save_context_vectors
from ovseg.models.clip.load import PROMPTS_FILE, WEIGHTS_FILE
from ovseg.models.clip.mask_adapted import is_prompt
from ovseg.models.clip.open_clip_model import VOCABULARY_FILE, OpenClipModel, copy_vocabulary


def save_clip(model: OpenClipModel, folder: Path, *, half: bool = False) -> Path:
    """Write a folder that `load_clip` and stock open_clip read.

    Args:
        model: must have a `model_cfg`, as every model of `load_clip` does.
        folder: created if missing; files of an earlier model in it are replaced.
        half: store float16, which halves the files; loading converts back to float32.

    Returns:
        The folder.

    Raises:
        ValueError: if the model was built without `model_cfg`.
    """
    if model.model_cfg is None:
        raise ValueError("give MaskAdaptedCLIP the model_cfg of open_clip to make it savable")
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    config = copy.deepcopy(model.model_cfg)
    for name in (PROMPTS_FILE, *FILES):
        (folder / name).unlink(missing_ok=True)
    copy_vocabulary(model.vocabulary, folder)
    if model.vocabulary is not None and not model.vocabulary.is_dir():
        # stock open_clip looks for it in the working directory and fails loudly elsewhere; its
        # own vocabulary would give ids the model does not have
        config["text_cfg"]["tokenizer_kwargs"] = {"bpe_path": VOCABULARY_FILE}
    state = {
        key: tensor.detach().cpu().to(torch.float16 if half else torch.float32).contiguous()
        for key, tensor in model.checkpoint_state().items()
    }
    prompts = {name: state.pop(name) for name in [*state] if is_prompt(name)}
    files = {WEIGHTS_FILE: state}
    if prompts:
        files[PROMPTS_FILE] = prompts
    for name, tensors in files.items():
        save_file(tensors, folder / name, metadata={"format": "pt"})
        permit(folder / name)  # safetensors makes the file readable only by its owner
    if isinstance(model.text_prompts, ContextVectors):
        save_context_vectors(model.text_prompts, folder)
    preprocess = {
        "mean": list(model.pixel_mean),
        "std": list(model.pixel_std),
        "interpolation": "bicubic",
        "resize_mode": "squash",
    }
    text = json.dumps({"model_cfg": config, "preprocess_cfg": preprocess}, indent=2)
    (folder / CLIP_CONFIG).write_text(text + "\n", encoding="utf-8")
    return folder
