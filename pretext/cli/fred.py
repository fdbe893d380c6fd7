"""The command `pretext fred`: which public set is nearest to the private texts."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from pretext.cli.options import (
    accept_option,
    config_argument,
    confirm_option,
    json_option,
    resumable,
    set_option,
    setting_options,
)
from pretext.cli.output import print_result
from pretext.cli.plots import chart_option, draw_distances
from pretext.config.flags import FRED_FLAGS, nest_flags

if TYPE_CHECKING:
    from pretext.config.settings import Config, Privacy
    from pretext.fred.query import FredQuery
    from pretext.fred.recommend import Ranking
    from pretext.jobs.fred import Answer
    from privacy import Unit


@click.command(short_help="Rank public sets by their distance from the private texts.")
@config_argument
@setting_options(FRED_FLAGS)
@set_option
@click.option("--choose", type=click.IntRange(min=1), default=1, help="Number of sets in the recommended mixture.")
@click.option("--out", type=click.Path(path_type=Path), default="fred", show_default=True, help="FreD folder.")
@confirm_option
@accept_option
@click.option("--plan", is_flag=True, help="Show cost and expected accuracy, from public data alone.")
@chart_option
@json_option
def fred(
    config: Path | None,
    choose: int,
    out: Path,
    confirm_new_name: bool,
    accept_changes: bool,
    plan: bool,
    chart: Path | None,
    as_json: bool,
    overrides: tuple[str, ...],
    **flags: Any,
) -> None:
    """Find the public set nearest to the private texts, by one release.

    An existing FreD folder's release is used again: more public sets cost no privacy.
    """
    from pretext.jobs.fred import plan_query, run_fred
    from pretext.jobs.parts import Parts

    resolved = _resolve_over_folder(config, out, overrides, flags)
    parts = Parts.of(resolved)
    if plan:
        query = plan_query(resolved, parts)
        print_result(_plan_to_json(query) if as_json else _format_plan(query, resolved.privacy, resolved.unit))
        return
    with resumable("the same command"):
        answer = run_fred(
            resolved, out, parts, choose=choose, confirmed=confirm_new_name, accept_changes=accept_changes
        )
    print_result(_answer_to_json(answer) if as_json else _format_answer(answer))
    if chart is not None:
        from pretext.fred.recommend import CONFIDENCE

        rows = [(line.public_set, line.distance, line.low, line.high) for line in answer.ranking.lines]
        draw_distances(rows, chart, CONFIDENCE)


def _resolve_over_folder(
    config: Path | None, out: Path, overrides: tuple[str, ...], flags: Mapping[str, Any]
) -> Config:
    """Lay the flags over the file, and both over the settings that an existing folder was made with."""
    from pretext.config.resolve import dump_settings, resolve
    from pretext.run.folder import Run

    stored = dump_settings(Run.open(out)[1]) if (out / "run.json").exists() else {}
    return resolve(config, overrides, settings=nest_flags(flags), defaults=stored)


def _format_plan(query: FredQuery, privacy: Privacy, unit: Unit) -> str:
    from privacy import epsilon
    from privacy.rounding import round_up

    moments, promise = query.moments, query.promise
    cost = epsilon(query.cost(privacy.relation), privacy.delta)
    counting = "taken as exact" if query.clients else "counted by the same release"
    return "\n".join(
        [
            f"Epsilon            {round_up(cost)} (delta {privacy.delta:g}, unit {unit.name}, relation "
            f"{privacy.relation.value})",
            f"Clients            {privacy.clients:,}, {counting}",
            f"Noise              {query.mechanism.standard_deviation:.4g} on a sum of vectors of norm 1, "
            f"{moments.dimension:,} coordinates",
            f"Mean               in {moments.directions} directions, {moments.mean_weight**2:.0%} of the sensitivity",
            f"Second moments     in {moments.rank} directions, {promise.explained:.0%} of the public sets' variance",
            "Expected, with each public set in the private set's place:",
            f"  bias of a distance before it is removed          {promise.bias:+.4f}",
            f"  error of the gap between two, in all directions  {promise.error:.4f}",
            f"  chance of ranking two public sets right          {promise.chance:.3f}",
        ]
    )


def _plan_to_json(query: FredQuery) -> str:
    return json.dumps(_plan_document(query), indent=1)


def _plan_document(query: FredQuery) -> dict[str, float]:
    from dataclasses import asdict

    return {
        "noise": query.mechanism.standard_deviation,
        "coordinates": query.moments.dimension,
        "mean_directions": query.moments.directions,
        "second_moment_directions": query.moments.rank,
        **asdict(query.promise),
    }


def _format_answer(answer: Answer) -> str:
    from privacy.rounding import round_up

    ranking, guarantee = answer.ranking, answer.privacy.guarantee
    lines = [*_format_ranking(ranking), ranking.recommendation]
    if len(ranking.mixture) > 1:
        steps = [f"{name} ({d:.4f})" for name, d in zip(ranking.mixture, ranking.mixture_distances, strict=True)]
        lines.append("Mixture, with its distance after each set: " + " + ".join(steps))
    return "\n".join(
        [
            *lines,
            f"Guarantee    ({round_up(guarantee.epsilon)}, {guarantee.delta:g})-differential privacy, unit "
            f"{guarantee.unit}, relation {guarantee.relation}",
            f"Folder       {answer.folder}",
        ]
    )


def _format_ranking(ranking: Ranking) -> list[str]:
    from pretext.fred.recommend import CONFIDENCE

    width = max(10, *(len(line.public_set) for line in ranking.lines))
    head = f"{'public set':<{width}}  distance  {f'{CONFIDENCE:.0%} interval':<17} nearest     texts"
    rows = [
        f"{line.public_set:<{width}}  {line.distance:>8.4f}  {line.low:.4f} to {line.high:<7.4f}  {line.best:>6.2f}  "
        f"{line.texts:>8,}"
        for line in ranking.lines
    ]
    return [head, *rows]


def _answer_to_json(answer: Answer) -> str:
    from dataclasses import asdict

    from pretext.files import replace_nonfinite
    from pretext.fred.recommend import CONFIDENCE

    document = {
        "confidence": CONFIDENCE,
        **asdict(answer.ranking),
        "plan": _plan_document(answer.query),
        "privacy": asdict(answer.privacy),
    }
    return json.dumps(replace_nonfinite(document), indent=1)
