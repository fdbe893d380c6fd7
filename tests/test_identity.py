from __future__ import annotations

import datetime
import decimal
import enum
import json
import uuid
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pretext.clients.private_data import read_private
from pretext.config.settings import Data
from pretext.errors import UsageError
from pretext.identity import normalize_identity

UTC = datetime.UTC
EAST = datetime.timezone(datetime.timedelta(hours=5))
OTHER = uuid.UUID("ffffffff-1234-5678-ffff-567812345678")  # whose bytes are no text
SOME = uuid.UUID("12345678-1234-5678-1234-567812345678")


class Color(int, enum.Enum):
    RED = 1


@pytest.mark.parametrize(
    "spellings",
    [
        (
            1,
            1.0,
            "1",
            " 1 ",
            "1.0",
            "+1",
            "1e0",
            "１",
            "١",
            Color.RED,
            np.int64(1),
            np.float32(1),
            decimal.Decimal("1.00"),
            "\u200b1",
        ),
        (10**16, 1e16, "1e+16", "1.0E16", "10000000000000000", decimal.Decimal("1E16")),
        (0, -0.0, "0", "-0", "0.0"),
        (-7, "-7", -7.0),
        (2**60, float(2**60), str(2**60)),
        (
            "alice",
            "alice ",
            "\talice",
            "al\u00adice",
            "alice\ufe0f",
            "ali\u034fce",
            "alice\u3164",
            "ａｌｉｃｅ",
            "alice\x00",
            "alice\u00a0",
            b"alice",
            np.str_("alice"),
            np.array("alice"),
        ),
        ("a b", "a  b", "a\tb"),
        (b"\xff\x00", bytearray(b"\xff\x00"), memoryview(b"\xff\x00")),
        ("café", "cafe\u0301"),
        (True, "true", "True", np.bool_(True)),
        (SOME, str(SOME), str(SOME).upper(), f"{{{SOME}}}", SOME.urn, SOME.hex, SOME.hex.upper()),
        (OTHER, OTHER.bytes, str(OTHER)),
        (datetime.date(2024, 5, 1), datetime.datetime(2024, 5, 1), "2024-05-01", np.datetime64("2024-05-01", "ns")),
        (datetime.datetime(2024, 5, 1, 12, tzinfo=UTC), datetime.datetime(2024, 5, 1, 17, tzinfo=EAST)),
    ],
    ids=lambda spellings: f"{type(spellings[0]).__name__} {spellings[0]!s:.20}".replace("\x00", ""),
)
def test_identity__the_same_value_in_other_types_and_spellings__is_the_same(spellings: tuple[Any, ...]) -> None:
    identities = {normalize_identity(value) for value in spellings}
    assert len(identities) == 1
    assert None not in identities


@pytest.mark.parametrize(
    "values",
    [
        ("1", "01"),
        ("a", "b"),
        (1, 2),
        ("1.5", "1"),
        (True, 1),
        ("Alice", "alice"),
        ("1", "-1"),
        ("1e400", "1e401"),
        ("1.5e0", "1"),
    ],
    ids=str,
)
def test_identity__other_values__differ(values: tuple[Any, ...]) -> None:
    assert len({normalize_identity(value) for value in values}) == 2


NOBODY = [
    *(None, "", "  ", "\u200b", 1.5, float("nan"), float("inf"), np.float64("nan"), "\x00", b"", 10**5000),
    *map(decimal.Decimal, ("0.1", "NaN", "sNaN", "Infinity", "1e999999", "1e999999999999")),
    *({"id": 1}, [1], (1,), {1}, object(), np.array([1]), np.datetime64("NaT")),
]


@pytest.mark.parametrize("value", NOBODY, ids=lambda value: type(value).__name__)
def test_identity__what_is_none__is_none(value: Any) -> None:
    assert normalize_identity(value) is None


@given(st.one_of(st.text(), st.integers(), st.floats(), st.binary(), st.dates(), st.datetimes(), st.uuids()))
def test_identity__of_an_identity__is_itself(value: Any) -> None:
    identity = normalize_identity(value)
    assert identity is None or normalize_identity(identity) in (identity, None) or len(identity) > 900


def write_lines(path: Path, rows: list[dict[str, Any]]) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return str(path)


def test_client_column__reaches_into_an_object(tmp_path: Path) -> None:
    users = [({"id": 1, "posts": 3}, "one"), ({"id": 1.0, "posts": 4}, "two"), ({"id": "2"}, "three"), (None, "four")]
    rows = [{"user": user, "text": text} for user, text in users]
    data = Data(path=write_lines(tmp_path / "a.jsonl", rows), client_column="user.id")
    for private in (read_private(data, 8), read_private(data, 8, rows)):
        assert private.client.tolist() == [0, 0, 1]
    import pyarrow
    from pyarrow.parquet import write_table

    write_table(pyarrow.table({"user": [{"id": 1}, {"id": 2}], "text": ["a b", "c d"]}), tmp_path / "a.parquet")
    private = read_private(Data(path=str(tmp_path / "a.parquet"), client_column="user.id"), 8)
    assert private.client.tolist() == [0, 1]


def test_client_column__of_objects__names_nobody_and_says_so(tmp_path: Path) -> None:
    rows = [{"user": {"id": 1, "posts": posts}, "text": "text"} for posts in range(5)]
    with pytest.raises(UsageError) as refused:
        read_private(Data(path=write_lines(tmp_path / "a.jsonl", rows), client_column="user"), 8)
    assert "user.id" in str(refused.value)


def test_labels__numbers_and_spaces__are_those_that_are_listed(tmp_path: Path) -> None:
    rows = [{"id": number, "text": "text", "label": label} for number, label in enumerate([0.0, 1, " 1 ", "0", None])]
    data = Data(path=write_lines(tmp_path / "a.jsonl", rows), client_column="id", label_column="label", labels=(0, "1"))
    assert read_private(data, 8).label.tolist() == [0, 1, 1, 0]
