"""Choose how the federated methods train, on a public set in place of a private one.

    python scripts/studies/tune_federated.py PUBLIC [--epsilon 1] [--clients 2400] [--sample 400] [--patterns ...]
        [--clips ...] [--local-rates ...] [--server-rates ...]

PUBLIC has the columns client_id and text, and the student has not been pretrained on it (installed packages'
docstrings, for instance: `scripts/demo_data.py` writes them, with the column `client`). Every combination is trained
for the rounds of `comparison.on_device` with the noise that `--clients` clients need at epsilon, and scored on clients
that took no part; best first. To save time only `--sample` clients train, and the noise is smaller by the same
factor, so that its ratio to the mean update stays as it would be.
"""

from __future__ import annotations

import argparse
import sys
import time
from dataclasses import replace
from itertools import product
from pathlib import Path

from comparison.on_device import FEDERATED_METHODS, Device, FederatedMethod, train_on_devices
from comparison.sets import read_set

from pretext.evaluation.student import open_student
from privacy import Budget


def main() -> None:
    """Print a line for each combination, then the best ones."""
    options = make_tuning_parser().parse_args()
    public = read_set(options.public, round(options.sample / 0.8), options.texts_per_client)
    student = open_student(options.student)
    print(f"untrained: cross entropy {student.score(public.test).cross_entropy:.4f}", flush=True)
    results = []
    for method in list_methods(options):
        started = time.perf_counter()
        device = Device(student, public.training, method)
        budget = Budget(options.epsilon, options.delta)
        share = len(public.training) / options.clients
        score = train_on_devices(device, budget, 0, noise_share=share).score(public.test)
        results.append((score.cross_entropy, method))
        print(f"{score.cross_entropy:.4f} top-1 {score.top1:.4f} {method} {time.perf_counter() - started:.0f} s")
        sys.stdout.flush()
    for loss, method in sorted(results, key=lambda pair: pair[0])[:5]:
        print(f"{loss:.4f} {method}")


def make_tuning_parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("public", type=Path)
    parser.add_argument("--method", choices=list(FEDERATED_METHODS), default="dp-fedavg")
    parser.add_argument("--epsilon", type=float, default=1.0)
    parser.add_argument("--delta", type=float, default=3e-6)
    parser.add_argument("--clients", type=int, default=2400)
    parser.add_argument("--sample", type=int, default=400)
    parser.add_argument("--texts-per-client", type=int, default=8)
    parser.add_argument("--student", default="tiny")
    parser.add_argument("--patterns", nargs="+", default=["norm"])
    parser.add_argument("--clips", type=float, nargs="+", default=[0.03, 0.1, 0.3])
    parser.add_argument("--local-rates", type=float, nargs="+", default=[0.1, 1.0])
    parser.add_argument("--server-rates", type=float, nargs="+", default=[1.0, 3.0])
    return parser


def list_methods(arguments: argparse.Namespace) -> list[FederatedMethod]:
    """Return every combination."""
    grid = product(arguments.patterns, arguments.clips, arguments.local_rates, arguments.server_rates)
    return [
        replace(
            FEDERATED_METHODS[arguments.method], weight_pattern=pattern, clip=clip, local_rate=local, server_rate=server
        )
        for pattern, clip, local, server in grid
    ]


if __name__ == "__main__":
    main()
