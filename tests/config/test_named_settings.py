"""Names in settings are looked up before a run begins, and without torch."""

import subprocess
import sys

import pytest

from ovseg.config.checks import REGISTRIES
from ovseg.config.request import resolve
from ovseg.errors import OvsegError


@pytest.mark.parametrize("setting", REGISTRIES)
def test_an_unknown_name_is_refused_on_one_line_with_those_there_are(setting):
    with pytest.raises(OvsegError) as refused:
        resolve("storybook", overrides={setting: "nosuch"})
    message = str(refused.value)
    assert message.startswith(f"{setting}: unknown name 'nosuch'; choose one of ")
    assert message.endswith(", ".join(REGISTRIES[setting])) and "\n" not in message


@pytest.mark.parametrize("setting", REGISTRIES)
def test_every_name_of_a_registry_is_taken(setting):
    for name in REGISTRIES[setting]:
        resolve("storybook", overrides={setting: name}, alone=False)


def test_names_of_arms_given_whole_are_looked_up_too():
    with pytest.raises(OvsegError, match=r"arms\.trains: unknown name 'all'"):
        resolve("storybook", overrides={"arms": {"original": (), "a": ({"trains": "all"},)}})


def test_names_are_looked_up_without_what_they_stand_for():
    program = (
        "import sys; from ovseg.config.request import resolve;"
        "names = {'arms.trains': 'joint', 'benchmarks.embedder': 'mask_tokens',"
        " 'benchmarks.templates': 'imagenet', 'mining.proposals.source': 'slic'};"
        "resolve('storybook', overrides=names);"
        "sys.exit('torch' in sys.modules or 'pyarrow' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", program], check=True, timeout=120)
