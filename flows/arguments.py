"""Command lines of `python -m flows.*`; errors are one line, before Prefect is imported."""

import argparse
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

from ovseg.cli.availability import check_clip, check_device, check_results, check_weights
from ovseg.config.overrides import parse_setting
from ovseg.config.registry import RECIPES, check_name
from ovseg.errors import OvsegError
from ovseg.files.access import check_file, check_folder, check_text, local
from ovseg.files.escaping import say


class Arguments(argparse.ArgumentParser):
    """A parser whose errors are one line, like those of `ovseg`."""

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """Parse as argparse does, after making all words text."""
        words = sys.argv[1:] if args is None else list(args)
        try:
            check_text(*words)
        except OvsegError as error:
            self.error(str(error))
        return super().parse_known_args(words, namespace)

    def error(self, message: str) -> NoReturn:
        """Print the error and exit with code 2."""
        text = re.sub(r"^argument (--[\w-]+): (?=\1)", "", message)  # our messages name the option
        say(f"ovseg: {text}; --help shows the options", error=True)
        sys.exit(2)


def _checked(check: Callable[[Any], object], made: Callable[[str], Any]) -> Callable[[str], Any]:
    """Make an option type that converts the text and checks the result."""

    def value(text: str) -> Any:
        try:
            found = made(text)
            check(found)
        except OvsegError as error:
            raise argparse.ArgumentTypeError(str(error)) from error
        return found

    return value


def written(option: str) -> Callable[[str], Path]:
    """Make the type of an option that names a folder to write to."""
    return _checked(lambda path: check_results(path, option), local)


def weights(option: str) -> Callable[[str], Path]:
    """Make the type of an option that names the folder for rebuilt weights.

    That is the shipped folder in this repository, which is replaced, or a new one.
    """
    return _checked(lambda path: check_weights(path, option), local)


def folder(option: str) -> Callable[[str], Path]:
    """Make the type of an option that names a folder to read."""
    return _checked(lambda path: check_folder(path, option), local)


def file(option: str) -> Callable[[str], Path]:
    """Make the type of an option that names a file to read."""
    return _checked(lambda path: check_file(path, option), local)


device = _checked(check_device, str)
clip = _checked(check_clip, str)
recipe = _checked(lambda name: check_name(RECIPES, name, setting="--recipe"), str)


def of_pretraining() -> argparse.Namespace:
    """Parse the command line of `python -m flows.pretrain`; exit if it is invalid."""
    parser = Arguments(description="Train a model that ovseg ships.")
    models = parser.add_subparsers(dest="model", required=True, metavar="MODEL")
    helps = {
        "clip": "the compact CLIP",
        "conv-clip": "the compact convolutional CLIP",
        "maskformer": "a compact MaskFormer, one per split",
        "mask2former": "the small Mask2Former",
        "parser": "the English noun tagger",
    }
    made = {  # what is not given is left to the defaults of `tasks.pretraining`
        name: models.add_parser(name, help=text, argument_default=argparse.SUPPRESS)
        for name, text in helps.items()
    }
    for name, each in made.items():
        each.add_argument("--out", type=weights("--out"), default=None, help="a new folder")
        each.add_argument("--seed", type=int, default=0)
        if name.endswith("clip"):
            each.add_argument("--work", type=written("--work"), help="folder of the drawn images")
        if name.endswith("former"):
            each.add_argument("--split", type=int, help="which categories are seen; 0 by default")
    made["conv-clip"].add_argument("--device", type=device, help="cpu by default, or cuda")
    made["maskformer"].add_argument("--clip", type=clip, help="by default storybook")
    made["parser"].add_argument(
        "--treebank", type=folder("--treebank"), required=True, help="folder with *-train.conllu"
    )
    return parser.parse_args()


def of_segmentation() -> argparse.Namespace:
    """Parse the command line of `python -m flows.train_segmentation`; exit if it is invalid."""
    parser = Arguments(description="Train a MaskFormer on labelled images.")
    parser.add_argument(
        "--data", type=folder("--data"), required=True, help="images/, labels/, classes.txt"
    )
    parser.add_argument("--out", type=written("--out"), required=True, help="replaced as a whole")
    parser.add_argument(
        "--clip",
        type=clip,
        default="storybook",
        help="storybook (default), a folder or ARCH/pretrained",
    )
    parser.add_argument("--recipe", type=recipe, default="swin", help=", ".join(RECIPES))
    parser.add_argument("--layout", default="prepared", help="prepared, or a benchmark's name")
    parser.add_argument(
        "--class", dest="classes", action="append", default=[], help="train on it; repeatable"
    )
    parser.add_argument("--start", help="MaskFormer to start from")
    parser.add_argument(
        "--backbone-file", type=file("--backbone-file"), help="weights trained for classification"
    )
    parser.add_argument("--steps", type=int)
    parser.add_argument("--device", type=device, help="auto, cpu, cuda, cuda:1, mps")
    parser.add_argument("--seed", type=int)
    parser.add_argument(
        "--set",
        type=_checked(lambda setting: None, parse_setting),
        action="append",
        default=[],
        help="any setting, such as precision=bf16; repeatable",
    )
    parser.add_argument(
        "--validation", type=folder("--validation"), help="folder to score on; defaults to --data"
    )
    parser.add_argument("--score-images", type=int, default=100, help="0 scores none")
    home = Path("runs/train-segmentation")
    parser.add_argument(
        "--root", type=written("--root"), default=home, help="states, results, mlflow.db"
    )
    parser.add_argument("--tracking", help="MLflow server; SQLite in --root by default")
    return parser.parse_args()
