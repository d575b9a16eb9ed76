"""Nouns of captions: the mentions a spaCy pipeline finds, and why some are dropped.

Every noun is a mention under its lemma. A compound ("picket fence") is another mention in addition
to its head ("fence"), while its modifier ("picket") is not an object. A word that names nothing a
mask could cover ("front", "group", "photo") is a stop noun. Dropped mentions are kept with their
reason. Offsets always count code points of the original caption; the pipeline reads a copy of the
same length with whitespace and capitals normalized.
"""

from __future__ import annotations

import gc
import hashlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

from ovseg.config.model_names import find_parser
from ovseg.errors import OvsegError
from ovseg.mining.nouns.caption_text import pieces_of
from ovseg.mining.nouns.contexts import Context, contexts_of
from ovseg.mining.nouns.parsing_team import ParsingTeam
from ovseg.mining.nouns.stop_nouns import StopNouns
from ovseg.mining.nouns.words import Word, compounds_of, words_of

if TYPE_CHECKING:
    from spacy.language import Language
    from spacy.tokens import Doc

# Pipes that do not affect parts of speech, lemmas or compounds.
UNUSED_PIPES = (
    "ner",
    "entity_linker",
    "entity_ruler",
    "span_ruler",
    "spancat",
    "span_finder",
    "textcat",
    "textcat_multilabel",
    "senter",
)


@dataclass(frozen=True, kw_only=True)
class Rules:
    """What counts as a noun; see `extract`."""

    compounds: bool
    proper_nouns: bool
    stop_nouns: StopNouns


@dataclass(frozen=True, kw_only=True, slots=True)
class Noun:
    """A noun, or a compound of nouns, in a piece of a caption as the pipeline reads it."""

    lemma: str
    start: int  # in code points of the piece
    end: int
    head: str | None
    drop_reason: str | None
    context: Context

    def mentioned_in(self, caption: str, offset: int) -> Mention:
        """Return its mention in a caption whose piece begins at `offset`."""
        start, end = self.start + offset, self.end + offset
        return Mention(
            lemma=self.lemma,
            surface=caption[start:end],
            char_start=start,
            char_end=end,
            head=self.head,
            kept=self.drop_reason is None,
            drop_reason=self.drop_reason,
            context=self.context,
        )


@dataclass(frozen=True, slots=True)
class Mention:
    """A noun, or a compound of nouns, in one caption."""

    lemma: str  # lower case; for a compound its words joined by a space, the last lemmatized
    surface: str  # the caption's own characters [char_start, char_end)
    char_start: int  # in code points of the original caption
    char_end: int
    head: str | None  # for a compound: the lemma of its last word
    kept: bool
    drop_reason: str | None  # not_a_word, too_short, proper_noun, stop_noun:..., compound_modifier
    context: Context  # for a compound: that of its head


# --- The pipeline -------------------------------------------------------------------------------


@lru_cache(maxsize=4)
def load_parser(name: str) -> Language:
    """Load a spaCy pipeline, once per process.

    Args:
        name: `storybook` (the weights that ship with ovseg), an installed spaCy package such as
            `en_core_web_sm`, or the path of a pipeline's folder.

    Raises:
        OvsegError: if the pipeline does not exist, cannot be loaded, or does not tag.
    """
    import spacy

    source = find_parser(name)
    try:
        nlp = spacy.load(source, exclude=UNUSED_PIPES)
    except (OSError, ValueError, ImportError) as error:
        reason = " ".join(str(error).split())[:200]
        raise OvsegError(f"parser {name!r} cannot be loaded ({reason}); reinstall it") from error
    if not all(token.pos_ for token in nlp("a dog on a rug")):
        raise OvsegError(
            f"parser {name!r} sets no parts of speech; use a pipeline with a tagger, "
            "such as storybook or en_core_web_sm"
        )
    return nlp


def parser_digest(name: str) -> str:
    """Return the sha256 (64 hex digits) of all files of a parser except Markdown.

    An installed package adds its name and version. A model card describes a training run and does
    not change the digest.

    Raises:
        OvsegError: if the pipeline does not exist.
    """
    source = find_parser(name)
    digest = hashlib.sha256()
    if isinstance(source, Path):
        folder = source
    else:
        import spacy

        folder = Path(spacy.util.get_package_path(source))
        digest.update(f"{source} {spacy.util.get_package_version(source)}\n".encode())
    for path in sorted(folder.rglob("*")):
        if path.is_file() and path.suffix not in {".md", ".pyc"}:
            with path.open("rb") as stream:
                content = hashlib.file_digest(stream, "sha256").hexdigest()
            digest.update(f"{path.relative_to(folder).as_posix()} {content}\n".encode())
    return digest.hexdigest()


# --- Extraction ---------------------------------------------------------------------------------


def extract(
    texts: Sequence[str | None],
    nlp: Language,
    *,
    compounds: bool = True,
    proper_nouns: bool = True,
    stop_nouns: StopNouns,
    batch_size: int = 256,
    team: ParsingTeam | None = None,
) -> list[list[Mention]]:
    """Find the nouns of captions.

    Args:
        texts: captions; an empty one or None has no mentions.
        nlp: a pipeline that sets parts of speech and lemmas (`load_parser`). If it also sets
            dependencies, compounds are read from them; else a run of two or three nouns is one.
        compounds: whether to add a mention for each compound and drop its modifiers.
        proper_nouns: whether PROPN counts as a noun; else it is dropped as `proper_noun`.
        stop_nouns: nouns that name nothing visible; `StopNouns.none()` switches this off.
        batch_size: pieces of text per batch.
        team: processes that share the batches, with a pipeline equal to `nlp`; None parses all
            here. The mentions do not depend on it.

    Returns:
        One list per text, ordered by where the mentions begin, the longer first.
    """
    pieces: dict[str, int] = {}
    located: list[list[tuple[int, int]]] = []  # per text: (offset, number) of its pieces
    for text in texts:
        located.append(
            [
                (offset, pieces.setdefault(piece, len(pieces)))
                for offset, piece in pieces_of(text if isinstance(text, str) else "")
            ]
        )
    rules = Rules(compounds=compounds, proper_nouns=proper_nouns, stop_nouns=stop_nouns)
    distinct = list(pieces)
    batches = [distinct[at : at + batch_size] for at in range(0, len(distinct), batch_size)]
    if team is None or len(batches) < 2:
        parsed = [nouns_of(batch, nlp, rules) for batch in batches]
    else:
        parsed = team.parse(
            batches,
            rules,
            lambda batch: nouns_of(batch, nlp, rules),
            needs_torch=_needs_torch(nlp),
        )
    nouns = [of_piece for batch in parsed for of_piece in batch]
    with _no_collection():
        return [
            [
                noun.mentioned_in(text or "", offset)
                for offset, number in places
                for noun in nouns[number]
            ]
            for text, places in zip(texts, located, strict=True)
        ]


@contextmanager
def _no_collection() -> Iterator[None]:
    """Pause garbage collection, most of the cost of making many objects without cycles."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def nouns_of(batch: Sequence[str], nlp: Language, rules: Rules) -> list[list[Noun]]:
    """Return the nouns of each piece of text of one batch."""
    idle = [pipe for pipe in ("parser",) if not rules.compounds and pipe in nlp.pipe_names]
    with nlp.select_pipes(disable=idle) if idle else nullcontext():
        return [_nouns(doc, rules) for doc in nlp.pipe(batch, batch_size=max(1, len(batch)))]


def _needs_torch(nlp: Language) -> bool:
    """Whether a pipe may compute with torch: spaCy's own do if they have a layer that wraps it."""
    for _, pipe in nlp.pipeline:
        model = getattr(pipe, "model", None)
        if not type(pipe).__module__.startswith("spacy."):
            return True
        if model is not None and any(node.shims for node in model.walk()):
            return True
    return False


def _nouns(doc: Doc, rules: Rules) -> list[Noun]:
    tags = ("NOUN", "PROPN") if rules.proper_nouns else ("NOUN",)
    stop_nouns = rules.stop_nouns
    words = words_of(doc, tags=tags, stop_nouns=stop_nouns)
    contexts = contexts_of(doc, words, stop_nouns=stop_nouns)
    after = {word.index: next_word.written for word, next_word in pairwise(words)}
    modifiers: set[int] = set()
    nouns: list[Noun] = []
    runs = compounds_of(words, linked=doc.has_annotation("DEP")) if rules.compounds else ()
    for run in runs:
        # A stop noun cannot be a head: "kitchen counter top" becomes "kitchen counter".
        while len(run) > 1:
            last = run[-1].index
            joined = _compound(run, stop_nouns, contexts[last], after.get(last))
            nouns.append(joined)
            if joined.drop_reason is None:
                modifiers.update(word.index for word in run[:-1])
                break
            run = run[:-1]
    for word in words:
        if word.tag in ("NOUN", "PROPN"):
            reason = word.defect
            if reason is None and word.tag not in tags:
                reason = "proper_noun"
            if reason is None and word.index in modifiers:
                reason = "compound_modifier"
            if reason is None and (
                group := stop_nouns.group(word.lemma, after=after.get(word.index))
            ):
                reason = f"stop_noun:{group}"
            nouns.append(
                Noun(
                    lemma=word.lemma,
                    start=word.start,
                    end=word.end,
                    head=None,
                    drop_reason=reason,
                    context=contexts[word.index],
                )
            )
    return sorted(nouns, key=lambda noun: (noun.start, -noun.end))


def _compound(run: list[Word], stop_nouns: StopNouns, context: Context, after: str | None) -> Noun:
    head = run[-1].lemma
    lemma = " ".join([*(word.written for word in run[:-1]), head])
    group = None if stop_nouns.is_exception(lemma) else stop_nouns.group(lemma, head, after=after)
    return Noun(
        lemma=lemma,
        start=run[0].start,
        end=run[-1].end,
        head=head,
        drop_reason=f"stop_noun:{group}" if group else None,
        context=context,
    )
