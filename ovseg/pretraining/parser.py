"""Training the compact English pipeline for spaCy that the repository ships.

One small convolutional encoder (hashed embeddings of a word's lower-cased form, first letter, last
three letters and shape) is shared by a tagger of universal parts of speech and an edit-tree
lemmatizer; the pipeline has no other component. It is trained on a Universal Dependencies treebank,
with some sentences lower-cased or without final punctuation, like captions. The epoch is chosen on
the dev part; the test part is used once. Run it with

    python -m flows.pretrain parser --treebank DIR
"""

import random
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import spacy
from spacy.language import Language
from spacy.tokens import Doc
from spacy.training import Example
from spacy.training.batchers import minibatch_by_words
from spacy.util import fix_random_seed
from thinc.api import Adam

from ovseg.pretraining.parser_files import compact, folder_bytes, publish_pipeline
from ovseg.pretraining.treebank import (
    Sentence,
    find_part,
    like_captions,
    lower_cased,
    read_conllu,
    to_doc,
    without_final_mark,
)

NOUN_TAGS = ("NOUN", "PROPN")
HEADLINE = "noun_propn_f1"


@dataclass(frozen=True)
class ParserRecipe:
    """Sizes and schedule of the pipeline; the defaults are those of the shipped one."""

    width: int = 96
    depth: int = 4
    maxout_pieces: int = 3
    attributes: tuple[str, ...] = ("NORM", "PREFIX", "SUFFIX", "SHAPE")
    rows: tuple[int, ...] = (4000, 500, 2000, 500)
    min_tree_frequency: int = 4
    epochs: int = 12
    batch_words: int = 800
    learning_rate: float = 0.002
    warmup_share: float = 0.1
    dropout: float = 0.2
    label_smoothing: float = 0.05
    lower_share: float = 0.15
    unmarked_share: float = 0.3


def train_parser(
    treebank: Path,
    out_dir: Path,
    *,
    seed: int = 0,
    recipe: ParserRecipe | None = None,
    progress: Callable[[str], None] | None = None,
) -> dict[str, float]:
    """Train the pipeline and write it to `out_dir`, replacing any previous one.

    Args:
        treebank: a folder with one `*-train`, `*-dev` and `*-test` file (`.conllu`, also `.gz`).
        out_dir: the folder for `spacy.load`; written under another name, then renamed.
        seed: for initial weights, order, dropout and augmentation; on one machine, equal seeds give
            equal files.
        recipe: sizes and schedule.
        progress: called with one line per epoch.

    Returns:
        Shares in [0, 1] named `dev/...`, `dev_caption_like/...` and `test/...` (the keys of
        `evaluate_parser`), the chosen `epoch` and `size_bytes` of the folder.

    Raises:
        OvsegError: if a part of the treebank is missing or cannot be read.
    """
    recipe = recipe or ParserRecipe()
    say = progress or (lambda _: None)
    train, dev, test = (read_conllu(find_part(treebank, part)) for part in ("train", "dev", "test"))
    fix_random_seed(seed)
    rng = random.Random(seed)
    nlp = build_parser(recipe)
    # Initialized on both spellings, so that the edit trees of lower-cased names are known.
    both = [*train, *(lower_cased(sentence) for sentence in train)]
    nlp.initialize(lambda: _examples(both, nlp))
    train = _without_rare_lemmas(nlp, train)
    steps = recipe.epochs * (1 + sum(len(s.words) for s in train) // recipe.batch_words)
    optimizer = Adam(recipe.learning_rate, L2=0.01, grad_clip=1.0, use_averages=True)

    best: tuple[float, int, bytes] | None = None
    step = 0
    for epoch in range(1, recipe.epochs + 1):
        started = time.monotonic()
        shuffled = rng.sample(train, len(train))
        sentences = like_captions(
            shuffled, lower=recipe.lower_share, unmarked=recipe.unmarked_share, rng=rng
        )
        examples = _examples(sentences, nlp)
        losses: dict[str, float] = {}
        for batch in minibatch_by_words(examples, size=recipe.batch_words):
            optimizer.learn_rate = recipe.learning_rate * _schedule(step, steps, recipe)
            nlp.update(batch, sgd=optimizer, drop=recipe.dropout, losses=losses)
            step += 1
        with nlp.use_params(optimizer.averages):
            scores = _score(nlp, dev)
            if best is None or scores[HEADLINE] > best[0]:
                best = (scores[HEADLINE], epoch, nlp.to_bytes())
        spent = time.monotonic() - started
        say(
            f"epoch {epoch}/{recipe.epochs}: dev {HEADLINE} {scores[HEADLINE]:.4f}, "
            f"upos {scores['upos_accuracy']:.4f}, lemma {scores['lemma_accuracy']:.4f}, "
            f"{', '.join(f'{k} {v:.0f}' for k, v in losses.items())}, {spent:.0f} s"
        )
    assert best is not None
    nlp.from_bytes(best[2])
    small = compact(nlp, build_parser(recipe))
    publish_pipeline(small, out_dir, seed=seed, recipe=asdict(recipe))

    shipped = spacy.load(out_dir)
    metrics = {"epoch": float(best[1]), "size_bytes": float(folder_bytes(out_dir))}
    caption_like = [lower_cased(without_final_mark(sentence)) for sentence in dev]
    for part, sentences_of_part in (
        ("dev", dev),
        ("dev_caption_like", caption_like),
        ("test", test),
    ):
        for name, value in _score(shipped, sentences_of_part).items():
            metrics[f"{part}/{name}"] = value
    return metrics


def build_parser(recipe: ParserRecipe) -> Language:
    """Build an untrained pipeline: `tok2vec`, `morphologizer`, `trainable_lemmatizer`."""
    nlp = spacy.blank("en")
    encoder: dict[str, Any] = {
        "@architectures": "spacy.Tok2Vec.v2",
        "embed": {
            "@architectures": "spacy.MultiHashEmbed.v2",
            "width": recipe.width,
            "attrs": list(recipe.attributes),
            "rows": list(recipe.rows),
            "include_static_vectors": False,
        },
        "encode": {
            "@architectures": "spacy.MaxoutWindowEncoder.v2",
            "width": recipe.width,
            "depth": recipe.depth,
            "window_size": 1,
            "maxout_pieces": recipe.maxout_pieces,
        },
    }
    head = {
        "@architectures": "spacy.Tagger.v2",
        "nO": None,
        "normalize": False,
        "tok2vec": {
            "@architectures": "spacy.Tok2VecListener.v1",
            "width": recipe.width,
            "upstream": "tok2vec",
        },
    }
    nlp.add_pipe("tok2vec", config={"model": encoder})
    nlp.add_pipe("morphologizer", config={"model": head, "label_smoothing": recipe.label_smoothing})
    nlp.add_pipe(
        "trainable_lemmatizer",
        config={"model": head, "backoff": "orth", "min_tree_freq": recipe.min_tree_frequency},
    )
    return nlp


def evaluate_parser(nlp: Language, conllu: Path) -> dict[str, float]:
    """Measure a pipeline on the gold tokens of a treebank file.

    Returns:
        Shares in [0, 1]. `noun_propn_precision/recall/f1`: a token is positive if its tag is NOUN
        or PROPN, whichever of the two. `noun_f1`, `propn_f1`: each alone. `upos_accuracy` over all
        tokens; `lemma_accuracy` over the tokens with a gold lemma, in exact spelling.

    Raises:
        OvsegError: if the file cannot be read.
    """
    return _score(nlp, read_conllu(conllu))


# --- Training -----------------------------------------------------------------------------------


def _schedule(step: int, steps: int, recipe: ParserRecipe) -> float:
    """Return the share of the learning rate: a linear rise, then a linear fall to 0."""
    warmup = max(1, round(recipe.warmup_share * steps))
    if step < warmup:
        return (step + 1) / warmup
    return max(0.0, (steps - step) / max(1, steps - warmup))


def _examples(sentences: Iterable[Sentence], nlp: Language) -> list[Example]:
    return [
        Example(
            to_doc(sentence, nlp.vocab, annotated=False),
            to_doc(sentence, nlp.vocab, annotated=True),
        )
        for sentence in sentences
    ]


def _without_rare_lemmas(nlp: Language, sentences: Sequence[Sentence]) -> list[Sentence]:
    """Blank the lemmas whose edit tree is too rare to be a label.

    spaCy would count each of them as an example of the first label.
    """
    lemmatizer = nlp.get_pipe("trainable_lemmatizer")

    @cache
    def known(word: str, lemma: str) -> bool:
        return lemmatizer.trees.add(word, lemma) in lemmatizer.tree2label

    return [
        replace(
            sentence,
            lemmas=tuple(
                lemma if lemma and known(word, lemma) and known(word.lower(), lemma.lower()) else ""
                for word, lemma in zip(sentence.words, sentence.lemmas)
            ),
        )
        for sentence in sentences
    ]


def _score(nlp: Language, sentences: Sequence[Sentence]) -> dict[str, float]:
    docs: list[Doc] = [to_doc(sentence, nlp.vocab, annotated=False) for sentence in sentences]
    gold_tags: list[str] = []
    tags: list[str] = []
    lemmas_right = lemmas_known = 0
    for sentence, doc in zip(sentences, nlp.pipe(docs, batch_size=128), strict=True):
        gold_tags.extend(sentence.upos)
        tags.extend(token.pos_ for token in doc)
        for lemma, token in zip(sentence.lemmas, doc, strict=True):
            lemmas_known += bool(lemma)
            lemmas_right += bool(lemma) and token.lemma_ == lemma
    precision, recall, f1 = _f1(gold_tags, tags, NOUN_TAGS)
    return {
        "noun_propn_precision": precision,
        "noun_propn_recall": recall,
        "noun_propn_f1": f1,
        "noun_f1": _f1(gold_tags, tags, ("NOUN",))[2],
        "propn_f1": _f1(gold_tags, tags, ("PROPN",))[2],
        "upos_accuracy": sum(a == b for a, b in zip(gold_tags, tags)) / max(1, len(tags)),
        "lemma_accuracy": lemmas_right / max(1, lemmas_known),
    }


def _f1(
    gold: Sequence[str], predicted: Sequence[str], positive: tuple[str, ...]
) -> tuple[float, float, float]:
    """Return precision, recall and F1 of membership in `positive`; 0 if nothing is positive."""
    pairs = [(g in positive, p in positive) for g, p in zip(gold, predicted, strict=True)]
    hits = sum(g and p for g, p in pairs)
    precision = hits / max(1, sum(p for _, p in pairs))
    recall = hits / max(1, sum(g for g, _ in pairs))
    return precision, recall, 2 * precision * recall / max(1e-12, precision + recall)
