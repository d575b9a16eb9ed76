"""How a class name becomes a text embedding; `benchmarks.prompting` chooses by name.

    strategy = text_prompts(BenchmarkConfig(prompting="mined", contexts_from=nouns.folder))
    texts_ke = strategy.embed(clip, ["house", "tree"])

Every strategy is one small class behind `TextPrompts`. Its digest says what the result depends on
beside the CLIP and the names; two of one digest are equal, so that embeddings can be kept.
"""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import torch
from torch import Tensor

from ovseg.config.registry import PROMPTINGS, TEMPLATES, chosen
from ovseg.config.scoring import BenchmarkConfig
from ovseg.data.benchmarks.vocabulary import normalised
from ovseg.errors import OvsegError
from ovseg.files.digests import digest_json, known_sha256
from ovseg.models.clip.context_vectors import ContextVectors
from ovseg.models.clip.open_clip_model import OpenClipModel
from ovseg.models.texts.templates import MINING, fill_templates, mean_embeddings, text_embeddings
from ovseg.stages.manifest import Manifest

# Without a final period, as captions are written: a CLIP that never read one is thrown off by it.
(PLAIN,) = MINING

# What one may say of almost anything that can be seen, and where it may be.
ATTRIBUTES = ("red", "blue", "green", "yellow", "white", "black", "brown", "small", "large")
PLACES = (
    "in the street",
    "in the room",
    "in the kitchen",
    "in the garden",
    "in the field",
    "in the water",
    "on the ground",
    "on the table",
    "in the sky",
)
CONTEXTS_FILE = "contexts.json"
TEXTS_AT_ONCE = 512  # tens of thousands of nouns at once would fill the memory


class TextPrompts(ABC):
    """A strategy: class names in, embeddings out."""

    @property
    @abstractmethod
    def digest(self) -> str:
        """Of all the embeddings depend on beside CLIP and names."""

    @abstractmethod
    def embed(self, clip: OpenClipModel, names: Sequence[str]) -> Tensor:
        """Embed K names as `(K, E)` float rows of L2 norm 1, without gradients.

        Raises:
            OvsegError: an empty name.
        """

    def __eq__(self, other: object) -> bool:
        return isinstance(other, TextPrompts) and self.digest == other.digest

    def __hash__(self) -> int:
        return hash(self.digest)


class TemplatePrompts(TextPrompts):
    """Every template of a set, the mean of their embeddings (`ovseg.models.texts.templates`).

    Args:
        templates: a key of `TEMPLATES`, or templates with one `{}` each.
        period: False drops the period some of them end with.
    """

    def __init__(self, templates: str | Sequence[str], *, period: bool = True) -> None:
        fill_templates(["name"], templates)  # refuses what is none
        chosen_set = TEMPLATES[templates] if isinstance(templates, str) else templates
        self.templates = tuple(each if period else each.removesuffix(".") for each in chosen_set)

    @property
    def digest(self) -> str:
        """Of the templates."""
        return digest_json(["templates", self.templates])

    def embed(self, clip: OpenClipModel, names: Sequence[str]) -> Tensor:
        """See `TextPrompts.embed`."""
        return text_embeddings(clip, names, templates=self.templates)


class ContextualPrompts(TemplatePrompts):
    """Contexts of a grammar: the plain prompt, one an attribute, one a place, the same for all."""

    def __init__(self) -> None:
        contexts = [("adjective", word) for word in ATTRIBUTES] + [("place", p) for p in PLACES]
        super().__init__([PLAIN, *(context_template(*context) for context in contexts)])


class MinedPrompts(TextPrompts):
    """The contexts that captions give a class's own noun.

    Args:
        contexts: by noun the `(kind, context)` that captions give it, the most frequent first.
        most: how many of them are taken.
        fallback: of a class that no caption names.
    """

    def __init__(
        self,
        contexts: Mapping[str, Sequence[tuple[str, str]]],
        *,
        most: int,
        fallback: TemplatePrompts,
    ) -> None:
        self.contexts = {noun: tuple(found[:most]) for noun, found in contexts.items()}
        self.fallback = fallback
        self._digest = digest_json(["mined", sorted(self.contexts.items()), fallback.digest])

    @property
    def digest(self) -> str:
        """Of the contexts and the fallback."""
        return self._digest

    def templates(self, name: str) -> tuple[str, ...]:
        """The templates of a name, or of the first of the words it lists that captions have."""
        for word in (name, *name.split(",")):
            if found := self.contexts.get(normalised(word)):
                return (PLAIN, *(context_template(*context) for context in found))
        return self.fallback.templates

    def embed(self, clip: OpenClipModel, names: Sequence[str]) -> Tensor:
        """See `TextPrompts.embed`."""
        filled = [fill_templates([name], self.templates(name))[0] for name in names]
        return mean_embeddings(clip, filled)


class LearnedPrompts(TextPrompts):
    """The context vectors a CLIP was trained with; a CLIP without any gets the fallback."""

    def __init__(self, fallback: TextPrompts) -> None:
        self.fallback = fallback

    @property
    def digest(self) -> str:
        """Of the fallback: the vectors are part of the CLIP's own digest."""
        return digest_json(["learned", self.fallback.digest])

    def embed(self, clip: OpenClipModel, names: Sequence[str]) -> Tensor:
        """See `TextPrompts.embed`."""
        vectors = clip.text_prompts
        if not isinstance(vectors, ContextVectors):
            return self.fallback.embed(clip, names)
        fill_templates(names, [PLAIN])  # refuses an empty name
        if not names:
            return clip.encode_texts([])
        parts = [
            names[start : start + TEXTS_AT_ONCE] for start in range(0, len(names), TEXTS_AT_ONCE)
        ]
        with torch.no_grad():
            rows = [
                vectors.encode(clip, vectors.tokens(clip, part, self.nouns(vectors, part)))
                for part in parts
            ]
        return torch.cat(rows)

    @staticmethod
    def nouns(vectors: ContextVectors, names: Sequence[str]) -> list[str]:
        """The noun of each name: as it is spelled, else of its first word that has vectors."""
        exact = {noun: noun for noun in vectors.nouns}
        known = {**{normalised(noun): noun for noun in vectors.nouns}, **exact}
        words = [[name, *map(normalised, [name, *name.split(",")])] for name in names]
        return [next((known[word] for word in each if word in known), each[0]) for each in words]


# --------------------------------------------------------------------------------------
# Contexts


def context_template(kind: str, context: str) -> str:
    """The template of an adjective ("a photo of an old {}") or of a place."""
    if kind == "adjective":
        return f"a photo of {'an' if context[0] in 'aeiou' else 'a'} {context} {{}}"
    return f"a photo of a {{}} {context}"


def read_contexts(folder: Path) -> dict[str, list[tuple[str, str]]]:
    """The contexts of every noun of a noun table, the most frequent first.

    Args:
        folder: of a finished nouns stage, or one that holds what `contexts_text` gave.

    Returns:
        By noun `(kind, context)`, where equally frequent ones follow the alphabet.

    Raises:
        OvsegError: no such stage.
    """
    if (stored := folder / CONTEXTS_FILE).is_file():
        return _stored_contexts(stored, known_sha256(stored))
    manifest = Manifest.read(folder)
    if manifest.stage != "nouns":
        raise OvsegError(
            f"{folder} is a stage of {manifest.stage}: benchmarks.contexts_from is the folder of a"
            " nouns stage, <root>/nouns/<digest>"
        )
    return _contexts(folder, manifest.content_digest)


def contexts_text(contexts: Mapping[str, Sequence[tuple[str, str]]], most: int) -> str:
    """Contexts as the JSON of a file `CONTEXTS_FILE`, without the table they were counted in.

    Args:
        contexts: by noun, the most frequent first.
        most: how many of them are kept.
    """
    kept = {noun: found[:most] for noun, found in contexts.items()}
    return json.dumps(kept, ensure_ascii=False, sort_keys=True, indent=0) + "\n"


@lru_cache(maxsize=4)
def _stored_contexts(path: Path, sha256: str) -> dict[str, list[tuple[str, str]]]:
    # the hash is part of the key only: the same path may hold other contexts by now
    try:
        stored = json.loads(path.read_text(encoding="utf-8"))
        return {
            noun: [(kind, context) for kind, context in found] for noun, found in stored.items()
        }
    except (AttributeError, TypeError, ValueError) as error:
        raise OvsegError(f"{path} holds no contexts ({error}): restore the file") from error


@lru_cache(maxsize=4)
def _contexts(folder: Path, content: str) -> dict[str, list[tuple[str, str]]]:
    # the content is part of the key only: the same folder may hold another table by now
    table = Manifest.read(folder).table(["noun", "adjectives", "place", "kept"])
    kept = table.filter(table["kept"]).combine_chunks()
    adjectives = kept["adjectives"].combine_chunks()
    owners = kept["noun"].combine_chunks().take(pc.list_parent_indices(adjectives))
    placed = kept.filter(pc.is_valid(kept["place"]))
    said = {
        "adjective": pa.table({"noun": owners, "context": pc.list_flatten(adjectives)}),
        "place": pa.table({"noun": placed["noun"], "context": placed["place"]}),
    }
    counts: dict[str, list[tuple[int, tuple[str, str]]]] = {}
    for kind, rows in said.items():
        for row in rows.group_by(["noun", "context"]).aggregate([([], "count_all")]).to_pylist():
            of_noun = counts.setdefault(row["noun"], [])
            of_noun.append((-row["count_all"], (kind, row["context"])))
    return {noun: [context for _, context in sorted(found)] for noun, found in counts.items()}


# --------------------------------------------------------------------------------------
# By name


def mined(config: BenchmarkConfig) -> MinedPrompts:
    """Names in the contexts that a noun table has of them.

    Raises:
        OvsegError: no table is named, or it cannot be read.
    """
    if config.contexts_from is None:
        raise OvsegError(
            "benchmarks.prompting=mined takes contexts from a noun table: set"
            " benchmarks.contexts_from to the folder of a nouns stage, <root>/nouns/<digest>"
        )
    contexts = read_contexts(config.contexts_from)
    return MinedPrompts(contexts, most=config.contexts, fallback=ContextualPrompts())


def templates(config: BenchmarkConfig) -> TemplatePrompts:
    """Names in the configured set of templates."""
    return TemplatePrompts(config.templates, period=config.period)


def contextual(config: BenchmarkConfig) -> ContextualPrompts:
    """Names in the contexts that captions of the world have."""
    return ContextualPrompts()


def learned(config: BenchmarkConfig) -> LearnedPrompts:
    """The context vectors a CLIP was trained with; the configured templates without any."""
    return LearnedPrompts(templates(config))


def text_prompts(config: BenchmarkConfig) -> TextPrompts:
    """The strategy a configuration names.

    Raises:
        OvsegError: there is none of that name, or what it needs is not there.
    """
    return chosen(PROMPTINGS, config.prompting, setting="benchmarks.prompting")(config)
