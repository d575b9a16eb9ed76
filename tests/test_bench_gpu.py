"""The benchmark of a GPU: every part runs at tiny shapes, a second call goes on or finds all."""

import json
import sys
import time

import pytest
import torch

from bench.gpu import __main__ as gpu
from bench.gpu.results import Results, count_flops, peak


def run(monkeypatch, path, *words):
    monkeypatch.setattr(
        sys, "argv", ["bench.gpu", "--device", "cpu", "--tiny", "--out", str(path), *words]
    )
    gpu.main()


def test_every_part_is_measured_once(monkeypatch, tmp_path, capsys):
    path = tmp_path / "gpu.json"
    run(monkeypatch, path, "--parts", "naming,agreement")
    first = json.loads(path.read_text())["parts"]
    run(monkeypatch, path)
    content = json.loads(path.read_text())
    assert content["device"] == "CPU" and content["tiny"] and content["peak_bf16"] is None
    assert set(content["parts"]) == set(gpu.PARTS)
    for name, part in content["parts"].items():
        assert part["finished"] and part["figures"] and "skipped" not in part
        assert all(figure["commit"] for figure in part["figures"].values())
        assert not part["left_out"]
        for key, figure in part["figures"].items():
            assert not {"failed", "skipped", "out_of_memory"} & set(figure), (name, key, figure)
            assert figure["peak_gib"] is None and figure["took_s"] >= 0
    assert {name: content["parts"][name] for name in first} == first  # not measured again
    naming = content["parts"]["naming"]["figures"]["eager, crops of 1 image"]
    assert naming["images/s"] > 0 and naming["share_of_peak"] is None and naming["tflop_each"] > 0
    assert content["parts"]["mining"]["figures"]["storybook's networks, at 160 pixels"]["images"]
    capsys.readouterr()
    run(monkeypatch, path)
    assert capsys.readouterr().out.count("measured before") == len(gpu.PARTS)
    assert json.loads(path.read_text()) == content


@pytest.fixture
def results(tmp_path):
    return lambda: Results(tmp_path / "gpu.json", "cpu", tiny=True)


def test_a_part_goes_on_after_its_last_figure(results):
    calls = []

    def figure(key):
        calls.append(key)
        if calls.count("b") == 1:
            raise RuntimeError("once")
        return {"images/s": 1.23456}

    part = results().part("naming", until=time.monotonic() + 60)
    part.measure("a", lambda: figure("a"))
    part.measure("b", lambda: figure("b"))
    part.until = 0
    part.measure("c", lambda: figure("c"))
    part.finish()
    again = results()
    assert again.failed() == ["naming/b"]
    assert again.content["parts"]["naming"]["left_out"] == ["c"]
    part = again.part("naming", until=time.monotonic() + 60)
    assert not part.finished
    for key in "abc":
        part.measure(key, lambda key=key: figure(key))
    part.finish()
    assert calls == ["a", "b", "b", "c"]
    again = results()
    assert again.part("naming", until=0).finished and not again.failed()
    assert again.content["parts"]["naming"]["figures"]["b"]["images/s"] == 1.235


def test_a_missing_package_skips_a_part(results, monkeypatch, tmp_path):
    def measure(name):
        raise ModuleNotFoundError("No module named 'spacy'", name="spacy")

    monkeypatch.setattr(gpu, "import_module", measure)
    run(monkeypatch, tmp_path / "gpu.json", "--parts", "mining")
    part = json.loads((tmp_path / "gpu.json").read_text())["parts"]["mining"]
    assert part["finished"] and part["skipped"] == "the package spacy is missing"


def test_figures_of_another_device_are_not_mixed(monkeypatch, tmp_path):
    path = tmp_path / "gpu.json"
    path.write_text(json.dumps({"device": "NVIDIA L4", "tiny": False, "parts": {}}))
    with pytest.raises(SystemExit, match="has figures of NVIDIA L4: give another --out"):
        run(monkeypatch, path)


@pytest.mark.parametrize(
    ("name", "teraflops"),
    [
        ("NVIDIA H200", 989),
        ("NVIDIA H100 80GB HBM3", 989),
        ("NVIDIA H100 PCIe", 756),
        ("NVIDIA A100-SXM4-40GB", 312),
        ("NVIDIA L4", 121),
        ("NVIDIA L40S", None),
        ("NVIDIA GeForce RTX 4090", 165),
        ("CPU", None),
    ],
)
def test_the_peak_of_known_devices(name, teraflops):
    assert peak(name) == (None if teraflops is None else teraflops * 1e12)


def test_operations_of_attention_are_counted():
    # the kernel that runs a whole layer in evaluation would hide them
    layer = torch.nn.TransformerEncoderLayer(32, 4, 64, batch_first=True).eval()
    tokens = torch.randn(2, 10, 32)
    with torch.no_grad():
        counted = count_flops(lambda: layer(tokens))
    linear = 2 * 20 * (32 * 96 + 32 * 32 + 2 * 32 * 64)
    assert counted == linear + 2 * 2 * 2 * 10 * 10 * 32
