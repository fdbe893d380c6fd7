"""The command `pretext ledger`: budgets and histories."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from pretext.cli.options import OrderedGroup, json_option
from pretext.cli.output import print_result

if TYPE_CHECKING:
    from privacy import Account


@click.group(cls=OrderedGroup, invoke_without_command=True, short_help="Show or set the datasets' budgets.")
@click.pass_context
def ledger(context: click.Context) -> None:
    """Show every dataset's budget and what is left of it; with a command, one dataset's history, or set its budget."""
    if context.invoked_subcommand is None:
        from pretext.home import open_ledger

        book = open_ledger()
        print_result(f"Ledger {book.path}")
        book.examine()
        for name in book.names():
            print_result(_format_account(book.account(name)))


@ledger.command(short_help="Show a dataset's budget and releases.")
@click.argument("name")
@json_option
def show(name: str, as_json: bool) -> None:
    """Show the budget of dataset NAME and every release ever charged to it."""
    from pretext.home import open_ledger

    book = open_ledger()
    account = book.account(name)
    if as_json:
        print_result(_account_to_json(account, book.path))
    else:
        print_result(f"Ledger {book.path}\n{_format_account(account)}\n{_format_history(account)}")


@ledger.command(short_help="Set a dataset's budget.")
@click.argument("name")
@click.option("--epsilon", type=float, required=True, help="The most that may ever be spent.")
@click.option("--delta", type=float, help="delta of the budget; default: unchanged.")
def budget(name: str, epsilon: float, delta: float | None) -> None:
    """Set the budget of the known dataset NAME.

    Whoever answers for the data decides this; the decision stays in the history.
    """
    from pretext.home import open_ledger
    from privacy import Budget

    book = open_ledger()
    delta = book.account(name).budget.delta if delta is None else delta
    print_result(_format_account(book.set_budget(name, Budget(epsilon, delta))))


def _format_account(account: Account) -> str:
    from pretext.formatting import format_count
    from privacy.rounding import round_down, round_up

    return (
        f"{account.name}: budget epsilon {account.budget.epsilon:.10g}, delta {account.budget.delta:g}, unit "
        f"{account.unit.name}, relation {account.relation.value}; spent {round_up(account.spent_epsilon)} in "
        f"{format_count(len(account.releases), 'release')}; left for one more run: {round_down(account.left_epsilon)}"
    )


def _format_history(account: Account) -> str:
    lines = [f"source {source}" for source in account.sources]
    for number, release in enumerate(account.releases, 1):
        cost = release.cost(account.relation)
        lines.append(
            f"{number:>4}  {release.time}  {release.label}  {release.mechanism.name}, {release.dimension} values, "
            f"noise {release.mechanism.standard_deviation:.4g}, mu {cost.mu_squared**0.5:.5f}, {release.code}"
        )
    lines += [f"sealed {seal.time}  run {seal.run}, manifest {seal.manifest}" for seal in account.seals]
    lines.append(f"chain at entry {account.position}: {account.head}")
    return "\n".join(f"  {line}" for line in lines)


def _account_to_json(account: Account, path: Path) -> str:
    from pretext.files import replace_nonfinite

    document = {
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
    return json.dumps(replace_nonfinite(document), indent=1)
