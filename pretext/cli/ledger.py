"""The command `pretext ledger`: budgets and histories."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from pretext.cli.options import OrderedGroup, json_option
from pretext.cli.output import print_result

if TYPE_CHECKING:
    from privacy import Account, Seal


@click.group(cls=OrderedGroup, invoke_without_command=True, short_help="Show or set the datasets' budgets.")
@click.pass_context
def ledger(context: click.Context) -> None:
    """Show every dataset's budget and what is left of it; with a command, one dataset's history, or set its budget."""
    if context.invoked_subcommand is None:
        from pretext.home import ledger_path, read_ledger

        path = ledger_path()
        print_result(f"Ledger {path}")
        if path.parent.is_dir() and not path.exists():
            print_result("It is not there yet; the first run makes it.")
            return
        book = read_ledger()
        book.examine()
        for name in book.names():
            print_result(_format_account(book.account(name)))


@ledger.command(short_help="Show a dataset's budget and releases.")
@click.argument("name")
@json_option
def show(name: str, as_json: bool) -> None:
    """Show the budget of dataset NAME and every release ever charged to it."""
    from pretext.home import read_ledger

    book = read_ledger()
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

    Whoever answers for the data decides this; the decision stays in the history. If something was released before, the
    largest budget is from then on what is guaranteed.
    """
    from pretext.home import read_ledger
    from privacy import Budget

    book = read_ledger()
    delta = book.account(name).budget.delta if delta is None else delta
    print_result(_format_account(book.set_budget(name, Budget(epsilon, delta))))


@ledger.command(short_help="Give back what an unfinished run has reserved.")
@click.argument("run")
def release(run: str) -> None:
    """Give back what RUN, a run folder or the id of one, has reserved and not drawn.

    For a run that was given up. What it has drawn stays spent; if it is resumed after all, it reserves again.
    """
    from pretext.errors import UsageError
    from pretext.home import read_ledger
    from pretext.run.folder import Run

    book = read_ledger()
    run_id = Run.open(Path(run))[0].id if (Path(run) / "run.json").exists() else run
    names = book.holding(run_id)
    if not names:
        raise UsageError(f"Run {run_id!r} has nothing reserved; `pretext ledger` names the runs that have.")
    for name in names:
        book.give_back(name, run_id)
        print_result(_format_account(book.account(name)))


def _format_account(account: Account) -> str:
    from pretext.formatting import format_count
    from privacy.rounding import round_down, round_up

    reserved = "".join(
        f" (run {run}{f' in {account.folders[run]}' if account.folders.get(run) else ''})"
        for run in account.balance.reserved
    )
    return (
        f"{account.name}: budget epsilon {account.budget.epsilon:.10g}, delta {account.budget.delta:g}, unit "
        f"{account.unit.name}, relation {account.relation.value}: guaranteed for all that ever leaves it\n"
        f"    reading: spent {round_up(account.spent_epsilon)} in {format_count(len(account.releases), 'release')}; "
        f"reserved {round_up(account.balance.reserved_epsilon)}{reserved}; left for one more run: "
        f"{round_down(account.left_epsilon)}"
    )


def _format_history(account: Account) -> str:
    lines = [f"source {source}" for source in account.sources]
    if len(account.budgets) > 1:
        budgets = ", ".join(f"({budget.epsilon:.10g}, {budget.delta:g})" for budget in account.budgets)
        lines.append(f"budgets in order (epsilon, delta): {budgets}; the largest in force at a release is guaranteed")
    for number, release in enumerate(account.releases, 1):
        cost = release.cost(account.relation)
        lines.append(
            f"{number:>4}  {release.time}  {release.label}  {release.mechanism.name}, {release.dimension} values, "
            f"noise {release.mechanism.standard_deviation:.4g}, mu {cost.mu_squared**0.5:.5f}, {release.code}"
        )
    lines += map(_format_seal, account.seals)
    lines.append(f"chain at entry {account.position}: {account.head}")
    return "\n".join(f"  {line}" for line in lines)


def _format_seal(seal: Seal) -> str:
    accepted = f", changes accepted in {', '.join(seal.accepted)}" if seal.accepted else ""
    return f"{'opened' if seal.opened else 'sealed'} {seal.time}  run {seal.run}, manifest {seal.manifest}{accepted}"


def _account_to_json(account: Account, path: Path) -> str:
    from pretext.files import replace_nonfinite

    document = {
        "ledger": str(path),
        "dataset": account.name,
        "unit": account.unit.words,
        "relation": account.relation.value,
        "budget": {"epsilon": account.budget.epsilon, "delta": account.budget.delta},
        "spent_epsilon": account.spent_epsilon,
        "reserved_epsilon": account.balance.reserved_epsilon,
        "reserved_by": list(account.balance.reserved),
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
