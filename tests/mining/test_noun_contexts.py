"""What captions say of a noun: by what stands beside it, and by dependencies."""

import pytest
import spacy
from spacy.tokens import Doc

from ovseg.mining.nouns.contexts import Context, contexts_of
from ovseg.mining.nouns.mentions import extract, load_parser
from ovseg.mining.nouns.stop_nouns import StopNouns
from ovseg.mining.nouns.words import words_of

VOCAB = spacy.blank("en").vocab
TAGS = {
    **dict.fromkeys(("a", "the", "its"), "DET"),
    **dict.fromkeys(("red", "old", "black", "white", "calm", "other"), "ADJ"),
    **dict.fromkeys(("on", "in", "of", "behind"), "ADP"),
    **dict.fromkeys(("floats", "sitting"), "VERB"),
    **{"is": "AUX", "and": "CCONJ", ",": "PUNCT", "two": "NUM"},
}


def contexts(text: str, heads: list[int] | None = None, deps: list[str] | None = None):
    written = text.split()
    doc = Doc(
        VOCAB,
        words=written,
        pos=[TAGS.get(word, "NOUN") for word in written],
        lemmas=written,
        heads=heads,
        deps=deps,
    )
    stop = StopNouns.load()
    found = contexts_of(doc, words_of(doc, tags=("NOUN",), stop_nouns=stop), stop_nouns=stop)
    return {doc[index].text: context for index, context in found.items()}


@pytest.mark.parametrize(
    ("text", "noun", "adjectives", "place"),
    [
        ("a red old boat", "boat", ("red", "old"), None),
        ("a black and white cat", "cat", ("black", "white"), None),
        ("a white picket fence", "fence", ("white",), None),
        ("two boats on the calm sea", "boats", (), "on the sea"),
        ("a boat is sitting on sand", "boat", (), "on sand"),
        ("a boat floats in its harbour", "boat", (), "in the harbour"),
        ("a dog behind the garden fence", "dog", (), "behind the fence"),
        ("a red cup of tea", "cup", ("red",), None),  # no place
        ("a tree in the background", "tree", (), None),  # a stop noun
        ("a cat and the other dog", "dog", (), None),  # nobody sees that it is another
        ("a red , a cat", "cat", (), None),
        ("boat on", "boat", (), None),
        ("boat on and sea", "boat", (), None),
    ],
)
def test_what_stands_beside_a_noun(text, noun, adjectives, place):
    assert contexts(text)[noun] == Context(adjectives=adjectives, place=place)


def test_dependencies_tell_whose_it_is():
    # the dog, not the boat, is red; it is the subject of what happens on the sand
    text = "red dog and boat is sitting on the sand"
    heads = [1, 5, 1, 1, 5, 5, 5, 8, 6]
    deps = ["amod", "nsubj", "cc", "conj", "aux", "ROOT", "prep", "det", "pobj"]
    found = contexts(text, heads, deps)
    assert found["dog"] == Context(adjectives=("red",), place="on the sand")
    assert found["boat"] == Context()
    assert found["sand"] == Context()


def test_a_compound_has_the_context_of_its_head():
    (of_caption,) = extract(
        ["a red picket fence on the green grass"],
        load_parser("storybook"),
        stop_nouns=StopNouns.load(),
    )
    kept = {mention.lemma: mention.context for mention in of_caption if mention.kept}
    assert kept["picket fence"] == kept["fence"] == Context(("red",), "on the grass")
    assert kept["grass"].adjectives == ("green",)
