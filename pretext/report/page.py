"""The report: one HTML file that needs nothing else, for whoever has to decide about a dataset.

It runs the one script that it carries and loads nothing else. Its content security policy makes the browser enforce
that, so a text that looks like markup could do nothing even if escaping failed. Texts come from language models and
public files; every one is escaped.

It is made from the run folder, and an evaluation if one is given. Nothing in the folder is private; an evaluation is
not covered by the guarantee, and the page says so.
"""

from __future__ import annotations

import base64
import hashlib
import math
from pathlib import Path
from typing import TYPE_CHECKING

import tomlkit

from pretext.config.resolve import dump_settings
from pretext.errors import UsageError
from pretext.files import write_atomically
from pretext.formatting import escape_markdown
from pretext.report import charts, wording
from pretext.report.evaluation import Evaluation, read_evaluation, tabulate_evaluation
from pretext.report.facts import MAX_SHOWN_SEEDS, MAX_SHOWN_TEXTS, Facts
from pretext.run.folder import check_outside_run
from pretext.separation import check_sources_apart
from privacy.rounding import round_down, round_up

if TYPE_CHECKING:
    from jinja2 import Environment


def write_report(folder: Path, out: Path, evaluation: Path | None = None) -> None:
    """Write the report of a run folder, finished or not.

    Args:
        folder: the run folder; it is only read.
        out: the HTML file; an earlier one is replaced.
        evaluation: what `pretext evaluate` wrote.

    Raises:
        RunFolderError: this is no run folder, or it is damaged.
        UsageError: the evaluation cannot be read, or `out` lies in the run folder or cannot be written, or a
            public source of the run is its private one.
    """
    check_outside_run(out, folder)
    facts = Facts.read(folder)
    check_sources_apart(facts.config.data, facts.config.initial)
    page = render_report(facts, None if evaluation is None else read_evaluation(evaluation, facts.run.id))
    try:
        write_atomically(out, page)
    except OSError as error:
        raise UsageError(f"The report {out} cannot be written: {error.strerror}.") from None


def render_report(facts: Facts, evaluation: Evaluation | None = None) -> str:
    """Render the page."""
    from markupsafe import Markup

    environment = make_template_environment()
    assert environment.loader is not None
    script, style = (environment.loader.get_source(environment, name)[0] for name in ("report.js", "report.css"))
    return environment.get_template("report.html.j2").render(
        facts=facts,
        config=facts.config,
        privacy=facts.privacy,
        evaluation=None if evaluation is None else tabulate_evaluation(evaluation),
        settings=tomlkit.dumps(dump_settings(facts.config)),
        votes=charts.votes_panels(facts.rounds),
        movement=charts.trace_movement(facts.rounds),
        charts=charts,
        words=wording,
        clear=sum(voting_round.verdict == "clear" for voting_round in facts.rounds),
        texts=facts.synthetic[:MAX_SHOWN_TEXTS],
        seeds=facts.seeds[:MAX_SHOWN_SEEDS],
        script=Markup(script),  # noqa: S704
        style=Markup(style),  # noqa: S704
        digest=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
    )


def make_template_environment() -> Environment:
    """Load the templates; everything that goes into a page is escaped, and an unknown name is an error."""
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
        "md": escape_markdown,
        "total": lambda reasons: sum(reasons.values()),
    }
    return environment


def _format_minutes(seconds: float) -> str:
    return f"{seconds:.1f} s" if seconds < 120 else f"{seconds / 60:,.1f} min"


def _format_share(share: float) -> str:
    return "-" if math.isnan(share) else f"{100 * share:.0f} %"
