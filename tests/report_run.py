"""A small run for the tests of the report: hostile captions, a missing image, two scored arms."""

import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from ovseg.config.base import Config
from ovseg.config.reporting import ReportConfig
from ovseg.config.scoring import BenchmarkConfig, ScoresConfig
from ovseg.data import masks
from ovseg.evaluation.benchmark import BENCHMARK
from ovseg.evaluation.scores import SCORES
from ovseg.files.digests import file_sha256
from ovseg.files.parquet_files import write_parquet
from ovseg.report.mined_rows import open_tables
from ovseg.report.stage import REPORT
from ovseg.stages import schema
from ovseg.stages.manifest import ShardPlan
from ovseg.stages.run import run_stage
from ovseg.stages.stage import Output, Stage
from ovseg.storybook.world import write_world

HOSTILE = "<img src=x onerror=alert(1)>"
"""A noun nobody should have to see rendered."""
CAPTION = f"</style><script>document.title = 'owned'</script> a {HOSTILE} & \"more\""
SEEN = ("house", "tree", "sky", "grass", "cat", "road", "sun", "cloud")


class Checkpoint(Stage[Config]):
    """A CLIP folder with a training log, as the last phase of an arm leaves it."""

    name = "checkpoints"
    suffix = ""

    def __init__(self, clip):
        self.clip = clip

    def plan(self, config, inputs):
        return ShardPlan.single("clip")

    def weights(self, config, inputs):
        return {"clip": file_sha256(self.clip)}

    def write(self, config, inputs, target, *, shard, progress):
        shutil.copytree(self.clip, target)
        log = [
            {"step": n, "epoch": 0, "loss": 3 - 0.1 * n, "learning_rate": 1e-5, "logit_scale": 9.0}
            for n in range(12)
        ]
        table = schema.rows_to_table(log, schema.TRAINING_LOG)
        write_parquet(table, target / "training_log.parquet")
        return Output(rows=1)


@dataclass(frozen=True)
class ReportRun:
    """What a report is made of, to be varied by tests."""

    root: Path
    config: ReportConfig
    inputs: dict

    def report(self, root=None, *, without=(), **changes):
        """Run the stage on the inputs whose role does not begin with one of `without`."""
        inputs = {r: m for r, m in self.inputs.items() if not r.startswith(tuple(without) or "!")}
        config = self.config.model_copy(update=changes)
        return run_stage(REPORT, config, inputs, root or self.root)

    def html(self, *args, **kwargs):
        """The text of such a report."""
        return (self.report(*args, **kwargs).payload() / "report.html").read_text()

    def ask(self, question, *values):
        """Return what a question of `mined_rows` or `score_rows` finds in the run's tables."""
        with open_tables(self.inputs) as con:
            return question(con, *values)


def hostile_pairs(toy):
    """The toy's pairs, those of dogs named by a noun that is markup."""
    rows = toy.pair_rows()
    mask = np.zeros((1, 8, 10), dtype=bool)
    mask[0, 2:6, 3:9] = True
    (counts,) = masks.encode(mask)
    for row in rows:
        if row.get("mask_counts"):
            row["mask_counts"] = counts
        if row["noun"] == "dog":
            start = CAPTION.index(HOSTILE)
            row["noun"] = HOSTILE
            row["mentions"] = [
                {
                    "caption_id": 10 * row["image_id"],
                    "surface": HOSTILE,
                    "char_start": start,
                    "char_end": start + len(HOSTILE),
                }
            ]
    return rows


def make_run(toy, root, clip, adapted, maskformer):
    """A mined toy set with ground truth, and two arms scored on six storybook scenes."""
    pictures = root / "pictures"
    pictures.mkdir(parents=True)
    images = toy.image_rows()
    for image in images:
        image["captions"][0]["text"] = CAPTION
        if image["image_id"] != 2:
            picture = Image.new("RGB", (10, 8), (40 * image["image_id"], 90, 160))
            picture.save(pictures / image["image_path"])
    (pictures / "0004.png").write_bytes(b"no image at all")
    pairs = hostile_pairs(toy)
    truth = [
        {
            "pair_id": pair["pair_id"],
            "noun": pair["noun"],
            "noun_category": pair["noun"] if pair["noun"] != "moon" else None,
            "gt_category": "house",
            "gt_share": 0.75,
            "gt_iou": 0.5,
            "correct": pair["noun"] == "house",
        }
        for pair in pairs
        if pair["kept"]
    ]
    rows = {
        "images": (images, schema.IMAGES),
        "nouns": (toy.noun_rows(), schema.NOUNS),
        "proposals": (toy.proposal_rows(), schema.PROPOSALS),
    }
    inputs = {
        role: toy.publish_rows(root, role, [listed], kind) for role, (listed, kind) in rows.items()
    }
    inputs["table"] = toy.publish_table(root, pairs)
    inputs["truth"] = toy.publish_rows(root, "pair-truth", [truth], schema.PAIR_TRUTH, Config())
    world = root / "world"
    write_world(world, part="val", n=6, size=64, seed=0)
    benchmark = BenchmarkConfig(
        root=world, clip=str(clip), maskformer=str(maskformer), short_side=64, seen=SEEN
    )
    checkpoint = run_stage(Checkpoint(adapted), Config(), {}, root)
    inputs["checkpoint/finetuned"] = checkpoint
    for arm, parents in (("original", {}), ("finetuned", {"checkpoint": checkpoint})):
        run = run_stage(BENCHMARK, benchmark, parents, root)
        scores = run_stage(SCORES, ScoresConfig(arm=arm), {"benchmark": run}, root)
        inputs |= {f"benchmark/storybook/{arm}": run, f"scores/storybook/{arm}": scores}
    inputs["curve/storybook/finetuned"] = toy.publish_curve(root, checkpoint)
    config = ReportConfig(
        preset="tiny",
        expect="nothing",
        dataset="toy",
        miniature=True,
        arms=(("original", "original CLIP"), ("finetuned", "fine-tuned")),
        benchmark=benchmark,
        segmented=2,
        worst=1,
        mistakes=3,
        side=64,
        picture=64,
        image_root=pictures,
    )
    return ReportRun(root, config, inputs)
