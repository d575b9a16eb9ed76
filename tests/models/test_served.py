"""A registered model: what travels, what stays a name, and what makes it another one."""

import json
import shutil
from pathlib import Path

import pytest
import torch

from ovseg.config.registry import PROPOSERS
from ovseg.config.scoring import BenchmarkConfig
from ovseg.errors import OvsegError
from ovseg.models.packaged import WEIGHTLESS, restored, served_model
from ovseg.models.regions.memory import RegionMemory
from ovseg.models.texts.strategies import CONTEXTS_FILE, contexts_text, read_contexts, text_prompts

CONTEXTS = {"boat": [("adjective", "öd"), ("adjective", "red"), ("place", "on the sea")], "x": []}


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    """A folder that is copied, not loaded, with a snapshot below."""
    folder = tmp_path / "clip"
    (folder / "snapshots").mkdir(parents=True)
    (folder / "model.safetensors").write_bytes(b"weights")
    (folder / "snapshots" / "step-1.safetensors").write_bytes(b"snapshot")
    return folder


@pytest.fixture
def contexts(tmp_path: Path) -> Path:
    """A folder of mined contexts."""
    folder = tmp_path / "mined"
    folder.mkdir()
    (folder / CONTEXTS_FILE).write_text(contexts_text(CONTEXTS, 9), encoding="utf-8")
    return folder


def folder_of(path: Path, **files: bytes) -> Path:
    path.mkdir(parents=True)
    for name, content in files.items():
        (path / name.replace("__", ".")).write_bytes(content)
    return path


OUR_NETWORK = {
    "config__json": b"{}",
    "model__safetensors": b"net",
    "text_embeddings__safetensors": b"texts",
    "training_log__parquet": b"log",
}


@pytest.mark.parametrize(
    "changed",
    [
        {"region": "box"},
        {"system": "zsseg"},
        {"mask_threshold": 0.5},
        {"proposals": "slic"},
        {"maskformer": "storybook-1"},
        {"seen_weight": 0.2},
        {"seen_weight": 0.2, "seen": ("sea",)},
        {"synonyms": True},
        {"synonyms": True, "benchmark": "voc-20"},
    ],
)
def test_what_changes_an_answer_makes_another_model(clip, changed):
    config = BenchmarkConfig().model_copy(update=changed)
    assert (
        served_model(config, clip=clip).content
        != served_model(BenchmarkConfig(), clip=clip).content
    )


@pytest.mark.parametrize(
    "changed",
    [
        {"benchmark": "voc-20", "root": Path("/data/voc-20")},
        {"limit": 5, "shard_size": 7, "min_shards": 1},
        {"oracle": "gt_masks"},  # there is no ground truth where it is asked
        {"seen": ("sea",), "seen_split": "/data/split.tsv"},
        {"trained_on": ("coco-stuff-171",)},
        {"device": "cpu", "batch_size": 3},
        {"clip": "/data/clip"},
        {"contexts": 3, "contexts_from": Path("/data/nouns"), "pixels": "/data/pixels"},
        {"retrieval_neighbors": 3},
    ],
)
def test_what_changes_none_does_not_and_leaves_no_path(clip, changed):
    model = served_model(BenchmarkConfig(**changed), clip=clip)
    assert model.content == served_model(BenchmarkConfig(), clip=clip).content
    assert "/data" not in json.dumps(model.settings)


def test_of_the_checkpoint_the_top_travels_and_names_it(clip, tmp_path):
    model = served_model(BenchmarkConfig(), clip=clip)
    artifacts = model.write(folder_of(tmp_path / "upload"))
    assert set(artifacts) == {"settings", "clip"}
    assert [path.name for path in artifacts["clip"].iterdir()] == ["model.safetensors"]
    moved = shutil.copytree(clip, tmp_path / "moved")
    assert served_model(BenchmarkConfig(), clip=moved).content == model.content
    (moved / "model.safetensors").write_bytes(b"other")
    assert served_model(BenchmarkConfig(), clip=moved).content != model.content
    with pytest.raises(OvsegError, match="is not a folder"):
        served_model(BenchmarkConfig(), clip=tmp_path / "gone")


def test_contexts_travel_without_the_captions_they_were_counted_in(clip, contexts, tmp_path):
    config = BenchmarkConfig(prompting="mined", contexts=2, contexts_from=contexts)
    model = served_model(config, clip=clip)
    before = text_prompts(config).digest
    artifacts = model.write(folder_of(tmp_path / "upload"))
    shutil.rmtree(contexts)
    there, _ = restored(artifacts)
    assert read_contexts(there.contexts_from) == {"boat": CONTEXTS["boat"][:2], "x": []}
    assert text_prompts(there).digest == before
    assert served_model(there, clip=clip).content == model.content  # and once more
    more = dict(CONTEXTS, sea=[("adjective", "calm")])
    (there.contexts_from / CONTEXTS_FILE).write_text(contexts_text(more, 9), encoding="utf-8")
    assert served_model(there, clip=clip).content != model.content


@pytest.mark.parametrize("text", ["{torn", "[]", '{"boat": ["red"]}', '{"boat": 3}'])
def test_damaged_contexts_are_said_on_one_line(contexts, text):
    (contexts / CONTEXTS_FILE).write_text(text)
    with pytest.raises(OvsegError, match="has no contexts") as error:
        read_contexts(contexts)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "setting", [{"segmentor": "pixels"}, {"embedder": "pixel_pooling"}], ids=lambda each: str(each)
)
def test_pixel_embeddings_travel(clip, setting, tmp_path):
    pixels = folder_of(tmp_path / "lseg", **OUR_NETWORK)
    model = served_model(BenchmarkConfig(**setting, pixels=str(pixels)), clip=clip)
    artifacts = model.write(folder_of(tmp_path / "upload"))
    names = {path.name for path in artifacts["pixels"].iterdir()}
    assert names == {"config.json", "model.safetensors", "text_embeddings.safetensors"}
    assert ("maskformer" in model.settings) == ("segmentor" not in setting)
    there, _ = restored(artifacts)
    assert there.pixels == str(artifacts["pixels"]) and there.clip == str(artifacts["clip"])
    (pixels / "training_log.parquet").write_bytes(b"of another day")
    again = served_model(BenchmarkConfig(**setting, pixels=str(pixels)), clip=clip)
    assert again.content == model.content


def test_of_proposals_folders_travel_and_names_stay(clip, tmp_path, monkeypatch):
    ours = folder_of(tmp_path / "ours", **OUR_NETWORK)
    imported = tmp_path / "imported"
    shutil.copytree(ours, imported / "maskformer")
    folder_of(imported / "clip", open_clip_config__json=b"{}", model__safetensors=b"clip")
    dino = folder_of(tmp_path / "dino", config__json=b"{}", model__safetensors=b"dino")
    weights = tmp_path / "vit.pt"
    weights.write_bytes(b"vit")
    three = {"config.json", "model.safetensors", "text_embeddings.safetensors"}
    for proposals, name, value, files in (
        ("maskformer", "storybook-2", "storybook-2", None),
        ("maskformer", "facebook/maskformer-swin-base-coco", None, None),
        ("maskformer", str(ours), "{folder}", three),
        ("maskformer", str(imported), "{folder}", three),
        ("sam", str(dino), "{folder}", {"config.json", "model.safetensors"}),
        ("maskcut", "storybook-2", "storybook", None),
        ("maskcut", "ViT-B-16/openai", "ViT-B-16/openai", None),
        ("maskcut", f"ViT-B-16/{weights}", "ViT-B-16/{folder}/vit.pt", {"vit.pt"}),
        ("maskcut", "timm/vit_small_patch16_224.dino", "timm/vit_small_patch16_224.dino", None),
        (
            "clusters",
            f"timm/local-dir:{dino}",
            "timm/local-dir:{folder}",
            {"config.json", "model.safetensors"},
        ),
        ("clusters", str(dino), "{folder}", {"config.json", "model.safetensors"}),
        (
            "clusters",
            str(imported),
            "{folder}",
            {"open_clip_config.json", "model.safetensors"},
        ),
        ("slic", str(ours), "", None),
    ):
        model = served_model(BenchmarkConfig(proposals=proposals, maskformer=name), clip=clip)
        case = (proposals, name)
        assert model.settings.get("maskformer", "") == (name if value is None else value), case
        assert set(model.parts.get("maskformer", ())) == (files or set()), case
        there, _ = restored({**model.write(folder_of(tmp_path / "upload"))})
        if files and value == "{folder}":
            assert there.maskformer == str(tmp_path / "upload" / "maskformer"), case
        elif files:
            assert there.maskformer == value.replace(
                "{folder}", str(tmp_path / "upload/maskformer")
            )
        shutil.rmtree(tmp_path / "upload")
    assert set(WEIGHTLESS) <= set(PROPOSERS)


def test_the_regions_to_retrieve_travel(clip, tmp_path):
    memory = RegionMemory(
        regions_ne=torch.eye(3), nouns_n=torch.tensor([0, 1, 1]), nouns=("boat", "sea")
    )
    memory.save(tmp_path / "regions")
    config = BenchmarkConfig(retrieval_weight=0.3)
    model = served_model(config, clip=clip, regions=tmp_path / "regions")
    _, regions = restored(model.write(folder_of(tmp_path / "upload")))
    assert regions == tmp_path / "upload" / "regions"
    assert RegionMemory.load(regions).nouns == memory.nouns
    assert "retrieval_neighbors" in model.settings


@pytest.mark.parametrize(
    ("setting", "advice"),
    [
        ({"prompting": "mined"}, r"set benchmarks\.contexts_from"),
        ({"prompting": "mined", "contexts_from": Path("gone")}, "run it again"),
        ({"segmentor": "pixels"}, r"benchmarks\.pixels='' is not a folder"),
        (
            {"embedder": "pixel_pooling", "pixels": "storybook-lseg"},
            "name a trained network's folder",
        ),
        ({"retrieval_weight": 0.3}, "set it to 0"),
        ({"maskformer": ""}, r"benchmarks\.maskformer is empty"),
    ],
)
def test_what_cannot_be_served_is_said_on_one_line(clip, setting, advice):
    with pytest.raises(OvsegError, match=advice) as error:
        served_model(BenchmarkConfig(**setting), clip=clip)
    assert "\n" not in str(error.value)
