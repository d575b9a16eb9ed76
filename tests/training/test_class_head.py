"""The class head kept to the span of its texts: what it says of them stays, the rest is gone."""

import pytest
import torch
from tiny import COARSE
from torch.nn import functional as F

from ovseg.models.maskformer.open_vocabulary import OpenVocabularyMaskFormer
from ovseg.training.segmentation.class_head import keep_to_span

WIDTH, TEXTS = COARSE.embedding_dim, 5


@pytest.fixture
def network() -> OpenVocabularyMaskFormer:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return OpenVocabularyMaskFormer(COARSE)


def unit(rows: int, seed: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return F.normalize(torch.randn(rows, WIDTH, generator=generator))


@torch.no_grad()
def test_what_it_says_of_its_texts_stays_and_nothing_reaches_beyond_them(network) -> None:
    texts = unit(TEXTS, 1)
    states = torch.randn(7, 32, generator=torch.Generator().manual_seed(2))
    before = network.class_embed(states)
    keep_to_span(network, texts)
    after = network.class_embed(states)
    torch.testing.assert_close(after @ texts.T, before @ texts.T, atol=1e-5, rtol=0)
    beyond = torch.linalg.svd(texts).Vh[TEXTS:]  # a basis of all that no text reaches
    assert (before @ beyond.T).abs().max() > 0.01
    torch.testing.assert_close(after @ beyond.T, torch.zeros(7, WIDTH - TEXTS), atol=1e-6, rtol=0)
    keep_to_span(network, texts)
    torch.testing.assert_close(network.class_embed(states), after)


@torch.no_grad()
def test_a_text_twice_is_a_text_once(network) -> None:
    texts = unit(TEXTS, 1)
    states = torch.randn(7, 32, generator=torch.Generator().manual_seed(2))
    keep_to_span(network, torch.cat([texts, texts]))
    once = network.class_embed(states)
    keep_to_span(network, texts)
    torch.testing.assert_close(network.class_embed(states), once)
