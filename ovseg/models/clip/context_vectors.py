"""Learned prompts: context vectors that replace the words of a template around a class name.

A prompt is `[start] v_1 .. v_b NAME v_b+1 .. v_m [end]`: the vectors are initialized with the token
embeddings of a template's words before and after the name, and trained with all of CLIP frozen
(context optimization: Zhou et al., Learning to Prompt for Vision-Language Models, IJCV 2022). They
are shared by all classes, or each noun of the training set has its own; other names fall back on
the shared ones. They are stored next to the CLIP they were trained with, in separate files, and
`ovseg.models.clip.load` loads them with it.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from ovseg.errors import OvsegError
from ovseg.files.publish import permit
from ovseg.models.clip.open_clip_model import OpenClipModel
from ovseg.models.clip.text_tower import encode_embedded, reads_the_end
from ovseg.models.weights.files import check_finite, read_safetensors
from ovseg.models.weights.settings_files import read_settings

TENSORS_FILE = "text_prompts.safetensors"
CONFIG_FILE = "text_prompts.json"
FILES = (TENSORS_FILE, CONFIG_FILE)


@dataclass(frozen=True, kw_only=True)
class PromptTokens:
    """Names between slots for context vectors, ready to be embedded.

    Attributes:
        ids: `(T, L)` int64 token ids, zero-padded; the template's own in slots of vectors.
        places: `(T, L)` int64 index of the vector in each slot, -1 for a token.
        ends: `(T,)` int64 position of the end-of-text token.
        rows: `(T,)` int64 row of the name's own vectors, -1 if it has none.
    """

    ids: Tensor
    places: Tensor
    ends: Tensor
    rows: Tensor

    def __getitem__(self, index: Tensor) -> PromptTokens:
        return PromptTokens(
            ids=self.ids[index],
            places=self.places[index],
            ends=self.ends[index],
            rows=self.rows[index],
        )


class ContextVectors(nn.Module):
    """The context vectors of a CLIP.

    Args:
        clip: provides the initial values; must have open_clip's own text tower.
        template: text with one `{}`; each token of its words becomes a vector.

    Attributes:
        shared: `(m, width)` vectors for any name.
        specific: `(N, m, width)` vectors of the N `nouns`; None if all are shared.
        nouns: the nouns of `specific`.

    Raises:
        OvsegError: for another kind of text tower, or a template without `{}`, without words or
            too long.
    """

    shared: nn.Parameter
    specific: nn.Parameter | None

    def __init__(self, clip: OpenClipModel, template: str) -> None:
        super().__init__()
        if not reads_the_end(clip):
            raise OvsegError(
                "learned prompts need open_clip's own text tower, which embeds the end-of-text"
                " token: choose such a CLIP, or benchmarks.prompting=templates"
            )
        if template.count("{}") != 1:
            raise OvsegError(f"a template needs one {{}} for the name, got {template!r}: fix it")
        self.template = template
        before, after = (_word_ids(clip, part) for part in template.split("{}"))
        self.before, self.words = len(before), [*before, *after]
        length = clip.clip.positional_embedding.shape[0]
        if not self.words or len(self.words) > length - 3:
            raise OvsegError(
                f"the template {template!r} gives {len(self.words)} context vectors, but this CLIP"
                f" takes 1 to {length - 3}: choose another"
            )
        table = clip.clip.token_embedding.weight.detach()
        self.shared = nn.Parameter(table[self.words].clone())
        self.specific = None
        self.nouns: tuple[str, ...] = ()

    def specialize(self, nouns: Sequence[str]) -> None:
        """Give each noun its own vectors: those it had, else copies of the shared ones."""
        rows = {noun: row for row, noun in enumerate(self.nouns)}
        own = self.shared.detach().repeat(len(nouns), 1, 1)
        for number, noun in enumerate(nouns):
            if noun in rows and self.specific is not None:
                own[number] = self.specific.detach()[rows[noun]]
        self.nouns, self.specific = tuple(nouns), nn.Parameter(own)

    def share(self) -> None:
        """Drop the vectors of single nouns."""
        self.nouns, self.specific = (), None

    def tokens(
        self, clip: OpenClipModel, names: Sequence[str], nouns: Sequence[str] | None = None
    ) -> PromptTokens:
        """Put names between the slots for vectors; a name over the context length is truncated.

        Args:
            clip: the CLIP the vectors belong to.
            names: at least one name.
            nouns: the noun whose vectors each name uses; defaults to the names.
        """
        room = clip.clip.positional_embedding.shape[0] - 2 - len(self.words)
        noun_rows = {noun: row for row, noun in enumerate(self.nouns)}
        (blank,) = clip.tokenizer([""])
        start, end = (int(blank[place]) for place in (0, 1))
        before, after = self.words[: self.before], self.words[self.before :]
        ids, places = [], []
        for name in names:
            own = _word_ids(clip, name.strip())[:room]
            ids.append([start, *before, *own, *after, end])
            numbers = iter(range(len(self.words)))
            is_vector = [*[True] * len(before), *[False] * len(own), *[True] * len(after)]
            places.append([-1, *(next(numbers) if vector else -1 for vector in is_vector), -1])
        longest = max(len(of_name) for of_name in ids)
        device = self.shared.device
        return PromptTokens(
            ids=torch.tensor([x + [0] * (longest - len(x)) for x in ids], device=device),
            places=torch.tensor([x + [-1] * (longest - len(x)) for x in places], device=device),
            ends=torch.tensor([len(x) - 1 for x in ids], device=device),
            rows=torch.tensor([noun_rows.get(noun, -1) for noun in nouns or names], device=device),
        )

    def encode(self, clip: OpenClipModel, tokens: PromptTokens) -> Tensor:
        """Embed prompts, with gradients to the vectors if enabled.

        Returns:
            `(T, E)` rows of L2 norm 1.
        """
        length = int(tokens.ends.max()) + 1
        ids, places = tokens.ids[:, :length], tokens.places[:, :length]
        contexts = self.shared.expand(len(ids), -1, -1)
        if self.specific is not None:
            own = self.specific[tokens.rows.clamp(min=0)]
            contexts = torch.where((tokens.rows >= 0)[:, None, None], own, contexts)
        row = torch.arange(len(ids), device=ids.device)[:, None]
        vectors = contexts[row, places.clamp(min=0)]
        words = clip.clip.token_embedding(ids)
        x = torch.where((places >= 0)[..., None], vectors.to(words), words)
        return encode_embedded(clip, x, tokens.ends)


def _word_ids(clip: OpenClipModel, text: str) -> list[int]:
    """Return the token ids of a text without the start and end tokens."""
    (ids,) = clip.tokenizer([text])
    return [int(token) for token in ids[1 : int(ids.argmax())]]


# --------------------------------------------------------------------------------------
# Files


def save_context_vectors(vectors: ContextVectors, folder: Path) -> None:
    """Write the vectors as safetensors and their meaning as JSON into a folder."""
    tensors = {name: tensor.detach().cpu().float() for name, tensor in vectors.named_parameters()}
    save_file(tensors, folder / TENSORS_FILE, metadata={"format": "pt"})
    permit(folder / TENSORS_FILE)  # safetensors makes the file readable only by its owner
    text = json.dumps(
        {"template": vectors.template, "nouns": vectors.nouns}, indent=1, ensure_ascii=False
    )
    (folder / CONFIG_FILE).write_text(text + "\n", encoding="utf-8")


def load_context_vectors(folder: Path, clip: OpenClipModel) -> ContextVectors | None:
    """Load the vectors stored in their CLIP's folder; None if there are none.

    Raises:
        OvsegError: if files are damaged, or the vectors belong to another CLIP.
    """
    if not (folder / CONFIG_FILE).is_file():
        return None
    try:
        config = read_settings(folder / CONFIG_FILE)
        nouns, tensors = config["nouns"], read_safetensors(folder / TENSORS_FILE)
        check_finite(tensors, folder / TENSORS_FILE)
        vectors = ContextVectors(clip, config["template"])
        if nouns:
            if len(tensors["specific"]) != len(nouns) or not all(type(n) is str for n in nouns):
                raise ValueError(f"{len(nouns)} nouns of other vectors")
            vectors.specialize(nouns)
        vectors.load_state_dict(tensors)
    except OvsegError:
        raise
    except Exception as error:  # safetensors, torch and json all raise their own
        reason = " ".join(str(error).split())[:200]
        raise OvsegError(
            f"{folder} has no learned prompts of this CLIP ({reason}): train them again"
        ) from error
    return vectors
