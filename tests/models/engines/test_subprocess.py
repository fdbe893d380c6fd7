from __future__ import annotations

import gc
import os
import random
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from pretext.models.engines.subprocess import ChildEnded, ChildProcess

pytestmark = pytest.mark.slow

MODULE = "tests.support.obedient_child"
SCRIPT = f"""
import os, sys
from pretext.models.engines.subprocess import ChildProcess
print("main was imported", flush=True)
child = ChildProcess({MODULE!r}, {{}})
child.send("start another")
print(child.pid, child.receive(), flush=True)
"""


@pytest.fixture
def child():
    process = ChildProcess(MODULE, {"PRETEXT_TEST": "1"})
    yield process
    process.close()


def _ask(child: ChildProcess, *message):
    child.send(message if len(message) > 1 else message[0])
    return child.receive()


def _gone(pid: int) -> bool:
    """Whether the process ends within seconds; a zombie has ended."""
    for _ in range(200):
        try:
            if Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z":
                return True
        except FileNotFoundError:
            return True
        time.sleep(0.05)
    return False


def test_answers_what_it_is_asked(child):
    assert [_ask(child, "echo", word) for word in ("one", 2, None, "x" * 10**6)] == ["one", 2, None, "x" * 10**6]


def test_what_it_prints_reaches_no_stream_of_ours(child, capfd):
    _ask(child, "echo", 1)
    child.close()
    assert capfd.readouterr() == ("", "")


def test_our_generators_are_not_its(child):
    state = random.getstate()
    assert _ask(child, "reseed") == random.Random(0).random()
    assert random.getstate() == state


def test_imports_from_where_we_do(tmp_path, monkeypatch):
    (tmp_path / "only_there.py").touch()
    monkeypatch.syspath_prepend(tmp_path)
    child = ChildProcess(MODULE, {})
    assert _ask(child, "folder of", "only_there") == str(tmp_path / "only_there.py")
    child.close()


def test_files_of_the_working_folder_stand_in_for_nothing(tmp_path, monkeypatch):
    (tmp_path / "queue.py").write_text("raise SystemExit('the wrong queue')")
    monkeypatch.setattr(sys, "path", [str(Path.cwd()), *filter(None, sys.path)])
    monkeypatch.chdir(tmp_path)
    child = ChildProcess(MODULE, {})
    assert "site-packages" not in _ask(child, "folder of", "queue")
    child.close()


def test_a_closed_child_is_gone_with_all_that_it_started(child):
    grandchild = _ask(child, "start another")
    assert child.is_running
    child.close()
    child.close()
    assert not child.is_running
    assert _gone(child.pid) and _gone(grandchild)
    with pytest.raises(ChildEnded):
        child.send("echo")


def test_a_child_that_works_is_interrupted(child):
    child.send("sleep")
    started = time.monotonic()
    child.close()
    assert _gone(child.pid)
    assert time.monotonic() - started < 60


def test_a_collected_child_is_gone():
    child = ChildProcess(MODULE, {})
    pid = child.pid
    _ask(child, "echo", 1)
    del child
    gc.collect()
    assert _gone(pid)


def test_a_fork_leaves_the_child_alone(child):
    fork = os.fork()
    if fork == 0:
        child.close()
        os._exit(0)
    os.waitpid(fork, 0)
    assert _ask(child, "echo", 1) == 1


def test_killed_from_outside_while_it_works(child):
    grandchild = _ask(child, "start another")
    child.send("sleep")
    threading.Timer(0.3, os.kill, (child.pid, signal.SIGKILL)).start()
    with pytest.raises(ChildEnded, match=r"killed from outside .* memory"):
        child.receive()
    assert _gone(grandchild)


@pytest.mark.parametrize(
    ("message", "words"),
    [
        (("leave", 3), r"ended with exit code 3$"),
        (("fail", "the reason"), r"ended with exit code \d \(the reason\)$"),
    ],
)
def test_tells_how_it_ended(child, message, words):
    child.send(message)
    with pytest.raises(ChildEnded, match=words):
        child.receive()


def test_a_module_that_cannot_be_run_is_told():
    child = ChildProcess("tests.support.no_such_module", {})
    with pytest.raises(ChildEnded, match="exit code 1"):
        child.receive()


@pytest.mark.parametrize("way", ["standard input", "file", "command"])
def test_the_main_of_the_caller_is_run_once(tmp_path, way):
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    command = {"standard input": ["-"], "file": [str(script)], "command": ["-c", SCRIPT]}[way]
    environment = os.environ | {"PYTHONPATH": str(Path.cwd())}
    process = subprocess.run(
        [sys.executable, *command], input=SCRIPT, capture_output=True, text=True, timeout=300, env=environment
    )
    assert (process.returncode, process.stderr) == (0, "")
    first, pids = process.stdout.splitlines()
    assert first == "main was imported"
    assert all(_gone(int(pid)) for pid in pids.split())


def test_no_orphan_when_the_parent_is_killed():
    code = SCRIPT + "child.send('sleep'); child.receive()"
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as script:
        script.stdout.readline()
        pids = [int(pid) for pid in script.stdout.readline().split()]
        script.kill()
    assert all(_gone(pid) for pid in pids)
