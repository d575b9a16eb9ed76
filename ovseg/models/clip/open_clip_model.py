"""The base of every open_clip model, whatever its image tower: texts, crops, pixel statistics.

`ovseg.models.clip.mask_adapted` adds the features of a ViT, `ovseg.models.clip.convolutional` those
of a convolutional tower; `ovseg.models.clip.load` loads and saves both.
"""

from __future__ import annotations

import copy
import gzip
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from ovseg.errors import OvsegError

VOCABULARY_FILE = "bpe_vocab.txt.gz"
MAX_VOCABULARY = 2**24
"""Maximum bytes of an unpacked vocabulary; CLIP's has 3 MB."""
TOKENIZER_FILES = (
    *("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json"),
    *("vocab.txt", "vocab.json", "merges.txt", "spiece.model", "sentencepiece.bpe.model"),
)
"""The files of a `transformers` tokenizer; the first is enough."""

Tokenizer = Callable[[Sequence[str]], Tensor]


class OpenClipModel(nn.Module):
    """A CLIP of open_clip, with the context vectors its texts may have been trained with.

    Args:
        clip: open_clip model.
        tokenizer: texts -> `(T, context)` int64 token ids; texts over the context are truncated,
            with the end-of-text id last (open_clip's behavior; the official implementation raises
            instead).
        model_cfg: open_clip's configuration of the model, needed by `save_clip`.
        vocabulary: BPE file or folder of the tokenizer if it is not open_clip's own, copied by
            `save_clip`.

    Raises:
        OvsegError: if the tower does not take square images.
    """

    text_prompts: nn.Module | None
    """See `ovseg.models.clip.context_vectors`; a `prompting` strategy uses them."""

    def __init__(
        self,
        clip: nn.Module,
        *,
        tokenizer: Tokenizer,
        model_cfg: Mapping[str, Any] | None = None,
        vocabulary: Path | None = None,
    ) -> None:
        super().__init__()
        visual: Any = clip.visual
        size = visual.image_size  # a number in open_clip's ResNets
        self._image_size = (size, size) if isinstance(size, int) else tuple(size)
        if self._image_size[0] != self._image_size[1]:
            raise OvsegError(f"regions are square, but the CLIP takes {self._image_size} pixels")
        self.clip: Any = clip
        self.text_prompts = None
        self.tokenizer = tokenizer
        self.model_cfg = copy.deepcopy(dict(model_cfg)) if model_cfg is not None else None
        self.vocabulary = vocabulary

    @property
    def image_size(self) -> int:
        """Side of the square input, pixels."""
        return int(self._image_size[0])

    @property
    def embed_dim(self) -> int:
        """Length of an embedding, image or text."""
        return int(self.clip.visual.output_dim)

    @property
    def logit_scale(self) -> nn.Parameter:
        """Logarithm of the learned inverse temperature, scalar."""
        scale: nn.Parameter = self.clip.logit_scale
        return scale

    @property
    def pixel_mean(self) -> tuple[float, float, float]:
        """Mean for normalizing pixels, on a 0..1 scale, RGB."""
        from open_clip import OPENAI_DATASET_MEAN

        mean = getattr(self.clip.visual, "image_mean", None) or OPENAI_DATASET_MEAN
        return (float(mean[0]), float(mean[1]), float(mean[2]))

    @property
    def pixel_std(self) -> tuple[float, float, float]:
        """Standard deviation for normalizing pixels, on a 0..1 scale, RGB."""
        from open_clip import OPENAI_DATASET_STD

        std = getattr(self.clip.visual, "image_std", None) or OPENAI_DATASET_STD
        return (float(std[0]), float(std[1]), float(std[2]))

    def encode_regions(
        self, pixels_nchw: Tensor, masks_nhw: Tensor | None = None, *, prompts: bool = True
    ) -> Tensor:
        """Embed region crops.

        Args:
            pixels_nchw: `(N, 3, S, S)` float, normalized; N may be 0.
            masks_nhw: `(N, S, S)` foreground of the crops; only a CLIP with prompts uses it.
            prompts: False ignores prompts.

        Returns:
            `(N, E)` embeddings of L2 norm 1.
        """
        if pixels_nchw.shape[0] == 0:
            return pixels_nchw.new_zeros((0, self.embed_dim))
        encoded = self.clip.visual(pixels_nchw)
        return F.normalize(encoded[0] if isinstance(encoded, tuple) else encoded, dim=-1)

    def encode_tokens(self, tokens: Tensor) -> Tensor:
        """Embed token ids `(T, context)` int64 as `(T, E)` rows of L2 norm 1."""
        if tokens.shape[0] == 0:
            return self.logit_scale.new_zeros((0, self.embed_dim))
        return F.normalize(self.clip.encode_text(tokens), dim=-1)

    def encode_texts(self, texts: Sequence[str]) -> Tensor:
        """Embed texts as `(T, E)` rows of L2 norm 1, truncated to the context length."""
        if not texts:
            return self.logit_scale.new_zeros((0, self.embed_dim))
        return self.encode_tokens(self.tokenizer(list(texts)).to(self.logit_scale.device))

    def checkpoint_state(self) -> dict[str, Tensor]:
        """Return the tensors under open_clip's names."""
        return dict(self.clip.state_dict())

    def load_checkpoint_state(self, state: Mapping[str, Tensor], *, prompts: bool = True) -> None:
        """Load tensors named as in `checkpoint_state`.

        Args:
            state: all tensors of the CLIP.
            prompts: whether to load prompts, for a model that can have some.

        Raises:
            OvsegError: if names or shapes differ from this model's.
        """
        try:
            self.clip.load_state_dict(state, strict=True)
        except RuntimeError as error:
            reason = " ".join(str(error).split())[:300]
            raise OvsegError(f"these weights are of another CLIP architecture: {reason}") from error


def vocabulary_of(folder: Path, text_cfg: Mapping[str, Any]) -> Path | None:
    """Return a folder's vocabulary: BPE merges, or the folder itself if `transformers` reads it.

    Args:
        folder: folder of a CLIP.
        text_cfg: open_clip's configuration of its text tower.
    """
    if text_cfg.get("hf_tokenizer_name"):
        return folder if any((folder / name).is_file() for name in TOKENIZER_FILES) else None
    return folder / VOCABULARY_FILE if (folder / VOCABULARY_FILE).is_file() else None


def copy_vocabulary(vocabulary: Path | None, folder: Path) -> None:
    """Copy a vocabulary from `vocabulary_of` into a folder, replacing any other tokenizer."""
    names = TOKENIZER_FILES if vocabulary and vocabulary.is_dir() else (VOCABULARY_FILE,)
    for name in (VOCABULARY_FILE, *TOKENIZER_FILES):
        source = None
        if vocabulary is not None and name in names:
            source = vocabulary / name if vocabulary.is_dir() else vocabulary
        if source is None or not source.is_file():
            (folder / name).unlink(missing_ok=True)
        elif source.resolve() != (folder / name).resolve():
            shutil.copyfile(source, folder / name)


def load_published(clip: Any, state: Mapping[str, Tensor]) -> None:
    """Load the tensors of a published file into a model of open_clip, as open_clip does.

    Args:
        clip: the model, changed in place.
        state: tensors in open_clip's layout or in one that it converts.

    Raises:
        RuntimeError, KeyError, ValueError: if the tensors belong to another model.
    """
    from open_clip.convert import convert_state_dict
    from open_clip.model import (
        convert_to_custom_text_state_dict,
        resize_pos_embed,
        resize_text_pos_embed,
    )

    converted = dict(convert_state_dict(clip, dict(state)))
    if "positional_embedding" in converted and not hasattr(clip, "positional_embedding"):
        converted = convert_to_custom_text_state_dict(converted)
    for name in ("logit_scale", "logit_bias"):  # a scalar or one element
        own = getattr(clip, name, None)
        if name in converted and own is not None:
            converted[name] = converted[name].reshape(own.shape)
    converted.pop("text.transformer.embeddings.position_ids", None)  # of older transformers
    resize_pos_embed(converted, clip)
    resize_text_pos_embed(converted, clip)
    clip.load_state_dict(converted, strict=True)


def tokenizer_of(text_cfg: Mapping[str, Any], vocabulary: Path | None) -> Tokenizer:
    """Load the tokenizer of a model.

    Args:
        text_cfg: open_clip's configuration of the text tower.
        vocabulary: as `vocabulary_of` returns it; None for open_clip's own, or the configured one.

    Raises:
        OvsegError: if the vocabulary's size is not the model's, or it cannot be read without
            running its own code.
    """
    import open_clip
    from open_clip.tokenizer import HFTokenizer

    # open_clip would resolve a relative bpe_path against the working directory; ours is absolute
    context_length = text_cfg.get("context_length", open_clip.tokenizer.DEFAULT_CONTEXT_LENGTH)
    extra = {k: v for k, v in (text_cfg.get("tokenizer_kwargs") or {}).items() if k != "bpe_path"}
    expected = text_cfg.get("vocab_size", 49408)
    if name := text_cfg.get("hf_tokenizer_name"):
        source = str(name if vocabulary is None else vocabulary)
        mode = text_cfg.get("tokenizer_mode")
        try:
            tokenizer: Any = HFTokenizer(
                source,
                context_length=context_length,
                **{"tokenizer_mode": mode, **extra},
                trust_remote_code=False,
            )
            size = len(tokenizer.tokenizer)
        except Exception as error:  # transformers, tokenizers and the hub raise their own
            reason = " ".join(str(error).split())[:200] or type(error).__name__
            raise OvsegError(
                f"the tokenizer {source} is not available ({reason}); its own code is never run:"
                " put tokenizer.json next to the CLIP's weights"
            ) from error
        if size > expected and not text_cfg.get("hf_model_name"):
            raise OvsegError(
                f"the tokenizer {source} has {size} entries, the model {expected}: put the model's"
                " own tokenizer.json next to its weights"
            )
        return tokenizer  # type: ignore[no-any-return]
    if vocabulary is not None:
        extra["bpe_path"] = str(vocabulary)
    try:
        if vocabulary is not None:
            _check_size(vocabulary)
        tokenizer = open_clip.SimpleTokenizer(context_length=context_length, **extra)
    except Exception as error:  # gzip, zlib and the merges' own
        reason = " ".join(str(error).split())[:160] or type(error).__name__
        raise OvsegError(
            f"the vocabulary {vocabulary or 'of open_clip'} cannot be read ({reason}): restore it"
        ) from error
    if tokenizer.vocab_size != expected:
        raise OvsegError(
            f"the vocabulary {vocabulary or 'of open_clip'} has {tokenizer.vocab_size} entries, "
            f"the model {expected}: put the model's own {VOCABULARY_FILE} next to its weights"
        )
    return tokenizer  # type: ignore[no-any-return]


def _check_size(vocabulary: Path) -> None:
    """Reject a vocabulary that unpacks to more than `MAX_VOCABULARY`: open_clip reads it whole.

    Raises:
        ValueError: if it is too large.
        OSError: if it is not compressed, or damaged.
    """
    with gzip.open(vocabulary) as stream:
        remaining = MAX_VOCABULARY
        while remaining >= 0 and (chunk := stream.read(2**16)):
            remaining -= len(chunk)
    if remaining < 0:
        raise ValueError(f"it unpacks to more than {MAX_VOCABULARY / 2**20:.0f} MiB")
