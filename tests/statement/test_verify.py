"""Whatever is changed in a run folder or in the ledger is found and named; what nobody touched is verified."""

from __future__ import annotations

import dataclasses
import json
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from pretext.config.settings import Config
from pretext.home import open_ledger
from pretext.jobs.run import expand_run, synthesize
from pretext.run.folder import Run
from pretext.run.manifest import MANIFEST, file_digest
from pretext.statement.verify import verify_folder
from privacy import LedgerConflict
from tests.support.runs import make_parts, rows_of, write_rows

Make = Callable[..., Config]


@pytest.fixture
def run(make_config: Make, tmp_path: Path) -> Run:
    """Three rounds, 30 texts in shards of 12."""
    config = make_config("expansion.shard_texts=12")
    return synthesize(config, tmp_path / "run", make_parts(config))


def messages(run: Run) -> list[str]:
    """The differences, as they are printed."""
    return [str(difference) for check in verify_folder(run.folder, open_ledger()) for difference in check.differences]


def edit_json(path: Path, change: Callable[[Any], object]) -> None:
    value = json.loads(path.read_text())
    change(value)
    path.write_text(json.dumps(value, indent=1))


def edit_ledger(home: Path, *statements: str) -> None:
    with closing(sqlite3.connect(home / "ledger.sqlite")) as connection, connection:
        for statement in statements:
            assert connection.execute(statement).rowcount >= 1


def disguise(run: Run) -> None:
    """List the files as they are now: what somebody does who knows of the manifest, but does not reach the ledger."""
    listed = {
        name: {"sha256": file_digest(run.folder / name), "bytes": (run.folder / name).stat().st_size}
        for name in json.loads((run.folder / MANIFEST).read_text())["files"]
    }
    edit_json(run.folder / MANIFEST, lambda manifest: manifest.update(files=listed))


# What nobody touched


def test_an_untouched_run_verifies(run: Run) -> None:
    checks = verify_folder(run.folder, open_ledger())
    assert messages(run) == []
    assert [check.words.split(":")[0] for check in checks if "round" in check.words] == [
        "the noise of every round is what config.toml plans",
        "round 0",
        "round 1",
        "round 2",
    ]
    assert len(checks) == 10


@pytest.mark.parametrize("selection", ["multinomial", "rank"])
def test_other_selections_verify(selection: str, make_config: Make, tmp_path: Path) -> None:
    config = make_config(f"evolution.selection={selection}", "evolution.seed=5", "evolution.threshold=2")
    assert messages(synthesize(config, tmp_path / "run", make_parts(config))) == []


def test_a_run_with_labels_in_parquet_verifies(make_config: Make, tmp_path: Path, private_file: Path) -> None:
    write_rows(private_file, rows_of(label=True))
    labels = ("data.label_column=label", 'data.labels=["computers", "home"]')
    config = make_config(*labels, "expansion.format=parquet", "privacy.relation=replace-one", "privacy.epsilon=9")
    run = synthesize(config, tmp_path / "run", make_parts(config))
    assert messages(run) == []
    content = (run.folder / "synthetic.parquet").read_bytes()
    (run.folder / "synthetic.parquet").write_bytes(content[:50] + bytes([content[50] ^ 1]) + content[51:])
    assert [line.split(":")[0] for line in messages(run)] == ["synthetic.parquet, sha256"]


def test_a_resumed_run_verifies_and_is_not_sealed_twice(make_config: Make, run: Run) -> None:
    config = make_config("expansion.shard_texts=12")
    synthesize(config, run.folder, make_parts(config))
    assert messages(run) == []
    seals = open_ledger().account("private").seals
    assert [seal.opened for seal in seals] == [False, True, False], "after the evolution, and around the expansion"


def test_after_expand_it_verifies(make_config: Make, run: Run) -> None:
    config = make_config("expansion.shard_texts=12")
    expand_run(config, run, make_parts(config), 40)
    assert messages(run) == []
    assert [seal.opened for seal in open_ledger().account("private").seals] == [False, True, False, True, False]


def test_a_run_verifies_after_others_were_charged_and_the_budget_was_raised(
    make_config: Make, run: Run, tmp_path: Path
) -> None:
    """The statement is held against the ledger as it stood then."""
    from privacy import Budget

    open_ledger().set_budget("private", Budget(45.0, 1e-3))
    config = make_config("privacy.epsilon=5")
    second = synthesize(config, tmp_path / "second", make_parts(config))
    assert messages(run) == messages(second) == []
    dataset = second.require_statement().dataset
    history = dataset.history
    assert [(charge.run, charge.releases) for charge in history] == [(run.id, 3), (second.id, 3)]
    assert history[1].spent_epsilon == dataset.spent_epsilon
    assert history[0].spent_epsilon == history[0].epsilon > history[1].epsilon
    assert history[1].epsilon == pytest.approx(5, abs=1e-3)


def test_an_interrupted_expansion_is_named(make_config: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = make_config()

    def interrupted(*arguments: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("pretext.jobs.run.expand_seeds", interrupted)
        with pytest.raises(KeyboardInterrupt):
            synthesize(config, tmp_path / "run", make_parts(config))
    run, _ = Run.open(tmp_path / "run")
    assert messages(run) == [], "the evolution is sealed, there are no texts yet"
    (run.folder / "synthetic.jsonl").write_text('{"text": "from elsewhere"}\n')
    assert messages(run) == ["synthetic.jsonl: expected no file, found a file"]


def test_an_interrupted_evolution_is_not_verified(
    make_config: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = make_config()

    def interrupted(*arguments: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("pretext.evolution.variation.extract_answer", interrupted)
        with pytest.raises(KeyboardInterrupt):
            synthesize(config, tmp_path / "run", make_parts(config))
    run, _ = Run.open(tmp_path / "run")
    words = messages(run)
    assert any(line.startswith("manifest.json: expected the file, found nothing; `pretext resume") for line in words)
    assert any("votes/2: expected a release, found nothing" in line for line in words)
    synthesize(config, run.folder, make_parts(config))
    assert messages(run) == []


@pytest.mark.parametrize("has_ledger", [True, False])
def test_expand_run__beside_another_ledger__is_refused_and_names_both(
    has_ledger: bool, make_config: Make, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config, home = make_config("expansion.shard_texts=12"), tmp_path / "elsewhere"
    with monkeypatch.context() as patch:
        patch.setenv("PRETEXT_HOME", str(home))
        if has_ledger:
            assert any("is another one" in line for line in messages(run))
        with pytest.raises(LedgerConflict) as caught:
            expand_run(config, run, make_parts(config), 40)
        assert str(home / "ledger.sqlite") in str(caught.value)
        assert str(tmp_path / "home" / "ledger.sqlite") in str(caught.value)
    assert messages(run) == [], "nothing was written"


# Tampering with the folder

FOLDER: dict[str, tuple[str, Callable[[Path], object], str]] = {
    "an edited text": (
        "synthetic/00001.jsonl",
        lambda path: path.write_text(path.read_text().replace("text", "tex7", 1)),
        "synthetic/00001.jsonl, sha256: expected",
    ),
    "a truncated shard": (
        "synthetic/00002.jsonl",
        lambda path: path.write_bytes(path.read_bytes()[:-20]),
        "synthetic/00002.jsonl, bytes: expected",
    ),
    "a missing shard": ("synthetic/00000.jsonl", Path.unlink, "synthetic/00000.jsonl: expected a file, found no file"),
    "an added shard": (
        "synthetic/00003.jsonl",
        lambda path: path.write_text('{"text": "x"}\n'),
        "synthetic/00003.jsonl: expected no file, found a file",
    ),
    "the stated epsilon": (
        "privacy.json",
        lambda path: edit_json(path, lambda stated: stated["guarantee"].update(epsilon=1.0)),
        "privacy.json, guarantee.epsilon: expected 19.",
    ),
    "the stated budget": (
        "privacy.json",
        lambda path: edit_json(path, lambda stated: stated["dataset"]["budget"].update(epsilon=99.0)),
        "privacy.json, dataset.budget.epsilon: expected 20.0, found 99.0",
    ),
    "a release left out": (
        "privacy.json",
        lambda path: edit_json(path, lambda stated: stated["releases"].pop()),
        "privacy.json, length of releases: expected 3, found 2",
    ),
    "the stated noise": (
        "privacy.json",
        lambda path: edit_json(path, lambda stated: stated["releases"][1].update(noise_multiplier=9.0)),
        "privacy.json, releases[1].noise_multiplier: expected 0.43",
    ),
    "an earlier statement": (
        "privacy.json",
        lambda path: edit_json(path, lambda stated: stated["dataset"].update(ledger_position=4)),
        "privacy.json, releases of the run: expected 3, found 1",
    ),
    "a position that is none": (
        "privacy.json",
        lambda path: edit_json(path, lambda stated: stated["dataset"].update(ledger_position="last")),
        "privacy.json, dataset.ledger_position: expected 7, found last",
    ),
    "no position": (
        "privacy.json",
        lambda path: edit_json(path, lambda stated: stated["dataset"].pop("ledger_position")),
        "privacy.json, dataset.ledger_position: expected 7, found nothing",
    ),
    "a value of another type": (
        "privacy.json",
        lambda path: edit_json(path, lambda stated: stated["guarantee"].update(epsilon="0.1")),
        "found 0.1",
    ),
    "a part that is gone": (
        "privacy.json",
        lambda path: edit_json(path, lambda stated: stated.pop("rounds")),
        "privacy.json, rounds: expected",
    ),
    "a seed that no line end follows": (
        "seeds.jsonl",
        lambda path: path.write_text(path.read_text() + '{"text": "from elsewhere"}'),
        "seeds.jsonl, length of lines: expected",
    ),
    "a position before the first": (
        "privacy.json",
        lambda path: edit_json(path, lambda stated: stated["dataset"].update(ledger_position=0)),
        "privacy.json, dataset.ledger_position: expected 7, found 0",
    ),
    "a value that no statement holds": (
        "privacy.json",
        lambda path: edit_json(path, lambda stated: stated.update(certified="by nobody")),
        "privacy.json, certified: expected nothing, found by nobody",
    ),
    "what is not covered": (
        "privacy.json",
        lambda path: edit_json(path, lambda stated: stated["not_covered"].pop()),
        "privacy.json, length of not_covered: expected 6, found 5",
    ),
    "no statement at all": (
        "privacy.json",
        lambda path: path.write_text("{}"),
        "privacy.json: expected a readable file",
    ),
    "a candidate": (
        "population/001.json",
        lambda path: edit_json(path, lambda stored: stored["candidates"][0].__setitem__(0, "an edited candidate")),
        "population/001.json, digest of the candidates: expected",
    ),
    "an origin": (
        "population/001.json",
        lambda path: edit_json(path, lambda stored: stored["origins"].__setitem__(0, ["kept", 99])),
        "population/001.json, candidate 0: expected a parent that is there, found kept 99",
    ),
    "a noisy vote": (
        "selected/001.json",
        lambda path: edit_json(path, lambda stored: stored["noisy"].__setitem__(3, 1234.5)),
        "selected/001.json, noisy[3]: expected",
    ),
    "the noise of a round": (
        "selected/000.json",
        lambda path: edit_json(path, lambda stored: stored.update(sigma=1e-3)),
        "selected/000.json, sigma: expected",
    ),
    "a survivor": (
        "selected/002.json",
        lambda path: edit_json(path, lambda stored: stored["survivors"].reverse()),
        "selected/002.json, survivors[0]: expected",
    ),
    "a weight": (
        "selected/002.json",
        lambda path: edit_json(path, lambda stored: stored["weights"].__setitem__(0, 1e6)),
        "selected/002.json, weights[0]: expected",
    ),
    "a parent": (
        "selected/000.json",
        lambda path: edit_json(path, lambda stored: stored["parents"].pop()),
        "selected/000.json, length of parents: expected 24, found 23",
    ),
    "a selection of another format": (
        "selected/000.json",
        lambda path: path.write_text("{}"),
        "/selected/000.json cannot be read (it does not hold what it should); delete that file",
    ),
    "a selection that is no JSON": (
        "selected/000.json",
        lambda path: path.write_text("half a"),
        "selected/000.json: expected a readable file",
    ),
    "a round too many": (
        "selected/003.json",
        lambda path: shutil.copy(path.with_name("002.json"), path),
        "/votes/3: expected a release, found nothing",
    ),
    "a seed": (
        "seeds.jsonl",
        lambda path: path.write_text(path.read_text().replace('"text": "', '"text": "private ', 1)),
        "seeds.jsonl, lines[0]: expected",
    ),
    "the settings": (
        "config.toml",
        lambda path: path.write_text(path.read_text().replace("epsilon = 20.0", "epsilon = 5.0")),
        "config.toml, noise of round 0: expected",
    ),
    "delta in the settings": (
        "config.toml",
        lambda path: path.write_text(path.read_text().replace("delta = 0.001", "delta = 0.0001")),
        "privacy.json, guarantee.delta: expected 0.0001, found 0.001",
    ),
    "the bound in the settings": (
        "config.toml",
        lambda path: path.write_text(path.read_text().replace("max_texts_per_client = 8", "max_texts_per_client = 7")),
        "config.toml, bound of round 0",
    ),
    "the selection in the settings": (
        "config.toml",
        lambda path: path.write_text(path.read_text().replace("\nthreshold = 0.5", "\nthreshold = 2.5")),
        "selected/000.json, threshold: expected 2.5, found 0.5",
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("case", FOLDER)
def test_tampering_with_the_folder_is_named(case: str, run: Run) -> None:
    name, change, words = FOLDER[case]
    change(run.folder / name)
    lines = messages(run)
    assert any(words in line for line in lines), lines
    assert any(line.startswith(name) for line in lines), "the manifest names the file too"


@pytest.mark.slow
@pytest.mark.parametrize("case", [case for case in FOLDER if "shard" not in case and "too many" not in case])
def test_a_manifest_made_to_fit_is_not_the_sealed_one(case: str, run: Run) -> None:
    name, change, words = FOLDER[case]
    change(run.folder / name)
    disguise(run)
    lines = messages(run)
    if case != "no statement at all":
        assert any(line.startswith("manifest.json, SHA-256 sealed at") for line in lines), lines
    assert case == "an edited text" or any(words in line for line in lines), lines


def test_the_folder_of_another_run_under_this_ones_name(make_config: Make, run: Run, tmp_path: Path) -> None:
    from privacy import Budget

    open_ledger().set_budget("private", Budget(45.0, 1e-3))
    config = make_config("expansion.shard_texts=12", "privacy.epsilon=5")
    second = synthesize(config, tmp_path / "other", make_parts(config))
    assert messages(second) == []
    shutil.copy(run.folder / "run.json", second.folder / "run.json")
    lines = messages(second)
    for words in (
        "manifest.json, run: expected",
        "run.json, sha256: expected",
        "manifest.json, SHA-256 sealed at",
        "privacy.json, run: expected",
        "population/001.json, digest of the candidates",
        "selected/000.json, noisy[0]",
    ):
        assert any(line.startswith(words) for line in lines), (words, lines)


# Tampering with the ledger

SIGMA = "content = json_set(content, '$.sigma', content ->> 'sigma' / 2)"
UNWRITTEN = "is not as it was written, or not in its place"
LEDGER: dict[str, tuple[list[str], str]] = {
    "deleted release": (["DELETE FROM event WHERE position = 4"], "event 4 of dataset 'private' is gone"),
    "deleted end": (["DELETE FROM event WHERE position >= 6"], "event 10 of dataset 'private' is gone"),
    "less noise": ([f"UPDATE event SET {SIGMA} WHERE position = 4"], f"/votes/0') {UNWRITTEN}"),
    "another value": (["UPDATE event SET value = zeroblob(192) WHERE position = 5"], f"/votes/1') {UNWRITTEN}"),
    "another budget": (
        ["UPDATE event SET content = json_set(content, '$.epsilon', 99.0) WHERE position = 1"],
        f"event 1 of dataset 'private' (registration) {UNWRITTEN}",
    ),
    "another seal": (
        ["UPDATE event SET content = json_set(content, '$.manifest', 'a') WHERE position = 8"],
        "event 8 of dataset 'private' (seal",
    ),
    "events exchanged": (
        [
            "UPDATE event SET position = CASE position WHEN 5 THEN -6 ELSE -5 END WHERE position IN (5, 6)",
            "UPDATE event SET position = -position WHERE position < 0",
        ],
        f"/votes/2') {UNWRITTEN}",
    ),
}


@pytest.mark.parametrize("case", LEDGER)
def test_tampering_with_the_ledger_is_named(case: str, run: Run, home: Path) -> None:
    statements, words = LEDGER[case]
    edit_ledger(home, *statements)
    lines = messages(run)
    assert len(lines) == 1
    assert lines[0].startswith("ledger: expected the account of the run, found")
    assert words in lines[0]


def test_damage_outside_of_the_datasets_own_events_is_named(run: Run, home: Path) -> None:
    edit_ledger(home, "INSERT INTO head VALUES ('nobody', 1, '')")
    lines = messages(run)
    assert len(lines) == 1
    assert "the datasets that have a head are not those that have events" in lines[0]


def test_a_cut_tail_is_noticed_by_the_statement(run: Run, home: Path) -> None:
    """The chain cannot tell, but the statement knows more releases, and the seals are gone with them."""
    edit_ledger(
        home,
        "DELETE FROM event WHERE position >= 6",
        "UPDATE head SET (position, digest) = (SELECT position, digest FROM event WHERE position = 5)",
    )
    lines = messages(run)
    for words in (
        f"ledger, seal of run {run.id}: expected a seal, found nothing",
        "privacy.json, rounds.released: expected 2, found 3",
        "privacy.json, dataset.ledger_head_sha256",
        f"ledger, {run.id}/votes/2: expected a release, found nothing",
    ):
        assert any(line.startswith(words) for line in lines), (words, lines)


def test_a_ledger_whose_chain_was_computed_anew_is_noticed_by_the_statement(run: Run, home: Path) -> None:
    """Somebody doubles a release's noise on paper and computes every later digest, seals too."""
    from privacy import Release
    from privacy.account import Entry
    from privacy.chain import append, read_chain

    with closing(sqlite3.connect(home / "ledger.sqlite")) as connection, connection:
        events = [entry.event for entry in read_chain(connection, "private")]
        connection.execute("DELETE FROM event")
        last: Entry | None = None
        for event in events:
            if isinstance(event, Release) and event.label.endswith("/votes/0"):
                noise = dataclasses.replace(event.mechanism, sigma=2 * event.mechanism.sigma)
                event = dataclasses.replace(event, mechanism=noise)
            last = append(connection, "private", last, event)
    lines = messages(run)
    for words in (
        "privacy.json, reading_epsilon: expected",
        "privacy.json, releases[0].noise_standard_deviation: expected",
        "privacy.json, dataset.ledger_head_sha256: expected",
        "config.toml, noise of round 0",
        "selected/000.json, sigma",
    ):
        assert any(line.startswith(words) for line in lines), (words, lines)
