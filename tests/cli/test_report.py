"""`pretext report` and `pretext export`."""

from __future__ import annotations

from pathlib import Path

from tests.cli.conftest import is_sentence
from tests.support.runs import Command


def test_report_and_export(pretext_command: Command, arguments: list[str], tmp_path: Path) -> None:
    folder, page, table = tmp_path / "run", tmp_path / "report.html", tmp_path / "texts.csv"
    assert pretext_command("run", *arguments)[0] == 0
    assert pretext_command("report", folder, "--out", page)[:2] == (0, f"{page}\n")
    assert page.read_text(encoding="utf-8").startswith("<!doctype html>")
    assert pretext_command("export", folder, "--to", table)[:2] == (0, f"{table}\n")
    assert len(table.read_text(encoding="utf-8").splitlines()) == 11
    assert pretext_command("export", folder, "--to-dataset", tmp_path / "set")[0] == 0
    for wrong, name in (
        (["export", folder], "--to-dataset"),
        (["export", folder, "--to", table], table),
        (["report", folder, "--out", tmp_path], tmp_path),
        (["report", folder, "--evaluation", table], table),
    ):
        code, _, err = pretext_command(*wrong)
        assert code == 2
        assert str(name) in err
        assert is_sentence(err)
    assert pretext_command("report", tmp_path)[0] == 1
