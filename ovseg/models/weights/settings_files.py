"""Check the JSON next to weights: it may size a network, but not name code.

A model's folder is foreign, so its JSON is checked before anything is built from it: a file is at
most `MOST_BYTES`, a number at most `LARGEST`, a count of layers at most `MOST_LAYERS`, and nothing
may ask for the model's own code (`CODE`), which is never run.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NoReturn

from ovseg.errors import OvsegError

MOST_BYTES = 16 * 2**20
LARGEST = 2**20
"""Larger than any width, vocabulary or side of an image."""
MOST_LAYERS = 1000
DEEPEST = 32
CODE = ("auto_map", "trust_remote_code", "custom_pipelines")
"""Keys that tell `transformers` of code next to the weights."""
LAYERS = re.compile(r"(^|_)(layers|depths?|blocks_per_stage|num_(hidden_|conv_)?layers)$|_layers$")


def read_settings(path: Path) -> dict[str, Any]:
    """Read the object of a JSON file, unchecked.

    Raises:
        OvsegError: if the file does not exist, is not a regular file, is too large, is not UTF-8
            or JSON, is nested too deep, has non-finite numbers, or is not an object.
    """
    advice = "restore the file, or name another folder"
    try:
        if not path.is_file():
            what = "is not a file" if path.exists() else "is missing"
            raise OvsegError(f"{path} {what}: {advice}")
        with path.open("rb") as stream:
            data = stream.read(MOST_BYTES + 1)
        if len(data) > MOST_BYTES:
            raise OvsegError(f"{path} is larger than {MOST_BYTES >> 20} MiB: {advice}")
        content = json.loads(data.decode("utf-8"), parse_constant=_not_finite)
    except OSError as error:
        raise OvsegError(f"{path} cannot be read ({error.strerror}): {advice}") from error
    except RecursionError as error:
        raise OvsegError(f"{path} is nested too deep: {advice}") from error
    except ValueError as error:  # JSON, UTF-8, a number of 5000 digits, a null byte in the name
        reason = " ".join(str(error).split())[:120] or "empty"
        raise OvsegError(f"{path} is not JSON ({reason}): {advice}") from error
    if not isinstance(content, dict):
        kind = type(content).__name__
        raise OvsegError(f"{path} is a JSON {kind}, not an object: {advice}")
    return content


def _not_finite(name: str) -> NoReturn:
    raise ValueError(f"the number {name}")


def check_settings(settings: object, source: object) -> None:
    """Reject settings that no model has, before anything is built from them.

    Args:
        settings: the content of a JSON file.
        source: its file or model, for the message.

    Raises:
        OvsegError: for a number above `LARGEST`, more than `MOST_LAYERS`, a key of `CODE`, or
            values nested deeper than `DEEPEST`.
    """
    for key, value, depth in _leaves(settings, "", 0):
        if depth > DEEPEST:
            raise OvsegError(f"{source} is nested too deep: use another folder")
        if key in CODE and value not in (None, False):
            raise OvsegError(
                f"{source} asks for its own code ({key}), which is never run: use a model that"
                " transformers and open_clip support"
            )
        if isinstance(value, bool) or not isinstance(value, int | float):
            continue
        most = MOST_LAYERS if LAYERS.search(key) else LARGEST
        if not abs(value) <= most:  # a NaN is not
            raise OvsegError(
                f"{source}: {key}={str(value)[:20]} is too large (at most {most}): the file is"
                " damaged, restore it"
            )


def _leaves(value: object, key: str, depth: int) -> Iterator[tuple[str, object, int]]:
    """Yield every non-container value with its nearest key, and containers under keys of code."""
    if isinstance(value, dict | list | tuple) and depth <= DEEPEST:
        if key in CODE and value:
            yield key, value, depth
        for name, item in value.items() if isinstance(value, dict) else ((key, v) for v in value):
            yield from _leaves(item, str(name), depth + 1)
    else:
        yield key, value, depth


def check_transformers(name: str) -> dict[str, Any]:
    """Check the configuration of a `transformers` model before anything is built from it.

    Args:
        name: a folder, or a hub id that is cached or reachable.

    Returns:
        Its configuration as in the JSON.

    Raises:
        OvsegError: if a folder's configuration cannot be read, or `check_settings` rejects it.
        OSError, ValueError: if there is no such model, as `transformers` reports it.
    """
    from transformers import PretrainedConfig

    folder = Path(name).expanduser()
    if folder.exists() or folder.is_symlink():
        if not folder.is_dir():
            raise OvsegError(f"{folder} is not a folder: name the folder of a model")
        odd = [each for each in folder.iterdir() if not each.is_file() and not each.is_dir()]
        if odd:
            raise OvsegError(f"{odd[0]} is a device, a pipe or a broken link: remove it")
        settings = read_settings(folder / "config.json")
    else:
        settings = PretrainedConfig.get_config_dict(name)[0]
    check_settings(settings, folder / "config.json" if folder.is_dir() else name)
    if settings.get("use_pretrained_backbone") or settings.get("use_timm_backbone"):
        raise OvsegError(
            f"{name} names a backbone with other weights (use_pretrained_backbone,"
            " use_timm_backbone): use a model that includes its own"
        )
    return settings


def check_folder(name: str, family: Any) -> None:
    """Reject a folder whose configuration makes a larger network than its weights.

    Args:
        name: as for `check_transformers`; only a folder is checked.
        family: class of the model.

    Raises:
        OvsegError: if the folder has no safetensors, or fewer bytes than the network has numbers.
    """
    import torch

    folder = Path(name).expanduser()
    if not folder.is_dir():
        return
    weight_bytes = sum(path.stat().st_size for path in folder.glob("*.safetensors"))
    if not weight_bytes:
        raise OvsegError(
            f"{folder} has no weights in safetensors: save the model again with safe_serialization"
        )
    with torch.device("meta"):
        network = family(family.config_class.from_pretrained(str(folder)))
    numbers = sum(each.numel() for each in network.parameters())
    if numbers > weight_bytes:
        raise OvsegError(
            f"{folder / 'config.json'} makes a network of {numbers} numbers, but its weights have"
            f" {weight_bytes} bytes: restore the folder"
        )
