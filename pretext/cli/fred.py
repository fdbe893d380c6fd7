"""The command `pretext fred`: which public set of texts is nearest to the private ones."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import click

from pretext.cli.options import (
    chart_option,
    config_argument,
    confirm_option,
    drop_unset,
    json_option,
    print_error,
    set_option,
)


@click.command()
@config_argument
@click.option("--private", help="Private file or Hugging Face dataset id (data.path).")
@click.option("--text-column", help="Column with the private text (data.text_column).")
@click.option("--client-column", help="Column that tells clients apart (data.client_column).")
@click.option("--public-set", "public_sets", multiple=True, help="Public set of texts; at least two.")
@click.option("--public-column", help="Column with the candidates' text (initial.text_column).")
@click.option("--public-set-texts", type=int, help="Texts of each that are embedded (initial.public_set_texts).")
@click.option("--epsilon", type=float, help="Privacy loss of the release (privacy.epsilon).")
@click.option("--delta", type=float, help="delta of the release (privacy.delta).")
@click.option("--relation", help="add/remove or replace-one (privacy.relation).")
@click.option("--clients", type=int, help="Public estimate of the number of clients (privacy.clients).")
@click.option("--clients-exact", is_flag=True, default=None, help="That is the number, and it is public.")
@click.option("--out", type=click.Path(path_type=Path), default="fred", show_default=True, help="FreD folder.")
@click.option("--choose", type=click.IntRange(min=1), default=1, help="Find the so many whose mixture is nearest.")
@chart_option
@click.option("--plan", is_flag=True, help="Say what it would tell, from public data alone.")
@json_option
@set_option
@confirm_option
def fred(
    config: Path | None,
    out: Path,
    choose: int,
    chart: Path | None,
    plan: bool,
    as_json: bool,
    confirm_new_name: bool,
    **flags: Any,
) -> None:
    """Find the public set of texts nearest to the private ones, by one release.

    An existing FreD folder's release is used again: more candidates cost no privacy.
    """
    from pretext.jobs.fred import plan_query
    from pretext.jobs.fred import run_fred as ask
    from pretext.jobs.parts import Parts

    resolved = _resolve_fred_flags(config, out, flags)
    parts = Parts.of(resolved)
    if plan:
        query = plan_query(resolved, parts)
        click.echo(json.dumps(_fred_plan_to_json(query), indent=1) if as_json else _format_fred_plan(resolved, query))
        return
    try:
        answer = ask(resolved, out, parts, choose=choose, confirmed=confirm_new_name)
    except KeyboardInterrupt:
        sys.exit(print_error("Interrupted; what was embedded or released is kept. Give the same command again.", 4))
    if chart is not None:
        from pretext.cli.plots import draw_distances

        draw_distances(answer.ranking.lines, chart)
    click.echo(_answer_to_json(answer) if as_json else _format_answer(answer))


def _resolve_fred_flags(config: Path | None, out: Path, flags: dict[str, Any]) -> Any:
    """Flags over the file over what an existing folder was asked with."""
    from pretext.config.resolve import dump_settings, resolve
    from pretext.run.folder import Run
    from pretext.tables import resolve_location

    private = flags.pop("private")
    before = dump_settings(Run.open(out)[1]) if (out / "run.json").exists() else {}
    overrides = flags.pop("overrides")
    tables = {
        "data": {
            "path": private and resolve_location(private),
            "text_column": flags.pop("text_column"),
            "client_column": flags.pop("client_column"),
        },
        "initial": {
            "public_sets": [resolve_location(location) for location in flags.pop("public_sets")] or None,
            "public_set_texts": flags.pop("public_set_texts"),
            "text_column": flags.pop("public_column"),
        },
        "privacy": flags,
    }
    before.setdefault("initial", {}).setdefault("public_sets", [])
    return resolve(
        config, overrides, settings={name: drop_unset(table) for name, table in tables.items()}, defaults=before
    )


def _format_fred_plan(config: Any, query: Any) -> str:
    from privacy import epsilon
    from privacy.rounding import round_up

    moments, promise, privacy = query.moments, query.promise, config.privacy
    cost = epsilon(query.cost(privacy.relation), privacy.delta)
    return "\n".join(
        [
            f"Epsilon            {round_up(cost)} (delta {privacy.delta:g}, unit {config.unit.name}, relation "
            f"{privacy.relation.value})",
            f"Clients            {privacy.clients:,}, {'taken as exact' if query.clients else 'counted by the way'}",
            f"Noise              {query.mechanism.standard_deviation:.4g} on a sum of vectors of norm 1, "
            f"{moments.dimension:,} coordinates",
            f"Mean               in {moments.directions} directions, {moments.mean_weight**2:.0%} of the sensitivity",
            f"Second moments     in {moments.rank} directions, {promise.explained:.0%} of the candidates' variance",
            "Expected, with each candidate in the private set's place:",
            f"  bias of a distance before it is removed          {promise.bias:+.4f}",
            f"  error of the gap between two, in all directions  {promise.error:.4f}",
            f"  chance of ranking two candidates right           {promise.chance:.3f}",
        ]
    )


def _fred_plan_to_json(query: Any) -> dict[str, Any]:
    from dataclasses import asdict

    return {
        "noise": query.mechanism.standard_deviation,
        "coordinates": query.moments.dimension,
        "mean_directions": query.moments.directions,
        "second_moment_directions": query.moments.rank,
        **asdict(query.promise),
    }


def _format_answer(answer: Any) -> str:
    from pretext.fred.recommend import CONFIDENCE
    from privacy.rounding import round_up

    ranking, guarantee = answer.ranking, answer.privacy["guarantee"]
    width = max(9, *(len(line.public_set) for line in ranking.lines))
    head = f"{'candidate':<{width}}  distance  {f'{CONFIDENCE:.0%} interval':<17} nearest     texts"
    rows = [
        f"{line.public_set:<{width}}  {line.distance:>8.4f}  {line.low:.4f} to {line.high:<7.4f}  {line.best:>6.2f}  "
        f"{line.texts:>8,}"
        for line in ranking.lines
    ]
    mixture = []
    if len(ranking.mixture) > 1:
        steps = [f"{name} ({d:.4f})" for name, d in zip(ranking.mixture, ranking.mixture_distances, strict=True)]
        mixture = ["Mixture, with its distance after each: " + " + ".join(steps)]
    return "\n".join(
        [
            head,
            *rows,
            ranking.recommendation,
            *mixture,
            f"Guarantee    ({round_up(guarantee['epsilon'])}, {guarantee['delta']:g})-differential privacy, unit "
            f"{guarantee['unit']}, relation {guarantee['relation']}",
            f"Folder       {answer.folder}",
        ]
    )


def _answer_to_json(answer: Any) -> str:
    from dataclasses import asdict

    from pretext.files import replace_nonfinite
    from pretext.fred.recommend import CONFIDENCE

    told = {"confidence": CONFIDENCE, **asdict(answer.ranking), "plan": _fred_plan_to_json(answer.query)}
    return json.dumps(replace_nonfinite({**told, "privacy": answer.privacy}), indent=1)
