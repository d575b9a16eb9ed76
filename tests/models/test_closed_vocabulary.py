"""A network's own classes matched by name with those asked for."""

import logging

import pytest
import torch

from ovseg.errors import OvsegError
from ovseg.models.maskformer.closed_vocabulary import benchmark_vocabulary, closed_vocabulary


def test_names_match_as_words_do_and_the_rest_gets_nothing() -> None:
    found = closed_vocabulary(["Dining_Table", "cat", "car, auto"], ["auto", "dog", "dining table"])
    assert found.places == ((0, 2), (2, 0)) and found.unknown == ("dog",)
    p = torch.tensor([[0.5, 0.3, 0.1], [0.0, 0.0, 0.9]])
    torch.testing.assert_close(
        found.probabilities(p), torch.tensor([[0.1, 0.0, 0.5], [0.9, 0.0, 0.0]])
    )


def test_synonyms_count_and_several_classes_that_are_one_add_up() -> None:
    found = closed_vocabulary(["sofa", "couch", "bed"], ["couch"], {"couch": ["sofa"]})
    assert found.unknown == ()
    assert float(found.probabilities(torch.tensor([[0.25, 0.5, 0.1]]))) == 0.75


def test_a_whole_name_goes_before_a_shared_word() -> None:
    """COCO's *tree* is the class *tree*, not also the one that lists it among others."""
    found = closed_vocabulary(["tree"], ["tree", "plant"], {"plant": ["tree"]})
    assert found.places == ((0, 0),)
    shared = closed_vocabulary(["oak, tree"], ["big, oak", "green, tree"])
    assert shared.places == ((0, 0), (0, 1))


def test_an_object_is_any_class_that_is_asked_for_once() -> None:
    own = closed_vocabulary(["sea, lake", "sky", "moon"], ["sea", "lake", "moon"])
    p = torch.tensor([[0.5, 0.2, 0.2]])
    torch.testing.assert_close(own.probabilities(p), torch.tensor([[0.5, 0.5, 0.2]]))
    torch.testing.assert_close(own.p_object(p), torch.tensor([0.7]))


def test_no_proposal_and_one_class() -> None:
    found = closed_vocabulary(["a"], ["a"])
    assert found.probabilities(torch.zeros(0, 1)).shape == (0, 1)


def test_nothing_in_common_is_refused_with_the_names_of_both() -> None:
    own = [f"class {n}" for n in range(12)]
    with pytest.raises(OvsegError, match=r"12 classes \(class 0, .* and 4 more\).*\(moon\)") as e:
        closed_vocabulary(own, ["moon"])
    assert "\n" not in str(e.value)


def test_a_benchmark_brings_its_synonyms_and_unknown_classes_are_said_once(caplog) -> None:
    from ovseg.data.benchmarks.vocabulary import read_vocabulary

    spoken = next(each for each in read_vocabulary("storybook") if each.synonyms)
    with caplog.at_level(logging.WARNING):
        for _ in range(2):
            found = benchmark_vocabulary((spoken.synonyms[0],), (spoken.name, "xyz"), "storybook")
    assert found.places == ((0, 0),) and found.unknown == ("xyz",)
    (record,) = caplog.records
    assert "1 of 2 classes are unknown" in record.getMessage()
