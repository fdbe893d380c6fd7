"""Compare the forecast of `pretext plan --measure` with what the run then takes: tokens, seconds and peak memory.

    python scripts/bench/plan.py PRIVATE PUBLIC --masked MODEL [--client-column client_id] [--scale 1]

Plans and runs three configurations, each in processes of its own, on a part of the private file: in-context variation,
rewriting with lookahead, and mask-filling with lookahead. A ratio between 0.5 and 2 is within the promise.
"""

from __future__ import annotations

import argparse
import gzip
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

CONFIGS = {
    "in-context": ["variation.kind=in-context", "evolution.population={128}", "expansion.texts={300}"],
    "rewrite, lookahead 1": [
        "variation.kind=rewrite", "evolution.lookahead=1", "evolution.population={96}", "expansion.texts={100}",
    ],
    "mask-fill, lookahead 4": [
        "variation.kind=mask-fill", "evolution.lookahead=4", "evolution.population={256}", "expansion.texts={200}",
    ],
}  # fmt: skip


COMMON = ["privacy.rounds=3", "privacy.epsilon=8", "privacy.delta=1e-5", "privacy.budget_epsilon=100"]


def main() -> None:
    """Print four lines per configuration: forecast, taken, ratio."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("private", type=Path, help="jsonl.gz file")
    parser.add_argument("public", type=Path)
    parser.add_argument("--client-column", default="client_id")
    parser.add_argument("--clients", type=int, default=2000)
    parser.add_argument("--masked", required=True, help="folder or name of a masked language model")
    parser.add_argument("--scale", type=float, default=1.0, help="multiplies populations and synthetic texts")
    options = parser.parse_args()
    print(f"{'configuration':<24}{'':>10}{'forecast':>12}{'taken':>12}{'ratio':>8}", flush=True)
    with tempfile.TemporaryDirectory() as scratch:
        home = own_home(Path(scratch))
        private = Path(scratch) / "private.jsonl"
        texts = write_part(options.private, options.client_column, options.clients, private)
        flags = ["--private", str(private), "--client-column", options.client_column, "--public", str(options.public)]
        common = [
            *COMMON,
            f"models.masked={options.masked}",
            f"privacy.clients={options.clients}",
            f"privacy.max_texts_per_client={texts}",
        ]
        for name, settings in CONFIGS.items():
            overrides = [*common, *(scale_setting(setting, options.scale) for setting in settings)]
            arguments = [*flags, *(part for setting in overrides for part in ("--set", setting))]
            show(name, *compare_plan_and_run(arguments, Path(scratch) / name.split(",")[0], home))


def own_home(scratch: Path) -> dict[str, str]:
    """Return an environment with a ledger of its own and the models that are converted already."""
    from pretext.home import model_cache_folder
    from pretext.models.sources import resolve_generator

    resolve_generator("embedded")
    (scratch / "home").mkdir()
    (scratch / "home" / "models").symlink_to(model_cache_folder())
    return {**os.environ, "PRETEXT_HOME": str(scratch / "home")}


def write_part(source: Path, column: str, clients: int, target: Path) -> int:
    """Write the texts of the first `clients` clients; return texts per client, rounded up."""
    members: set[str] = set()
    written = 0
    with gzip.open(source, "rt", encoding="utf-8") as lines, target.open("w", encoding="utf-8") as file:
        for line in lines:
            client = json.loads(line)[column]
            if client in members or len(members) < clients:
                members.add(client)
                written += file.write(line) > 0
    return -(-written // clients)


def scale_setting(setting: str, scale: float) -> str:
    """Turn `population={128}` into `population=64` at a scale of one half."""
    name, _, value = setting.partition("=")
    return f"{name}={max(16, round(int(value.strip('{}')) * scale))}" if value.startswith("{") else setting


def compare_plan_and_run(
    arguments: list[str], folder: Path, home: dict[str, str]
) -> tuple[dict[str, float], dict[str, float]]:
    """Return the forecast, and what the run took, by unit."""
    program = [sys.executable, "-m", "pretext"]
    planned = subprocess.run(
        [*program, "plan", *arguments, "--measure", "--json"], check=True, stdout=subprocess.PIPE, env=home
    )
    forecast = json.loads(planned.stdout)["forecast"]
    started = time.perf_counter()
    run = subprocess.Popen([*program, "run", *arguments, "--out", str(folder)], stdout=subprocess.DEVNULL, env=home)
    _, status, usage = os.wait4(run.pid, 0)
    seconds = time.perf_counter() - started
    if status:
        sys.exit("the run failed")
    taken = json.loads((folder / "timings.json").read_text(encoding="utf-8"))
    return (
        {
            "seconds": total(forecast["phases"], "seconds"),
            **tokens(forecast["phases"]),
            "MiB": forecast["memory"] / 2**20,
        },
        {"seconds": seconds, **tokens(taken), "MiB": usage.ru_maxrss / 2**10},
    )


def tokens(phases: dict[str, dict[str, float]]) -> dict[str, float]:
    """Return the tokens read and written in all phases."""
    return {unit: total(phases, unit) for unit in ("read", "written")}


def total(phases: dict[str, dict[str, float]], unit: str) -> float:
    """Return the sum over the phases."""
    return sum(phase[unit] for phase in phases.values())


def show(name: str, forecast: dict[str, float], taken: dict[str, float]) -> None:
    """Print a line per unit."""
    for unit, guess in forecast.items():
        print(f"{name:<24}{unit:>10}{guess:12,.0f}{taken[unit]:12,.0f}{guess / taken[unit]:8.2f}", flush=True)


if __name__ == "__main__":
    main()
