"""Read damaged and odd files. Every file may be somebody's diary, so no message may quote it."""

from __future__ import annotations

import gzip
import json
import os
import subprocess
import sys
import traceback
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from pretext.errors import UsageError
from pretext.tables import Source, check_columns, read_columns, read_texts

SECRET = "zqxj my secret words"
ROWS = [{"text": f"{SECRET} {number}", "client_id": f"c{number % 3}"} for number in range(5)]


def encode_rows(kind: str, rows: Sequence[dict[str, Any]] = ROWS) -> bytes:
    if kind == "csv":
        return ("text,client_id\n" + "".join(f"{row['text']},{row['client_id']}\n" for row in rows)).encode()
    if kind == "json":
        return json.dumps(list(rows)).encode()
    if kind == "jsonl":
        return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode()
    import pyarrow  # type: ignore[import-untyped]
    import pyarrow.parquet  # type: ignore[import-untyped]

    sink = pyarrow.BufferOutputStream()
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(list(rows)), sink)
    return bytes(sink.getvalue().to_pybytes())


def read(path: Path | str, columns: Sequence[str] = ("text", "client_id")) -> list[tuple[Any, ...]]:
    return [
        row
        for batch in read_columns(Source(str(path)), columns)
        for row in zip(*(batch[name] for name in columns), strict=True)
    ]


def walk_chain(error: BaseException | None) -> Iterator[BaseException]:
    """Yield the exception and its chain, suppressed or not: a logger with `exc_info` may walk it."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        error = error.__cause__ or error.__context__


def refuse(path: Path | str, columns: Sequence[str] = ("text", "client_id")) -> str:
    """Return the message of the refusal, after searching everything that could quote the file."""
    with pytest.raises(UsageError) as caught:
        read(path, columns)
    output = "".join(traceback.format_exception(caught.value)).replace(str(path), "")
    output += "".join(repr(link) + str(link) + repr(link.args) for link in walk_chain(caught.value))
    assert "zqxj" not in output and "secret" not in output
    message = str(caught.value)
    assert str(path) in message and "\n" not in message and message.endswith(".")
    return message


@pytest.fixture
def write(tmp_path: Path) -> Any:
    def put(name: str, data: bytes | str) -> Path:
        path = tmp_path / name
        path.write_bytes(data.encode() if isinstance(data, str) else data)
        return path

    return put


@pytest.mark.parametrize("ending", ["csv", "json", "jsonl", "parquet", "CSV", "JSONL", "v2.csv", "2024.01.jsonl"])
@pytest.mark.parametrize("zipped", [False, True])
def test_every_format(write: Any, ending: str, zipped: bool) -> None:
    kind = ending.lower().rpartition(".")[2]
    if kind == "parquet" and zipped:
        pytest.skip("see test_a_zipped_parquet_file")
    data = encode_rows(kind)
    path = write(f"some.{ending}.gz", gzip.compress(data)) if zipped else write(f"some.{ending}", data)
    assert read(path) == [(row["text"], row["client_id"]) for row in ROWS]
    assert read(path, ["client_id"]) == [(row["client_id"],) for row in ROWS]


def test_a_zipped_parquet_file_is_read_or_told_how_to_unpack(write: Any) -> None:
    path = write("some.parquet.gz", gzip.compress(encode_rows("parquet")))
    try:
        rows = read(path)
    except UsageError:
        message = refuse(path)
        assert "compress" in message or "unpack" in message  # "is it complete?" would send people astray
    else:
        assert rows == [(row["text"], row["client_id"]) for row in ROWS]


@pytest.mark.parametrize("kind", ["csv", "json", "jsonl", "parquet"])
def test_many_rows_come_in_order(write: Any, kind: str) -> None:
    rows = [{"text": f"text {number}", "client_id": str(number)} for number in range(9000)]
    assert read(write(f"some.{kind}", encode_rows(kind, rows))) == [(row["text"], row["client_id"]) for row in rows]


@pytest.mark.parametrize("kind", ["csv", "json", "jsonl", "parquet"])
def test_a_missing_column_is_named(write: Any, kind: str) -> None:
    assert "no column 'user'" in refuse(write(f"some.{kind}", encode_rows(kind)), ["text", "user"])


@pytest.mark.parametrize("name", ["no.csv", "no.jsonl", "no.parquet.gz", "no/where.json"])
def test_a_missing_file(tmp_path: Path, name: str) -> None:
    assert "There is no file" in refuse(tmp_path / name)


@pytest.mark.parametrize("name", ["a.csv", "a.json", "a.jsonl", "a.parquet", "a.csv.gz"])
def test_an_empty_file(write: Any, name: str) -> None:
    assert "is empty" in refuse(write(name, b""))


@pytest.mark.parametrize(
    ("name", "data"), [("a.csv", "text,client_id\n"), ("a.json", "[]"), ("a.jsonl", "\n\n"), ("a.csv.gz", None)]
)
def test_a_file_without_rows(write: Any, name: str, data: str | None) -> None:
    assert "at least one text" in refuse(write(name, gzip.compress(b"text,client_id\n") if data is None else data))


def test_what_is_no_table(tmp_path: Path, write: Any) -> None:
    for name in ("notes.docx", "notes"):
        assert ".csv" in refuse(write(name, SECRET))
    (tmp_path / "folder.csv").mkdir()
    assert "folder" in refuse(tmp_path / "folder.csv")
    (tmp_path / "folder").mkdir()
    assert "folder" in refuse(tmp_path / "folder")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_that_may_not_be_read(write: Any) -> None:
    path = write("a.csv", encode_rows("csv"))
    path.chmod(0)
    assert "permission denied" in refuse(path)


@pytest.mark.parametrize("bad", [b"caf\xe9 ", b"\xff\xfe\x00", b"\xc0\xaf"])
def test_invalid_utf8(write: Any, bad: bytes) -> None:
    secret = SECRET.encode()
    line = b'{"text": "' + secret + b" " + bad + b'", "client_id": "c"}\n'
    for data in (line, encode_rows("jsonl") + line):
        assert "not valid UTF-8" in refuse(write("a.jsonl", data))
    for data in (b"text,client_id\n" + secret + bad + b",c\n", encode_rows("csv") + secret + bad + b",c\n"):
        assert "not valid UTF-8" in refuse(write("a.csv", data))


BROKEN = {
    "broken.jsonl": encode_rows("jsonl") + f'{{"text": "{SECRET}", "client_id": \n'.encode() + encode_rows("jsonl"),
    "comma.jsonl": encode_rows("jsonl") + f'{{"text": "{SECRET}" {SECRET}, "client_id": 1}}\n'.encode(),
    "cut.jsonl": encode_rows("jsonl")[:-9],
    "list.jsonl": encode_rows("jsonl") + f'["{SECRET}"]\n'.encode(),
    "nul.jsonl": encode_rows("jsonl") + f'{{"text": "\0{SECRET}", "client_id": "c"}}\n'.encode(),
    "number.jsonl": f"{SECRET}\n".encode(),
    "cut.json": encode_rows("json")[:-20],
    "scalar.json": json.dumps(SECRET).encode(),
    "comma.json": encode_rows("json").replace(b"}, {", b"} {", 1),
    "quote.csv": encode_rows("csv") + f'"{SECRET} never closed,c1\n'.encode(),
    "wide.csv": encode_rows("csv") + f"{SECRET},c1,{SECRET},more\n".encode() + encode_rows("csv"),
    "utf16.csv": encode_rows("csv").decode().encode("utf-16")[:-3],
    "other.parquet": encode_rows("jsonl"),
    "cut.parquet": encode_rows("parquet")[:-50],
    "other.csv.gz": encode_rows("csv"),
    "cut.csv.gz": gzip.compress(encode_rows("csv"))[:-15],
    "cut.jsonl.gz": gzip.compress(encode_rows("jsonl"))[:-15],
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_damaged_file_is_not_quoted(write: Any, name: str, capfd: pytest.CaptureFixture[str]) -> None:
    refuse(write(name, BROKEN[name]))
    # The parsing library logs on its own, and its messages may quote too.
    assert "".join(capfd.readouterr()) == ""


def test_a_file_without_a_header_is_not_quoted(write: Any) -> None:
    # Then the first record stands where the names of the columns should be.
    refuse(write("a.csv", f"{SECRET} one,c1\n{SECRET} two,c2\n"))
    refuse(write("a.jsonl", json.dumps({SECRET: 1}) + "\n"))


@pytest.mark.parametrize("kind", ["csv", "json", "jsonl", "parquet"])
def test_texts_of_all_scripts(write: Any, kind: str) -> None:
    texts = ["😀 party 👩‍👩‍👧", "مرحبا بالعالم", "שלום \u202eolleh", "日本語 テキスト", "e\u0301\u200b", "tab\there"]
    rows = [{"text": text, "client_id": str(number)} for number, text in enumerate(texts)]
    assert [text for text, _ in read(write(f"a.{kind}", encode_rows(kind, rows)))] == texts


def test_a_byte_order_mark_is_not_part_of_a_name(write: Any) -> None:
    for kind in ("csv", "jsonl"):
        assert len(read(write(f"a.{kind}", b"\xef\xbb\xbf" + encode_rows(kind)))) == 5


def test_a_nul_is_a_character(write: Any) -> None:
    assert read(write("a.jsonl", json.dumps({"text": "a\0b", "client_id": "c"}))) == [("a\0b", "c")]
    text, client = read(write("a.csv", b"text,client_id\na\0b,c\n"))[0]
    assert text.replace("\0", "") == "ab" and client == "c"


def test_csv_cells_stay_text(write: Any) -> None:
    cells = ["NA", "007", "None", "null", "1e5", "nan", "TRUE", "2024-01-01", "-"]
    assert read(write("a.csv", "text,client_id\n" + "".join(f"{cell},{cell}\n" for cell in cells))) == [
        (cell, cell) for cell in cells
    ]


def test_csv_quotes_and_line_ends(write: Any) -> None:
    data = 'text,client_id\r\n"a, ""b""\nc",1\r\n,2\r\nlast,\r\n'
    rows = read(write("a.csv", data))
    assert rows[0] == ('a, "b"\nc', "1")
    assert [cell or None for cell in (rows[1][0], rows[2][1])] == [None, None]  # empty: passed over later on


STRANGE = [{"text": 5}, {"text": {"a": SECRET}}, {"text": [1]}, {"text": True}, {"text": None}, {"client_id": {"a": 1}}]


@pytest.mark.parametrize("kind", ["json", "jsonl"])
@pytest.mark.parametrize("strange", STRANGE, ids=str)
def test_one_record_does_not_change_how_another_is_read(write: Any, kind: str, strange: dict[str, Any]) -> None:
    # The guarantee: neighboring files differ in one client. A parser that guesses a column's type from all its cells
    # lets one client change everybody's text.
    rows = [{"text": "2024-01-01", "client_id": 1}, {"text": "plain words", "client_id": 2}]
    expected = [("2024-01-01", "1"), ("plain words", "2")]
    records = read(write(f"a.{kind}", encode_rows(kind, [*rows, {"text": "x", "client_id": 3, **strange}])))
    assert [(text, str(client)) for text, client in records[:2]] == expected


def test_dates_are_texts(write: Any) -> None:
    rows = [{"text": "2024-01-01", "client_id": "2024-01-01"}, {"text": "2024-01-02", "client_id": "2024-01-02"}]
    assert read(write("a.jsonl", encode_rows("jsonl", rows))) == [tuple(row.values()) for row in rows]


def test_a_client_is_the_same_in_every_part_of_a_large_file(write: Any) -> None:
    # Parsers work through a file in parts of some megabytes, and guess types for each anew or for all from the first.
    rows = [{"text": "x" * 4000, "client_id": 7 if number < 2900 else "7"} for number in range(3000)]
    rows += [{"text": "y", "client_id": "abc"}]
    clients = {str(client) for _, client in read(write("a.jsonl", encode_rows("jsonl", rows)))}
    assert clients == {"7", "abc"}


@pytest.mark.parametrize("name", ["a[1].jsonl", "a*.jsonl", "a?.jsonl", "a b#c%20.jsonl", "ä.jsonl", "a::b.jsonl"])
def test_a_path_is_no_pattern(write: Any, name: str) -> None:
    write("a1.jsonl", encode_rows("jsonl", [{"text": "another file's", "client_id": "other"}]))
    assert len(read(write(name, encode_rows("jsonl")))) == 5


def test_check_columns_reads_and_refuses(write: Any) -> None:
    path = write("a.jsonl", encode_rows("jsonl"))
    check_columns(Source(str(path)), ["text"])
    with pytest.raises(UsageError, match="no column 'label'"):
        check_columns(Source(str(path)), ["label"])


def test_names_and_identity(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "link.csv").symlink_to(tmp_path / "notes.v1.csv")
    (tmp_path / "notes.v1.csv").touch()
    assert Source("link.csv").identity == Source("./notes.v1.csv").identity == str(tmp_path.resolve() / "notes.v1.csv")
    assert Source("notes.v1.csv").default_name == "notes"
    hub = Source("user/notes", "en", "test")
    assert hub.file is None and hub.identity == "hf:user/notes:en:test" and hub.default_name == "notes"
    assert Source("user/notes").identity == "hf:user/notes:default:train"


def test_no_copy_is_left_behind(tmp_path: Path) -> None:
    names = []
    for kind in ("csv", "json", "jsonl", "parquet"):
        (tmp_path / f"private.{kind}").write_bytes(encode_rows(kind))
        (tmp_path / f"private.{kind}.gz").write_bytes(gzip.compress(encode_rows(kind)))
        names += [str(tmp_path / f"private.{kind}"), str(tmp_path / f"private.{kind}.gz")]
    folders = {name: str(tmp_path / name.lower()) for name in ("HF_HOME", "HF_DATASETS_CACHE", "TMPDIR", "HOME")}
    for folder in folders.values():
        Path(folder).mkdir()
    script = (
        "import sys\n"
        "from pretext.tables import Source, read_columns\n"
        "from pretext.errors import UsageError\n"
        "for name in sys.argv[1:]:\n"
        "    try: list(read_columns(Source(name), ['text']))\n"
        "    except UsageError: pass\n"
    )
    process = subprocess.run(
        [sys.executable, "-c", script, *names],
        env={**os.environ, **folders, "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        check=False,
    )
    assert process.returncode == 0, process.stderr
    assert b"zqxj" not in process.stdout + process.stderr
    files = [path for folder in folders.values() for path in Path(folder).rglob("*") if path.is_file()]
    # A parquet or gz copy would not show the words, so its size counts too: nothing but small lock files may be there.
    assert [path for path in files if b"zqxj" in path.read_bytes() or path.suffix in {".arrow", ".parquet"}] == []
    assert all(path.stat().st_size < 100 for path in files), files


@pytest.mark.parametrize("location", ["owner/name", "hf:owner/name", "name", "hf:name.csv", "a/b.v2"])
def test_source__that_looks_like_an_id__is_a_dataset(location: str) -> None:
    assert Source(location).file is None


@pytest.mark.parametrize(
    "location",
    ["data/patients", "./name", "~/name", "/name", "a/b/c", "name.csv", "a b", "-", "*.parquet", "~nobody/x"],
)
def test_source__that_looks_like_a_path__is_never_asked_of_the_hub(
    location: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data").mkdir()
    assert Source(location).file is not None
    with pytest.raises(UsageError):
        read(location)


@pytest.mark.parametrize("location", ["https://example.org/notes.csv", "a" * 5000, "caf\udce9.jsonl", "nul\0.csv"])
def test_read_columns__of_no_path__refuses(location: str) -> None:
    with pytest.raises(UsageError):
        read(location)


def test_read_columns__of_a_pipe__refuses(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.csv")
    assert "several times" in refuse(tmp_path / "pipe.csv")


def test_read_columns__of_a_folder_of_shards__reads_those_of_the_split(tmp_path: Path) -> None:
    for name, client in (("train-00001-of-00002", "b"), ("train-00000-of-00002", "a"), ("test-00000-of-00001", "c")):
        rows = [{"text": name, "client_id": client}]
        (tmp_path / f"{name}.parquet").write_bytes(encode_rows("parquet", rows))
    assert [client for _, client in read(tmp_path)] == ["a", "b"]
    batches = read_columns(Source(str(tmp_path), split="test"), ["client_id"])
    assert list(batches) == [{"client_id": ["c"]}]
    with pytest.raises(UsageError, match="'other'"):
        list(read_columns(Source(str(tmp_path), split="other"), ["text"]))


def test_read_columns__of_a_saved_dataset__reads_it(tmp_path: Path) -> None:
    from datasets import Dataset, DatasetDict

    dataset = Dataset.from_list(ROWS)
    dataset.save_to_disk(tmp_path / "one")
    DatasetDict(train=dataset, test=dataset.select([0])).save_to_disk(tmp_path / "more")
    for folder in ("one", "more"):
        assert read(tmp_path / folder) == [(row["text"], row["client_id"]) for row in ROWS]


def put_files(folder: Path, files: dict[str, str]) -> Path:
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    return folder


ONE_TEXT = json.dumps({"text": "zoe's"}) + "\n"
CLIENTS = {"alice.jsonl": json.dumps({"text": "alice's"}), "bob.csv": "text\nbob's\n"}
ODD_NAMES = [
    "train.jsonl",
    "test.jsonl",
    "zoe_test.jsonl",
    "train_zoe.jsonl",
    "valid/zoe.jsonl",
    "z.eval",
    "a/task.toml",
]
ODD_NAMES += ["state.json", "[z].jsonl", ".zoe.jsonl", "zoe.txt", "zoe.png", "README.md"]


@pytest.mark.parametrize("name", ODD_NAMES)
def test_read_columns__of_a_folder_with_one_file_more__reads_all_others_as_before(name: str, tmp_path: Path) -> None:
    """A folder may hold a file for each client, whose name is the client's."""
    texts = [text for (text,) in read(put_files(tmp_path, {**CLIENTS, name: ONE_TEXT}), ["text"])]
    assert [text for text in texts if "zoe" not in text] == ["alice's", "bob's"]


def test_read_columns__of_a_folder_that_is_partly_closed__refuses(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put_files(tmp_path, {**CLIENTS, "closed/zoe.jsonl": ONE_TEXT})
    real = os.scandir

    def scan(path: str) -> Any:
        if str(path).endswith("closed"):
            raise PermissionError(13, "Permission denied")
        return real(path)

    monkeypatch.setattr(os, "scandir", scan)
    assert "PermissionError" in refuse(tmp_path, ["text"])


def test_read_columns__of_a_folder_with_a_pipe__refuses(tmp_path: Path) -> None:
    put_files(tmp_path, CLIENTS)
    os.mkfifo(tmp_path / "carl.jsonl")
    refuse(tmp_path, ["text"])


CARD = """---
configs:
- config_name: first
  data_files: [{split: train, path: "data/a*.csv"}, {split: test, path: [data/b.csv]}]
- config_name: second
  default: true
  data_files: "**/c*.csv"
---
"""


@pytest.mark.parametrize(
    ("subset", "split", "texts"),
    [("first", "train", ["a1", "a2"]), ("first", "test", ["b"]), ("second", "train", ["c"]), (None, "train", ["c"])],
)
@pytest.mark.parametrize("on_hub", [False, True])
def test_read_columns__of_a_dataset_with_a_card__reads_the_files_that_it_names(
    subset: str | None, split: str, texts: list[str], on_hub: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import huggingface_hub

    root = tmp_path / "datasets/owner/name"
    put_files(root, {"README.md": CARD, **{f"data/{name}.csv": f"text\n{name}\n" for name in ("a1", "a2", "b", "c")}})
    system = SimpleNamespace(
        find=lambda place: [path.relative_to(tmp_path).as_posix() for path in (tmp_path / place).rglob("*.*")],
        open=lambda name, mode: (tmp_path / name).open(mode),
    )
    monkeypatch.setattr(huggingface_hub, "HfFileSystem", lambda: system)
    source = Source("hf:owner/name" if on_hub else str(root), subset, split)
    assert [text for batch in read_columns(source, ["text"]) for text in batch["text"]] == texts


@pytest.mark.parametrize("card", ["---\nconfigs: 5\n---\n", "---\n\tx: [\n---\n", CARD])
def test_read_columns__of_a_folder_with_an_odd_card_or_another_subset__refuses(card: str, tmp_path: Path) -> None:
    put_files(tmp_path, {**CLIENTS, "README.md": card})
    with pytest.raises(UsageError):
        list(read_columns(Source(str(tmp_path), "third"), ["text"]))


def test_read_texts__of_a_column__yields_the_usable_ones_of_the_first_rows(write: Any) -> None:
    path = write("a.jsonl", encode_rows("jsonl", [{"text": value} for value in ("a", None, "\u200b", 5, "b", "c")]))
    assert list(read_texts(Source(str(path)), "text", 5)) == ["a", "b"]


@pytest.mark.parametrize(("value", "word"), [(["zqxj"], "lists"), ({"zqxj": 1}, "objects"), (5, "numbers")])
def test_read_texts__of_a_column_without_texts__says_what_it_holds(write: Any, value: Any, word: str) -> None:
    path = write("a.jsonl", encode_rows("jsonl", [{"text": value}]))
    with pytest.raises(UsageError, match=word):
        list(read_texts(Source(str(path)), "text"))
