"""Prepared folders as they are read: prompts, smaller images, label maps to train on."""

import numpy as np
import pytest
from PIL import Image
from published_sources import SOURCES, index_map, picture

from ovseg.data.benchmarks import prepare as module
from ovseg.data.benchmarks.benchmark import load_benchmark
from ovseg.data.benchmarks.prepare import prepare


def test_prompts_of_a_prepared_folder(tmp_path):
    picture(tmp_path / "images" / "a.png", 1, 2)
    index_map(tmp_path / "labels" / "a.png", [[0, 1]])
    (tmp_path / "classes.txt").write_text("sofa\nbackground\n")
    prompts = tmp_path / "prompts.tsv"
    prompts.write_text('class_name\tprompt\nsofa\tsofa\nbackground\twall\nsofa\t5" couch\n')
    found = load_benchmark("mine", tmp_path)
    assert found.prompts == found.texts == (("sofa", 0), ("wall", 1), ('5" couch', 0))
    for text, words in (
        ("class_name\tprompt\nsofa\tcouch\n", "class 'background' has no prompt"),
        ("class_name\tprompt\nsofa\tcouch\nbackground\t\n", "a prompt is empty"),
        ("class_name\tprompt\nmoon\tmoon\n", "names of classes.txt"),
        ("sofa\tcouch\n", "must have the header class_name"),
    ):
        prompts.write_text(text)
        with pytest.raises(module.OvsegError, match=words) as caught:
            load_benchmark("mine", tmp_path)
        assert "\n" not in str(caught.value)
    prompts.unlink()
    assert load_benchmark("mine", tmp_path).texts == (("sofa", 0), ("background", 1))


def test_the_full_ade20k_is_made_smaller_and_saved_again(tmp_path):
    SOURCES["ade20k-847"](tmp_path / "source")
    home = tmp_path / "source" / "ADE20K_2021_17_01" / "images" / "ADE" / "validation" / "home"
    picture(home / "ADE_val_00000002.jpg", 600, 900)
    colours = np.zeros((600, 900, 3), np.uint8)
    colours[:, :450] = (2978 // 256 * 10, 2978 % 256, 0)
    Image.fromarray(colours).save(home / "ADE_val_00000002_seg.png")
    prepare("ade20k-847", root=tmp_path / "source", out=tmp_path / "data")
    benchmark = load_benchmark("ade20k-847", tmp_path / "data" / "ade20k-847")
    small, large = benchmark.samples
    assert benchmark.labels(small).shape == (2, 3)
    labels = benchmark.labels(large)
    assert labels.shape == (512, 768) and (labels[:, :384] == 0).all()
    assert (labels[:, 384:] == 65535).all()
    for sample, size in ((small, (3, 2)), (large, (768, 512))):
        assert not sample.image.is_symlink()
        with Image.open(sample.image) as image:
            assert image.size == size and image.format == "JPEG"
            expected = Image.new("RGB", (8, 8))
            expected.save(tmp_path / "q75.jpg", quality=75)
            with Image.open(tmp_path / "q75.jpg") as other:
                assert image.quantization == other.quantization


def test_coco_stuff_maps_to_train_on(tmp_path):
    coco = tmp_path / "coco"
    for folder in ("train2017", "stuffthingmaps/train2017"):
        (coco / folder).mkdir(parents=True)
    for number, stored in ((9, [[0, 181, 255]]), (25, [[255, 255, 255]])):
        stem = f"{number:012d}"
        Image.new("RGB", (3, 1)).save(coco / "train2017" / f"{stem}.jpg")
        labels = np.array(stored, np.uint8)
        Image.fromarray(labels).save(coco / "stuffthingmaps" / "train2017" / f"{stem}.png")
    done = prepare("coco-stuff-171-train", root=tmp_path, out=tmp_path / "data")
    found = load_benchmark("coco-stuff-171-train", done.folder)
    (sample,) = found.samples  # the other has no pixel of a class
    names = [found.classes[index] for index in found.labels(sample)[0, :2]]
    assert (sample.image_id, names) == (9, ["person", "wood"])
    assert found.labels(sample)[0, 2] == 255
