"""Standard streams of any kind: encodings, a reader that went away, closed and full ones."""

import os
import subprocess
import sys

import pytest

PROGRAM = (
    "import sys\n"
    "from ovseg.cli.streams import on_any_streams\n"
    "from ovseg.files.escaping import say\n"
    "@on_any_streams\n"
    "def main():\n"
    "    say('\\u25a0 caf\\u00e9')\n"
    "    for _ in range({lines}): print('x' * 99)\n"
    "    return open('made.txt', 'w').fileno()\n"
    "number = main()\n"
    "sys.exit(0 if number > 2 else 9)\n"
)


def ran(tmp_path, lines=0, shell="exec", **environment):
    (tmp_path / "program.py").write_text(PROGRAM.format(lines=lines))
    return subprocess.run(
        ["bash", "-c", shell.replace("exec", f"{sys.executable} program.py")],
        capture_output=True,
        cwd=tmp_path,
        env={**os.environ, **environment},
        timeout=120,
    )


@pytest.mark.parametrize(
    ("encoding", "shown"),
    [
        ("utf-8", "■ café".encode()),
        ("ascii", b"\\u25a0 caf\\xe9"),
        ("latin-1", b"\\u25a0 caf\xe9"),
    ],
)
def test_what_an_encoding_does_not_have_is_written_out(tmp_path, encoding, shown):
    done = ran(tmp_path, PYTHONIOENCODING=encoding)
    assert done.returncode == 0 and done.stdout.strip() == shown and not done.stderr


def test_a_reader_that_went_away_ends_the_program_silently(tmp_path):
    done = ran(tmp_path, 20_000, "exec | head -1 >/dev/null; exit ${PIPESTATUS[0]}")
    assert done.returncode == 141 and not done.stderr


@pytest.mark.parametrize("closed", [">&-", "2>&-", "<&-", "<&- >&- 2>&-"])
def test_closed_streams_take_everything_and_no_file_gets_their_number(tmp_path, closed):
    done = ran(tmp_path, 3, f"exec {closed}")
    assert done.returncode == 0 and not done.stderr


def test_a_full_device_is_said_on_one_line(tmp_path):
    done = ran(tmp_path, 3, "exec >/dev/full")
    assert done.returncode == 2
    assert done.stderr.decode().splitlines() == [
        "ovseg: standard output cannot be written (No space left on device)"
    ]
