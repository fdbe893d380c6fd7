"""Compare pretext with its baselines on the same private sets, budget, generator, number of texts and student.

    python scripts/studies/reproduce.py --sets a.jsonl.gz b.jsonl.gz --public wikipedia.jsonl.gz --csv results.csv
        --out FOLDER [--methods prompt-only non-private profile ...] [--epsilons 1 8] [--repetitions 3]
        [--seconds LIMIT] [--population 128] [--rounds 4] [--pool 1000] [--texts 600] [--tokens 32]
        [--clients 3000] [--texts-per-client 8] [--student tiny] [--set expansion.temperature=0.8]
        [--figure gaps.svg] [--print-only]

A private set has the columns client_id and text; its clients are split by a hash of their id into those who train,
who validate and who test. Every finished cell (set, method, epsilon, repetition) adds a row to the CSV file and is not
run again; an interrupted one goes on from its run folder. At the end, or with --print-only alone, it prints the table
and draws the figure.
The methods are described in comparison/methods.py, comparison/adapted.py and comparison/on_device.py.

The figures are measured on private texts without noise and the federated methods draw noise that no ledger charges:
this is for research data that is public, and nothing that it writes is covered by a guarantee.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from comparison.bench import ALL_METHODS, Bench, epsilon_of
from comparison.cells import Cell, add_row, is_done, read_rows
from comparison.figure import draw_gaps
from comparison.methods import Scale
from comparison.sets import PrivateSet, read_set
from comparison.table import format_table

from pretext.clients.federation import LocalFederation
from pretext.clients.private_data import read_private
from pretext.clients.voting import Clients
from pretext.config.flags import resolve_location
from pretext.config.resolve import resolve
from pretext.config.settings import Config
from pretext.errors import PretextError, UsageError
from pretext.evaluation.student import CausalStudent, open_student
from pretext.jobs.parts import Parts
from privacy.accounting import check_delta, check_epsilon


def main() -> None:
    """Run the missing cells and print the table."""
    options = make_reproduce_parser().parse_args()
    try:
        if not options.print_only:
            reproduce(options, open_student(options.student))
        rows = read_rows(options.csv)
        print(format_table(rows) if rows else f"There are no cells in {options.csv} yet.")
        if rows and options.figure is not None:
            draw_gaps(rows, options.figure)
    except PretextError as error:
        sys.exit(f"Error: {error}")


def make_reproduce_parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--csv", type=Path, required=True, help="file of the finished cells")
    parser.add_argument(
        "--print-only", action="store_true", help="print the table of the finished cells and nothing else"
    )
    parser.add_argument("--figure", type=Path, help="draw the gaps against epsilon into this file, .svg or .png")
    parser.add_argument("--sets", type=Path, nargs="+", default=[], help="private sets")
    parser.add_argument("--public", type=Path, help="public texts for initial populations")
    parser.add_argument("--out", type=Path, help="folder of the cells' run folders; default: beside the CSV file")
    parser.add_argument(
        "--methods",
        nargs="+",
        choices=ALL_METHODS,
        default=list(ALL_METHODS),
        metavar="METHOD",
        help=", ".join(ALL_METHODS),
    )
    parser.add_argument("--epsilons", type=float, nargs="+", default=[1.0, 8.0])
    parser.add_argument("--delta", type=float, default=3e-6)
    parser.add_argument("--repetitions", type=int, default=1)
    parser.add_argument("--population", type=int, default=128)
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--pool", type=int, default=1000, help="texts that `profile` writes before it asks, and after")
    parser.add_argument("--texts", type=int, default=600)
    parser.add_argument("--tokens", type=int, default=32, help="longest candidate and synthetic text")
    parser.add_argument("--clients", type=int, default=3000, help="of a set at most, by hash")
    parser.add_argument("--texts-per-client", type=int, default=8, help="at most, by hash")
    parser.add_argument("--student", default="tiny", help="as in pretext.evaluation.student.open_student")
    parser.add_argument("--generator", default="embedded", help="language model, as models.generator")
    parser.add_argument("--engine", default="transformers", help="as speed.engine; vllm is faster where it is")
    parser.add_argument("--masked", help="masked language model for the paper's own setting; default: in context")
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="SECTION.KEY=VALUE",
        help="a trial: another value of a setting in every cell, best in a CSV file of its own",
    )
    parser.add_argument("--seconds", type=float, default=float("inf"), help="no cell is begun after so many seconds")
    return parser


def reproduce(options: argparse.Namespace, student: CausalStudent, parts: Parts | None = None) -> None:
    """Run the missing cells, set by set, one repetition of all methods after another.

    `parts` holds the models; by default those that the command line names, opened at first use.
    """
    if not options.sets or options.public is None:
        raise UsageError("Give the private sets with --sets and a public one with --public (or --print-only).")
    for epsilon in options.epsilons:
        check_epsilon(epsilon)
    check_delta(options.delta)
    started = time.monotonic()
    scale = Scale(
        population=options.population,
        rounds=options.rounds,
        pool=options.pool,
        texts=options.texts,
        tokens=options.tokens,
        texts_per_client=options.texts_per_client,
        delta=options.delta,
        generator=options.generator,
        engine=options.engine,
        masked=options.masked,
        overrides=tuple(options.set),
    )
    out = options.out or options.csv.with_suffix("")
    for path in options.sets:
        private = read_set(path, options.clients, options.texts_per_client)
        parts = open_parts(private, shared_config(scale), parts)
        bench = Bench(private, parts, student, scale, resolve_location(options.public), out)
        for cell in list_cells(private.name, options.methods, options.epsilons, options.repetitions):
            if is_done(read_rows(options.csv), cell, student.name, bench.setting(cell.method)):
                continue
            if time.monotonic() - started > options.seconds:
                print("The time is up; the same command goes on from here.", file=sys.stderr)
                return
            row = bench.run(cell)
            add_row(options.csv, row)
            print(f"{cell}: top-1 {row.top1:.4f}, {row.seconds:.0f} s", file=sys.stderr, flush=True)


def open_parts(private: PrivateSet, config: Config, parts: Parts | None) -> Parts:
    """Return the parts of a set: its own clients, whose texts are embedded once, and the models of the sets before."""
    if parts is None:
        return Parts.of(config, private.rows)
    embedder = parts.embedder

    def gather() -> Clients:
        return Clients.embed(read_private(config.data, config.privacy.max_texts_per_client, private.rows), embedder())

    return replace(parts, federation=LocalFederation(gather))


def shared_config(scale: Scale) -> Config:
    """Return the settings of the clients' embeddings and the models, which all cells share."""
    return resolve(
        settings={
            "data": {"client_column": "client_id"},
            "privacy": {"epsilon": 1.0, "max_texts_per_client": scale.texts_per_client},
            "initial": {"prompts": ["-"]},
            "models": {"generator": scale.generator},
            "speed": {"engine": scale.engine},
        },
        overrides=scale.overrides,
    )


def list_cells(name: str, methods: Sequence[str], epsilons: Sequence[float], repetitions: int) -> Iterator[Cell]:
    """Yield the cells of a set, the ends of the gap first, one repetition after another."""
    for repetition in range(repetitions):
        cells = (
            Cell(name, method, epsilon_of(method, epsilon), repetition)
            for method in ALL_METHODS
            if method in methods
            for epsilon in epsilons
        )
        yield from dict.fromkeys(cells)


if __name__ == "__main__":
    main()
