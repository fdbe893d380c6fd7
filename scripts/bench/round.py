"""Compare a whole round with mask-filling and lookahead with the paper's procedure, on the same models.

    python scripts/bench/round.py TEXTS --masked MODEL [--population 1024] [--lookahead 4] [--clients 1250] [--runs 5]

TEXTS is a file of texts (.jsonl.gz with the column text), from which the population is drawn. A round: lookahead
variations of all candidates, their mean embeddings, the clients' votes, release, selection, and the next population.
The paper's procedure (arXiv 2406.02958): rows padded to 64 tokens and one mask per forward pass, plain
`SentenceTransformer.encode`, an exact faiss search. The clients' texts are random unit rows on both sides, 8 a client:
they are embedded once per run, not in a round. Cost is linear in the population, so a smaller one shows the same ratio.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from maskfill import draw_texts, fill_as_paper, load_masked_model
from numpy.typing import NDArray

from pretext.clients.voting import Ballot, Clients, VoteRule
from pretext.config.resolve import resolve
from pretext.config.settings import Config
from pretext.evolution.loop import candidate_points
from pretext.evolution.selection import select_survivors
from pretext.jobs.parts import Parts, TimedModels
from pretext.jobs.plan import make_plan
from pretext.jobs.timing import Meter
from pretext.models.sources import resolve_embedder
from pretext.run.records import Candidate
from pretext.vectors import normalize_rows
from privacy import Budget, Ledger

Round = Callable[[list[str], int], dict[str, float]]
PARTS = ("lookahead", "votes and release", "next population")


def main() -> None:
    """Print seconds by part of the round, for both, and the ratio of the whole."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("file", type=Path)
    parser.add_argument("--masked", required=True, help="folder or name of a masked language model")
    parser.add_argument("--population", type=int, default=1024)
    parser.add_argument("--lookahead", type=int, default=4)
    parser.add_argument("--clients", type=int, default=1250)
    parser.add_argument("--runs", type=int, default=5)
    options = parser.parse_args()
    config = resolve(overrides=[
        "privacy.noise_multiplier=10", "variation.kind=mask-fill", "variation.max_tokens=64", "initial.prompts=['-']",
        f"evolution.population={options.population}", f"evolution.lookahead={options.lookahead}",
        "variation.temperature=1", f"models.masked={options.masked}",
    ])  # fmt: skip
    clients = random_clients(options.clients, 8)
    texts = draw_texts(options.file, options.population)
    with tempfile.TemporaryDirectory() as folder:
        rounds = {
            "the paper's procedure": paper_round(config, clients),
            "ours": own_round(config, clients, Path(folder)),
        }
        for work in rounds.values():
            work(texts[:16], 0)
        taken: dict[str, list[dict[str, float]]] = {name: [] for name in rounds}
        for run in range(1, options.runs + 1):
            for name, work in rounds.items():
                taken[name].append(work(texts, run))
                print(f"run {run}: {name} {sum(taken[name][-1].values()):.1f} s", flush=True)
    show(taken)


def random_clients(count: int, texts: int) -> Clients:
    """Return `count` clients with `texts` texts each, as random unit rows."""
    rows = normalize_rows(np.random.default_rng(0).standard_normal((count * texts, 384), np.float32))
    return Clients(rows, np.repeat(np.arange(count, dtype=np.int64), texts), np.zeros(count * texts, np.int64))


def own_round(config: Config, clients: Clients, folder: Path) -> Round:
    """Return a round as `pretext.evolution.loop` and `pretext.jobs.run` do it."""
    parts = Parts.of(config)
    models, vary = TimedModels(parts, Meter(parts.engine), varies=True), parts.variation()
    mechanism, relation = make_plan(config).mechanism, config.privacy.relation
    ledger = Ledger(folder / "ledger.sqlite")
    ledger.register("bench", "memory:bench", config.unit, relation, Budget(1000, 1e-6), confirmed=False)
    rule = VoteRule(1, config.privacy.norm_squared, normalize=False)

    def work(texts: list[str], run: int) -> dict[str, float]:
        population, rng = [Candidate(text) for text in texts], np.random.default_rng(run)
        seconds, points = time_call(lambda: candidate_points(run, population, models, config.evolution))
        spent = {"lookahead": seconds}

        def release() -> NDArray[np.float64]:
            votes = clients.vote(Ballot(points, np.zeros(len(texts), np.int64)), rule)
            label = f"{len(texts)}/{run}"
            return ledger.release("bench", label, label, votes, mechanism, relation).noisy

        spent["votes and release"], noisy = time_call(release)
        parents = select_survivors(noisy, mechanism.standard_deviation, config.evolution, rng)[2]
        parent_texts = [population[row] for row in parents]
        spent["next population"], _ = time_call(lambda: vary(parent_texts, parent_texts, rng))
        return spent

    return work


def paper_round(config: Config, clients: Clients) -> Round:
    """Return the paper's round."""
    import faiss
    from sentence_transformers import SentenceTransformer

    tokenizer, model = load_masked_model(config.models.masked)
    embedder = SentenceTransformer(str(resolve_embedder("embedded")))
    embedder.max_seq_length = 64
    passes = config.variation.mask_passes

    def lookahead(texts: list[str], run: int) -> NDArray[np.float32]:
        varied = (
            fill_as_paper(texts, 100 * run + i, passes, tokenizer, model) for i in range(config.evolution.lookahead)
        )
        return normalize_rows(np.sum([embedder.encode(texts, show_progress_bar=False) for texts in varied], axis=0))

    def vote(points: NDArray[np.float32]) -> NDArray[np.float64]:
        index = faiss.IndexFlatL2(points.shape[1])
        index.add(points)
        nearest = index.search(clients.embeddings, 1)[1][:, 0]
        histogram = np.bincount(nearest, minlength=len(points)).astype(float)
        return histogram + np.random.default_rng().normal(0, 90, len(points))

    def work(texts: list[str], run: int) -> dict[str, float]:
        spent = {}
        spent["lookahead"], points = time_call(lambda: lookahead(texts, run))
        spent["votes and release"], noisy = time_call(lambda: vote(points))
        weights = np.maximum(noisy, 1e-9)
        parents = np.random.default_rng(run).choice(len(texts), len(texts), p=weights / weights.sum())
        parent_texts = [texts[row] for row in parents]
        spent["next population"], _ = time_call(lambda: fill_as_paper(parent_texts, run, passes, tokenizer, model))
        return spent

    return work


def time_call(work: Callable[[], Any]) -> tuple[float, Any]:
    """Return the seconds of a call, and its result."""
    started = time.perf_counter()
    result = work()
    return time.perf_counter() - started, result


def show(taken: dict[str, list[dict[str, float]]]) -> None:
    """Print medians by part and of the whole."""
    print(f"{'seconds (median)':<24}" + "".join(f"{part:>20}" for part in (*PARTS, "whole round")))
    wholes = {}
    for name, runs in taken.items():
        wholes[name] = statistics.median(sum(run.values()) for run in runs)
        parts = [statistics.median(run[part] for run in runs) for part in PARTS]
        print(f"{name:<24}" + "".join(f"{value:20.2f}" for value in (*parts, wholes[name])))
    paper, own = wholes.values()
    print(f"ours is {paper / own:.1f} times as fast")


if __name__ == "__main__":
    main()
