"""The segmentor: formulas by hand, edge cases, the whole of it."""

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from ovseg.errors import OvsegError
from ovseg.models import ensemble as formulas
from ovseg.models.clip.load import load_clip
from ovseg.models.ensemble import aggregate, best_masks, ensemble, label_map
from ovseg.models.maskformer.closed_vocabulary import closed_vocabulary
from ovseg.models.maskformer.load import load_maskformer
from ovseg.models.proposal import Proposals
from ovseg.models.regions.embedders import CropEmbedder
from ovseg.models.segmentor import Segmentor

NAMES = ["house", "tree", "sea"]


def image_of(height: int = 48, width: int = 40, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


class FixedProposals:
    """A network of given masks and, if there are any, class embeddings."""

    def __init__(self, masks_qhw: torch.Tensor) -> None:
        self.masks = masks_qhw
        self.digest = "fixed"

    def propose(self, images, **_):
        scores = torch.ones(len(self.masks))
        return [Proposals(image=image, masks=self.masks, scores=scores) for image in images]


@pytest.fixture(scope="module")
def clip(tiny_clip):
    return load_clip(str(tiny_clip))


@pytest.fixture(scope="module")
def network(tiny_maskformer):
    return load_maskformer(str(tiny_maskformer))


# ---------------------------------------------------------------------------------- formulas

P_MASKFORMER = torch.tensor([[0.64, 0.16], [0.25, 0.49]])
P_CLIP = torch.tensor([[0.25, 0.81]])
VALID = torch.tensor([True, False])


def test_ensemble_by_hand():
    scores, taken = ensemble(P_MASKFORMER, P_CLIP, VALID, 0.5)
    assert taken.tolist() == [True, True]
    # valid: sqrt(p * q); invalid: sqrt(p * 1)
    expected = [[0.8 * 0.5, 0.4 * 0.9], [0.5, 0.7]]
    torch.testing.assert_close(scores, torch.tensor(expected))


def test_weight_zero_is_clip_alone_upstream_and_maskformer_alone_in_the_formula():
    scores, taken = ensemble(P_MASKFORMER, P_CLIP, VALID, 0.0)
    assert torch.equal(scores, P_CLIP) and taken.tolist() == [True, False]
    scores, taken = ensemble(P_MASKFORMER, P_CLIP, VALID, 0.0, mode="geometric")
    assert torch.equal(scores, P_MASKFORMER) and taken.all()
    near, _ = ensemble(P_MASKFORMER, P_CLIP, VALID, 1e-6)
    torch.testing.assert_close(near, scores, atol=1e-5, rtol=0)


def test_the_other_modes_ignore_the_weight():
    for weight in (0.0, 0.7):
        scores, taken = ensemble(P_MASKFORMER, P_CLIP, VALID, weight, mode="clip_only")
        assert torch.equal(scores, P_CLIP) and taken.tolist() == [True, False]
        scores, taken = ensemble(
            P_MASKFORMER,
            P_CLIP[:0],
            torch.zeros(2, dtype=torch.bool),
            weight,
            mode="maskformer_only",
        )
        assert torch.equal(scores, P_MASKFORMER) and taken.all()


def test_seen_classes_have_a_weight_of_their_own():
    weights = torch.tensor([0.2, 0.8])  # the first class is seen
    scores, taken = ensemble(P_MASKFORMER, P_CLIP, VALID, weights, mode="geometric")
    expected = [[0.64**0.8 * 0.25**0.2, 0.16**0.2 * 0.81**0.8], [0.25**0.8, 0.49**0.2]]
    torch.testing.assert_close(scores, torch.tensor(expected))
    assert taken.all()
    alike, _ = ensemble(P_MASKFORMER, P_CLIP, VALID, torch.tensor([0.7, 0.7]))
    torch.testing.assert_close(alike, ensemble(P_MASKFORMER, P_CLIP, VALID, 0.7)[0])
    alone, _ = ensemble(P_MASKFORMER, P_CLIP, VALID, torch.zeros(2))
    assert torch.equal(alone, P_CLIP)
    with pytest.raises(ValueError, match="within"):
        ensemble(P_MASKFORMER, P_CLIP, VALID, torch.tensor([0.2, 1.1]))


def test_the_void_ensemble_by_hand():
    weights = torch.tensor([0.4, 0.8])
    scores, taken = ensemble(P_MASKFORMER, P_CLIP, VALID, weights, mode="void")
    # of the first: P(object) is 0.8, inside it 0.8 and 0.2; the second shows CLIP nothing
    product = torch.tensor([0.8**0.6 * 0.25**0.4, 0.2**0.2 * 0.81**0.8])
    expected = torch.stack([0.8 * product / product.sum(), P_MASKFORMER[1]])
    torch.testing.assert_close(scores, expected)
    assert taken.all()
    nothing = torch.zeros(1, 2)
    silent, _ = ensemble(nothing, P_CLIP, torch.tensor([True]), 0.5, mode="void")
    assert torch.equal(silent, nothing)  # a proposal that shows nothing at all


def test_weights_of_classes_reach_the_whole(clip, network):
    weights = torch.tensor([0.2, 0.8, 0.5])
    found = [
        Segmentor(
            clip, network, class_names=NAMES, mode="geometric", ensemble_weight=weight
        ).segment(image_of())
        for weight in (weights, 0.2, 0.8, 0.5)
    ]
    for column in range(3):
        torch.testing.assert_close(
            found[0].probabilities[:, column], found[column + 1].probabilities[:, column]
        )
    with pytest.raises(ValueError, match="weights, 3 classes"):
        Segmentor(clip, network, class_names=NAMES, ensemble_weight=weights[:2])


def test_a_network_with_its_own_vocabulary_leaves_it_to_clip():
    scores, taken = ensemble(None, P_CLIP, VALID, 0.7)
    assert torch.equal(scores, P_CLIP) and taken.tolist() == [True, False]
    with pytest.raises(OvsegError, match="vocabulary of its own"):
        ensemble(None, P_CLIP, VALID, 0.7, mode="maskformer_only")


def test_ensemble_refuses_what_does_not_fit():
    with pytest.raises(ValueError, match="2 rows of CLIP for 1 valid"):
        ensemble(P_MASKFORMER, P_MASKFORMER, VALID, 0.7)
    with pytest.raises(ValueError, match="within"):
        ensemble(P_MASKFORMER, P_CLIP, VALID, 1.5)
    with pytest.raises(ValueError, match="mode is one of"):
        ensemble(P_MASKFORMER, P_CLIP, VALID, 0.5, mode="arithmetic")


def test_aggregate_by_hand():
    masks = torch.tensor([[[1.0, 0.5]], [[0.0, 1.0]]])
    maps = aggregate(P_MASKFORMER, masks)
    torch.testing.assert_close(maps, torch.tensor([[[0.64, 0.57]], [[0.16, 0.57]]]))
    assert label_map(P_MASKFORMER, masks, (1, 2)).tolist() == [[0, 0]]  # the first of equals


@pytest.mark.parametrize("budget", [1, 1000, 2000, 10**9])
def test_label_map_in_chunks_of_classes_equals_the_plain_argmax(budget):
    generator = torch.Generator().manual_seed(0)
    scores = torch.rand(7, 23, generator=generator)
    scores[:, 9] = scores[:, 4]  # two classes that are equal everywhere
    masks = torch.rand(7, 12, 10, generator=generator)
    maps = F.interpolate(
        torch.einsum("qk,qhw->khw", scores, masks)[None], size=(25, 18), mode="bilinear"
    )[0]
    assert torch.equal(label_map(scores, masks, (25, 18), budget=budget), maps.argmax(0))


def test_label_map_never_holds_all_classes(monkeypatch):
    widths = []
    plain = formulas.aggregate
    monkeypatch.setattr(
        formulas, "aggregate", lambda p, m: widths.append(p.shape[1]) or plain(p, m)
    )
    label_map(torch.rand(3, 100), torch.rand(3, 10, 10), (20, 20), budget=4000)
    assert widths == [10] * 10


# ---------------------------------------------------------------------------- one mask a class

SCORES = torch.tensor([[0.9, 0.1], [0.8, 0.7], [0.3, 0.6]])


def columns(*covered: tuple[int, ...], width: int = 4) -> torch.Tensor:
    """Masks of one row: 0.9 in these columns, 0.1 elsewhere."""
    masks = torch.full((len(covered), 1, width), 0.1)
    for mask, places in zip(masks, covered):
        mask[0, list(places)] = 0.9
    return masks


ALL = torch.ones(3, dtype=torch.bool)


def test_best_masks_by_hand():
    masks = columns((0, 1), (1, 2), (3,))
    scores, kept = best_masks(SCORES, masks, ALL, threshold=0.5)
    assert torch.equal(scores, SCORES[:2])  # class 0 chose the first, class 1 the second
    assert kept.tolist() == [[[1, 1, 0, 0]], [[0, 1, 1, 0]]]
    # the second is class 1's, but its own scores say class 0; the last column is under no mask
    assert label_map(scores, kept, (1, 4), empty=2).tolist() == [[0, 0, 0, 2]]
    assert label_map(scores, kept, (1, 4)).tolist() == [[0, 0, 0, 0]]
    alone, _ = best_masks(SCORES, masks, ALL, threshold=0.5, skip_last=True)
    assert torch.equal(alone, SCORES[:1])


def test_best_masks_are_valid_ones():
    masks, valid = columns((), (1, 2), (3,)), torch.tensor([False, True, True])
    scores, kept = best_masks(SCORES, masks, valid, threshold=0.5)
    assert torch.equal(scores, SCORES[1:2]) and kept.tolist() == [[[0, 1, 1, 0]]]
    scores, kept = best_masks(SCORES, masks, ~ALL, threshold=0.5)
    assert scores.shape == (0, 2) and kept.shape == (0, 1, 4)


# ----------------------------------------------------------------------------------- the whole


def test_segment_equals_the_steps_written_out(clip, network):
    image = image_of()
    # texts along what three of the queries say they are, so that the proposals disagree
    said = network.propose([image])[0].class_embeddings[[0, 2, 5]].clone()
    texts = F.normalize(F.normalize(said, dim=-1) + clip.encode_texts(["house"]).detach(), dim=-1)
    segmentor = Segmentor(clip, network, class_names=NAMES, texts=texts, ensemble_weight=0.1)
    with torch.inference_mode():
        check_steps(segmentor, network, image)


def check_steps(segmentor, network, image):
    found = segmentor.segment(image)
    assert found.labels.shape == (48, 40) and found.labels.dtype == np.int64
    (proposals,) = network.propose([image], output="resized")
    logits = network.class_logits(proposals.class_embeddings, segmentor.texts)
    p_maskformer = logits.softmax(-1)[:, :-1]
    masks = proposals.masks
    p_clip = torch.ones(len(masks), 3)
    for index, mask in enumerate(masks):
        if (mask > 0.4).any():
            p_clip[index] = torch.from_numpy(
                segmentor.classify_masks(proposals.image, (mask > 0.4)[None])
            )
    assert sum(bool((mask > 0.4).any()) for mask in masks) > 0
    expected = p_maskformer**0.9 * p_clip**0.1
    torch.testing.assert_close(found.probabilities, expected, atol=1e-5, rtol=1e-4)
    maps = F.interpolate(
        torch.einsum("qk,qhw->khw", expected, masks)[None], size=(48, 40), mode="bilinear"
    )[0]
    torch.testing.assert_close(segmentor.class_maps(image), maps, atol=1e-4, rtol=1e-4)
    assert (found.labels == maps.argmax(0).numpy()).mean() > 0.999
    assert len(np.unique(found.labels)) > 1


def test_region_batches_change_nothing(clip, network):
    whole = Segmentor(clip, network, class_names=NAMES, mask_threshold=0.2)
    single = Segmentor(
        clip,
        network,
        class_names=NAMES,
        mask_threshold=0.2,
        embedder=CropEmbedder(clip, batch_size=1),
    )
    torch.testing.assert_close(
        whole.segment(image_of()).probabilities,
        single.segment(image_of()).probabilities,
        atol=1e-5,
        rtol=1e-4,
    )


@pytest.mark.parametrize("weight", [0.0, 0.7])
def test_no_valid_mask(clip, network, weight):
    segmentor = Segmentor(
        clip, network, class_names=NAMES, mask_threshold=1 - 1e-9, ensemble_weight=weight
    )
    found = segmentor.segment(image_of())
    if weight:  # MaskFormer still speaks
        assert len(found.probabilities) == 6 and found.labels.max() < 3
    else:  # nobody does
        assert len(found.probabilities) == 0 and (found.labels == 3).all()


@pytest.mark.parametrize("prompts", [True, False])
def test_one_valid_mask(clip, prompts):
    masks = torch.full((3, 48, 40), 0.1)
    masks[1, 5:20, 5:20] = 0.9
    segmentor = Segmentor(
        clip,
        FixedProposals(masks),
        class_names=NAMES,
        embedder=CropEmbedder(clip, mask_prompts=prompts),
        mask_threshold=0.5,
    )
    found = segmentor.segment(image_of())
    assert found.probabilities.shape == (1, 3)
    assert (found.labels == int(found.probabilities.argmax())).all()


@pytest.mark.parametrize(
    "options", [{"ensemble_weight": 0.0}, {"ensemble_weight": 0.7}, {"mode": "maskformer_only"}]
)
@pytest.mark.parametrize("threshold", [0.3, 0.5, 1 - 1e-9])
def test_one_mask_a_class_of_the_whole(clip, network, options, threshold):
    found, every = (
        Segmentor(
            clip,
            network,
            class_names=NAMES,
            mask_threshold=threshold,
            inference=inference,
            **options,
        ).segment(image_of())
        for inference in ("best_mask", "sum")
    )
    assert len(found.masks) <= 3 and set(found.masks.unique().tolist()) <= {0.0, 1.0}
    covered = F.interpolate(found.masks.sum(0)[None, None], (48, 40), mode="bilinear")[0, 0] > 0
    assert ((found.labels == 3) == ~covered.numpy()).all()
    shown = (every.masks > threshold).flatten(1).any(1)
    for score in every.probabilities[shown].max(0).values if shown.any() else ():
        assert (found.probabilities == score).any()


def test_others_choose_no_mask(clip):
    masks = torch.full((2, 48, 40), 0.1)
    masks[0, :20], masks[1, 20:] = 0.9, 0.9
    kept = {
        names: Segmentor(
            clip, FixedProposals(masks), class_names=names, inference="best_mask"
        ).segment(image_of())
        for names in (("house", "others"), ("others", "house"))
    }
    assert len(kept["house", "others"].masks) == 1
    with pytest.raises(OvsegError, match="sum, best_mask, not 'demo'"):
        Segmentor(clip, FixedProposals(masks), class_names=NAMES, inference="demo")


def test_no_proposal_at_all(clip):
    segmentor = Segmentor(clip, FixedProposals(torch.zeros(0, 48, 40)), class_names=NAMES)
    assert (segmentor.segment(image_of()).labels == 3).all()


def test_mask_prompts_can_be_switched_off(clip, network):
    masks = np.eye(40, dtype=bool)[None]  # most patches are background
    with_prompts, without = (
        Segmentor(
            clip, network, class_names=NAMES, embedder=CropEmbedder(clip, mask_prompts=on)
        ).classify_masks(image_of(40, 40), masks)
        for on in (True, False)
    )
    assert np.abs(with_prompts - without).max() > 1e-3


def test_modes_of_the_whole(clip, network):
    def probabilities(**settings):
        segmentor = Segmentor(clip, network, class_names=NAMES, **settings)
        return segmentor.segment(image_of()).probabilities

    assert torch.equal(probabilities(mode="clip_only"), probabilities(ensemble_weight=0.0))
    assert torch.equal(
        probabilities(mode="maskformer_only"), probabilities(mode="geometric", ensemble_weight=0.0)
    )


def test_classes_of_the_networks_own_lend_to_those_like_them(clip, network):
    names = [*network.class_names]
    own = closed_vocabulary(names, names)
    plain, related = (
        Segmentor(clip, network, class_names=names, templates="single", own=own, relations=weight)
        for weight in (0.0, 0.5)
    )
    before, after = (each.propose(image_of()).class_probabilities for each in (plain, related))
    expected = 0.5 * before + 0.5 * before @ related.class_texts.related
    torch.testing.assert_close(after, expected)
    assert not torch.allclose(after, before, atol=1e-4)


def test_what_is_an_object_counts_each_class_of_the_network_once(clip, network):
    names = [*network.class_names]
    own = closed_vocabulary(names, names)
    prompts = [(f"a {name}", i) for i, name in enumerate(names)] + [("again", 0), ("once more", 0)]
    plain, many = (
        Segmentor(
            clip, network, class_names=names, templates="single", own=own, mode="void", prompts=each
        )
        for each in ((), prompts)
    )
    expected = plain.propose(image_of()).class_probabilities.sum(dim=1)
    for segmentor in (plain, many):
        proposed = segmentor.propose(image_of())
        scores, _ = segmentor._proposals(image_of())
        torch.testing.assert_close(proposed.scores, expected)
        torch.testing.assert_close(scores.sum(dim=1), expected)  # P(object)


def test_classify_masks(clip, network):
    segmentor = Segmentor(clip, network, class_names=NAMES)
    masks = np.zeros((3, 48, 40), bool)
    masks[0, 3:9, 4:30] = True
    masks[2, 30, 30] = True
    probabilities = segmentor.classify_masks(image_of(), masks)
    assert probabilities.shape == (3, 3) and probabilities.dtype == np.float32
    np.testing.assert_allclose(probabilities.sum(1), [1, 0, 1], atol=1e-5)
    alone = segmentor.classify_masks(image_of(), masks[2:])
    np.testing.assert_allclose(alone[0], probabilities[2], atol=1e-5)
    assert segmentor.classify_masks(image_of(), masks[:0]).shape == (0, 3)


def test_what_is_refused(clip, network, tiny_maskformer):
    with pytest.raises(OvsegError, match="at least one class"):
        Segmentor(clip, network, class_names=[])
    with pytest.raises(OvsegError, match="16 numbers, CLIP's texts 8"):
        Segmentor(clip, network, class_names=NAMES, texts=torch.eye(8)[:3])
    with pytest.raises(ValueError, match="2 embeddings for 3"):
        Segmentor(clip, network, class_names=NAMES, texts=torch.eye(16)[:2])
