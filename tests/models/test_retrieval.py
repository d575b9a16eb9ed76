"""Retrieval against loops, what it keeps on disk, and the segmentor with it."""

import numpy as np
import open_clip
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from ovseg.errors import OvsegError
from ovseg.models.clip.convolutional import ConvCLIP
from ovseg.models.clip.load import load_clip
from ovseg.models.preprocessing import InputSettings
from ovseg.models.proposal import OpenVocabularyNetwork, Proposals
from ovseg.models.regions import memory as module
from ovseg.models.regions.embedders import CropEmbedder
from ovseg.models.regions.memory import SHARPNESS, RegionMemory, Retrieval
from ovseg.models.regions.picture_embedders import MaskPoolingEmbedder, MaskTokenEmbedder
from ovseg.models.segmentor import Segmentor
from ovseg.models.texts.class_texts import ClassTexts


def unit(rows: int, width: int, seed: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return F.normalize(torch.randn(rows, width, generator=generator), dim=-1)


def one_each(texts: torch.Tensor) -> ClassTexts:
    """Classes of one text each."""
    return ClassTexts(embeddings=texts, class_of=tuple(range(len(texts))), classes=len(texts))


def memory_of(regions: int, nouns: int, seed: int) -> RegionMemory:
    generator = torch.Generator().manual_seed(seed + 1)
    return RegionMemory(
        regions_ne=unit(regions, 8, seed),
        nouns_n=torch.randint(nouns, (regions,), generator=generator),
        nouns=tuple(f"noun {index}" for index in range(nouns)),
    )


def naive_vote(query, memory, noun_texts, texts, neighbors):
    """One region: every cosine in turn, sorted, each neighbour voting by itself."""
    near = sorted(
        (
            (float(sum(a * b for a, b in zip(query, row, strict=True))), index)
            for index, row in enumerate(memory.regions_ne.tolist())
        ),
        reverse=True,
    )[:neighbors]
    weights = torch.tensor([cosine for cosine, _ in near]).mul(SHARPNESS).softmax(0)
    vote = torch.zeros(len(texts))
    for weight, (_, index) in zip(weights, near, strict=True):
        meaning = (100 * texts @ noun_texts[memory.nouns_n[index]]).softmax(0)
        vote += weight * meaning
    return vote


@settings(max_examples=25, deadline=None)
@given(
    regions=st.integers(1, 40),
    neighbors=st.integers(1, 50),
    seed=st.integers(0, 1000),
    at_once=st.integers(1, 50),
)
def test_the_vote_equals_a_loop_over_all_regions(regions, neighbors, seed, at_once):
    memory = memory_of(regions, 5, seed)
    noun_texts, texts, queries = unit(5, 8, seed + 2), unit(3, 8, seed + 3), unit(4, 8, seed + 4)
    retrieval = Retrieval(memory, noun_texts, one_each(texts), neighbors=neighbors, weight=0.3)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "ROWS_AT_ONCE", at_once)
        votes = retrieval.vote(queries)
    expected = torch.stack(
        [naive_vote(q.tolist(), memory, noun_texts, texts, neighbors) for q in queries]
    )
    torch.testing.assert_close(votes, expected, atol=2e-4, rtol=1e-3)
    torch.testing.assert_close(votes.sum(1), torch.ones(4))


def test_the_vote_joins_geometrically():
    memory, texts = memory_of(10, 4, 0), unit(3, 8, 9)
    queries = unit(2, 8, 5)
    p_clip = torch.tensor([[0.2, 0.3, 0.5], [0.9, 0.1, 0.0]])
    for weight in (0.0, 0.4, 1.0):
        retrieval = Retrieval(memory, unit(4, 8, 7), one_each(texts), neighbors=3, weight=weight)
        vote = retrieval.vote(queries)
        product = p_clip ** (1 - weight) * vote**weight
        expected = product / product.sum(1, keepdim=True)
        torch.testing.assert_close(retrieval.join(p_clip, queries), expected)
    nobody = retrieval.join(p_clip[:0], queries[:0])
    assert nobody.shape == (0, 3)


def test_a_region_seen_before_is_named_as_it_was():
    texts = unit(3, 8, 1)
    memory = RegionMemory(
        regions_ne=unit(6, 8, 2), nouns_n=torch.tensor([0, 1, 2, 0, 1, 2]), nouns=("a", "b", "c")
    )
    retrieval = Retrieval(memory, texts, one_each(texts), neighbors=1, weight=1.0)
    assert retrieval.vote(memory.regions_ne).argmax(1).tolist() == [0, 1, 2, 0, 1, 2]


def test_what_is_kept_comes_back(tmp_path):
    memory = memory_of(7, 3, 4)
    memory.save(tmp_path / "a")
    again = RegionMemory.load(tmp_path / "a")
    assert again.nouns == memory.nouns and torch.equal(again.nouns_n, memory.nouns_n)
    torch.testing.assert_close(again.regions_ne, memory.regions_ne, atol=1e-3, rtol=0)
    again.save(tmp_path / "b")
    files = [tmp_path / name / module.REGIONS_FILE for name in "ab"]
    assert len({file.stat().st_size for file in files}) == 1


def test_what_is_refused(tmp_path):
    with pytest.raises(OvsegError, match="has no regions"):
        RegionMemory.load(tmp_path)
    (tmp_path / module.REGIONS_FILE).write_bytes(b"torn")
    with pytest.raises(OvsegError, match="has no regions"):
        RegionMemory.load(tmp_path)
    empty = memory_of(0, 1, 0)
    with pytest.raises(OvsegError, match="no regions to retrieve"):
        Retrieval(empty, unit(1, 8, 0), one_each(unit(2, 8, 1)), neighbors=3, weight=0.5)
    with pytest.raises(OvsegError, match="8 numbers, the texts 16"):
        other = one_each(unit(2, 16, 1))
        Retrieval(memory_of(3, 1, 0), unit(1, 16, 0), other, neighbors=3, weight=0.5)


# --------------------------------------------------------------------------------------
# In a segmentor

IMAGE = np.kron(
    np.random.default_rng(2).integers(0, 256, (4, 6, 3), dtype=np.uint8),
    np.ones((16, 16, 1), dtype=np.uint8),
)  # patches of colour, so that regions differ
CLASS_OF = (0, 1, 2, 1)  # the second class has two texts


def boxes() -> torch.Tensor:
    """Soft masks `(6, 64, 96)` of different parts of the image; the fourth is shown to nobody."""
    masks = torch.full((6, 64, 96), 0.1)
    for q, (top, left) in enumerate([(0, 0), (0, 60), (30, 20), (20, 40), (36, 70), (10, 10)]):
        masks[q, top : top + 28, left : left + 26] = 0.3 if q == 3 else 0.6 + 0.05 * q
    return masks


class Boxes:
    """A network that proposes `boxes` whatever it sees, with random class embeddings."""

    digest, inputs, embedding_dim = "boxes", InputSettings(short_side=64, max_side=96), 16

    def propose(self, images, **_):
        return [
            Proposals(
                image=image,
                masks=boxes(),
                scores=torch.ones(6),
                class_embeddings=unit(6, 16, 5),
            )
            for image in images
        ]

    def class_logits(self, class_embeddings, text_embeddings):
        cosines = class_embeddings @ text_embeddings.T
        return 4 * torch.cat([cosines, torch.zeros(len(cosines), 1)], dim=1)


def pooling_clip() -> ConvCLIP:
    """A convolutional CLIP of embeddings as wide as the tiny one's."""
    text = {"context_length": 8, "vocab_size": 614, "width": 16, "heads": 2, "layers": 1}
    vision = {"layers": [1, 1, 1, 1], "width": 8, "head_width": 64, "image_size": 64}
    config = {"embed_dim": 16, "vision_cfg": vision, "text_cfg": text}
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = open_clip.CLIP(**config).eval()
    return ConvCLIP(model, tokenizer=lambda texts: texts, model_cfg=config)


@pytest.mark.parametrize("mode", ["upstream", "clip_only"])
@pytest.mark.parametrize("embeds", ["crops", "mask_tokens", "mask_pooling"])
def test_a_segmentor_joins_the_vote_to_what_clip_says_of_each_mask(tiny_clip, embeds, mode):
    clip = pooling_clip() if embeds == "mask_pooling" else load_clip(str(tiny_clip))
    makers = {
        "crops": CropEmbedder,
        "mask_tokens": MaskTokenEmbedder,
        "mask_pooling": MaskPoolingEmbedder,
    }
    embedder, network = makers[embeds](clip), Boxes()
    assert isinstance(network, OpenVocabularyNetwork)
    alone = [embedder.embed(IMAGE, mask[None], threshold=0.4)[0] for mask in boxes()]
    features = torch.cat(alone)
    assert [len(each) for each in alone] == [1, 1, 1, 0, 1, 1]

    # random CLIPs say nearly the same of all: the texts lie where their answers differ a little
    common = F.normalize(features.mean(0), dim=0)
    apart = features - features @ common[:, None] * common
    spread = apart.norm(dim=1).mean()
    texts = F.normalize(common + 0.03 / spread * F.normalize(apart[[0, 1, 2, 4]], dim=1), dim=1)
    noise = torch.randn(20, 16, generator=torch.Generator().manual_seed(6))
    memory = RegionMemory(
        regions_ne=F.normalize(features.repeat(4, 1) + 0.1 * spread * noise, dim=1),
        nouns_n=torch.arange(20) % 7 % 4,
        nouns=("a", "b", "c", "d"),
    )
    noun_texts = F.normalize(0.6 * texts[[1, 0, 3, 2]] + 0.4 * texts[[2, 3, 0, 1]], dim=1)
    class_texts = ClassTexts(embeddings=texts, class_of=CLASS_OF, classes=3)
    retrieval = Retrieval(memory, noun_texts, class_texts, neighbors=3, weight=0.7)
    plain, joined = (
        Segmentor(
            clip,
            network,
            class_names=["x", "y", "z"],
            prompts=[(f"text {number}", index) for number, index in enumerate(CLASS_OF)],
            texts=texts,
            embedder=embedder,
            mode=mode,
            ensemble_weight=0.6,
            retrieval=each,
        )
        for each in (None, retrieval)
    )

    proposed = plain.propose(IMAGE)
    p_clip, _ = plain.name_masks(proposed.image, proposed.masks, threshold=0.4)
    row, scores, masks = 0, [], []
    for q, mask in enumerate(boxes()):
        both = [1.0] * 4
        if len(alone[q]):
            vote = naive_vote(alone[q][0].tolist(), memory, noun_texts, texts, neighbors=3)
            both = [float(p) ** 0.3 * float(v) ** 0.7 for p, v in zip(p_clip[row], vote)]
            both = [each / sum(both) for each in both]
            row += 1
        elif mode == "clip_only":
            continue
        if mode == "upstream":
            own = proposed.class_probabilities[q].tolist()
            both = [p**0.4 * each**0.6 for p, each in zip(own, both)]
        scores.append(both)
        masks.append(mask)
    assert row == len(p_clip) == 5
    maps = torch.zeros(4, 64, 96)
    for both, mask in zip(scores, masks):
        for text, score in enumerate(both):
            maps[text] += score * mask

    found, without = joined.segment(IMAGE), plain.segment(IMAGE)
    torch.testing.assert_close(found.probabilities, torch.tensor(scores), atol=1e-4, rtol=1e-3)
    torch.testing.assert_close(joined.class_maps(IMAGE), maps, atol=1e-3, rtol=1e-3)
    assert (found.labels == np.array(CLASS_OF)[maps.argmax(0)]).mean() > 0.999
    assert (found.labels != without.labels).mean() > 0.01
    assert (found.probabilities - without.probabilities).abs().amax(1).gt(0.01).sum() >= 4
    assert len({tuple(round(p, 2) for p in both) for both in scores}) == len(scores)  # all differ
