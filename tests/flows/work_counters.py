"""Counters around the functions that cost time: how much work each stage of a run did.

    with counting() as work:
        pipeline("storybook", root=root)
    assert work["decoded", "proposals"] == 24

The functions run as ever. Counts are the same on every machine, so a test may assert them.
"""

import functools
import importlib
import pkgutil
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from contextvars import ContextVar
from itertools import count
from pathlib import Path
from typing import Any
from unittest import mock

ROOMS = ("ovseg", "tasks", "flows")
PLANNING = "planning"
"""The stage of what is done outside of shards, such as digests of weights and catalogs."""

_stage: ContextVar[str] = ContextVar("stage", default=PLANNING)


class Work:
    """How often each kind of work was done, by stage; threads may add to it at once.

    Attributes:
        texts: how often a CLIP embedded a text, by stage, number of the CLIP's object, and text.
        published: how often a name was published, and with how many bytes in all.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._done: Counter[tuple[str, str]] = Counter()
        self.texts: Counter[tuple[str, int, object]] = Counter()
        self.published: dict[str, tuple[int, int]] = {}
        self._numbers = count()

    def __getitem__(self, kind_and_stage: tuple[str, str]) -> int:
        return self._done[kind_and_stage]

    def of(self, kind: str) -> dict[str, int]:
        """Return how much of a kind the stages did, without those that did none."""
        return {stage: n for (each, stage), n in sorted(self._done.items()) if each == kind and n}

    def total(self, kind: str) -> int:
        """Return how much of a kind was done."""
        return sum(self.of(kind).values())

    def add(self, kind: str, amount: int) -> None:
        """Count work of the stage whose shard this thread computes."""
        with self._lock:
            self._done[kind, _stage.get()] += amount

    def add_texts(self, clip: Any, texts: list[object]) -> None:
        """Count texts that a CLIP embeds."""
        self.add("texts embedded", len(texts))
        with self._lock:
            # an id would be given again to a CLIP that is loaded after another was dropped
            number = vars(clip).setdefault("number", next(self._numbers))
            self.texts.update((_stage.get(), number, text) for text in texts)

    def add_files(self, temporary: Path, path: Path) -> None:
        """Count what is published as `path`."""
        each = [temporary, *temporary.rglob("*")] if temporary.is_dir() else [temporary]
        files = [file for file in each if file.is_file()]
        size = sum(file.stat().st_size for file in files)
        self.add("files written", len(files))
        self.add("bytes written", size)
        with self._lock:
            times, total = self.published.get(path.name, (0, 0))
            self.published[path.name] = times + 1, total + size


def _regions(images: list[Any]) -> int:
    return sum(len(regions.pixels) for regions in images)


@contextmanager
def counting() -> Iterator[Work]:
    """Count the work of the block, which begins with the empty caches of a new process."""
    _import_everything()
    import spacy

    from ovseg.config import request
    from ovseg.data import images, masks
    from ovseg.files import publish
    from ovseg.models.clip import load, text_tower
    from ovseg.models.clip.open_clip_model import OpenClipModel
    from ovseg.models.maskformer import load as maskformers
    from ovseg.models.maskformer.proposing import MaskFormerProposals
    from ovseg.models.regions import crops
    from ovseg.stages import run

    work = Work()
    length, one = (lambda result: len(result)), (lambda result: 1)
    functions: dict[str, tuple[tuple[Callable[..., Any], Callable[[Any], int]], ...]] = {
        "decoded": ((images.decode, one),),
        "masks encoded": ((masks.encode, length),),
        "masks decoded": ((masks.decode, length),),
        "regions cut": ((crops.crops_of_images, _regions),),
        "CLIPs loaded": ((load.load_model, one),),
        "MaskFormers loaded": (
            (maskformers._load_ours, one),
            (maskformers._load_transformers, one),
        ),
        "parsers loaded": ((spacy.load, one),),
        "resolved": ((request.resolve, one),),
    }
    with ExitStack() as stack:
        _forget(stack)
        for kind, each in functions.items():
            for function, amount in each:
                _wrap(stack, function, _after(work, kind, amount))
        _wrap_method(stack, MaskFormerProposals, "propose", _after(work, "proposed", length))
        _wrap_method(stack, OpenClipModel, "encode_regions", _after(work, "embedded", length))
        _wrap_method(
            stack,
            OpenClipModel,
            "encode_texts",
            _before(lambda clip, t: work.add_texts(clip, [*t])),
        )
        _wrap(
            stack,
            text_tower.encode_trimmed,
            _before(lambda clip, tokens: work.add_texts(clip, [*map(_trimmed, tokens.tolist())])),
        )
        _wrap(stack, publish.publish, _before(work.add_files))
        _wrap(stack, run.run_shard_together, _in_stage)
        yield work


# --------------------------------------------------------------------------------------
# Wrappers

Wrapper = Callable[[Callable[..., Any]], Callable[..., Any]]


def _after(work: Work, kind: str, amount: Callable[[Any], int]) -> Wrapper:
    """Count what a call returned."""

    def wrapper(function: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(function)
        def call(*args: Any, **kwargs: Any) -> Any:
            result = function(*args, **kwargs)
            work.add(kind, amount(result))
            return result

        return call

    return wrapper


def _before(note: Callable[..., None]) -> Wrapper:
    """Count a call by its positional arguments."""

    def wrapper(function: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(function)
        def call(*args: Any, **kwargs: Any) -> Any:
            note(*args)
            return function(*args, **kwargs)

        return call

    return wrapper


def _in_stage(function: Callable[..., Any]) -> Callable[..., Any]:
    """Attribute the work of a shard to its stage."""

    @functools.wraps(function)
    def call(stage: Any, *args: Any, **kwargs: Any) -> Any:
        token = _stage.set(stage.name)
        try:
            return function(stage, *args, **kwargs)
        finally:
            _stage.reset(token)

    return call


def _trimmed(tokens: list[int]) -> tuple[int, ...]:
    """Return the tokens of a text without the padding, whatever the context."""
    return tuple(token for token in tokens if token)


def _wrap(stack: ExitStack, function: Callable[..., Any], wrapper: Wrapper) -> None:
    """Wrap a function in its module and wherever it was imported by name."""
    counted, home = wrapper(function), sys.modules[function.__module__]
    modules = [m for name, m in [*sys.modules.items()] if name.partition(".")[0] in ROOMS]
    if home not in modules:  # a library's own: its callers look it up there
        modules.append(sys.modules[function.__module__.partition(".")[0]])
    places = [(m, name) for m in modules for name, v in [*vars(m).items()] if v is function]
    assert places
    for module, name in places:
        stack.enter_context(mock.patch.object(module, name, counted))


def _wrap_method(stack: ExitStack, owner: type, name: str, wrapper: Wrapper) -> None:
    """Wrap a method of a class and of all that override it."""
    families = [owner]
    for family in families:
        families += family.__subclasses__()
        if name in vars(family):
            stack.enter_context(mock.patch.object(family, name, wrapper(vars(family)[name])))


# --------------------------------------------------------------------------------------
# A process that has done nothing yet


def _import_everything() -> None:
    """Import every module, so that none imports a counter by name and keeps it."""
    for room in ROOMS:
        for module in pkgutil.walk_packages(importlib.import_module(room).__path__, f"{room}."):
            importlib.import_module(module.name)


def _forget(stack: ExitStack) -> None:
    """Empty what a process keeps: models, texts and digests; the shared CLIPs come back."""
    from ovseg.models.clip import load

    stack.enter_context(mock.patch.dict(load._SHARED, clear=True))
    for name, module in [*sys.modules.items()]:
        if name.partition(".")[0] in ROOMS:
            for value in [*vars(module).values()]:
                if callable(forget := getattr(value, "cache_clear", None)):
                    forget()
