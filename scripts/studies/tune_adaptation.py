"""Choose how the generator is adapted: held-out loss, time and memory of LoRA and full fine-tuning.

    python scripts/studies/tune_adaptation.py PRIVATE --description TEXT [--texts 400 1600] [--ranks 8 32 64]
        [--rates 2e-4 5e-4 1e-3] [--full-rates 2e-5 1e-4] [--passes 2] [--generator embedded] [--dtype bfloat16]

PRIVATE has the columns client_id and text. The generator learns texts of its training clients, asked for by the
description alone, and the loss is measured on texts of other clients. This reads private text WITHOUT noise: it is
for development sets only. Each combination runs in a process of its own and prints its row at once; best first at the
end.
"""

from __future__ import annotations

import argparse
import multiprocessing
import resource
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import numpy as np
from comparison.sets import read_set

from pretext.config.settings import Adapt, Models, Speed
from pretext.models.adaptation import Example, adapt
from pretext.prompts import Prompt, PromptStyle

_COLUMNS = "{:>6} {:>6} {:>5} {:>8} {:>8} {:>22} {:>8} {:>8} {:>6}"


@dataclass(frozen=True)
class Trial:
    """What one combination takes, and what it gave.

    Attributes:
        texts: number of texts to learn from.
        settings: the combination.
        start: nats per token of other clients' texts before.
        losses: the same after each pass.
        seconds: wall time.
        processor_seconds: of all threads.
        gibibytes: largest memory of the process.
    """

    texts: int
    settings: Adapt
    start: float
    losses: tuple[float, ...]
    seconds: float
    processor_seconds: float
    gibibytes: float

    def __str__(self) -> str:
        rank = self.settings.rank if self.settings.method == "lora" else "-"
        losses = " ".join(f"{loss:.4f}" for loss in self.losses)
        return _COLUMNS.format(
            self.texts,
            self.settings.method,
            rank,
            f"{self.settings.learning_rate:g}",
            f"{self.start:.4f}",
            losses,
            f"{self.seconds:.0f}",
            f"{self.processor_seconds:.0f}",
            f"{self.gibibytes:.1f}",
        )


def main() -> None:
    """Print a row for each combination, then all, best first."""
    options = make_tuning_parser().parse_args()
    private = read_set(options.private, options.clients, options.texts_per_client)
    rng = np.random.default_rng(options.seed)
    learned = rng.permutation([text for texts in private.training for text in texts]).tolist()
    held_out = rng.permutation(private.test).tolist()[: options.held_out]
    prompt = PromptStyle().describe(options.description, ())
    print(_COLUMNS.format("texts", "method", "rank", "rate", "before", "after", "s", "cpu s", "GiB"), flush=True)
    trials = []
    for texts, settings in product(options.texts, list_settings(options)):
        arguments = (options.generator, options.dtype, settings, prompt, learned[:texts], held_out, options.seed)
        context = multiprocessing.get_context("spawn")  # a new process, so that its memory is its own
        with ProcessPoolExecutor(1, mp_context=context) as pool:
            trials.append(pool.submit(run_trial, *arguments).result())
        print(trials[-1], flush=True)
    print()
    for trial in sorted(trials, key=lambda trial: (trial.texts, min(trial.losses))):
        print(trial)


def make_tuning_parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("private", type=Path)
    parser.add_argument("--description", required=True)
    parser.add_argument("--texts", type=int, nargs="+", default=[400, 1600])
    parser.add_argument("--ranks", type=int, nargs="*", default=[8, 32, 64])
    parser.add_argument("--rates", type=float, nargs="*", default=[2e-4, 5e-4, 1e-3])
    parser.add_argument("--full-rates", type=float, nargs="*", default=[2e-5, 1e-4])
    parser.add_argument("--passes", type=int, default=2)
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--held-out", type=int, default=400)
    parser.add_argument("--clients", type=int, default=2000)
    parser.add_argument("--texts-per-client", type=int, default=8)
    parser.add_argument("--generator", default="embedded")
    parser.add_argument("--dtype", choices=("float32", "bfloat16"))
    parser.add_argument("--seed", type=int, default=0)
    return parser


def list_settings(options: argparse.Namespace) -> list[Adapt]:
    """Return every combination."""
    common = Adapt(passes=options.passes, batch_size=options.batch_size)
    lora = [
        common.model_copy(update={"method": "lora", "rank": rank, "learning_rate": rate})
        for rank, rate in product(options.ranks, options.rates)
    ]
    return lora + [common.model_copy(update={"method": "full", "learning_rate": rate}) for rate in options.full_rates]


def run_trial(
    generator: str,
    dtype: str | None,
    settings: Adapt,
    prompt: Prompt,
    learned: list[str],
    held_out: list[str],
    seed: int,
) -> Trial:
    """Adapt the generator in a folder that is thrown away."""
    started = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        record = adapt(
            Models(generator=generator),
            settings,
            Speed.model_validate({"dtype": dtype}),
            [Example(prompt, text) for text in learned],
            [Example(prompt, text) for text in held_out],
            Path(folder) / "adapter",
            seed,
        )
    used = resource.getrusage(resource.RUSAGE_SELF)
    losses = tuple(float("inf") if ended.held_out is None else ended.held_out for ended in record.losses)
    return Trial(
        len(learned),
        settings,
        float("nan") if record.start is None else record.start,
        losses,
        time.perf_counter() - started,
        used.ru_utime + used.ru_stime,
        used.ru_maxrss / 2**20,
    )


if __name__ == "__main__":
    main()
