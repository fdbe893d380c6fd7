"""From raw rows to `Bounded`, end to end, on neighbors: one client moves the sum by no more than it says, exactly.

The federation is the one that the jobs wire (`Parts.of`); only models stand in. Whatever looks at the rows of several
clients at once, on any step of the way (reading, ids, caps, cuts, labels, embedding, votes, moments), moves the vectors
of clients who stayed, and the sum with them.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pretext.audit.canary_texts import HashEmbedder
from pretext.clients.voting import Ballot
from pretext.config.resolve import resolve
from pretext.config.settings import Config
from pretext.jobs.parts import Parts
from pretext.jobs.run import vote_rule
from pretext.models.engines.scripted import ScriptedEngine
from pretext.profile.query import ProfileQuery
from pretext.profile.vocabulary import Vocabulary
from privacy import Bounded, Relation
from privacy.moments import MomentQuery
from tests.support.runs import WORDS, reply, write_rows

Row = dict[str, Any]
Ask = Callable[[Config, list[Row] | None], Bounded]
LABELS = ["computers", "home", "garden", "car"]
CAP = 8
SINGLE = [{"client": "new", "text": "soup", "label": "home"}]


def invent_rows(seed: int, clients: int = 30) -> list[Row]:
    """Invent clients of all kinds, their rows mixed: with one text or many, of one label or all, short and very long,
    copied from each other, in foreign words, with ids that look alike."""
    rng = np.random.default_rng(seed)
    rows: list[Row] = []
    for number in range(clients):
        words = WORDS if number % 5 else [f"zebra{number}{i}" for i in range(9)]
        mark = f"{rng.integers(1e6)}/{LABELS[number % 4]}" if number % 3 else rng.bytes(4).hex()
        for _ in range(int(rng.choice([1, 2, CAP]))):
            length = int(rng.choice([1, 7, 60, 900]))
            text = " ".join(rng.choice(words, length))
            if rows and rng.random() < 0.3:
                text = rows[int(rng.integers(len(rows)))]["text"]
            rows.append({"client": f"{mark} {number}", "text": text, "label": str(rng.choice(LABELS))})
    return [rows[i] for i in rng.permutation(len(rows))]


def glutton(seed: int) -> list[Row]:
    """Invent a client with far more texts than count, of every label; some are others' texts, most one word."""
    rng = np.random.default_rng(seed)
    texts = [*(row["text"] for row in invent_rows(seed)[:20]), *["soup"] * 60, *(WORDS * 5)]
    return [{"client": "glutton", "text": text, "label": str(rng.choice(LABELS))} for text in texts]


def make_config(**data: object) -> Config:
    return resolve(
        settings={
            "data": {"client_column": "client", **data},
            "privacy": {"epsilon": 5.0, "delta": 1e-3, "max_texts_per_client": CAP},
            "initial": {"prompts": ["x"]},
        }
    )


def make_federation(config: Config, rows: list[Row] | None) -> Any:
    return Parts.of(config, rows, (ScriptedEngine(reply), HashEmbedder())).federation


def ask_votes(config: Config, rows: list[Row] | None, nearest: int = 2) -> Bounded:
    rng = np.random.default_rng(5)
    texts = [" ".join(rng.choice(WORDS, 6)) for _ in range(40)]
    label = rng.integers(0, max(1, len(config.data.labels)), len(texts))
    ballot = Ballot(HashEmbedder()(texts), label)
    return make_federation(config, rows).vote(ballot, vote_rule(config.privacy, nearest))


def ask_moments(config: Config, rows: list[Row] | None) -> Bounded:
    rng = np.random.default_rng(6)
    basis = np.linalg.qr(rng.standard_normal((32, 32)))[0]
    query = MomentQuery(rng.standard_normal(32) * 0.1, basis[:, :12], 6, 0.05, 0.05, 0.6, 0.2)
    return make_federation(config, rows).sum_moments(query)


def ask_profile(config: Config, rows: list[Row] | None) -> Bounded:
    rng = np.random.default_rng(8)
    centers = HashEmbedder()([" ".join(rng.choice(WORDS, 6)) for _ in range(9)])
    vocabulary = Vocabulary((*sorted(WORDS), "zebra00"))
    query = ProfileQuery.weigh(vocabulary, centers, max(1, len(config.data.labels)), 1.0, CAP, 0.6)
    return make_federation(config, rows).profile(query)


def ask_votes_unscaled(config: Config, rows: list[Row] | None) -> Bounded:
    privacy = config.privacy.model_copy(update={"normalize_votes": False, "vote_norm": 0.7})
    return ask_votes(config.model_copy(update={"privacy": privacy}), rows, nearest=1)


ASKS: list[Ask] = [ask_votes, ask_votes_unscaled, ask_moments, ask_profile]
DATA = {
    "labels": {"label_column": "label", "labels": LABELS},
    "some labels": {"label_column": "label", "labels": LABELS[1:3]},
    "no label": {},
}


def neighbors(rows: list[Row], others: list[list[Row]]) -> Iterator[tuple[list[Row], Relation]]:
    """Yield neighbors of the rows: without each of some clients, or with another in its place."""
    names = list(dict.fromkeys(row["client"] for row in rows))
    for position, name in enumerate(names[::2]):
        rest = [row for row in rows if row["client"] != name]
        yield rest, Relation.ADD_REMOVE
        replacement = others[position % len(others)]
        yield [*replacement, *rest] if position % 2 else [*rest, *replacement], Relation.REPLACE_ONE


def squared_distance(whole: Bounded, neighbor: Bounded) -> int:
    return sum((int(a) - int(b)) ** 2 for a, b in zip(whole.value, neighbor.value, strict=True))


def exceeds(whole: Bounded, neighbor: Bounded, relation: Relation) -> bool:
    assert (whole.grid, whole.norm_squared, whole.dimension) == (
        neighbor.grid,
        neighbor.norm_squared,
        neighbor.dimension,
    )
    return squared_distance(whole, neighbor) > whole.sensitivity_squared(relation)


@pytest.mark.parametrize("data", DATA)
@pytest.mark.parametrize("ask", ASKS)
def test_federation__one_client_less_or_another__moves_the_sum_by_its_bound_at_most(ask: Ask, data: str) -> None:
    config, rows = make_config(**DATA[data]), invent_rows(1)
    whole = ask(config, rows)
    assert whole.value.any()
    for neighbor, relation in neighbors(rows, [glutton(2), SINGLE]):
        assert not exceeds(whole, ask(config, neighbor), relation)


@pytest.mark.parametrize("ask", ASKS)
def test_federation__of_all_clients__is_exactly_the_sum_of_each_alone(ask: Ask) -> None:
    """What a client adds depends on nobody else: the slow twin asks each of them beside two bystanders alone."""
    config, rows = make_config(**DATA["labels"]), invent_rows(1)
    two = [{**row, "client": f"bystander {number}"} for number, row in enumerate(SINGLE * 2)]
    nobody = ask(config, two).value
    each = [
        ask(config, [*two, *(row for row in rows if row["client"] == name)]).value - nobody
        for name in dict.fromkeys(row["client"] for row in rows)
    ]
    np.testing.assert_array_equal(ask(config, [*two, *rows]).value - nobody, np.sum(each, axis=0))


@pytest.mark.parametrize("ask", ASKS)
def test_federation__a_client_joins__moves_the_sum_by_its_bound_and_no_further(ask: Ask) -> None:
    """Some client reaches the bound; one that nobody came near would mean that this compares nothing."""
    config, rows = make_config(**DATA["labels"]), invent_rows(3)
    whole, largest = ask(config, rows), 0
    for newcomer in (glutton(4), SINGLE):
        joined = ask(config, [*rows, *newcomer])
        assert not exceeds(whole, joined, Relation.ADD_REMOVE)
        largest = max(largest, squared_distance(whole, joined))
    assert largest > 0.999 * whole.norm_squared


def write_csv(path: Path, rows: list[Row]) -> Path:
    with path.open("w", newline="", encoding="utf-8") as file:
        table = csv.DictWriter(file, ["client", "text", "label"])
        table.writeheader()
        table.writerows(rows)
    return path


def write_json(path: Path, rows: list[Row]) -> Path:
    path.write_text(json.dumps(rows), encoding="utf-8")
    return path


def write_parquet(path: Path, rows: list[Row]) -> Path:
    import pyarrow as pa
    import pyarrow.parquet as pq

    pq.write_table(pa.Table.from_pylist(rows), path)
    return path


@pytest.mark.parametrize(
    ("name", "write"),
    [("p.jsonl", write_rows), ("p.csv", write_csv), ("p.json", write_json), ("p.parquet", write_parquet)],
)
def test_federation__through_a_file__is_that_of_the_rows_and_moves_no_further(
    name: str, write: Callable[[Path, list[Row]], Path], tmp_path: Path
) -> None:
    rows = invent_rows(7)
    config = make_config(**DATA["labels"], path=str(tmp_path / name))
    write(tmp_path / name, rows)
    whole = ask_votes(config, None)
    np.testing.assert_array_equal(whole.value, ask_votes(make_config(**DATA["labels"]), rows).value)
    for neighbor, relation in list(neighbors(rows, [glutton(8)]))[:8]:
        write(tmp_path / name, neighbor)
        assert not exceeds(whole, ask_votes(config, None), relation)


def test_federation__every_record_a_client__moves_the_sum_by_its_bound_at_most() -> None:
    config, rows = make_config(client_column=None), [{"text": row["text"]} for row in invent_rows(9)]
    whole = ask_votes(config, rows)
    for position in range(0, len(rows), 7):
        rest = [*rows[:position], *rows[position + 1 :]]
        assert not exceeds(whole, ask_votes(config, rest), Relation.ADD_REMOVE)
