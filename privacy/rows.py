"""Events and balances as the rows of the ledger's file hold them (`privacy.storage`), and back."""

from __future__ import annotations

import json
from fractions import Fraction
from typing import Any, NamedTuple, assert_never

import numpy as np

from privacy.account import Balance
from privacy.accounting import Cost, RunningCost
from privacy.events import Budget, BudgetChange, Event, Registration, Release, Reservation, Seal, Source
from privacy.mechanisms import DiscreteGaussian
from privacy.units import Relation, Unit

NOT_AN_EVENT = (ValueError, TypeError, LookupError, ArithmeticError, RecursionError)
"""What `decode` and `decode_balance` raise of rows that no ledger wrote."""


class Record(NamedTuple):
    """An event as its row holds it."""

    kind: str
    key: str
    content: str
    value: bytes


def encode(event: Event) -> Record:
    """Encode an event as a row."""
    match event:
        case Registration():
            about = {"unit": event.unit.column, "relation": event.relation.value}
            return _record(event, "", {**about, **_budget_content(event.budget), "time": event.time})
        case Source():
            return _record(event, event.path, {"file": event.file, "time": event.time})
        case BudgetChange():
            return _record(event, "", {**_budget_content(event.budget), "time": event.time})
        case Reservation():
            about = {"unit": event.unit.column, "folder": event.folder}
            return _record(event, event.run, {**_cost_content(event.cost), **about, "time": event.time})
        case Release():
            return _record(event, event.label, _release_content(event), event.value.astype("<i8").tobytes())
        case Seal():
            state = {"opened": event.opened, "accepted": event.accepted}
            return _record(event, event.run, {"manifest": event.manifest, **state, "time": event.time})
        case _:
            assert_never(event)


def decode(record: Record) -> Event:
    """Decode the event in a row. Raise one of NOT_AN_EVENT if there is none."""
    content = json.loads(record.content)
    match record.kind:
        case Registration.KIND:
            unit, relation = Unit(content["unit"]), Relation(content["relation"])
            return Registration(unit, relation, _budget(content), content["time"])
        case Source.KIND:
            return Source(record.key, content["file"], content["time"])
        case BudgetChange.KIND:
            return BudgetChange(_budget(content), content["time"])
        case Reservation.KIND:
            cost = Cost(content["mu_squared"], content["slack"])
            return Reservation(record.key, cost, Unit(content["unit"]), content["folder"], content["time"])
        case Release.KIND:
            return _release(record, content)
        case Seal.KIND:
            accepted = tuple(content["accepted"])
            return Seal(record.key, content["manifest"], content["time"], content["opened"], accepted)
        case _:
            raise ValueError(f"unknown kind {record.kind!r}")


def encode_balance(balance: Balance) -> str:
    """Encode a balance as JSON; its sums are exact: numerator and denominator."""
    return json.dumps(
        {
            "unit": balance.unit.column,
            "relation": balance.relation.value,
            **_budget_content(balance.budget),
            "spent": _ratios(balance.spent),
            "reserved": {run: _ratios(reserved) for run, reserved in balance.reserved.items()},
        }
    )


def decode_balance(text: str) -> Balance:
    """Decode the balance in a row. Raise one of NOT_AN_EVENT if there is none."""
    content = json.loads(text)
    reserved = {run: _running_cost(ratios) for run, ratios in content["reserved"].items()}
    spent = _running_cost(content["spent"])
    return Balance(Unit(content["unit"]), Relation(content["relation"]), _budget(content), spent, reserved)


def _ratios(cost: RunningCost) -> dict[str, tuple[int, int]]:
    return {"mu_squared": cost.mu_squared.as_integer_ratio(), "slack": cost.slack.as_integer_ratio()}


def _running_cost(ratios: dict[str, list[Any]]) -> RunningCost:
    (mu, mu_below), (slack, slack_below) = ratios["mu_squared"], ratios["slack"]
    return RunningCost(Fraction(mu, mu_below), Fraction(slack, slack_below))


def _record(event: Event, key: str, content: dict[str, Any], value: bytes = b"") -> Record:
    return Record(event.KIND, key, json.dumps(content), value)


def _budget_content(budget: Budget) -> dict[str, float]:
    return {"epsilon": float(budget.epsilon), "delta": float(budget.delta)}


def _budget(content: dict[str, Any]) -> Budget:
    return Budget(content["epsilon"], content["delta"])


def _cost_content(cost: Cost) -> dict[str, float]:
    return {"mu_squared": float(cost.mu_squared), "slack": float(cost.slack)}


def _release_content(release: Release) -> dict[str, Any]:
    return {
        "subject": release.subject,
        "mechanism": release.mechanism.name,
        "sigma": float(release.mechanism.sigma),
        "grid": float(release.mechanism.grid),
        "norm_squared": int(release.norm_squared),
        "nonnegative": bool(release.nonnegative),
        "relation": release.relation.value,
        "time": release.time,
        "code": release.code,
    }


def _release(record: Record, content: dict[str, Any]) -> Release:
    mechanism = DiscreteGaussian(content["sigma"], content["grid"])
    if content["mechanism"] != mechanism.name:
        raise ValueError(f"unknown mechanism {content['mechanism']!r}")
    return Release(
        record.key,
        content["subject"],
        mechanism,
        content["norm_squared"],
        content["nonnegative"],
        Relation(content["relation"]),
        np.frombuffer(record.value, dtype="<i8").astype(np.int64),
        content["time"],
        content["code"],
    )
