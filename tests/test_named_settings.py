"""Names in settings are looked up before a run begins, and without torch where nothing changed."""

import subprocess
import sys
from pkgutil import resolve_name

import pytest

from ovseg.configure import configure
from ovseg.errors import OvsegError
from ovseg.named_settings import REGISTRIES


@pytest.mark.parametrize("setting", REGISTRIES)
def test_an_unknown_name_is_refused_on_one_line_with_those_there_are(setting):
    with pytest.raises(OvsegError) as refused:
        configure("storybook", overrides={setting: "nosuch"})
    message = str(refused.value)
    assert message.startswith(f"{setting}: there is no 'nosuch'; choose one of ")
    assert message.endswith(", ".join(resolve_name(REGISTRIES[setting]))) and "\n" not in message


@pytest.mark.parametrize("setting", REGISTRIES)
def test_every_name_of_a_registry_is_taken(setting):
    for name in resolve_name(REGISTRIES[setting]):
        configure("storybook", overrides={setting: name})


def test_names_of_arms_given_whole_are_looked_up_too():
    with pytest.raises(OvsegError, match=r"arms\.trains: there is no 'all'"):
        configure("storybook", overrides={"arms": {"original": (), "a": ({"trains": "all"},)}})


def test_what_changes_no_name_loads_no_torch():
    program = (
        "import sys; from ovseg.configure import configure;"
        "configure('storybook', overrides={'arms.epochs': 1, 'benchmarks.embedder': 'crops'});"
        "sys.exit('torch' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", program], check=True, timeout=120)
