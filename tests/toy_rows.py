"""Rows of a hand-made run: six images, their captions, nouns, proposals, pairs and scores."""

from ovseg.files.digests import digest_json

CAPTIONS = {
    1: ["A dog by a picket fence.", "The dog is near a house."],
    2: ["A moon over the sea 🌊 and a house.", "One night."],
    3: ["A dog and a cat.", "A cat chases a dog.", "A cat."],
    4: ["A garden fence with a house behind.", "A house."],
    5: ["Wow!", "A moon."],
    6: ["A dog by a picket fence."],
}
NOUNS = {
    "dog": None,
    "cat": None,
    "house": None,
    "moon": None,
    "sea": None,
    "night": None,
    "fence": None,
    "picket fence": "fence",
    "garden fence": "fence",
}
SIZE = [8, 10]
HELD = "in_benchmark:coco-stuff-171 by id, my-street by sha256"


def image_rows():
    return [
        {
            "dataset": "toy",
            "image_id": image_id,
            "image_path": f"{image_id:04d}.png",
            "image_sha256": f"{image_id:064x}",
            "image_phash": 2**63 + image_id,
            "width": 10,
            "height": 8,
            "captions": [
                {"caption_id": 10 * image_id + index, "text": text}
                for index, text in enumerate(texts)
            ],
            "kept": image_id != 6,
            "drop_reason": HELD if image_id == 6 else None,
        }
        for image_id, texts in CAPTIONS.items()
    ]


def noun_rows():
    rows = []
    for image in image_rows():
        for caption in image["captions"]:
            own = {"dataset": "toy", "image_id": image["image_id"], **caption, "parser": "hand@0"}
            text = own.pop("text")
            named = [noun for noun in NOUNS if noun in text]
            for noun in named:
                start = text.index(noun)
                rows.append(
                    {
                        **own,
                        "noun": noun,
                        "surface": noun,
                        "char_start": start,
                        "char_end": start + len(noun),
                        "head": NOUNS[noun],
                        "adjectives": ["old"] if len(noun) > 3 else [],
                        "place": "on the grass" if noun == "dog" else None,
                        "kept": noun != "night",
                        "drop_reason": "stop:time" if noun == "night" else None,
                    }
                )
            if not named:
                rows.append({**own, "kept": False, "drop_reason": "no_noun"})
    return rows


def proposal_rows():
    rows = []
    for image in image_rows():
        own = {"dataset": "toy", "image_id": image["image_id"], "proposal_model": "hand@0"}
        if image["image_id"] in (5, 6):
            reason = "image_dropped" if image["image_id"] == 6 else "no_query"
            rows.append({**own, "proposal_id": -1, "kept": False, "drop_reason": reason})
            continue
        for index in range(3):
            rows.append(
                {
                    **own,
                    "proposal_id": index,
                    "mask_size": SIZE,
                    "mask_counts": b"f1o0",
                    "bbox_xyxy": [index, 0, index + 4, 8],
                    "area_fraction": 0.3 + 0.05 * index,
                    "proposal_score": 0.9 - 0.3 * index,
                    "kept": index < 2,
                    "drop_reason": None if index < 2 else "low_score",
                }
            )
    return rows


def similarity(image_id, noun, proposal_id):
    return (len(noun) * 7 + image_id * 3 + proposal_id * 11) % 17 / 20


def pair_rows(dataset="toy", round=0):
    """Every kept noun of an image with its best proposal, ranked by hand-made similarities."""
    proposals = {(p["image_id"], p["proposal_id"]): p for p in proposal_rows() if p["kept"]}
    rows = []
    for image in image_rows():
        image_id = image["image_id"]
        mentions = [n for n in noun_rows() if n["image_id"] == image_id and n["kept"]]
        nouns = sorted({n["noun"] for n in mentions})
        ids = [p for i, p in proposals if i == image_id]
        for noun in nouns:
            row = {
                "pair_id": digest_json([dataset, round, image_id, noun])[:16],
                "source": "mined",
                "dataset": dataset,
                "round": round,
                "noun": noun,
                "mentions": [
                    {k: n[k] for k in ("caption_id", "surface", "char_start", "char_end")}
                    for n in mentions
                    if n["noun"] == noun
                ],
                "head": NOUNS[noun],
                "parser": "hand@0",
                "clip_model": "hand@0",
                "config_digest": "0" * 16,
                **{k: image[k] for k in ("image_id", "image_path", "image_sha256", "image_phash")},
                **{k: image[k] for k in ("width", "height")},
                "shard": 0 if image_id < 4 else 1,
                "kept": False,
                "drop_reason": "image_dropped" if image_id == 6 else "no_proposal",
            }
            if ids:
                scores = sorted(((similarity(image_id, noun, p), p) for p in ids), reverse=True)
                (best, chosen), (second, _) = scores
                others = [similarity(image_id, other, chosen) for other in nouns]
                rank = 1 + sum(other > best for other in others)
                row |= {
                    "proposal_id": chosen,
                    **{
                        k: proposals[image_id, chosen][k]
                        for k in ("mask_size", "mask_counts", "bbox_xyxy", "area_fraction")
                    },
                    "proposal_score": proposals[image_id, chosen]["proposal_score"],
                    "proposal_model": "hand@0",
                    "clip_similarity": best,
                    "clip_margin": best - second,
                    "noun_rank": rank,
                    "proposal_rank": 1,
                    "mutual_best": rank == 1,
                    "kept": best >= 0.4,
                    "drop_reason": None if best >= 0.4 else "low_similarity",
                }
            rows.append(row)
    return rows


def truth_pair_rows(source):
    """Pairs of ground-truth masks of classes 0 dog, 1 cat, 2 sea: labels, or nouns of captions."""
    of_label = {"dog": 0, "cat": 1, "sea": 2}
    unknown = ("clip_similarity", "clip_margin", "noun_rank", "proposal_rank", "mutual_best")
    rows = []
    for row in pair_rows():
        if row["noun"] not in of_label or "mask_counts" not in row:
            continue
        row |= {
            "pair_id": digest_json([source, row["image_id"], row["noun"]])[:16],
            "source": source,
            "proposal_id": of_label[row["noun"]],
            "proposal_score": None,
            "proposal_model": "storybook@0",
        }
        if source == "gt_label":
            hidden = (*unknown, "proposal_id", "clip_model", "mentions", "head", "parser")
            row |= {**dict.fromkeys(hidden), "kept": True, "drop_reason": None}
        rows.append(row)
    return rows


def truth_rows():
    return [
        {
            "pair_id": row["pair_id"],
            "noun": row["noun"],
            "noun_category": row["head"] or row["noun"],
            "gt_category": "house",
            "gt_share": 0.75,
            "gt_iou": 0.5,
            "correct": row["noun"] == "house",
        }
        for row in pair_rows()
        if row["kept"]
    ]


CLASSES = ("dog", "moon", "carpet")


def class_rows(digest, gain=0.0):
    return [
        {
            "benchmark": "storybook",
            "benchmark_digest": digest,
            "class_id": index,
            "class_name": name,
            "seen": name == "dog",
            "iou": None if name == "carpet" else 0.25 + 0.25 * index + gain,
            "accuracy": None if name == "carpet" else 0.5,
            "gt_pixels": 0 if name == "carpet" else 100,
            "predicted_pixels": 0 if name == "carpet" else 90,
            "gt_masks": 0 if name == "carpet" else 4,
            "gt_mask_accuracy": None if name == "carpet" else 0.5 + gain,
        }
        for index, name in enumerate(CLASSES)
    ]


def metric_rows(digest, arm, gain=0.0, system="ovseg"):
    values = {"miou_union": 0.3 + gain, "miou_gt": 0.35 + gain, "mask_acc": 0.5 + gain}
    return [
        {
            "benchmark": "storybook",
            "benchmark_digest": digest,
            "system": system,
            "arm": arm,
            "metric": metric,
            "value": value,
        }
        for metric, value in values.items()
    ]


def curve_rows(arm):
    """A learning curve of two phases of two steps each; unseen classes have no masks."""
    accuracies = {(1, 0): 0.25, (1, 2): 0.5, (2, 0): 0.5, (2, 2): 0.625}
    return [
        {
            "arm": arm,
            "phase": phase,
            "trains": "image_encoder" if phase == 1 else "mask_prompts",
            "step": step,
            "total_step": 2 * (phase - 1) + step,
            "part": part,
            "gt_mask_accuracy": None if part == "unseen" else accuracy,
            "gt_masks": 0 if part == "unseen" else 8,
            "benchmark": "storybook",
        }
        for (phase, step), accuracy in accuracies.items()
        for part in ("all", "seen", "unseen")
    ]
