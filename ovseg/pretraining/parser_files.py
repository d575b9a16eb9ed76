"""The trained parser as files: cut down to what it needs, published atomically, with its card."""

from pathlib import Path
from typing import Any

from spacy.language import Language

from ovseg.files.digests import file_sha256
from ovseg.files.publish import published
from ovseg.pretraining.cards import NAME, write_card
from ovseg.pretraining.treebank import find_part

# Marks a missing branch of an edit tree (an unsigned 32-bit -1).
NO_TREE = 2**32 - 1

TREEBANK = {
    "name": "Universal Dependencies English Web Treebank (UD_English-EWT)",
    "url": "https://github.com/UniversalDependencies/UD_English-EWT",
    "author": "the contributors of Universal Dependencies",
    "license": "CC BY-SA 4.0",
}


def compact(trained: Language, empty: Language) -> Language:
    """Move a trained pipeline into an empty one of the same recipe, without training's leftovers.

    spaCy keeps every string it saw and every edit tree it tried. Only the trees that are labels,
    the trees these refer to, and their strings are needed.
    """
    empty.from_bytes(trained.to_bytes(exclude=["vocab"]), exclude=["vocab"])
    source = trained.get_pipe("trainable_lemmatizer")
    target = empty.get_pipe("trainable_lemmatizer")
    trees = source.label_data["trees"]
    order: dict[int, int] = {}

    def keep(tree_id: int) -> None:
        if tree_id == NO_TREE or tree_id in order:
            return
        for branch in ("prefix_tree", "suffix_tree"):
            keep(trees[tree_id].get(branch, NO_TREE))
        order[tree_id] = len(order)

    for label in source.labels:
        keep(label)
    kept = []
    for tree_id in order:
        tree = dict(trees[tree_id])
        for branch in ("prefix_tree", "suffix_tree"):
            if tree.get(branch, NO_TREE) != NO_TREE:
                tree[branch] = order[tree[branch]]
        for side in ("orig", "subst"):
            if side in tree:
                tree[side] = empty.vocab.strings.add(tree[side])
        kept.append(tree)
    target.trees.from_json(kept)
    target.cfg["labels"] = [order[label] for label in source.labels]
    return empty


def publish_pipeline(nlp: Language, out_dir: Path, *, seed: int, recipe: dict[str, Any]) -> None:
    """Write a pipeline to `out_dir` atomically."""
    nlp.meta.update(
        {
            "name": "storybook_parser",
            "description": "Compact English noun tagger: universal parts of speech and lemmas.",
            "author": "ovseg",
            "license": "CC BY-SA 4.0",
            "sources": [TREEBANK],
            "recipe": recipe,
            "seed": seed,
        }
    )
    with published(out_dir) as draft:
        nlp.to_disk(draft)


def folder_bytes(folder: Path) -> int:
    """Return the total size of a folder's files in bytes."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def write_parser_card(
    out_dir: Path, *, treebank: Path, seed: int, seconds: float, metrics: dict[str, float]
) -> Path:
    """Write the card of a parser next to its weights, from the run that trained it.

    Args:
        out_dir: the folder of the weights.
        treebank: the folder it was trained on.
        seed: the run's seed.
        seconds: the run's duration.
        metrics: what `train_parser` returned.

    Returns:
        The card's path.
    """
    parts = "\n".join(
        f"- `{path.name}`, sha256 `{file_sha256(path)}`"
        for path in (find_part(treebank, part) for part in ("train", "dev", "test"))
    )
    write_card(
        out_dir,
        title="Compact English noun tagger",
        purpose=(
            "A spaCy pipeline (`tok2vec`, `morphologizer`, `trainable_lemmatizer`) that gives "
            "English tokens their universal part of speech and lemma. ovseg uses it under the "
            "name `storybook` to find the nouns of image captions where no other pipeline is "
            "installed. It was trained from scratch, without word vectors."
        ),
        command=f"parser --treebank {treebank.name} --seed {seed}",
        seed=seed,
        seconds=seconds,
        metrics=metrics,
        metrics_note=(
            "All on the treebank's gold tokens, so that errors of tokenisation do not count. "
            "`noun_propn_*`: a token is positive if its tag is NOUN or PROPN, whichever of the "
            "two. The epoch was chosen on `dev`; `test` was measured once, on the saved files. "
            "`dev_caption_like` is `dev` lower-cased and without final punctuation."
        ),
        data=(
            f"{TREEBANK['name']} by {TREEBANK['author']}, {TREEBANK['url']}, "
            f"{TREEBANK['license']}. The files do not name their release; they are\n\n{parts}\n\n"
            "Some training sentences were lower-cased or lost their final punctuation."
        ),
        licence=(
            f"{TREEBANK['license']}, as the treebank it was trained on. "
            "https://creativecommons.org/licenses/by-sa/4.0/"
        ),
        limits=(
            "English only; web text and plain captions. It has no dependency parser, entity "
            "recogniser or sentence splitter. It tells NOUN from PROPN badly in lower-case text, "
            "and takes a verb of a caption for a noun now and then. Many visible things are named "
            "nowhere in the treebank; their tags rest on spelling and context. For large runs an "
            "installed pipeline such as `en_core_web_sm` or `en_core_web_trf` may do better."
        ),
        packages=("spacy", "thinc", "numpy"),
    )
    return out_dir / NAME
