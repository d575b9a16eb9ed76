"""Weights of every format and the JSON beside them, changed at will: an answer or one line."""

from __future__ import annotations

import io
import json
import pickle
import tempfile
from copy import deepcopy
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from harness import fuzzed, mutated
from hypothesis import strategies as st
from published_weights import clip_state, save_archive
from safetensors.torch import save

from ovseg.models.checkpoints.clip_names import clip_configuration
from ovseg.models.clip.config_files import check_model_cfg
from ovseg.models.weights.files import named_tensors, read_weights
from ovseg.models.weights.settings_files import check_settings, read_settings

SMALL = {"a.weight": torch.arange(6.0).reshape(2, 3), "b": torch.ones(4).half()}


def _saved(content: Any, **options: Any) -> bytes:
    stream = io.BytesIO()
    torch.save(content, stream, **options)
    return stream.getvalue()


@cache
def weights() -> list[bytes]:
    """A small file of every format, and what an attacker would begin with."""
    arrays = {"model": {name: tensor.numpy() for name, tensor in SMALL.items()}, "by": "x" * 40}
    with tempfile.TemporaryDirectory() as folder:
        archive = save_archive(clip_state(prompts=0), Path(folder) / "clip.pt").read_bytes()
    return [
        _saved(SMALL),
        _saved({"state_dict": SMALL, "epoch": 3, "optimizer": {"state": {0: {"step": 1.0}}}}),
        _saved({"model": {"p": torch.nn.Parameter(torch.zeros(3))}, "n": (1, [2, None])}),
        _saved(SMALL, _use_new_zipfile_serialization=False),
        _saved({"model": SMALL, "n": [1]}, _use_new_zipfile_serialization=False),
        save(SMALL),
        save({"x": torch.zeros(0, 4), "y": torch.tensor(3)}, metadata={"format": "pt"}),
        *(pickle.dumps(arrays, protocol=protocol) for protocol in (2, 3, 4, 5)),
        pickle.dumps({"f": np.asfortranarray(np.ones((2, 3))), "s": np.float32(2)}, protocol=2),
        archive[:4096] + archive[-4096:],
    ]


@fuzzed(st.deferred(lambda: mutated(weights())), mebibytes=256)
def test_weights_files_are_read_or_refused(case: bytes, folder: Path):
    path = folder / "weights.pth"
    path.write_bytes(case)
    found = named_tensors(read_weights(path), path)
    held = sum(tensor.numel() * tensor.element_size() for tensor in found.state.values())
    assert held <= 4 * len(case)
    clip_configuration(found.state, quick_gelu=True)


INSTRUCTIONS = [
    *(b"(", b"0", b"1", b"2", b"N", b"\x88", b"\x89", b"]", b")", b"}", b"l", b"t", b"d", b"\x85"),
    *(b"\x86", b"\x87", b"a", b"e", b"s", b"u", b"R", b"b", b"\x81", b"Q", b"\x94", b"."),
    *(b"K\x05", b"M\xff\xff", b"J\xff\xff\xff\xff", b"\x8a\x08" + b"\xff" * 7 + b"\x7f"),
    *(b"q\x00", b"h\x00", b"q\x01", b"h\x01", b"r\xff\xff\xff\x7f", b"j\xff\xff\xff\x7f"),
    *(b"X\x02\x00\x00\x00f4", b"U\x02u1", b"C\x04abcd", b"B\xff\xff\xff\x7f", b"X\xff\xff\xff\xff"),
    *(b"\x8d" + b"\xff" * 8, b"\x8e" + b"\xff" * 8, b"\x96" + b"\xff" * 8, b"\x8b\xff\xff\xff\x7f"),
    *(b"cnumpy.core.multiarray\n_reconstruct\n", b"cnumpy\nndarray\n", b"cnumpy\ndtype\n"),
    *(b"cnumpy.core.multiarray\nscalar\n", b"cbuiltins\nbytes\n", b"ccollections\nOrderedDict\n"),
    *(b"c_codecs\nencode\n", b"X\x06\x00\x00\x00latin1", b"I10000000000\n", b"F1e400\n"),
    *(b"cnumpy.core.numeric\n_frombuffer\n", b"cposix\nsystem\n", b"cos\nsystem\n"),
]


@fuzzed(
    st.lists(st.sampled_from(INSTRUCTIONS), max_size=60).map(
        lambda parts: b"\x80\x02" + b"".join(parts) + b"."
    ),
    mebibytes=256,
)
def test_pickles_of_any_instructions_are_read_or_refused(case: bytes, folder: Path):
    path = folder / "weights.pkl"
    path.write_bytes(case)
    read_weights(path)


CONFIG: dict[str, Any] = {
    "model_cfg": {
        "embed_dim": 16,
        "quick_gelu": True,
        "vision_cfg": {"image_size": 32, "layers": 1, "width": 64, "patch_size": 16},
        "text_cfg": {
            "context_length": 8,
            "vocab_size": 8,
            "width": 64,
            "heads": 1,
            "layers": 1,
            "tokenizer_kwargs": {"clean": "lower"},
            "norm_kwargs": {"eps": 1e-5},
        },
    },
    "preprocess_cfg": {"mean": [0.5, 0.5, 0.5], "std": [0.2, 0.2, 0.2]},
}
ODD = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(max_size=8),
    st.sampled_from([[], {}, [[[]]], 10**30, -1, "hf_hub:a/b", {"trust_remote_code": True}]),
)


@st.composite
def odd_configs(draw: st.DrawFn) -> bytes:
    """A CLIP's configuration with some values replaced, and then some bytes."""
    config = json.loads(json.dumps(CONFIG))
    for _ in range(draw(st.integers(0, 3))):
        place = config
        while inner := [value for value in place.values() if isinstance(value, dict)]:
            if draw(st.booleans()):
                break
            place = draw(st.sampled_from(inner))
        place[draw(st.sampled_from([*place, "auto_map", "hf_tokenizer_name"]))] = deepcopy(
            draw(ODD)
        )
    return draw(mutated([json.dumps(config).encode(), b"[" * 100_000], most=2))


@fuzzed(odd_configs())
def test_configurations_are_read_or_refused(case: bytes, folder: Path):
    path = folder / "config.json"
    path.write_bytes(case)
    config = read_settings(path)
    check_settings(config, path)
    model = config.get("model_cfg")
    if isinstance(model, dict) and "hf_model_name" not in str(model):
        check_model_cfg(model, path)
