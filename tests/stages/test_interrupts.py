"""Signals end a command with one line and the right code, whatever it is doing."""

import os
import signal
import subprocess
import sys
import textwrap
import time

import psutil
import pytest

from ovseg.stages import interrupts

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="looks into /proc")


def start(tmp_path, body: str, *before: str) -> subprocess.Popen:
    """Run `body`, which prints a line when it is ready, in a program with its own session."""
    program = tmp_path / "program.py"
    lines = textwrap.indent(textwrap.dedent(body), "    ")
    program.write_text(
        "import os, signal, subprocess, sys, threading, time\n"
        "from ovseg.stages import interrupts\n"
        f"def command():\n{lines}\n"
        "if __name__ == '__main__':\n    sys.exit(interrupts.run(command))\n"
    )
    return subprocess.Popen(
        [*before, sys.executable, program],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def ready(process: subprocess.Popen) -> str:
    return process.stdout.readline().strip()


def ended(process: subprocess.Popen) -> tuple[int, list[str]]:
    """The exit code, and the lines on standard error."""
    _, errors = process.communicate(timeout=60)
    return process.returncode, errors.splitlines()


IN_DUCKDB = """
    import duckdb
    print("ready", flush=True)
    duckdb.sql("select sum(a.range * b.range) from range(10000000) a, range(10000000) b").fetchall()
"""


@pytest.mark.parametrize(
    ("number", "code", "line"),
    [
        (signal.SIGINT, 130, "ovseg: interrupted"),
        (signal.SIGTERM, 143, "ovseg: ended by SIGTERM"),
        (signal.SIGHUP, 129, "ovseg: ended, as its terminal was closed"),
    ],
)
def test_a_signal_ends_a_long_call_with_one_line(tmp_path, number, code, line):
    process = start(tmp_path, IN_DUCKDB)
    ready(process)
    os.killpg(process.pid, number)
    assert ended(process) == (code, [line])


def test_a_signal_that_another_thread_is_given_is_heard(tmp_path):
    """The system may give it to any thread, and only wakes that one."""
    process = start(
        tmp_path,
        """
        time.sleep(0.5)  # until the main thread waits
        signal.pthread_kill(threading.get_ident(), signal.SIGTERM)
        time.sleep(1000)
        """,
    )
    assert ended(process) == (143, ["ovseg: ended by SIGTERM"])


def test_closers_are_called_and_one_that_hangs_is_left(tmp_path):
    told = tmp_path / "told"
    process = start(
        tmp_path,
        f"""
        def tell():
            open({str(told)!r}, "w").write("told")
        def gone():
            open({str(tmp_path / "gone")!r}, "w").close()
        with interrupts.closing(gone):
            pass
        with interrupts.resumable(), interrupts.closing(lambda: time.sleep(1000)):
            with interrupts.closing(lambda: 1 / 0), interrupts.closing(tell):
                print("ready", flush=True)
                time.sleep(1000)
        """,
    )
    ready(process)
    process.send_signal(signal.SIGINT)
    again = "finished shards are kept, run the same command to go on"
    assert ended(process) == (130, [f"ovseg: interrupted; {again}"])
    assert told.read_text() == "told"
    assert not (tmp_path / "gone").exists()


def test_a_second_ctrl_c_waits_for_no_closer(tmp_path):
    process = start(
        tmp_path,
        """
        interrupts._RECORDING_SECONDS = 1000
        with interrupts.closing(lambda: time.sleep(1000)):
            print("ready", flush=True)
            time.sleep(1000)
        """,
    )
    ready(process)
    process.send_signal(signal.SIGINT)
    assert process.stderr.readline() == "ovseg: interrupted\n"
    process.send_signal(signal.SIGTERM)  # a system's second one waits as its first does
    process.send_signal(signal.SIGINT)
    assert ended(process) == (130, [])


def test_what_the_command_says_afterwards_is_not_heard(tmp_path):
    process = start(
        tmp_path,
        """
        def late():
            print("late", flush=True)
            print("late", file=sys.stderr, flush=True)
            os.write(2, b"late")
            subprocess.run([sys.executable, "-c", "import sys; sys.exit('late')"])
        with interrupts.closing(late):
            print("ready", flush=True)
            time.sleep(1000)
        """,
    )
    ready(process)
    process.send_signal(signal.SIGTERM)
    out, errors = process.communicate(timeout=60)
    assert (process.returncode, out, errors) == (143, "", "ovseg: ended by SIGTERM\n")


def test_children_end_too_in_whatever_session(tmp_path):
    process = start(
        tmp_path,
        """
        words = [sys.executable, "-c", "import signal, time; signal.signal(15, signal.SIG_IGN);"
                 "print('up', flush=True); time.sleep(1000)"]
        child = subprocess.Popen(words, stdout=subprocess.PIPE, start_new_session=True)
        child.stdout.readline()
        print(child.pid, flush=True)
        time.sleep(1000)
        """,
    )
    child = int(ready(process))
    process.send_signal(signal.SIGTERM)
    assert ended(process)[0] == 143
    assert not alive(child)


def test_workers_neither_hear_the_terminal_nor_outlive_the_command(tmp_path):
    body = """
        from ovseg.stages.workers import WorkerPool
        pool = WorkerPool(1)
        print(pool.submit(os.getpid).result(), flush=True)
        print(pool.submit(os.getpgid, 0).result(), flush=True)
        pool.submit(time.sleep, 1000).result()
    """
    process = start(tmp_path, body)
    worker, group = int(ready(process)), int(ready(process))
    assert worker != process.pid and group != os.getpgid(process.pid)
    os.killpg(process.pid, signal.SIGINT)
    assert ended(process) == (130, ["ovseg: interrupted"])
    assert not alive(worker)


def test_a_signal_that_comes_while_a_worker_starts_is_not_its_own(tmp_path):
    process = start(
        tmp_path,
        """
        with interrupts.sheltered():
            pid = os.fork()
            if pid == 0:
                for number in interrupts.SIGNALS:
                    os.kill(os.getpid(), number)
                interrupts.own_session()
                os._exit(7 if os.getsid(0) == os.getpid() else 8)
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        """,
    )
    assert ended(process) == (7, [])


def test_workers_end_with_a_killed_command(tmp_path):
    process = start(
        tmp_path,
        """
        from ovseg.stages.workers import WorkerPool
        pool = WorkerPool(1)
        print(pool.submit(os.getpid).result(), flush=True)
        time.sleep(1000)
        """,
    )
    worker = int(ready(process))
    process.kill()
    process.wait()
    until = time.monotonic() + 30
    while alive(worker):
        assert time.monotonic() < until
        time.sleep(0.02)


def alive(pid: int) -> bool:
    return psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE


def test_what_is_ignored_stays_ignored(tmp_path):
    """`nohup` ignores SIGHUP, and a shell SIGINT for what it runs in the background."""
    body = "os.kill(os.getpid(), signal.SIGHUP); time.sleep(0.3); return 7"
    process = start(tmp_path, body, "nohup")
    assert ended(process)[0] == 7


def test_a_forked_child_is_nobody_s_command(tmp_path):
    process = start(
        tmp_path,
        """
        def closer():
            print("closed", flush=True)
        with interrupts.closing(closer):
            mine, theirs = os.pipe()
            pid = os.fork()
            if pid == 0:
                os.write(theirs, b"ready")
                time.sleep(1000)
            os.read(mine, 5)
            os.kill(pid, signal.SIGTERM)
            _, status = os.waitpid(pid, 0)
            print(os.WTERMSIG(status), flush=True)
        """,
    )
    out, errors = process.communicate(timeout=60)
    assert (out, errors, process.returncode) == ("15\n", "", 0)


def test_results_and_errors_of_the_command_pass():
    before = {number: signal.getsignal(number) for number in interrupts.SIGNALS}
    assert interrupts.run(lambda: 3) == 3
    with pytest.raises(ZeroDivisionError):
        interrupts.run(lambda: 1 / 0)
    with pytest.raises(SystemExit) as exit_:
        interrupts.run(lambda: sys.exit(4))
    assert exit_.value.code == 4
    assert {number: signal.getsignal(number) for number in interrupts.SIGNALS} == before
