from __future__ import annotations

import json
import math
import traceback
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa  # type: ignore[import-untyped]
import pyarrow.parquet as pq  # type: ignore[import-untyped]
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pretext.clients.private_data import MAX_PRIVATE_CHARACTERS, PrivateRecord, PrivateTexts, read_private
from pretext.config.settings import Data
from pretext.errors import UsageError

SECRET = "zqxj"


def rows_of(*pairs: tuple[Any, Any]) -> list[dict[str, Any]]:
    return [{"id": client, "text": text} for client, text in pairs]


def taken(private: PrivateTexts) -> list[tuple[int, str]]:
    return list(zip(private.client.tolist(), private.texts, strict=True))


def data_of(path: Path | str = "", **more: Any) -> Data:
    return Data(path=str(path), client_column="id", **more)


def from_file(path: Path, rows: list[dict[str, Any]], **more: Any) -> PrivateTexts:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return read_private(data_of(path, **more), 8)


def test_texts_and_clients(tmp_path: Path) -> None:
    rows = rows_of(("b", "one"), ("a", "two"), ("b", "three"))
    for private in (from_file(tmp_path / "a.jsonl", rows), read_private(data_of(), 8, rows)):
        assert taken(private) == [(0, "one"), (0, "three"), (1, "two")]
        assert private.label.tolist() == [0, 0, 0]
        assert private.client.dtype == private.label.dtype == np.int64


def test_what_is_no_text_or_no_client_is_passed_over(tmp_path: Path) -> None:
    usable = rows_of((1, "one"), (2, "two"))
    blank = rows_of((3, ""), (4, " \n\t"), (5, None), (None, "nobody's"), ("", "nobody's"))
    assert taken(from_file(tmp_path / "a.jsonl", [*blank, *usable])) == [(0, "one"), (1, "two")]
    odd = rows_of((6, 7), (7, 1.5), (8, ["a"]), (9, {"a": 1}), (10, b"bytes"), (11, math.nan))
    assert taken(read_private(data_of(), 8, [*blank, *odd, *usable])) == [(0, "one"), (1, "two")]


def test_texts_that_are_no_strings_are_passed_over_in_files_too(tmp_path: Path) -> None:
    rows = [*rows_of((1, "one"), (2, "two")), *rows_of((3, 5), (4, {"a": "b"}), (5, ["c"]), (6, True))]
    assert taken(from_file(tmp_path / "a.jsonl", rows)) == [(0, "one"), (1, "two")]


def test_a_client_that_is_no_number_is_nobody() -> None:
    # What a DataFrame makes of a missing client.
    assert taken(read_private(data_of(), 8, rows_of((1, "a"), (math.nan, "nobody's"), (2, "b")))) == [
        (0, "a"),
        (1, "b"),
    ]


def test_a_text_is_cut() -> None:
    private = read_private(data_of(), 8, rows_of((1, "x" * 100_000), (2, "y" * MAX_PRIVATE_CHARACTERS)))
    assert [len(text) for text in private.texts] == [MAX_PRIVATE_CHARACTERS, MAX_PRIVATE_CHARACTERS]


@pytest.mark.parametrize(
    "rows",
    [
        [],
        rows_of((1, "a")),
        rows_of(*[(1, "a")] * 20),
        rows_of((1, "a"), (2, " "), (None, "b")),
    ],
)
def test_others_are_needed(rows: list[dict[str, Any]], tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="fewer than two clients"):
        read_private(data_of(), 8, rows)
    if rows:
        with pytest.raises(UsageError, match="fewer than two clients"):
            from_file(tmp_path / "a.jsonl", rows)


@pytest.mark.parametrize("ending", ["jsonl", "parquet", "arrow", "memory"])
def test_read_private__a_dotted_client_column__reaches_into_objects(ending: str, tmp_path: Path) -> None:
    users = [{"id": "a", "posts": 1}, {"id": "a", "posts": 2}, {"id": "b", "posts": 3}, {"id": None, "posts": 4}, None]
    rows = [{"text": f"text {number}", "user": user} for number, user in enumerate(users)]
    path, table = tmp_path / f"rows.{ending}", pa.Table.from_pylist(rows)
    if ending == "parquet":
        pq.write_table(table, path)
    elif ending == "arrow":
        with pa.ipc.new_file(path, table.schema) as writer:
            writer.write_table(table)
    else:
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    data = Data(path=str(path), client_column="user.id")
    private = read_private(data, 8, rows if ending == "memory" else None)
    assert taken(private) == [(0, "text 0"), (0, "text 1"), (1, "text 2")]


def test_read_private__a_dotted_column_that_is_there__is_that_one(tmp_path: Path) -> None:
    rows = [{"text": "a", "user.id": "a", "user": {"id": "c"}}, {"text": "b", "user.id": "b", "user": {"id": "c"}}]
    (tmp_path / "a.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    for given_rows in (None, rows):
        private = read_private(Data(path=str(tmp_path / "a.jsonl"), client_column="user.id"), 8, given_rows)
        assert private.client.tolist() == [0, 1]


@pytest.mark.parametrize("user", ['{"id": 1, "id": 2}', '{"id": 1}, "user": {"id": 2}'])
def test_read_private__an_inner_id_twice__is_refused(user: str, tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text(f'{{"text": "a", "user": {user}}}\n' * 3)
    with pytest.raises(UsageError, match="twice"):
        read_private(Data(path=str(tmp_path / "a.jsonl"), client_column="user.id"), 8)


@pytest.mark.parametrize("labels", [("0", "1"), (0, 1), ("0.0", " 1")])
def test_read_private__labels_in_other_spellings__match(labels: tuple[Any, ...], tmp_path: Path) -> None:
    rows = [{"id": number, "text": f"t{number}", "kind": kind} for number, kind in enumerate([0.0, 1.0, 1, "1 ", 2])]
    private = from_file(tmp_path / "a.jsonl", rows, label_column="kind", labels=labels)
    assert private.label.tolist() == [0, 1, 1, 1]


def test_without_a_client_column_each_record_is_a_client(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text('{"text": "same"}\n' * 5, encoding="utf-8")
    assert read_private(Data(path=str(path)), 1).client.tolist() == [0, 1, 2, 3, 4]
    assert read_private(Data(), 1, [{"text": "same"}] * 5).client.tolist() == [0, 1, 2, 3, 4]


def test_unlisted_labels_are_passed_over(tmp_path: Path) -> None:
    rows = [{"id": i, "text": f"t{i}", "kind": kind} for i, kind in enumerate(["b", "a", "c", None, 1, "a"])]
    data: dict[str, Any] = {"label_column": "kind", "labels": ("a", "b", "1")}
    private = read_private(data_of(**data), 8, rows)
    assert list(zip(private.texts, private.label.tolist(), strict=True)) == [("t0", 1), ("t1", 0), ("t4", 2), ("t5", 0)]
    strings = [{**row, "kind": str(row["kind"])} for row in rows]
    assert from_file(tmp_path / "a.jsonl", strings, **data).texts == private.texts


@settings(deadline=None)
@given(st.lists(st.integers(0, 5), min_size=2, max_size=60), st.integers(1, 8))
def test_the_cap_is_honored(owners: list[int], cap: int) -> None:
    rows = rows_of(*((owner, f"text {number}") for number, owner in enumerate(owners)))
    if len(set(owners)) < 2:
        return
    private = read_private(data_of(), cap, rows)
    had, kept = Counter(owners), Counter(private.client.tolist())
    assert sorted(kept.values()) == sorted(min(cap, count) for count in had.values())
    # Each kept text is one of the client's own, and none is kept twice.
    names = list(dict.fromkeys(owners))
    assert all(rows[int(text.split()[1])]["id"] == names[client] for client, text in taken(private))
    assert len(set(private.texts)) == len(private.texts)


def test_the_choice_is_uniform_and_not_the_same_every_time() -> None:
    # Each of 20 texts is kept with probability 1/4, in 2000 independent draws: a binomial count with standard deviation
    # 19.4. A count is six of them away with probability < 2e-9 on each side: a false alarm in < 1e-7 of all runs.
    draws, texts, cap = 2000, 20, 5
    rows = rows_of(*((1, f"{number}") for number in range(texts)), (2, "other"))
    kept = [tuple(read_private(data_of(), cap, rows).texts[:cap]) for _ in range(draws)]
    counts = Counter(text for draw in kept for text in draw)
    deviation = math.sqrt(draws * 0.25 * 0.75)
    assert all(abs(counts[str(number)] - draws / 4) < 6 * deviation for number in range(texts))
    assert len(set(map(frozenset, kept))) > 100


def test_nothing_is_told() -> None:
    rows = rows_of((SECRET, f"{SECRET} text"), ("b", "c"))
    private = read_private(data_of(), 8, rows)
    assert repr(private) == str(private) == "PrivateTexts()"
    assert SECRET not in repr(PrivateRecord(f"{SECRET} text", SECRET, 0))


@pytest.mark.parametrize(
    "rows",
    [
        [{"id": SECRET, "text": SECRET}],
        [{"id": SECRET, "text": SECRET}, {"id": SECRET}],
        [{"id": SECRET, "text": SECRET}, {"text": SECRET}],
        [{SECRET: 1, "id": 2}],
    ],
)
def test_refusals_quote_nothing(rows: list[dict[str, Any]], tmp_path: Path) -> None:
    for read in (lambda: read_private(data_of(), 8, rows), lambda: from_file(tmp_path / "a.jsonl", rows)):
        with pytest.raises(UsageError) as caught:
            read()
        error: BaseException | None = caught.value
        trace = "".join(traceback.format_exception(caught.value))
        while error is not None:
            trace += repr(error)
            error = error.__cause__ or error.__context__
        assert SECRET not in trace


def test_texts_without_the_column_are_refused() -> None:
    with pytest.raises(UsageError, match="no column 'text'"):
        read_private(data_of(), 8, [{"id": 1, "body": "a"}])
    with pytest.raises(UsageError, match="no column 'id'"):
        read_private(data_of(), 8, [{"text": "a"}])


def test_read_private__where_one_row_lacks_the_client__passes_it_over(tmp_path: Path) -> None:
    rows = [*rows_of((1, "one"), (2, "two")), {"text": "nobody's"}, {"id": 3}]
    for private in (from_file(tmp_path / "a.jsonl", rows), read_private(data_of(), 8, rows)):
        assert taken(private) == [(0, "one"), (1, "two")]


def test_read_private__of_plain_texts__puts_them_into_the_text_column() -> None:
    assert read_private(Data(text_column="body"), 8, ["one", None, "two"]).texts == ["one", "two"]


@pytest.mark.parametrize(("value", "word"), [(["zqxj"], "lists"), ({"zqxj": 1}, "objects"), (b"\xff", "binary")])
def test_read_private__of_a_column_without_texts__says_what_it_holds(value: Any, word: str) -> None:
    with pytest.raises(UsageError, match=word):
        read_private(data_of(), 8, rows_of((1, value), (2, value)))
