"""A privacy statement as one page for people who sign: Markdown that reads well as plain text."""

from __future__ import annotations

import textwrap
from pathlib import Path

from pretext.errors import UsageError
from pretext.files import read_file, write_atomically
from pretext.formatting import format_count, quote_path
from pretext.run.folder import check_outside_run
from pretext.run.privacy_statement import STATEMENT_FILE, PrivacyStatement
from pretext.statement.statement import describe_releases
from privacy.rounding import round_down, round_up

PAGE_WIDTH = 96


def render_signature_page(statement: PrivacyStatement, folder: Path) -> str:
    """Render the page: who is protected, against what, how well, what left, what is not covered, how to check it.

    Every loss is rounded up, what is left of a budget down.
    """
    dataset = statement.dataset
    title = f"Privacy statement of run {statement.run}"
    sections = {
        "Who is protected, and against what": _protection_section(statement),
        "How well": _guarantee_section(statement),
        "What left the dataset": _release_section(statement),
        "What is not covered": [f"- {line}" for line in statement.not_covered],
        "How to check it": [
            f"`pretext privacy verify {quote_path(folder)}`, "
            f"beside the ledger {dataset.ledger}, recomputes every number here and "
            "fails if a file, a number or an entry of the ledger was changed. The proof is in PRIVACY.md. The ledger "
            f"then ended with entry {dataset.ledger_position}, {dataset.ledger_head_sha256}.",
        ],
        "Signature": ["Name ____________________________  Date ______________  Signature ____________________________"],
    }
    lines = [title, "=" * len(title), ""]
    for heading, paragraphs in sections.items():
        lines += [heading, "-" * len(heading), *(line for text in paragraphs for line in _wrap(text)), ""]
    return "\n".join(lines[:-1]) + "\n"


def write_signature_page(statement: PrivacyStatement, folder: Path, path: Path) -> None:
    """Write the page, or the statement itself for .json.

    Raises:
        UsageError: another ending than .md, .txt or .json, or the file lies in the run folder or cannot be written.
    """
    check_outside_run(path, folder)
    if path.suffix not in (".md", ".txt", ".json"):
        raise UsageError(f"The statement {path} must end in .md, .txt or .json.")
    try:
        if path.suffix == ".json":
            write_atomically(path, read_file(folder / STATEMENT_FILE))  # byte for byte, as it is sealed
        else:
            write_atomically(path, render_signature_page(statement, folder))
    except OSError as error:
        raise UsageError(f"The statement {path} cannot be written: {error.strerror}.") from None


def _protection_section(statement: PrivacyStatement) -> list[str]:
    unit, relation = statement.unit, statement.relation
    return [
        f"The unit of protection is the {unit.name}: {unit.words}. Two datasets are compared that differ in one unit "
        f"({relation.name}: {relation.words}). Whoever sees all that left the dataset, knows this program and its "
        "settings, and knows all texts of everybody else, can hardly tell which of the two it was."
    ]


def _guarantee_section(statement: PrivacyStatement) -> list[str]:
    guarantee, second = statement.guarantee, statement.other_relation
    return [
        "This run is (epsilon, delta)-differentially private: no conclusion about one unit becomes more than e^epsilon "
        "times as likely by its data, up to a probability of delta. Both were fixed before the first release.",
        "",
        f"    epsilon {round_up(guarantee.epsilon)} at delta {guarantee.delta:g}, relation {guarantee.relation} (as "
        "configured)",
        f"    epsilon {round_up(second.epsilon)} at delta {second.delta:g}, relation {second.relation}",
    ]


def _release_section(statement: PrivacyStatement) -> list[str]:
    dataset, budget = statement.dataset, statement.dataset.budget
    noise = " or ".join(sorted({f"{release.noise_multiplier:.4g}" for release in statement.releases}))
    return [
        f"Of the run: {describe_releases(statement)}, as sums over units of bounded vectors, each with discrete "
        f"Gaussian noise of {noise} times what one unit can change; of every unit at most "
        f"{statement.bounding.max_texts_per_client} texts in each. All else, every synthetic text too, is computed "
        "from these and from public data.",
        f"Of dataset {dataset.name!r} in all: epsilon {budget.epsilon:.10g} at delta {budget.delta:g}, relation "
        f"{dataset.relation}, is guaranteed, whatever was or will be released. Readings so far: "
        f"{round_up(dataset.spent_epsilon)} spent in {format_count(dataset.releases, 'release')}, "
        f"{round_up(dataset.reserved_epsilon)} reserved, room for {round_down(dataset.left_epsilon)} more.",
    ]


def _wrap(text: str) -> list[str]:
    if text.startswith("    ") or not text:
        return [text]
    return textwrap.wrap(
        text, PAGE_WIDTH, subsequent_indent="  " if text.startswith("- ") else "", break_on_hyphens=False
    )
