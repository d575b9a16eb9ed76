"""What `make install` fetches: each file of each package is known by its hash before it is run."""

import re
from pathlib import Path

LOCK = (Path(__file__).parent.parent / "requirements.lock").read_text(encoding="utf-8")
PINNED = re.compile(
    r"^([A-Za-z0-9._-]+)==(\S+)(?: ; [^\\]+?)? \\\n((?:    --hash=\S+(?: \\)?\n)+)", re.M
)


def test_every_package_has_its_hashes_and_no_address():
    lines = [line for line in LOCK.splitlines() if line and not line.startswith((" ", "#"))]
    pinned = PINNED.findall(LOCK)
    assert len(pinned) == len(lines) > 100
    for name, _version, hashes in pinned:
        found = re.findall(r"--hash=(\S+)", hashes)
        assert found, name
        assert all(re.fullmatch(r"sha256:[0-9a-f]{64}", each) for each in found), name
    assert "://" not in LOCK


def test_what_installs_the_others_is_pinned_like_them():
    assert "uv" in {name for name, _, _ in PINNED.findall(LOCK)}
    makefile = (Path(__file__).parent.parent / "Makefile").read_text(encoding="utf-8")
    calls = re.findall(r"pip install (?:.*\\\n)*.*", makefile)
    unchecked = [call for call in calls if "--require-hashes" not in call]
    assert len(calls) == 3 and len(unchecked) == 1 and "--no-deps --editable ." in unchecked[0]
