"""The segmentor: edge cases, and the whole of it against its steps written out."""

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from ovseg.errors import OvsegError
from ovseg.models.clip.load import load_clip
from ovseg.models.maskformer.closed_vocabulary import closed_vocabulary
from ovseg.models.maskformer.load import load_maskformer
from ovseg.models.proposal import Proposals
from ovseg.models.regions.embedders import CropEmbedder
from ovseg.models.segmentor import Segmentor
from ovseg.models.texts.templates import text_embeddings

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
    with pytest.raises(ValueError, match="weights for 3 classes"):
        Segmentor(clip, network, class_names=NAMES, ensemble_weight=weights[:2])


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
    texts = text_embeddings(clip, names, templates="single")
    plain, related = (
        Segmentor(clip, network, class_names=names, texts=texts, own=own, relations=weight)
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
            clip,
            network,
            class_names=names,
            texts=text_embeddings(clip, [text for text, _ in each] or names, templates="single"),
            own=own,
            mode="void",
            prompts=each,
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
    with pytest.raises(OvsegError, match="no classes to segment: name at least one"):
        Segmentor(clip, network, class_names=[])
    with pytest.raises(OvsegError, match="16 numbers, CLIP's texts 8"):
        Segmentor(clip, network, class_names=NAMES, texts=torch.eye(8)[:3])
    with pytest.raises(ValueError, match="2 embeddings for 3"):
        Segmentor(clip, network, class_names=NAMES, texts=torch.eye(16)[:2])
