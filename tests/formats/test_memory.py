"""Texts and rows in every container that users hold."""

from __future__ import annotations

from collections import namedtuple
from collections.abc import Iterator
from typing import Any

import datasets
import numpy as np
import pandas as pd
import pyarrow as pa  # type: ignore[import-untyped]
import pytest

from pretext.errors import UsageError
from pretext.formats.memory import collect_rows
from pretext.tables import read_rows

ROWS = [{"text": "one text", "id": 1}, {"text": "another", "id": 2}]
TEXTS = [row["text"] for row in ROWS]
COLUMNS = {"text": TEXTS, "id": [1, 2]}
TABLE = pa.table(COLUMNS)
Pair = namedtuple("Pair", ["text", "id"])


class Exporter:
    """What a DataFrame of polars or a relation of DuckDB shows: Arrow's stream and nothing else."""

    def __init__(self, held: Any) -> None:
        self._held = held

    def __arrow_c_stream__(self, requested_schema: object = None) -> object:
        return self._held.__arrow_c_stream__(requested_schema)


def generate() -> Iterator[dict[str, Any]]:
    yield from ROWS


@pytest.mark.parametrize(
    "data",
    [
        ROWS,
        tuple(ROWS),
        generate(),
        [Pair(**row) for row in ROWS],
        pd.DataFrame(ROWS),
        pd.DataFrame(ROWS, index=["x", "x"]).convert_dtypes(),
        TABLE,
        TABLE.to_batches()[0],
        TABLE.to_reader(),
        Exporter(TABLE),
        datasets.Dataset.from_dict(COLUMNS),
        datasets.Dataset.from_dict(COLUMNS).with_format("numpy"),
        COLUMNS,
        {"text": tuple(TEXTS), "id": np.array([1, 2])},
        {"text": pd.Series(TEXTS), "id": pa.array([1, 2])},
        np.array([("one text", 1), ("another", 2)], dtype=[("text", "U20"), ("id", int)]),
    ],
    ids=lambda data: type(data).__name__,
)
def test_collect_rows__of_a_container_of_rows__returns_mappings(data: Any) -> None:
    assert collect_rows(data) == ROWS


@pytest.mark.parametrize(
    "data",
    [
        TEXTS,
        tuple(TEXTS),
        iter(TEXTS),
        dict.fromkeys(TEXTS).keys(),
        np.array(TEXTS),
        pd.Series(TEXTS),
        pd.Series(TEXTS, dtype="category"),
        pd.Index(TEXTS),
        pa.array(TEXTS),
        pa.chunked_array([TEXTS]),
        Exporter(pa.chunked_array([TEXTS])),
        [text.encode() for text in TEXTS],
    ],
    ids=lambda data: type(data).__name__,
)
def test_collect_rows__of_a_container_of_texts__returns_them(data: Any) -> None:
    assert collect_rows(data) == TEXTS


@pytest.mark.parametrize("gap", [None, pd.NA, pd.NaT, float("nan"), np.float64("nan"), np.datetime64("NaT")])
def test_collect_rows__of_a_gap__leaves_one(gap: Any) -> None:
    value = collect_rows([{"id": gap}])[0]["id"]
    assert value is None or value != value


@pytest.mark.parametrize(
    "data",
    [
        None,
        5,
        b"zqxj",
        {},
        {"text": "zqxj", "id": "zqxj"},
        {"text": ["zqxj"], "id": []},
        {"train": pd.DataFrame(ROWS), "test": pd.DataFrame(ROWS)},
        datasets.DatasetDict(train=datasets.Dataset.from_dict(COLUMNS)),
        [("zqxj", "zqxj")],
        [["zqxj"]],
        np.array([["zqxj", "zqxj"]]),
        pd.DataFrame([["zqxj", "zqxj"]], columns=["text", "text"]),
        pa.Table.from_arrays([pa.array(["zqxj"])] * 2, names=["text", "text"]),
    ],
    ids=lambda data: type(data).__name__,
)
def test_collect_rows__of_anything_else__refuses_and_quotes_nothing(data: Any) -> None:
    with pytest.raises(UsageError) as caught:
        collect_rows(data)
    assert "zqxj" not in str(caught.value)


def test_read_rows__where_one_lacks_a_column__reads_a_gap() -> None:
    [batch] = read_rows([{"text": "a", "id": 1}, {"text": "b"}, "c"], ["text", "id"], "text")
    assert batch == {"text": ["a", "b", "c"], "id": [1, None, None]}


def test_read_rows__where_all_lack_a_column__refuses() -> None:
    with pytest.raises(UsageError, match="'id'"):
        list(read_rows([{"text": "a"}, "b"], ["text", "id"], "text"))


@pytest.mark.parametrize("odd", ["NA", 5, 1.5, None, pd.NA, ["a"], {"a": 1}, b"\xff", np.array([1, 2])], ids=repr)
def test_collect_rows__with_one_row_more__reads_all_others_alike(odd: Any) -> None:
    rows = [{"text": "01", "id": 1}, {"text": "NA", "id": "01"}, {"text": "a", "id": None}]
    for place in range(len(rows) + 1):
        collected = collect_rows([*rows[:place], {"text": odd, "id": odd}, *rows[place:]])
        assert collected[:place] + collected[place + 1 :] == rows
