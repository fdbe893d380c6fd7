"""Stop where almost nothing that a generator writes is usable: more of it costs budget, time or money for nothing."""

from __future__ import annotations

from collections.abc import Mapping

from pretext.errors import EngineError

LEAST_SHARE = 0.1
"""Share of usable texts below which a generator is given up."""

_ENOUGH_TO_JUDGE = 64
_DEFAULT_REMEDY = "try another models.generator, another models.prompt_format or a wider screening"
_REMEDIES = {
    "reasoning": "switch the model's thinking off (with speed.request for a server) or set a higher max_tokens",
    "refusal": "describe the texts with other prompts or try another models.generator",
    "no answer": "see the log for why the requests failed",
    "duplicate": "set a higher temperature or try another models.generator",
    "too long": "set a lower max_tokens or a higher screening.max_words",
    "too short": "set a higher max_tokens or a lower screening.min_words",
}


def make_barren_error(usable: int, dropped: Mapping[str, int]) -> EngineError:
    """Make the error of a generator of whose texts almost none is usable.

    It counts the reasons why texts were dropped, and names a remedy for the most frequent one.
    """
    reasons = sorted(dropped.items(), key=lambda item: -item[1])
    listed = ", ".join(f"{reason}: {count}" for reason, count in reasons)
    return EngineError(
        f"The generator writes almost nothing usable: {usable} of {usable + sum(dropped.values())} texts passed the "
        f"screening (dropped: {listed}); {_REMEDIES.get(reasons[0][0], _DEFAULT_REMEDY)}, then resume."
    )


def check_usable(kept: int, dropped: Mapping[str, int]) -> None:
    """Give a generator up once enough was asked; a text that it wrote before is fit, though it is dropped.

    Raises:
        EngineError: almost nothing that it writes is usable.
    """
    asked = kept + sum(dropped.values())
    if asked >= _ENOUGH_TO_JUDGE and kept + dropped.get("duplicate", 0) < LEAST_SHARE * asked:
        raise make_barren_error(kept, dropped)
