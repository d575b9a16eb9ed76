"""What becomes of queries: held against loops, and against `transformers`' post-processing."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import Mask2FormerImageProcessor

from ovseg.config.registry import SEGMENTS
from ovseg.errors import OvsegError
from ovseg.models.proposal import OpenVocabularyNetwork, ProposalNetwork, Proposals
from ovseg.models.proposals.query_segments import (
    MASK_THRESHOLD,
    NMS_IOU,
    OVERLAP_THRESHOLD,
    SCORE_THRESHOLD,
    instance,
    panoptic,
    segmented,
    segments_digest,
    semantic,
)


def proposals(masks, scores, of_class=None, embeddings=None) -> Proposals:
    """Proposals of a black image."""
    image = np.zeros((*masks.shape[1:], 3), dtype=np.uint8)
    return Proposals(
        image=image,
        masks=masks,
        scores=scores,
        class_probabilities=of_class,
        class_embeddings=embeddings,
    )


def queries(seed: int, *, q: int = 7, k: int = 3, size: tuple[int, int] = (9, 11)) -> Proposals:
    generator = torch.Generator().manual_seed(seed)
    # blobs rather than noise, so that masks overlap as proposals do
    coarse = torch.randn(1, q, 3, 3, generator=generator) * 4
    masks = torch.nn.functional.interpolate(coarse, size=size, mode="bilinear")[0].sigmoid()
    classes = (torch.randn(q, k + 1, generator=generator) * 2).softmax(-1)[:, :-1]
    embeddings = torch.randn(q, 4, generator=generator)
    return proposals(masks, classes.amax(-1), classes, embeddings)


@pytest.mark.parametrize("seed", range(3))
def test_semantic_is_the_loop(seed: int) -> None:
    given_ = queries(seed)
    masks, classes = given_.masks.double(), given_.class_probabilities.double()
    found = semantic(given_)
    height, width = masks.shape[1:]
    regions: dict[int, list[tuple[int, int, float]]] = {}
    for y in range(height):
        for x in range(width):
            evidence = [
                sum(float(classes[q, k] * masks[q, y, x]) for q in range(len(masks)))
                for k in range(classes.shape[1])
            ]
            best = int(np.argmax(evidence))
            regions.setdefault(best, []).append((y, x, evidence[best]))
    assert len(found.masks) == len(regions)
    for place, k in enumerate(sorted(regions)):
        expected = torch.zeros(height, width)
        for y, x, _ in regions[k]:
            expected[y, x] = 1
        assert torch.equal(found.masks[place], expected)
        score = np.mean([min(1, value) for *_, value in regions[k]])
        assert float(found.scores[place]) == pytest.approx(score, rel=1e-5)
        share = classes[:, k] / classes[:, k].sum()
        embedding = (share[:, None] * given_.class_embeddings.double()).sum(0).float()
        torch.testing.assert_close(found.class_embeddings[place], embedding)
    assert torch.equal(found.masks.sum(0), torch.ones(height, width)), "all pixels, once"


def test_without_classes_semantic_takes_every_query_for_one() -> None:
    masks = torch.tensor([[[0.9, 0.6, 0.0]], [[0.5, 0.8, 0.0]]])
    found = semantic(proposals(masks, torch.tensor([1.0, 0.5])))
    assert found.masks.tolist() == [[[1, 1, 0]]], "0.6 beats 0.5 x 0.8; nothing is where 0 is"
    assert found.scores.tolist() == pytest.approx([0.75])
    assert found.class_probabilities is None and found.class_embeddings is None


@pytest.mark.parametrize("seed", range(3))
def test_instance_is_the_loop(seed: int) -> None:
    given_ = queries(seed)
    candidates = []
    for q, mask in enumerate(given_.masks):
        inside = mask > MASK_THRESHOLD
        if inside.any():
            score = float(given_.scores[q] * mask[inside].mean())
            candidates.append((-score, q, inside))
    kept: list[tuple[float, int, torch.Tensor]] = []
    for score, q, inside in sorted(candidates, key=lambda one: one[:2]):
        ious = [float((inside & other).sum() / (inside | other).sum()) for *_, other in kept]
        if all(iou <= NMS_IOU for iou in ious):
            kept.append((score, q, inside))
    found = instance(given_)
    assert torch.equal(found.masks, torch.stack([inside for *_, inside in kept]).float())
    assert found.scores.tolist() == pytest.approx([-score for score, *_ in kept])
    of = [q for _, q, _ in kept]
    torch.testing.assert_close(found.class_embeddings, given_.class_embeddings[of])


@pytest.mark.parametrize("seed", range(3))
def test_panoptic_is_the_loop(seed: int) -> None:
    given_ = queries(seed)
    sure = [q for q in range(len(given_.scores)) if given_.scores[q] > SCORE_THRESHOLD]
    height, width = given_.masks.shape[1:]
    won: dict[int, set[tuple[int, int]]] = {q: set() for q in sure}
    for y in range(height):
        for x in range(width):
            if sure:
                weighted = [float(given_.scores[q] * given_.masks[q, y, x]) for q in sure]
                won[sure[int(np.argmax(weighted))]].add((y, x))
    expected = []
    for q in sure:
        own = {
            (y, x)
            for y in range(height)
            for x in range(width)
            if given_.masks[q, y, x] >= MASK_THRESHOLD
        }
        both = won[q] & own
        if both and len(won[q]) / len(own) >= OVERLAP_THRESHOLD:
            mask = torch.zeros(height, width)
            for y, x in both:
                mask[y, x] = 1
            expected.append((q, mask))
    found = panoptic(given_)
    assert len(found.masks) == len(expected)
    for (q, mask), other, score in zip(expected, found.masks, found.scores, strict=True):
        assert torch.equal(mask, other) and score == given_.scores[q]


# --------------------------------------------------------------------------------------
# Beside transformers


SIDE = 384  # of masks in its post-processing


def outputs(seed: int, *, classes: int) -> tuple[SimpleNamespace, Proposals]:
    """Logits as a network gives them, and the same as queries."""
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.randn(1, 6, 4, 4, generator=generator) * 5
    masks = torch.nn.functional.interpolate(coarse, size=(SIDE, SIDE), mode="bilinear")
    of_class = torch.randn(1, 6, classes + 1, generator=generator) * 2
    probabilities = of_class[0].softmax(-1)[:, :-1]
    made = proposals(masks[0].sigmoid(), probabilities.amax(-1), probabilities)
    return SimpleNamespace(masks_queries_logits=masks, class_queries_logits=of_class), made


def test_semantic_is_that_of_transformers() -> None:
    logits, made = outputs(0, classes=4)
    (labels,) = Mask2FormerImageProcessor().post_process_semantic_segmentation(logits)
    found = semantic(made)
    for place, k in enumerate(labels.unique().tolist()):
        assert ((labels == k) == found.masks[place].bool()).float().mean() > 0.9999
    assert len(found.masks) == len(labels.unique())


def test_panoptic_is_that_of_transformers_for_sure_queries() -> None:
    """It compares the threshold with score times mask; where scores are 1 that is the mask."""
    logits, _ = outputs(1, classes=4)
    coarse = torch.full((1, 6, 4, 4), -5.0)
    for q, (row, column) in enumerate([(0, 0), (0, 2), (2, 0), (2, 2), (0, 0), (1, 1)]):
        coarse[0, q, row : row + 2, column : column + 2] = 5.0 - q  # the fifth is behind the first
    logits.masks_queries_logits = torch.nn.functional.interpolate(
        coarse, size=(SIDE, SIDE), mode="bilinear"
    )
    logits.class_queries_logits = torch.full((1, 6, 5), -50.0)
    logits.class_queries_logits[0, range(6), [0, 1, 2, 3, 0, 4]] = 50.0  # the last is no object
    probabilities = logits.class_queries_logits[0].softmax(-1)[:, :-1]
    made = proposals(
        logits.masks_queries_logits[0].sigmoid(), probabilities.amax(-1), probabilities
    )
    (expected,) = Mask2FormerImageProcessor().post_process_panoptic_segmentation(
        logits, label_ids_to_fuse=set()
    )
    found = panoptic(made)
    segments = [expected["segmentation"] == row["id"] for row in expected["segments_info"]]
    assert len(found.masks) == len(segments) == 4
    for mask, segment in zip(found.masks.bool(), segments, strict=True):
        # what is left below the threshold stays free here, as in Mask2Former's own code
        assert not (mask & ~segment).any()
        assert (mask | ~segment).float().mean() > 0.9


def test_instance_scores_are_those_of_transformers() -> None:
    logits, made = outputs(2, classes=1)
    (expected,) = Mask2FormerImageProcessor().post_process_instance_segmentation(
        logits, threshold=0.0, return_binary_maps=True
    )
    theirs = sorted((row["score"] for row in expected["segments_info"]), reverse=True)
    found = instance(made)
    assert set(np.round(found.scores.tolist(), 4)) <= set(np.round(theirs, 4))


# --------------------------------------------------------------------------------------
# Edges


@settings(max_examples=25, deadline=None)
@given(
    q=st.integers(0, 5),
    height=st.integers(1, 6),
    width=st.integers(1, 6),
    seed=st.integers(0, 9),
    classes=st.booleans(),
    name=st.sampled_from(sorted(SEGMENTS)),
)
def test_whatever_comes_in_proposals_come_out(q, height, width, seed, classes, name) -> None:
    generator = torch.Generator().manual_seed(seed)
    masks = torch.rand(q, height, width, generator=generator)
    scores = torch.rand(q, generator=generator)
    of_class = torch.rand(q, 3, generator=generator) / 3 if classes else None
    found = SEGMENTS[name](proposals(masks, scores, of_class))
    assert found.masks.shape[1:] == (height, width) and found.masks.dtype == torch.float32
    assert len(found.masks) == len(found.scores)
    assert (found.class_probabilities is None) == (of_class is None)
    assert not len(found.scores) or (found.scores.min() >= 0 and found.scores.max() <= 1)
    if name in ("semantic", "panoptic"):
        assert (found.masks.sum(0) <= 1).all(), "disjoint"
    if name != "queries":
        assert ((found.masks == 0) | (found.masks == 1)).all()
        assert found.masks.flatten(1).any(1).all(), "no empty mask"


class Two:
    """A network of two queries; with embeddings it has an open vocabulary."""

    digest = "0123456789abcdef"
    inputs = None
    embeddings = None

    def propose(self, images, **how) -> list[Proposals]:
        masks = torch.zeros(2, 4, 4)
        masks[0, :2], masks[1, 2:] = 0.9, 0.7
        scores = torch.tensor([0.9, 0.3])
        return [
            Proposals(image=image, masks=masks, scores=scores, class_embeddings=self.embeddings)
            for image in images
        ]


class OpenTwo(Two):
    embedding_dim = 2
    embeddings = torch.eye(2)

    def class_logits(self, embeddings, text):
        return embeddings @ text.T


def test_behind_a_network() -> None:
    images = [np.zeros((4, 4, 3), dtype=np.uint8)] * 2
    closed = segmented(Two(), "panoptic", setting="x")
    assert isinstance(closed, ProposalNetwork) and not isinstance(closed, OpenVocabularyNetwork)
    found = closed.propose(images)
    assert [len(each.masks) for each in found] == [1, 1]
    assert all(each.class_embeddings is each.class_probabilities is None for each in found)
    assert all(each.image is images[0] for each in found)
    opened = segmented(OpenTwo(), "instance", setting="x")
    assert isinstance(opened, OpenVocabularyNetwork) and opened.embedding_dim == 2
    (found,) = opened.propose(images[:1])
    assert found.class_embeddings.shape == (2, 2)
    assert opened.propose([]) == []
    network = Two()
    assert segmented(network, "queries", setting="x") is network
    with pytest.raises(OvsegError, match=r"benchmarks\.segments: unknown name 'stuff'; choose"):
        segmented(network, "stuff", setting="benchmarks.segments")


def test_digests_differ_by_what_is_made() -> None:
    digests = {segments_digest("ab", name) for name in SEGMENTS}
    assert len(digests) == len(SEGMENTS) and segments_digest("ab", "queries") == "ab"
