"""Strategies for embedding class names, chosen by `benchmarks.prompting`.

    strategy = text_prompts(BenchmarkConfig(prompting="mined", contexts_from=nouns.folder))
    texts_ke = strategy.embed(clip, ["house", "tree"])

Every strategy is a small subclass of `TextPrompts`. Its digest covers everything the result depends
on apart from the CLIP and the names; strategies with the same digest are equal, so embeddings can
be cached.
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
from ovseg.data.benchmarks.vocabulary import normalized
from ovseg.errors import OvsegError
from ovseg.files.digests import digest_json, known_sha256
from ovseg.models.clip.context_vectors import ContextVectors
from ovseg.models.clip.open_clip_model import OpenClipModel
from ovseg.models.texts.templates import MINING, fill_templates, mean_embeddings, text_embeddings
from ovseg.stages.manifest import Manifest

# Without a final period, as in captions: it confuses a CLIP that has never read one.
(PLAIN,) = MINING

# Attributes and places that suit almost any visible thing.
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
TEXTS_AT_ONCE = 512  # tens of thousands of nouns at once may not fit memory


class TextPrompts(ABC):
    """A strategy: class names in, embeddings out."""

    @property
    @abstractmethod
    def digest(self) -> str:
        """Digest of everything the embeddings depend on apart from CLIP and names."""

    @abstractmethod
    def embed(self, clip: OpenClipModel, names: Sequence[str]) -> Tensor:
        """Embed K names as `(K, E)` float rows of L2 norm 1, without gradients.

        Raises:
            OvsegError: if a name is empty.
        """

    def __eq__(self, other: object) -> bool:
        return isinstance(other, TextPrompts) and self.digest == other.digest

    def __hash__(self) -> int:
        return hash(self.digest)


class TemplatePrompts(TextPrompts):
    """The mean of the embeddings of all templates of a set (`ovseg.models.texts.templates`).

    Args:
        templates: a key of `TEMPLATES`, or templates with one `{}` each.
        period: False drops the final period that some of them have.
    """

    def __init__(self, templates: str | Sequence[str], *, period: bool = True) -> None:
        fill_templates(["name"], templates)  # rejects invalid templates
        chosen_set = TEMPLATES[templates] if isinstance(templates, str) else templates
        self.templates = tuple(each if period else each.removesuffix(".") for each in chosen_set)

    @property
    def digest(self) -> str:
        """Digest of the templates."""
        return digest_json(["templates", self.templates])

    def embed(self, clip: OpenClipModel, names: Sequence[str]) -> Tensor:
        """See `TextPrompts.embed`."""
        return text_embeddings(clip, names, templates=self.templates)


class ContextualPrompts(TemplatePrompts):
    """Fixed contexts: the plain prompt, one per attribute and one per place, for every name."""

    def __init__(self) -> None:
        contexts = [("adjective", word) for word in ATTRIBUTES] + [("place", p) for p in PLACES]
        super().__init__([PLAIN, *(context_template(*context) for context in contexts)])


class MinedPrompts(TextPrompts):
    """The contexts that captions give a class's own noun.

    Args:
        contexts: captions' `(kind, context)` by noun, the most frequent first.
        most: number of contexts used.
        fallback: strategy for a class that no caption names.
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
        """Digest of the contexts and the fallback."""
        return self._digest

    def templates(self, name: str) -> tuple[str, ...]:
        """Return the templates of a name, or of its first word that occurs in captions."""
        for word in (name, *name.split(",")):
            if contexts := self.contexts.get(normalized(word)):
                return (PLAIN, *(context_template(*context) for context in contexts))
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
        """Digest of the fallback; the CLIP's own digest covers the vectors."""
        return digest_json(["learned", self.fallback.digest])

    def embed(self, clip: OpenClipModel, names: Sequence[str]) -> Tensor:
        """See `TextPrompts.embed`."""
        vectors = clip.text_prompts
        if not isinstance(vectors, ContextVectors):
            return self.fallback.embed(clip, names)
        fill_templates(names, [PLAIN])  # rejects an empty name
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
        """Return the noun of each name: its exact spelling, else its first word with vectors."""
        exact = {noun: noun for noun in vectors.nouns}
        noun_of = {**{normalized(noun): noun for noun in vectors.nouns}, **exact}
        words = [[name, *map(normalized, [name, *name.split(",")])] for name in names]
        return [
            next((noun_of[word] for word in each if word in noun_of), each[0]) for each in words
        ]


# --------------------------------------------------------------------------------------
# Contexts


def context_template(kind: str, context: str) -> str:
    """Return the template of an adjective ("a photo of an old {}") or of a place."""
    if kind == "adjective":
        return f"a photo of {'an' if context[0] in 'aeiou' else 'a'} {context} {{}}"
    return f"a photo of a {{}} {context}"


def read_contexts(folder: Path) -> dict[str, list[tuple[str, str]]]:
    """Read the contexts of every noun of a noun table, the most frequent first.

    Args:
        folder: folder of a finished nouns stage, or one with the output of `contexts_text`.

    Returns:
        `(kind, context)` by noun; equally frequent ones in alphabetical order.

    Raises:
        OvsegError: if there is no such stage.
    """
    if (stored := folder / CONTEXTS_FILE).is_file():
        return _stored_contexts(stored, known_sha256(stored))
    manifest = Manifest.read(folder)
    if manifest.stage != "nouns":
        raise OvsegError(
            f"{folder} is a stage of {manifest.stage}: benchmarks.contexts_from must be the folder"
            " of a nouns stage, <root>/nouns/<digest>"
        )
    return _contexts(folder, manifest.content_digest)


def contexts_text(contexts: Mapping[str, Sequence[tuple[str, str]]], most: int) -> str:
    """Format contexts as the JSON of `CONTEXTS_FILE`, without the table they were counted in.

    Args:
        contexts: contexts by noun, the most frequent first.
        most: number of contexts to keep per noun.
    """
    frequent = {noun: all_contexts[:most] for noun, all_contexts in contexts.items()}
    return json.dumps(frequent, ensure_ascii=False, sort_keys=True, indent=0) + "\n"


@lru_cache(maxsize=4)
def _stored_contexts(path: Path, sha256: str) -> dict[str, list[tuple[str, str]]]:
    # the hash is a cache key: the contexts at this path may change
    try:
        stored = json.loads(path.read_text(encoding="utf-8"))
        return {
            noun: [(kind, context) for kind, context in pairs] for noun, pairs in stored.items()
        }
    except (AttributeError, TypeError, ValueError) as error:
        raise OvsegError(f"{path} has no contexts ({error}): restore the file") from error


@lru_cache(maxsize=4)
def _contexts(folder: Path, content: str) -> dict[str, list[tuple[str, str]]]:
    # the content is a cache key: the table in this folder may change
    table = Manifest.read(folder).table(["noun", "adjectives", "place", "kept"])
    nouns = table.filter(table["kept"]).combine_chunks()
    adjectives = nouns["adjectives"].combine_chunks()
    owners = nouns["noun"].combine_chunks().take(pc.list_parent_indices(adjectives))
    with_place = nouns.filter(pc.is_valid(nouns["place"]))
    tables = {
        "adjective": pa.table({"noun": owners, "context": pc.list_flatten(adjectives)}),
        "place": pa.table({"noun": with_place["noun"], "context": with_place["place"]}),
    }
    counts: dict[str, list[tuple[int, tuple[str, str]]]] = {}
    for kind, rows in tables.items():
        for row in rows.group_by(["noun", "context"]).aggregate([([], "count_all")]).to_pylist():
            of_noun = counts.setdefault(row["noun"], [])
            of_noun.append((-row["count_all"], (kind, row["context"])))
    return {noun: [context for _, context in sorted(counted)] for noun, counted in counts.items()}


# --------------------------------------------------------------------------------------
# By name


def mined(config: BenchmarkConfig) -> MinedPrompts:
    """Return the strategy that uses each name's contexts in a noun table.

    Raises:
        OvsegError: if no table is configured, or it cannot be read.
    """
    if config.contexts_from is None:
        raise OvsegError(
            "benchmarks.prompting=mined needs contexts from a noun table: set"
            " benchmarks.contexts_from to the folder of a nouns stage, <root>/nouns/<digest>"
        )
    contexts = read_contexts(config.contexts_from)
    return MinedPrompts(contexts, most=config.contexts, fallback=ContextualPrompts())


def templates(config: BenchmarkConfig) -> TemplatePrompts:
    """Return the strategy of the configured set of templates."""
    return TemplatePrompts(config.templates, period=config.period)


def contextual(config: BenchmarkConfig) -> ContextualPrompts:
    """Return the strategy of fixed contexts."""
    return ContextualPrompts()


def learned(config: BenchmarkConfig) -> LearnedPrompts:
    """Return the strategy of learned context vectors, or the configured templates without any."""
    return LearnedPrompts(templates(config))


def text_prompts(config: BenchmarkConfig) -> TextPrompts:
    """Return the configured strategy.

    Raises:
        OvsegError: if there is no such strategy, or its inputs are missing.
    """
    return chosen(PROMPTINGS, config.prompting, setting="benchmarks.prompting")(config)
