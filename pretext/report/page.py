"""The report: one HTML file that needs nothing else, for whoever has to decide about a dataset.

It runs the one script that it carries and asks no other file or address for anything: its content security policy says
so to the browser, so a text that looks like markup could do nothing even if escaping failed. Texts come from language
models and public files; every one is escaped.

Read: the run folder, and an evaluation if one is given. Nothing in the folder is private; an evaluation is not covered
by the guarantee, and the page says so.
"""

from __future__ import annotations

import base64
import hashlib
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

import tomlkit

from pretext.config.resolve import dump_settings
from pretext.errors import RunFolderError, UsageError
from pretext.files import write_atomically
from pretext.report import charts
from pretext.report import wording as words
from pretext.report.evaluation import Evaluation, read_evaluation, tabulate_evaluation
from pretext.report.facts import MAX_SHOWN_SEEDS, MAX_SHOWN_TEXTS, Facts
from pretext.run.folder import check_outside_run
from privacy.rounding import round_down, round_up

if TYPE_CHECKING:
    from jinja2 import Environment


def write_report(folder: Path, out: Path, evaluation: Path | None = None) -> None:
    """Make the report of a run folder, finished or not.

    Args:
        folder: the run folder; it is only read.
        out: the HTML file; an earlier one is replaced.
        evaluation: what `pretext evaluate` wrote.

    Raises:
        RunFolderError: this is no run folder, or it is damaged.
        UsageError: the evaluation cannot be read, `out` cannot be written, or it would put the evaluation, which is
            not covered by the guarantee, into the run folder.
    """
    if evaluation is not None:
        check_outside_run(out, folder)
    facts = Facts.read(folder)
    page = render_report(facts, None if evaluation is None else read_evaluation(evaluation, facts.run.id))
    try:
        write_atomically(out, page)
    except OSError as error:
        raise UsageError(f"The report {out} cannot be written: {error.strerror}.") from None


def render_report(facts: Facts, evaluation: Evaluation | None = None) -> str:
    """The page. Raises RunFolderError if the privacy statement lacks what one holds."""
    from jinja2 import UndefinedError

    try:
        return _render_template(facts, evaluation)
    except UndefinedError as error:
        raise RunFolderError(
            f"{facts.run.folder / 'privacy.json'} is no privacy statement that this version can read ({error}); "
            "`pretext resume` writes it anew."
        ) from None


def _render_template(facts: Facts, evaluation: Evaluation | None) -> str:
    from markupsafe import Markup

    environment = make_template_environment()
    script, style = (_read_asset(environment, name) for name in ("report.js", "report.css"))
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    return environment.get_template("report.html.j2").render(
        facts=facts,
        config=facts.config,
        privacy=facts.privacy,
        evaluation=None if evaluation is None else tabulate_evaluation(evaluation),
        settings=tomlkit.dumps(dump_settings(facts.config)),
        votes=charts.votes_panels(facts.rounds),
        movement=charts.trace_movement(facts.rounds),
        charts=charts,
        words=words,
        clear=sum(each.verdict == "clear" for each in facts.rounds),
        shown=facts.synthetic[:MAX_SHOWN_TEXTS],
        seeds=facts.seeds[:MAX_SHOWN_SEEDS],
        script=Markup(script),  # noqa: S704
        style=Markup(style),  # noqa: S704
        digest=digest,
    )


def make_template_environment() -> Environment:
    """The templates; everything that goes into a page is escaped, and a name that is not there is an error."""
    from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape

    environment = Environment(
        loader=PackageLoader("pretext.report"),
        autoescape=select_autoescape(["html.j2"]),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "up": round_up,
        "down": round_down,
        "minutes": _format_minutes,
        "share": _format_share,
        "total": _sum_reasons,
    }
    environment.filters["part_of"] = _budget_share
    return environment


def _read_asset(environment: Environment, name: str) -> str:
    assert environment.loader is not None
    return environment.loader.get_source(environment, name)[0]


def _format_minutes(seconds: float) -> str:
    return f"{seconds:.1f} s" if seconds < 120 else f"{seconds / 60:,.1f} min"


def _format_share(value: Any) -> str:
    return "-" if math.isnan(value) else f"{100 * value:.0f} %"


def _budget_share(spent: float | None, budget: float) -> float:
    """Of a budget; all of it where the loss is infinite (None)."""
    return 1.0 if spent is None else spent / budget


def _sum_reasons(reasons: dict[str, int]) -> int:
    return sum(reasons.values())
