"""Each format alone: what it reads, where it says that a file is wrong, and that no record changes another."""

from __future__ import annotations

import bz2
import csv
import gzip
import io
import json
import lzma
import re
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa  # type: ignore[import-untyped]
import pyarrow.parquet as pq  # type: ignore[import-untyped]
import pytest

from pretext.errors import UsageError
from pretext.tables import Source, check_columns, read_columns

COLUMNS = ("text", "id")
ROWS = [{"text": f"some words of text {number}", "id": f"c{number % 3}"} for number in range(6)]
MIB = 2**20


def read(path: Path, columns: Sequence[str] = COLUMNS) -> list[tuple[Any, ...]]:
    batches = read_columns(Source(str(path)), columns)
    return [row for batch in batches for row in zip(*batch.values(), strict=True)]


def refuse(path: Path, columns: Sequence[str] = COLUMNS) -> str:
    with pytest.raises(UsageError) as caught:
        read(path, columns)
    return str(caught.value)


def put(path: Path, content: str | bytes) -> Path:
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def encode_csv(rows: Sequence[dict[str, Any]], delimiter: str = ",") -> bytes:
    out = io.StringIO(newline="")
    writer = csv.DictWriter(out, COLUMNS, delimiter=delimiter)
    writer.writeheader()
    writer.writerows(rows)
    return out.getvalue().encode()


def encode_lines(rows: Sequence[dict[str, Any]]) -> bytes:
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


def encode_table(rows: Sequence[dict[str, Any]]) -> pa.Table:
    cells = [[str(value) if (value := row.get(name)) is not None else None for row in rows] for name in COLUMNS]
    return pa.table(dict(zip(COLUMNS, map(pa.array, cells), strict=True)))


def encode_parquet(rows: Sequence[dict[str, Any]]) -> bytes:
    sink = pa.BufferOutputStream()
    pq.write_table(encode_table(rows), sink)
    return bytes(sink.getvalue().to_pybytes())


def encode_arrow(rows: Sequence[dict[str, Any]], *, stream: bool = False) -> bytes:
    sink, table = pa.BufferOutputStream(), encode_table(rows)
    with (pa.ipc.new_stream if stream else pa.ipc.new_file)(sink, table.schema) as writer:
        writer.write_table(table)
    return bytes(sink.getvalue().to_pybytes())


def encode_zip(content: bytes, *members: str) -> bytes:
    sink = io.BytesIO()
    with zipfile.ZipFile(sink, "w") as archive:
        for member in members:
            archive.writestr(member, content)
    return sink.getvalue()


def encode_zstd(content: bytes) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.CompressedOutputStream(sink, "zstd") as stream:
        stream.write(content)
    return bytes(sink.getvalue().to_pybytes())


FORMATS: dict[str, Callable[[Sequence[dict[str, Any]]], bytes]] = {
    ".csv": encode_csv,
    ".tsv": lambda rows: encode_csv(rows, "\t"),
    "-semicolons.csv": lambda rows: encode_csv(rows, ";"),
    "-pipes.csv": lambda rows: encode_csv(rows, "|"),
    "-sep.csv": lambda rows: b"sep=;\r\n" + encode_csv(rows, ";"),
    "-utf16.csv": lambda rows: encode_csv(rows, "\t").decode().encode("utf-16"),
    ".json": lambda rows: json.dumps(rows).encode(),
    "-pretty.json": lambda rows: b" " * 5000 + json.dumps(rows, indent=2).encode(),
    ".jsonl": encode_lines,
    ".ndjson": encode_lines,
    ".jsonlines": encode_lines,
    "-utf16.jsonl": lambda rows: encode_lines(rows).decode().encode("utf-16"),
    "-unmarked.jsonl": lambda rows: encode_lines(rows).decode().encode("utf-16-le"),
    ".parquet": encode_parquet,
    ".arrow": encode_arrow,
    ".feather": encode_arrow,
    "-stream.arrow": lambda rows: encode_arrow(rows, stream=True),
}
COMPRESSIONS: dict[str, Callable[[bytes], bytes]] = {
    ".gz": gzip.compress,
    ".bz2": bz2.compress,
    ".xz": lzma.compress,
    ".zst": encode_zstd,
    ".zip": lambda content: encode_zip(content, "__MACOSX/x", "inside"),
}
ODD_CELLS: list[Any] = [
    "NA",
    "007",
    "1e5",
    "true",
    "2024-01-01",
    "a;b\tc|d,e",
    'say "x',
    "two\nlines",
    "sep=;",
    "é",
    "",
    None,
]
ODD_VALUES: list[Any] = [5, 1.5, True, ["a"], {"a": 1}, "\ud83d"]


@pytest.mark.parametrize("ending", FORMATS)
def test_read_columns__of_each_format__returns_all_rows(ending: str, tmp_path: Path) -> None:
    path = put(tmp_path / f"notes{ending}", FORMATS[ending](ROWS))
    assert read(path) == [(row["text"], row["id"]) for row in ROWS]
    assert read(path, ["id"]) == [(row["id"],) for row in ROWS]


@pytest.mark.parametrize("compression", COMPRESSIONS)
@pytest.mark.parametrize("ending", [".csv", ".jsonl", ".txt"])
def test_read_columns__of_a_compressed_file__returns_all_rows(ending: str, compression: str, tmp_path: Path) -> None:
    content = "".join(f"{row['text']}\n" for row in ROWS).encode() if ending == ".txt" else FORMATS[ending](ROWS)
    path = put(tmp_path / f"notes{ending}{compression}", COMPRESSIONS[compression](content))
    assert read(path, ["text"]) == [(row["text"],) for row in ROWS]


@pytest.mark.parametrize("ending", [*FORMATS, ".folder"])
@pytest.mark.parametrize("place", [0, 3, 6])
def test_read_columns__with_one_record_more__reads_all_others_alike(ending: str, place: int, tmp_path: Path) -> None:
    """The guarantee rests on this: neighboring datasets differ in the records of one client, and in nothing else."""

    def read_with(extra: list[dict[str, Any]], name: str) -> list[tuple[Any, ...]]:
        rows = [*ROWS[:place], *extra, *ROWS[place:]]
        path = tmp_path / name
        path.mkdir()
        if ending == ".folder":  # read as a dataset of the hub is: its files are listed by the library `datasets`
            put(path / "train.csv", encode_csv(rows))
            found = read(path)
        else:
            found = read(put(path / f"notes{ending}", FORMATS[ending](rows)))
        return found[:place] + found[place + len(found) - len(ROWS) :]

    odd = [*ODD_CELLS, *(ODD_VALUES if "json" in ending else [])]
    alone = read_with([], "alone")
    for number, value in enumerate(odd):
        assert read_with([{"text": value, "id": "zoe"}], f"text{number}") == alone
        if value != "":  # a row of a csv file whose cells are all blank is no record
            assert read_with([{"text": "z", "id": value}], f"id{number}") == alone


@pytest.mark.parametrize("kind", ["csv", "jsonl", "parquet"])
@pytest.mark.parametrize("declared", [False, True])
def test_read_columns__of_a_dataset__never_infers_a_type_from_other_records(
    kind: str, declared: bool, tmp_path: Path
) -> None:
    """The loaders of `datasets` do, for csv and JSON lines, even where the card declares strings."""
    card = "---\ndataset_info:\n  features:\n  - name: text\n    dtype: string\n  - name: id\n    dtype: string\n---\n"
    rows: list[dict[str, Any]] = [{"text": "a b c", "id": "01"}, {"text": "NA", "id": "1"}, {"text": "7", "id": "007"}]
    for number, extra in enumerate([[], [{"text": ["x"] if kind == "jsonl" else "x", "id": "zoe"}]]):
        folder = tmp_path / str(number)
        folder.mkdir()
        if declared:
            put(folder / "README.md", card)
        put(folder / f"train.{kind}", FORMATS[f".{kind}"]([*rows, *extra]))
        assert read(folder)[:3] == [(row["text"], row["id"]) for row in rows]


def test_read_columns__of_lines_of_text__takes_no_line_for_a_header(tmp_path: Path) -> None:
    assert read(put(tmp_path / "a.txt", "text\tid\n\nfirst\r\nsecond"), ["text"]) == [
        ("text\tid",),
        ("first",),
        ("second",),
    ]
    assert "'id'" in refuse(tmp_path / "a.txt")


@pytest.mark.parametrize(
    ("name", "content", "line"),
    [
        ("wide.csv", "text,id\na,1\nb,2,3\nc,4\n", 3),
        ("narrow.csv", 'text,id\n"a\nb",1\nb\n', 4),
        ("sep.csv", "sep=;\ntext;id\na;1\nb;2;3\n", 4),
        ("backslash.csv", 'text,id\na,1\n"b \\"c\\" d",2\n', 3),
        ("open.csv", 'text,id\na,1\n"b,2\nc,3\n', 3),
        ("cut.jsonl", '{"text": "a", "id": 1}\n\n{"text": "b",\n', 3),
        ("comma.jsonl", '{"text": "a", "id": 1},\n', 1),
        ("pretty.jsonl", '{\n"text": "a"\n}\n', 1),
        ("list.jsonl", '{"text": "a", "id": 1}\n["b"]\n', 2),
        ("deep.jsonl", '{"text": "a", "id": 1}\n' + "[" * 100_000 + "\n", 2),
        ("digits.jsonl", '{"text": "a", "id": 1}\n{"id": ' + "1" * 5000 + "}\n", 2),
        ("twice.jsonl", '{"text": "a", "id": 1}\n{"text": "b", "id": 1, "id": 2}\n', 2),
        ("number.json", '[{"text": "a", "id": 1}, 2]', 2),
        ("comma.json", '[{"text": "a", "id": 1},]', 2),
        ("space.json", '[{"text": "a", "id": 1} {"text": "a", "id": 1}]', 1),
        ("more.json", '[{"text": "a", "id": 1}] x', 1),
        ("open.json", '[{"text": "a", "id": 1}', 1),
        ("bytes.csv", b"text,id\nfine,1\ncaf\xe9,2\n", 3),
        ("bytes.jsonl", '{"text": "é", "id": 1}\n'.encode() + b'{"text": "\xe9", "id": 1}\n', 2),
    ],
)
def test_read_columns__of_a_damaged_record__says_its_place(
    name: str, content: str | bytes, line: int, tmp_path: Path
) -> None:
    assert re.search(rf"\b{line}\b", refuse(put(tmp_path / name, content)))


@pytest.mark.parametrize(
    "content", ["text,id\na,1,\nb,2,,\n,,\n\x1a", "text, id\na, 1\nb, 2\n", 'id,"text"\n1,a\n2,b\n']
)
def test_read_columns__of_a_csv_file_of_a_spreadsheet__reads_it(content: str, tmp_path: Path) -> None:
    assert read(put(tmp_path / "a.csv", content)) == [("a", "1"), ("b", "2")]


def test_read_columns__of_an_unused_delimiter_in_a_cell__keeps_it(tmp_path: Path) -> None:
    assert read(put(tmp_path / "a.csv", "id;text\n1;a, b\t| c\n")) == [("a, b\t| c", "1")]


@pytest.mark.parametrize("ending", [".csv", ".parquet", ".arrow"])
def test_read_columns__with_a_column_twice__refuses(ending: str, tmp_path: Path) -> None:
    table = pa.Table.from_arrays([pa.array(["a"])] * 3, names=["text", "id", "id"])
    path = tmp_path / f"a{ending}"
    if ending == ".csv":
        path.write_text("text,id,id\na,b,c\n")
    elif ending == ".parquet":
        pq.write_table(table, path)
    else:
        with pa.ipc.new_file(path, table.schema) as writer:
            writer.write_table(table)
    assert "'id'" in refuse(path)
    assert read(path, ["text"]) == [("a",)]


def test_read_columns__of_a_column_in_late_records_only__has_it(tmp_path: Path) -> None:
    rows = [{"text": "a"}] * 5000 + [{"text": "b", "id": "c"}]
    path = put(tmp_path / "a.jsonl", encode_lines(rows))
    check_columns(Source(str(path)), COLUMNS)
    assert read(path) == [("a", None)] * 5000 + [("b", "c")]
    assert "'other'" in refuse(path, ["text", "other"])
    with pytest.raises(UsageError, match="'other'"):
        check_columns(Source(str(path)), ["other"])


def test_read_columns__of_binary_strings__reads_those_that_are_texts(tmp_path: Path) -> None:
    table = pa.table({"text": pa.array([b"caf\xc3\xa9", b"\xff\xfe", None], pa.binary())})
    pq.write_table(table, tmp_path / "a.parquet")
    assert read(tmp_path / "a.parquet", ["text"]) == [("café",), (b"\xff\xfe",), (None,)]


def test_read_columns__of_a_string_that_is_not_utf8__loses_that_one_alone(tmp_path: Path) -> None:
    damaged = pa.array([b"fine", b"\xff"], pa.binary()).view(pa.string())
    pq.write_table(pa.table({"text": damaged}), tmp_path / "a.parquet")
    assert read(tmp_path / "a.parquet", ["text"]) == [("fine",), (b"\xff",)]


@pytest.mark.parametrize("content", [b"caf\xe9,1\n", "текст,1\n".encode("cp1251"), "文字,1\n".encode("gbk")])
def test_refusal__of_another_encoding__never_gives_a_command_that_loses_characters(
    content: bytes, tmp_path: Path
) -> None:
    message = refuse(put(tmp_path / "a.csv", b"text,id\n" + content))
    assert "-c" not in message
    assert "iconv -f ENCODING" in message and "unpack" not in message
    assert "unpack" in refuse(put(tmp_path / "a.csv.gz", gzip.compress(b"text,id\n" + content)))


def test_refusal__of_one_damaged_line_of_utf8__gives_no_command(tmp_path: Path) -> None:
    content = "text,id\nä,1\n".encode() + b"caf\xe9,2\n"
    assert "iconv" not in refuse(put(tmp_path / "a.csv", content))


@pytest.mark.parametrize("content", [encode_zip(b"x", "x"), gzip.compress(b"xyz" * 50), encode_parquet(ROWS)])
def test_refusal__of_another_format__gives_no_command(content: bytes, tmp_path: Path) -> None:
    assert "iconv" not in refuse(put(tmp_path / "a.csv", content))


@pytest.mark.parametrize(
    ("name", "start"),
    [
        ("a.jsonl", b'{"text": "'),
        ("a.csv", b"text,id\n"),
        ("b.csv", b'text,id\n"'),
        ("a.json", b'[{"text": "'),
        ("a.txt", b"x"),
    ],
)
@pytest.mark.parametrize("filling", [b"x", b" "])
def test_read_columns__of_a_record_without_end__refuses(
    name: str, start: bytes, filling: bytes, tmp_path: Path
) -> None:
    path = put(tmp_path / f"{name}.gz", gzip.compress(start + filling * (65 * MIB), 1))
    assert "64 MiB" in refuse(path, ["text"])


@pytest.mark.parametrize("name", ["a.jsonl", "a.csv", "a.txt"])
def test_read_columns__of_blank_lines_without_end__refuses(name: str, tmp_path: Path) -> None:
    path = put(tmp_path / f"{name}.gz", gzip.compress(b"text\n" * (name == "a.csv") + b"\n" * (2 * MIB), 1))
    assert "64 MiB" in refuse(path, ["text"])


def test_read_columns__of_a_giant_cell_of_parquet__refuses(tmp_path: Path) -> None:
    pq.write_table(pa.table({"text": ["x" * (65 * MIB)]}), tmp_path / "a.parquet", compression="zstd")
    assert "64 MiB" in refuse(tmp_path / "a.parquet", ["text"])
    pq.write_table(pa.table({"text": ["x" * (65 * MIB), "a", "b"]}), tmp_path / "b.parquet", compression="zstd")
    assert "64 MiB" in refuse(tmp_path / "b.parquet", ["text"])


@pytest.mark.parametrize("ending", [".arrow", "-stream.arrow"])
def test_read_columns__of_offsets_that_point_outside__refuses(ending: str, tmp_path: Path) -> None:
    content = bytearray(FORMATS[ending](ROWS))
    lengths = [len(row["text"]) for row in ROWS]
    place = content.index(b"".join(sum(lengths[:number]).to_bytes(4, "little") for number in range(4)))
    content[place + 4 : place + 8] = (2**31 - 1).to_bytes(4, "little")
    refuse(put(tmp_path / f"a{ending}", bytes(content)))


def test_read_columns__of_an_archive_of_two_files__refuses(tmp_path: Path) -> None:
    assert "one file" in refuse(put(tmp_path / "a.zip", encode_zip(encode_csv(ROWS), "a.csv", "b.csv")))
    archive = put(tmp_path / "b.zip", encode_zip(encode_csv(ROWS), "a.csv"))
    assert len(read(archive)) == len(ROWS)
