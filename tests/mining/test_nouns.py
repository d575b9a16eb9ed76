"""Nouns of captions: rules on hand-tagged words, then the shipped weights on real text."""

from collections.abc import Callable
from typing import Any

import pytest
import spacy
from spacy.language import Language
from spacy.tokens import Doc

from ovseg.mining.nouns.caption_text import is_english, not_words
from ovseg.mining.nouns.mentions import Mention, extract, load_parser
from ovseg.mining.nouns.stop_nouns import StopNouns

TAGS = {
    **dict.fromkeys(["a", "the", "two"], "DET"),
    **dict.fromkeys(["of", "on", "in", "with", "by"], "ADP"),
    **dict.fromkeys(["is", "stands", "sits", "shows", "depicting"], "VERB"),
    "that": "PRON",
    **dict.fromkeys([",", ".", "-"], "PUNCT"),
    **dict.fromkeys(["red", "white"], "ADJ"),
    **dict.fromkeys(["london", "ben"], "PROPN"),
}


class HandTagger:
    """Tags by the table above, everything else is a noun; counts the texts it is given."""

    def __init__(self, links: dict[str, str] | None = None) -> None:
        self.links = links  # modifier to head, both as written; None: no dependency parse
        self.seen: list[str] = []

    def __call__(self, doc: Doc) -> Doc:
        self.seen.append(doc.text)
        for token in doc:
            token.pos_ = "SPACE" if token.is_space else TAGS.get(token.lower_, "NOUN")
            token.lemma_ = token.text
            if self.links is not None:
                head = self.links.get(token.lower_)
                governors = [other for other in doc if other.lower_ == head]
                token.head = governors[0] if governors else token
                token.dep_ = "compound" if governors else "ROOT"
        return doc


@pytest.fixture
def hand_parser() -> Callable[..., tuple[Language, HandTagger]]:
    def build(links: dict[str, str] | None = None) -> tuple[Language, HandTagger]:
        nlp = spacy.blank("en")
        tagger = HandTagger(links)
        Language.component("hand_tagger", func=tagger)
        nlp.add_pipe("hand_tagger")
        return nlp, tagger

    return build


def mentions(text: str | None, nlp: Language, **settings: Any) -> list[Mention]:
    settings.setdefault("stop_nouns", StopNouns.none())
    return extract([text], nlp, **settings)[0]


def kept(found: list[Mention]) -> list[str]:
    return [mention.lemma for mention in found if mention.kept]


def reasons(found: list[Mention]) -> dict[str, str | None]:
    return {mention.lemma: mention.drop_reason for mention in found}


# --- One noun ---------------------------------------------------------------------------------


def test_every_noun_is_a_mention_under_its_singular(hand_parser: Any) -> None:
    nlp, _ = hand_parser()
    text = "Two dogs, the boxes and a red Bus."
    found = mentions(text, nlp)
    assert [mention.lemma for mention in found if mention.lemma != "and"] == ["dog", "box", "bus"]
    for mention in found:
        assert text[mention.char_start : mention.char_end] == mention.surface
        assert mention.head is None and mention.kept and mention.drop_reason is None
    assert found[0].surface == "dogs"


def test_proper_nouns_can_be_left_out_with_a_reason(hand_parser: Any) -> None:
    nlp, _ = hand_parser()
    with_names = mentions("a bus in London", nlp)
    assert kept(with_names) == ["bus", "london"]
    without = mentions("a bus in London", nlp, proper_nouns=False)
    assert kept(without) == ["bus"]
    assert reasons(without)["london"] == "proper_noun"


@pytest.mark.parametrize(
    ("text", "lemma", "reason"),
    [
        ("a x", "x", "too_short"),
        ("the #1", "#", "not_a_word"),
        ("a 🏄", "🏄", "not_a_word"),
        ("the http://example.com/c", "http://example.com/c", "not_a_word"),
        ("a 747", "747", "not_a_word"),
        ("a 犬", "犬", None),
    ],
)
def test_what_is_no_word_says_so(
    hand_parser: Any, text: str, lemma: str, reason: str | None
) -> None:
    nlp, _ = hand_parser()
    assert reasons(mentions(text, nlp))[lemma] == reason


WEB = {
    "a red car.jpg at www.shop.com": ["car.jpg", "www.shop.com"],
    "a dog at shop.co.uk/dogs?id=1 and ftp://x.org/z": ["shop.co.uk/dogs?id=1", "ftp://x.org/z"],
    "a dog by @jane and me@mail.org": ["@jane", "me@mail.org"],
    "a dog #sunset #beach2": ["#sunset", "#beach2"],
    "IMG_1234.JPG and photo-0042 and dsc0042": ["IMG_1234.JPG", "photo-0042", "dsc0042"],
    "images/2020/cat.webp or C:\\cats\\cat.png": ["images/2020/cat.webp", "C:\\cats\\cat.png"],
    "the beach.it is a tree.A house": [],
    "a t-shirt, rock&roll, 5.5 of 10 and a #1 fan": [],
}


@pytest.mark.parametrize("text", WEB)
def test_addresses_and_names_of_files_are_not_words(text: str) -> None:
    assert [text[start:end] for start, end in not_words(text)] == WEB[text]


def test_a_hashtag_in_pieces_and_tags_of_html_are_no_nouns(hand_parser: Any) -> None:
    nlp, _ = hand_parser()
    text = "a cat <br/>by www.shop.com , #sunset , <b>dog</b>"
    found = mentions(text, nlp)
    assert kept(found) == ["cat", "dog"]
    assert reasons(found)["sunset"] == reasons(found)["www.shop.com"] == "not_a_word"
    assert [text[m.char_start : m.char_end] for m in found if m.lemma == "dog"] == ["dog"]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("a painting of a boat", "stop_noun:picture"),
        ("a painting that shows a boat", "stop_noun:picture"),
        ("an oil painting depicting a boat", "stop_noun:picture"),
        ("a painting on a wall", None),
        ("a boat and a painting", None),
    ],
)
def test_a_medium_is_the_picture_itself_where_it_shows_something(
    hand_parser: Any, text: str, reason: str | None
) -> None:
    nlp, _ = hand_parser()
    found = mentions(text, nlp, stop_nouns=StopNouns.load())
    assert {m.drop_reason for m in found if m.lemma.endswith("painting")} == {reason}


@pytest.mark.parametrize(
    ("text", "english"),
    [
        ("a dog on the grass", True),
        ("Man riding a horse.", True),
        ("red dress", True),
        ("", True),
        ("Ein Hund liegt auf dem Gras", False),
        ("un chien dans l'herbe", False),
        ("un perro en la playa", False),
        ("um cachorro na praia com a bola", False),
        ("犬が草の上にいる", False),
        ("собака", False),
    ],
)
def test_captions_of_other_languages_are_told(text: str, english: bool) -> None:
    assert is_english(text) is english


# --- Compounds --------------------------------------------------------------------------------


def test_a_compound_is_read_from_neighbours_without_a_dependency_parse(hand_parser: Any) -> None:
    nlp, _ = hand_parser()
    text = "a white picket fence by the teddy bears"
    found = mentions(text, nlp)
    by_lemma = {mention.lemma: mention for mention in found}
    fence, bears = by_lemma["picket fence"], by_lemma["teddy bear"]
    assert (fence.surface, fence.head) == ("picket fence", "fence")
    assert (bears.surface, bears.head) == ("teddy bears", "bear")
    assert text[bears.char_start : bears.char_end] == "teddy bears"
    assert kept(found) == ["picket fence", "fence", "teddy bear", "bear"]
    assert by_lemma["picket"].drop_reason == by_lemma["teddy"].drop_reason == "compound_modifier"


def test_three_nouns_are_one_compound_and_four_are_a_list(hand_parser: Any) -> None:
    nlp, _ = hand_parser()
    assert kept(mentions("a video game controller", nlp)) == ["video game controller", "controller"]
    assert kept(mentions("cat dog bird fish", nlp)) == ["cat", "dog", "bird", "fish"]


@pytest.mark.parametrize("text", ["picket, fence", "picket - fence", "picket of fence"])
def test_what_stands_between_ends_a_compound(hand_parser: Any, text: str) -> None:
    nlp, _ = hand_parser()
    assert kept(mentions(text, nlp)) == ["picket", "fence"]


def test_a_plural_does_not_modify(hand_parser: Any) -> None:
    nlp, _ = hand_parser()
    assert kept(mentions("cats sit on rugs", nlp)) == ["cat", "sit", "rug"]
    assert "sports ball" in kept(mentions("a sports ball", nlp))


def test_a_double_blank_does_not_end_a_compound(hand_parser: Any) -> None:
    nlp, _ = hand_parser()
    found = mentions("a teddy  bear", nlp)
    assert (found[0].lemma, found[0].surface) == ("teddy bear", "teddy  bear")


def test_a_compound_is_read_from_dependencies_where_there_are_some(hand_parser: Any) -> None:
    nlp, _ = hand_parser({"picket": "fence", "garden": "fence", "big": "ben"})
    found = mentions("the garden picket fence people", nlp)
    assert kept(found) == ["garden picket fence", "fence", "people"]
    # Neighbours without a link are two nouns, though a run would have joined them.
    assert kept(mentions("cat dog", nlp)) == ["cat", "dog"]
    assert kept(mentions("a big ben", nlp)) == ["big ben", "ben"]


def test_compounds_can_be_switched_off(hand_parser: Any) -> None:
    nlp, _ = hand_parser()
    found = mentions("a picket fence", nlp, compounds=False)
    assert kept(found) == ["picket", "fence"]


# --- Stop nouns -------------------------------------------------------------------------------


def test_a_stop_noun_keeps_its_row_with_the_group(hand_parser: Any) -> None:
    nlp, _ = hand_parser()
    found = mentions("a group of dogs in front of the house", nlp, stop_nouns=StopNouns.load())
    assert kept(found) == ["dog", "house"]
    assert reasons(found)["group"] == "stop_noun:amount"
    assert reasons(found)["front"] == "stop_noun:place"


def test_a_stop_noun_is_no_head(hand_parser: Any) -> None:
    nlp, _ = hand_parser()
    found = mentions("the kitchen counter edge", nlp, stop_nouns=StopNouns.load())
    assert kept(found) == ["kitchen counter", "counter"]
    assert reasons(found)["kitchen counter edge"] == "stop_noun:place"
    assert kept(mentions("a street scene", nlp, stop_nouns=StopNouns.load())) == ["street"]


def test_a_listed_compound_survives_its_head(hand_parser: Any) -> None:
    nlp, _ = hand_parser()
    found = mentions("a parking lot", nlp, stop_nouns=StopNouns.load())
    assert kept(found) == ["parking lot"]
    assert reasons(found)["lot"] == "stop_noun:amount"


def test_what_only_the_tagger_calls_a_noun_joins_no_compound(hand_parser: Any) -> None:
    nlp, _ = hand_parser()
    found = mentions("a grassy field", nlp, stop_nouns=StopNouns.load())
    assert [mention.lemma for mention in found] == ["grassy", "field"]
    assert reasons(found) == {"grassy": "stop_noun:not_a_noun", "field": None}


# --- Texts as they come -----------------------------------------------------------------------


def test_equal_captions_are_parsed_once(hand_parser: Any) -> None:
    nlp, tagger = hand_parser()
    texts = ["a dog on a rug"] * 5 + ["a dog on a rug \n", "A DOG ON A RUG", "a cat"]
    found = extract(texts, nlp, stop_nouns=StopNouns.none())
    assert tagger.seen == ["a dog on a rug", "a cat"]
    assert [kept(of_text) for of_text in found] == [["dog", "rug"]] * 7 + [["cat"]]
    assert [mention.surface for mention in found[6]] == ["DOG", "RUG"]


@pytest.mark.parametrize("text", ["", " \n\t", None, float("nan"), "\u200b", "...", "🏄🌊"])
def test_a_caption_without_words_has_no_kept_noun(hand_parser: Any, text: Any) -> None:
    nlp, _ = hand_parser()
    assert kept(mentions(text, nlp)) == []


def test_offsets_count_the_caption_as_it_came(hand_parser: Any) -> None:
    nlp, _ = hand_parser()
    text = "\n  A  RED\u00a0BUS\tBY THE CAFE\u0301 🏖 OF İZMİR \n"
    found = mentions(text, nlp)
    assert kept(found) == ["bus", "café", "i̇zmi̇r"]
    for mention in found:
        assert mention.surface == text[mention.char_start : mention.char_end]
    assert [mention.surface for mention in found if mention.kept] == ["BUS", "CAFE\u0301", "İZMİR"]


def test_a_title_is_read_without_its_capitals(hand_parser: Any) -> None:
    nlp, tagger = hand_parser()
    found = mentions("A Man On The Beach", nlp)
    assert tagger.seen == ["a man on the beach"]
    assert [mention.surface for mention in found] == ["Man", "Beach"]


def test_a_very_long_caption_is_read_to_its_end(hand_parser: Any) -> None:
    nlp, tagger = hand_parser()
    text = "a dog on a rug, " * 3000 + "a lighthouse"
    found = mentions(text, nlp)
    assert max(map(len, tagger.seen)) <= 4000
    assert len(found) == 6001 and kept(found)[-1] == "lighthouse"
    assert all(text[m.char_start : m.char_end] == m.surface for m in found)
    endless = "x" * 9000
    assert "".join(mention.surface for mention in mentions(endless, nlp)) == endless


# --- Pipelines --------------------------------------------------------------------------------


def test_the_shipped_weights_read_plain_captions() -> None:
    stop_nouns = StopNouns.load()
    texts = [
        "A man riding a wave on top of a surfboard.",
        "two giraffes standing next to a white picket fence",
        "A GROUP OF PEOPLE SITTING AT A TABLE WITH WINE GLASSES \n",
    ]
    found = extract(texts, load_parser("storybook"), stop_nouns=stop_nouns)
    assert kept(found[0]) == ["man", "wave", "surfboard"]
    assert kept(found[1]) == ["giraffe", "picket fence", "fence"]
    assert kept(found[2]) == ["people", "table", "wine glass", "glass"]
