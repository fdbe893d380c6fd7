"""The command `pretext ledger`: budgets and histories."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from pretext.cli.options import json_option


@click.group(invoke_without_command=True)
@click.pass_context
def ledger(context: click.Context) -> None:
    """Show the datasets' budgets and histories, or set a budget."""
    if context.invoked_subcommand is None:
        from pretext.home import open_ledger

        book = open_ledger()
        click.echo(f"Ledger {book.path}")
        book.examine()
        for name in book.names():
            click.echo(_format_account(book.account(name)))


@ledger.command()
@click.argument("name")
@json_option
def show(name: str, as_json: bool) -> None:
    """Show a dataset's budget and every release ever charged to it."""
    from pretext.files import replace_nonfinite
    from pretext.home import open_ledger

    book = open_ledger()
    account = book.account(name)
    if as_json:
        click.echo(json.dumps(replace_nonfinite(_account_to_json(account, book.path)), indent=1))
        return
    click.echo(f"Ledger {book.path}\n{_format_account(account)}")
    for source in account.sources:
        click.echo(f"  source {source}")
    for number, release in enumerate(account.releases, 1):
        cost = release.cost(account.relation)
        click.echo(
            f"  {number:>4}  {release.time}  {release.label}  {release.mechanism.name}, {release.dimension} "
            f"values, noise {release.mechanism.standard_deviation:.4g}, mu {cost.mu_squared**0.5:.5f}, {release.code}"
        )
    for seal in account.seals:
        click.echo(f"  sealed {seal.time}  run {seal.run}, manifest {seal.manifest}")
    click.echo(f"  chain at entry {account.position}: {account.head}")


@ledger.command()
@click.argument("name")
@click.option("--epsilon", type=float, required=True, help="The most that may ever be spent.")
@click.option("--delta", type=float, help="delta of the budget; default: as before.")
def budget(name: str, epsilon: float, delta: float | None) -> None:
    """Set the budget of a known dataset. A decision of whoever answers for the data; it stays in the history."""
    from pretext.home import open_ledger
    from privacy import Budget

    book = open_ledger()
    before = book.account(name)
    click.echo(_format_account(book.set_budget(name, Budget(epsilon, delta or before.budget.delta))))


def _format_account(account: Any) -> str:
    from pretext.formatting import format_count
    from privacy.rounding import round_down, round_up

    return (
        f"{account.name}: budget epsilon {account.budget.epsilon:.10g}, delta {account.budget.delta:g}, unit "
        f"{account.unit.name}, relation {account.relation.value}; spent {round_up(account.spent_epsilon)} in "
        f"{format_count(len(account.releases), 'release')}; left for one more run: {round_down(account.left_epsilon)}"
    )


def _account_to_json(account: Any, path: Path) -> dict[str, Any]:
    return {
        "ledger": str(path),
        "dataset": account.name,
        "unit": account.unit.words,
        "relation": account.relation.value,
        "budget": {"epsilon": account.budget.epsilon, "delta": account.budget.delta},
        "spent_epsilon": account.spent_epsilon,
        "left_epsilon": account.left_epsilon,
        "sources": list(account.sources),
        "position": account.position,
        "head_sha256": account.head,
        "releases": [
            {
                "number": number,
                "label": release.label,
                "time": release.time,
                "sigma": release.mechanism.standard_deviation,
                "dimension": release.dimension,
            }
            for number, release in enumerate(account.releases, 1)
        ],
    }
