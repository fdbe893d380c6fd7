"""`pretext fred` from the command line: its ranking, its cost, its refusals, and what it leaves behind."""

from __future__ import annotations

import json
import secrets
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import pretext
import pretext.clients.voting
from pretext.config.settings import Config
from pretext.errors import UsageError
from pretext.fred.recommend import RankedSet, recommend_sets
from pretext.home import open_ledger
from pretext.jobs.parts import Parts
from tests.support.broken import forget_noise
from tests.support.runs import WORDS, Command, HashEmbedder, make_parts, rows_of, write_rows

pytestmark = pytest.mark.slow


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, called: Command) -> Command:
    """Call the entry point with the hashing embedder behind it; its own configuration wins over the conftest's."""
    real = Parts.of  # the audit brings models and rows of its own

    def of(cls: type[Parts], config: Config, rows: Any = None, models: Any = None) -> Parts:
        return make_parts(config) if models is None else real(config, rows, models)

    monkeypatch.setattr(Parts, "of", classmethod(of))
    return called


def sentences(words: list[str], count: int, seed: int) -> list[dict[str, str]]:
    rng = np.random.default_rng(seed)
    return [{"text": " ".join(rng.choice(words, 6))} for _ in range(count)]


@pytest.fixture
def public_sets(tmp_path: Path) -> dict[str, Path]:
    """Talk of computers, of the home, of both as the private clients do, and in another language."""
    foreign = ["der", "die", "das", "und", "nicht", "ein", "zwei", "haus", "garten", "suppe", "blume", "ofen"]
    texts = {
        "computers": sentences(WORDS[:10], 300, 1),
        "home": sentences(WORDS[10:], 300, 2),
        "both": sentences(WORDS[:10], 150, 3) + sentences(WORDS[10:], 150, 4),
        "german": sentences(foreign, 300, 5),
    }
    return {name: write_rows(tmp_path / f"{name}.jsonl", rows) for name, rows in texts.items()}


@pytest.fixture
def flags(tmp_path: Path, public_sets: dict[str, Path]) -> list[str]:
    private = write_rows(tmp_path / "private.jsonl", rows_of(clients=1500))
    base = ["--private", private, "--client-column", "client_id", "--clients", 1500, "--epsilon", 1, "--delta", 1e-5]
    base += ["--out", tmp_path / "fred"]
    return ["fred", *map(str, base), *(part for path in public_sets.values() for part in ("--public-set", str(path)))]


def spent(name: str = "private") -> float:
    return open_ledger().account(name).spent_epsilon


def releases(name: str = "private") -> int:
    return len(open_ledger().account(name).releases)


def lines_of(out: str) -> dict[str, dict[str, Any]]:
    return {line["public_set"]: line for line in json.loads(out)["lines"]}


def test_the_nearest_is_found_and_charged_once(command: Command, flags: list[str], tmp_path: Path) -> None:
    code, out, err = command(*flags)
    assert code == 0, err
    assert "Prefinetune on both: it is the nearest with probability" in out
    assert out.splitlines()[1].startswith("both")
    assert "unit client, relation add/remove" in out
    assert 0.9 < spent() <= 1
    privacy = json.loads((tmp_path / "fred" / "privacy.json").read_text())
    assert privacy["guarantee"]["epsilon"] == pytest.approx(spent(), abs=1e-6)
    assert privacy["releases"][0]["l2_sensitivity"] == pytest.approx(1, abs=1e-6)


def test_a_repeat_replays_without_opening_the_private_file(
    command: Command, flags: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = json.loads(command(*flags, "--json")[1])

    def refuse(*arguments: object) -> None:
        raise AssertionError("the private texts were read")

    monkeypatch.setattr("tests.support.runs.read_private", refuse)
    repeated = json.loads(command(*flags, "--json")[1])
    # In another folder too: the label is made from the content of the query.
    elsewhere = json.loads(command(*flags, "--json", "--out", tmp_path / "elsewhere")[1])
    assert first["lines"] == repeated["lines"] == elsewhere["lines"]
    assert releases() == 1


def test_fred__other_number_of_texts_per_client__is_another_release(
    command: Command, flags: list[str], tmp_path: Path
) -> None:
    command(*flags, "--set", "privacy.budget_epsilon=3")
    command(*flags, "--set", "privacy.max_texts_per_client=1", "--out", tmp_path / "one")
    statements = [json.loads((tmp_path / name / "privacy.json").read_text()) for name in ("fred", "one")]
    assert [statement["bounding"]["max_texts_per_client"] for statement in statements] == [8, 1]
    assert releases() == 2


def test_ranking__given_as_a_run__is_refused_and_untouched(command: Command, flags: list[str], tmp_path: Path) -> None:
    """Whoever resumes a ranking did not mean to spend a budget on a run."""
    out = tmp_path / "fred"
    assert command(*flags)[0] == 0
    before = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
    for arguments in (["resume"], ["expand", "--texts", "5"], ["export", "--to", tmp_path / "x.csv"], ["report"]):
        code, _, err = command(arguments[0], out, *arguments[1:])
        assert code == 1
        assert "fred" in err
    assert {path: path.read_bytes() for path in out.rglob("*") if path.is_file()} == before
    assert command("privacy", "verify", out)[0] == 0


def test_new_sets_are_ranked_from_the_stored_release(
    command: Command, flags: list[str], public_sets: dict[str, Path], tmp_path: Path
) -> None:
    command(*flags)
    late = write_rows(tmp_path / "late.jsonl", sentences(WORDS, 400, 9))
    code, out, err = command(
        "fred", "--out", tmp_path / "fred", "--public-set", late, "--public-set", public_sets["german"], "--json"
    )
    assert code == 0, err
    assert set(lines_of(out)) == {"late", "german"}
    assert releases() == 1


def test_replace_one_is_paid_with_twice_the_noise(command: Command, flags: list[str], tmp_path: Path) -> None:
    command(*flags, "--relation", "replace-one")
    release = json.loads((tmp_path / "fred" / "privacy.json").read_text())["releases"][0]
    assert release["l2_sensitivity"] == pytest.approx(2, abs=1e-6)
    assert spent() <= 1


def test_an_exact_number_of_clients_is_not_counted(command: Command, flags: list[str]) -> None:
    counted = json.loads(command(*flags, "--plan", "--json")[1])
    exact = json.loads(command(*flags, "--plan", "--json", "--clients-exact")[1])
    assert exact["mean_directions"] == counted["mean_directions"] == 32
    rank = exact["second_moment_directions"]
    assert exact["coordinates"] == 32 + rank * (rank + 1) // 2
    code, out, _ = command(*flags, "--clients-exact")
    assert code == 0
    assert "Prefinetune on both" in out


def test_plan_touches_nothing_private(command: Command, flags: list[str], tmp_path: Path) -> None:
    (tmp_path / "private.jsonl").unlink()
    code, out, err = command(*flags, "--plan")
    assert code == 0, err
    assert "coordinates" in out
    assert open_ledger().names() == []
    poor = json.loads(command(*flags, "--plan", "--json", "--epsilon", "0.001")[1])
    rich = json.loads(command(*flags, "--plan", "--json", "--epsilon", "5")[1])
    assert poor["chance"] < rich["chance"]
    assert poor["second_moment_directions"] <= rich["second_moment_directions"]


@pytest.mark.parametrize("plan", [[], ["--plan"]], ids=["asked", "planned"])
def test_fred__at_a_very_small_delta__says_that_the_grid_decides(
    plan: list[str], command: Command, flags: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    assert command(*flags, "--epsilon", "15", "--delta", "1e-12", *plan)[0] == 0
    assert "grid" in caplog.text


def test_fred__of_a_configured_noise__begins_with_a_budget_that_holds_it(command: Command, flags: list[str]) -> None:
    at = flags.index("--epsilon")
    plain = [*flags[:at], *flags[at + 2 :]]
    code, _, err = command(*plain, "--set", "privacy.noise_multiplier=5")
    assert (code, "grid" in err) == (0, False), err
    code, _, err = command(*plain, "--set", "privacy.noise_multiplier=0.4", "--delta", "1e-12", "--out", "other")
    assert code == 2 and "grid" in err


def test_a_mixture_is_chosen_greedily(command: Command, flags: list[str], public_sets: dict[str, Path]) -> None:
    at = flags.index(str(public_sets["both"]))
    without = [*flags[: at - 1], *flags[at + 1 :]]
    answer = json.loads(command(*without, "--choose", "2", "--json", "--epsilon", "3")[1])
    assert set(answer["mixture"]) == {"computers", "home"}
    assert answer["mixture_distances"][1] < answer["mixture_distances"][0]
    assert "Mixture" in command(*without, "--choose", "2", "--epsilon", "3")[1]


@pytest.fixture
def noiseless(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the noise that is planned decide the outcome, not the noise that happens to be drawn."""
    forget_noise(monkeypatch)


@pytest.mark.usefixtures("noiseless")
def test_too_small_an_epsilon_names_no_nearest_set(command: Command, flags: list[str]) -> None:
    code, out, _ = command(*flags, "--epsilon", "0.0005")
    assert code == 0
    assert "This budget" in out
    assert "Prefinetune" not in out


def test_more_than_the_budget_is_refused_and_costs_nothing(command: Command, flags: list[str], tmp_path: Path) -> None:
    assert command(*flags)[0] == 0
    code, _, err = command(*flags, "--epsilon", "0.5", "--out", tmp_path / "second")
    assert code == 3
    assert "asked is epsilon 0.5" in err
    assert releases() == 1


def line(name: str, best: float) -> RankedSet:
    return RankedSet(name, 0.1, 0.0, 0.2, best, 10, 10)


@pytest.mark.parametrize(
    ("chances", "words"),
    [
        ([0.97, 0.03, 0.0], "Prefinetune on a: it is the nearest with probability 97 %"),
        ([1.0, 0.0], "99 %"),
        ([0.6, 0.4, 0.0], "does not tell a (60 %) and b (40 %) apart; the others are farther"),
        ([0.6, 0.4], "does not tell a (60 %) and b (40 %) apart. Take either"),
        ([0.4, 0.3, 0.3], "tells nothing"),
    ],
)
def test_recommend_sets__sure_open_or_blind__names_the_possible_sets(chances: list[float], words: str) -> None:
    assert words in recommend_sets([line(name, chance) for name, chance in zip("abc", chances, strict=False)])


# Bad input


def test_one_public_set_is_no_choice(command: Command, flags: list[str], public_sets: dict[str, Path]) -> None:
    alone = [*flags[: flags.index("--public-set")], "--public-set", str(public_sets["home"])]
    code, _, err = command(*alone)
    assert (code, err.count("\n")) == (2, 1)
    assert "--public-set" in err


BAD_SETS = {
    "empty": b"",
    "blank": b'{"text": " "}\n',
    "without the column": b'{"body": "soup"}\n',
    "not of its format": b"soup\n",
}


@pytest.mark.parametrize("case", BAD_SETS)
def test_unusable_public_sets(case: str, command: Command, flags: list[str], tmp_path: Path) -> None:
    (tmp_path / "bad.jsonl").write_bytes(BAD_SETS[case])
    code, _, err = command(*flags, "--public-set", tmp_path / "bad.jsonl")
    assert code == 2
    assert str(tmp_path / "bad.jsonl") in err
    assert err.strip().splitlines()[-1].endswith(".")
    assert not (tmp_path / "fred").exists()
    assert open_ledger().names() == []


def test_two_equal_public_sets(
    command: Command, flags: list[str], public_sets: dict[str, Path], tmp_path: Path
) -> None:
    twin = tmp_path / "twin.jsonl"
    twin.write_bytes(public_sets["home"].read_bytes())
    code, _, err = command(*flags, "--public-set", twin)
    assert code == 2
    assert str(public_sets["home"]) in err
    assert str(twin) in err


def test_a_set_in_another_language_is_the_farthest(command: Command, flags: list[str]) -> None:
    lines = lines_of(command(*flags, "--json")[1])
    assert list(lines)[-1] == "german"
    assert lines["german"]["best"] == 0


@pytest.mark.usefixtures("noiseless")
def test_fewer_clients_than_dimensions(command: Command, flags: list[str], tmp_path: Path) -> None:
    write_rows(tmp_path / "private.jsonl", rows_of(clients=6))
    code, out, err = command(*flags, "--clients", "6")
    assert code == 0, err
    assert "nan" not in out
    assert "This budget" in out


def test_the_number_of_clients_must_be_stated(command: Command, flags: list[str]) -> None:
    at = flags.index("--clients")
    code, _, err = command(*flags[:at], *flags[at + 2 :])
    assert code == 2
    assert "--clients" in err


def test_another_embedder_is_refused_by_name(
    command: Command, flags: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    command(*flags)
    code, _, err = command(*flags, "--set", "models.embedder=other/model")
    assert code == 1
    assert "models.embedder" in err
    embed = HashEmbedder.__call__

    def embed_reversed(self: HashEmbedder, texts: Any, *, announce: str | None = None) -> Any:
        return np.ascontiguousarray(embed(self, texts)[:, ::-1])

    monkeypatch.setattr(HashEmbedder, "__call__", embed_reversed)
    code, _, err = command(*flags)
    assert code == 2
    assert "embedded, 64 tokens" in err
    assert releases() == 1


def test_another_query_in_the_same_folder_is_refused(command: Command, flags: list[str]) -> None:
    command(*flags)
    code, _, err = command(*flags, "--epsilon", "2")
    assert code == 1
    assert "privacy.epsilon" in err


@pytest.mark.parametrize(
    "content", [b"", b"[]", b"\xff", b'{"moments": 3}', b'{"moments": {}}', b'{"moments": {"rank": "a"}}']
)
def test_load_query__damaged_file__is_one_sentence(
    content: bytes, command: Command, flags: list[str], tmp_path: Path
) -> None:
    command(*flags)
    (tmp_path / "fred" / "query.json").write_bytes(content)
    code, _, err = command(*flags)
    assert code == 1
    assert "query.json" in err
    code, _, err = command(*flags, "--accept-changes")
    assert (code, err.count("\n")) == (1, 1)
    assert str(tmp_path / "fred" / "query.json") in err


def test_load_query__file_deleted_as_told__the_ledger_replays(
    command: Command, flags: list[str], tmp_path: Path
) -> None:
    command(*flags)
    (tmp_path / "fred" / "query.json").unlink()
    assert command(*flags)[0] == 1
    assert command(*flags, "--accept-changes")[0] == 0
    assert releases() == 1


def test_private_files_that_cannot_be_used(command: Command, flags: list[str], tmp_path: Path) -> None:
    code, _, err = command(*flags, "--client-column", "user")
    assert code == 2
    assert "'user'" in err
    code, _, err = command(*flags, "--private", tmp_path / "nowhere.jsonl")
    assert code == 2
    assert str(tmp_path / "nowhere.jsonl") in err


def test_an_interrupt_is_exit_4_and_the_same_command_goes_on(
    command: Command, flags: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*arguments: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(pretext.clients.voting, "bounded_moments", interrupt)
        code, _, _ = command(*flags)
    assert code == 4
    assert command(*flags)[0] == 0
    assert releases() == 1


# Charts and notebooks


@pytest.mark.parametrize("ending", ["svg", "png"])
def test_a_chart(ending: str, command: Command, flags: list[str], tmp_path: Path) -> None:
    try:
        import matplotlib  # noqa: F401
    except ImportError:
        code, _, err = command(*flags, "--chart", tmp_path / f"chart.{ending}")
        assert code == 2
        assert "pretext[plot]" in err
        pytest.skip("needs matplotlib")
    code, _, err = command(*flags, "--chart", tmp_path / f"chart.{ending}")
    assert code == 0, err
    start = (tmp_path / f"chart.{ending}").read_bytes()[:8]
    assert start.startswith(b"<?xml" if ending == "svg" else b"\x89PNG")


@pytest.mark.parametrize("chart", ["chart.pdf", "no/such/chart.svg"])
def test_a_chart_that_cannot_be_drawn_is_refused_before_anything_is_released(
    chart: str, command: Command, flags: list[str], tmp_path: Path, home: Path
) -> None:
    code, _, err = command(*flags, "--chart", tmp_path / chart)
    assert code == 2
    assert str(tmp_path / chart) in err
    assert not (home / "ledger.sqlite").exists()


def test_from_python(public_sets: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pretext.jobs.parts._open_embedder", lambda models, speed: HashEmbedder())
    answer = pretext.rank_public_sets(
        rows_of(clients=1500),
        list(public_sets.values()),
        clients=1500,
        client_column="client_id",
        epsilon=1,
        delta=1e-5,
        dataset="notes",
        out=tmp_path / "fred",
    )
    assert answer.ranking.lines[0].public_set == "both"
    assert answer.privacy.dataset.name == "notes"
    with pytest.raises(UsageError, match="dataset"):
        pretext.rank_public_sets(["a text"], list(public_sets.values()), clients=10, epsilon=1)


# Leaks


def test_nothing_private_is_left_behind(
    command: Command, flags: list[str], tmp_path: Path, home: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Planted strings in texts and client ids, and the number of clients, are in no file and no output."""
    rows, marks = rows_of(clients=1237), []
    for row in rows:
        marks.append(f"canary{secrets.token_hex(8)}")
        row["text"] += f" {marks[-1]}"
        row["client_id"] += marks[-1][:14] if row["client_id"] == "c0" else ""
    write_rows(tmp_path / "private.jsonl", rows)
    code, out, err = command(*flags)
    assert code == 0, err
    files = [path for folder in (tmp_path / "fred", home) for path in folder.rglob("*") if path.is_file()]
    traces = [out.encode(), err.encode(), caplog.text.encode(), *(path.read_bytes() for path in files)]
    assert not [mark for mark in marks for trace in traces if mark.encode() in trace]
    assert not [output for output in (out, err, caplog.text) if "1237" in output or "3711" in output]
    assert len(files) >= 6


def test_the_release_is_never_the_true_sum(command: Command, flags: list[str], home: Path) -> None:
    """With noise every coordinate of the same query moves, from one ledger to the next."""
    command(*flags)
    first = open_ledger().account("private").releases[0].noisy
    (home / "ledger.sqlite").unlink()
    command(*flags, "--out", home.parent / "elsewhere")
    assert (open_ledger().account("private").releases[0].noisy != first).all()
