"""The words of every command: its help, and a session with the scripted engine, as golden/<command>.txt holds them.

Numbers, digests, times and folders are replaced by placeholders. After a change of words, write the files again and
read their diff: `PRETEXT_WRITE_GOLDEN=1 scripts/test tests/cli/test_golden.py`.
"""

from __future__ import annotations

import os
import re
import shlex
from pathlib import Path
from typing import Any

import pytest

from pretext.config.settings import Config
from pretext.evaluation.tiny import make_untrained_student, save_student
from pretext.jobs.parts import Parts
from pretext.models.embedder import SentenceEmbedder
from tests.evaluation.conftest import QUICK, SHAPE
from tests.support.broken import forget_noise
from tests.support.commands import walk_commands
from tests.support.runs import WORDS, Command, HashEmbedder, make_parts, rows_of, write_rows

GOLDEN = Path(__file__).parent / "golden"
SETTINGS = """
[data]
path = "private.jsonl"
client_column = "client_id"
[privacy]
epsilon = 5.0
delta = 1e-3
rounds = 2
clients = 60
[initial]
texts = "public.jsonl"
[evolution]
population = 24
threshold = 0.5
[expansion]
texts = 10
[speed]
chunk = 8
"""
# With the noise that the audit attacks; all after it is without, so that its outcome is the same each time.
AUDIT = "audit small.toml --games 256 --runs 0"
SETS = "--public-set computers.jsonl --public-set home.jsonl"
SESSION = f"""
init pretext.toml
init pretext.toml
plan small.toml
plan --epsilon 1 --set privacy.epsilom=1
run small.toml
run small.toml --out second
resume run
resume nowhere
expand run --texts 15
report run
export run --to texts.csv
export run --to-dataset texts
export run
split private.jsonl --folder parts
student public.jsonl --folder tiny --tokens 500
evaluate run --test test.jsonl --train private.jsonl --student student --tokens 300 --repetitions 1
memorization run
fred --private crowd.jsonl --client-column client_id --clients 1500 --epsilon 1 {SETS} --plan
fred --private crowd.jsonl --client-column client_id --clients 1500 --epsilon 1 {SETS}
fred --private crowd.jsonl --epsilon 1 --out second
privacy statement run
privacy verify run
privacy curve run
privacy calibrate --epsilon 1
privacy calibrate
privacy compare run
ledger
ledger show private
ledger budget private --epsilon 8
"""


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, called: Command, tmp_path: Path) -> Command:
    """Calls the entry point in a folder with all that the session reads, with the scripted engine behind it."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "100")
    real = Parts.of  # the audit brings models and rows of its own

    def of(cls: type[Parts], config: Config, rows: Any = None, models: Any = None) -> Parts:
        return make_parts(config) if models is None else real(config, rows, models)

    monkeypatch.setattr(Parts, "of", classmethod(of))
    monkeypatch.setattr(SentenceEmbedder, "from_sections", lambda models, speed: HashEmbedder())
    Path("small.toml").write_text(SETTINGS)
    write_rows(Path("private.jsonl"), rows_of())
    write_rows(Path("crowd.jsonl"), rows_of(clients=1500))
    write_rows(Path("test.jsonl"), [row | {"client_id": f"new {row['client_id']}"} for row in rows_of(20)])
    write_rows(Path("public.jsonl"), [{"text": f"the {a} and {b} here"} for a in WORDS for b in WORDS])
    for name, words in (("computers", WORDS[:10]), ("home", WORDS[10:])):
        write_rows(Path(f"{name}.jsonl"), [{"text": f"{a} {b} {c}"} for a in words for b in words for c in words])
    save_student(
        make_untrained_student([" ".join(WORDS)] * 8, vocabulary=400, training=QUICK, **SHAPE), Path("student")
    )
    return called


def replace_values(text: str, folder: Path) -> str:
    """Put placeholders in the place of what changes from run to run or from machine to machine."""
    text = text.replace(str(folder), "FOLDER").replace("not defined", "0%")
    text = text.replace("above, within chance", "below the claim")  # one line of an audit in twenty, as it says
    text = re.sub(r"\d{4}-\d\d-\d\dT[\d:.]+(\+[\d:]+|Z)?", "TIME", text)
    text = re.sub(r"(?<!\.)\b[0-9a-f]{8,}\b", "DIGEST", text)
    text = re.sub(r"[+-]?\d+(,\d{3})*(\.\d+)?(e[+-]?\d+)?", "#", text)
    return re.sub(r"(?<=\S) {2,}", "  ", text)


def record(command: Command, line: str, folder: Path) -> str:
    """A call, what it printed, and how it ended unless it ended well."""
    code, out, err = command(*shlex.split(line))
    if line.endswith("--help"):
        return f"$ pretext {line}\n{out}\n"
    reason = f"{err.strip().splitlines()[-1]}\n" if code else ""
    ending = f"[exit code {code}]\n" if code else ""
    return f"$ pretext {line}\n{replace_values(out + reason, folder)}{ending}\n"


@pytest.mark.slow
def test_words__every_command__are_those_of_the_golden_files(
    command: Command, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    pytest.importorskip("mauve")
    paths = [" ".join(path) for path, _ in walk_commands()]
    transcripts = {path: record(command, f"{path} --help".strip(), tmp_path) for path in paths}
    for line in [AUDIT, *SESSION.strip().splitlines()]:
        if line != AUDIT:
            forget_noise(monkeypatch)
        path = max((path for path in paths if f"{line} ".startswith(f"{path} ")), key=len)
        transcripts[path] += record(command, line, tmp_path)
    files = {path: GOLDEN / f"{path.replace(' ', '-') or 'pretext'}.txt" for path in paths}
    if os.environ.get("PRETEXT_WRITE_GOLDEN"):
        GOLDEN.mkdir(exist_ok=True)
        for path, file in files.items():
            file.write_text(transcripts[path], encoding="utf-8")
    assert {file.name for file in GOLDEN.iterdir()} == {file.name for file in files.values()}
    for path, file in files.items():
        assert transcripts[path] == file.read_text(encoding="utf-8"), f"pretext {path}: other words than in {file}"
