"""Attacks on whole runs: the program's main job, from the private rows to the synthetic texts, again and again.

Canaries are invented clients. In every run each of them takes part or not by a fair coin of its own (replace-one: it
holds one text or another). Three attackers, who know every canary, every other client and the whole program, guess the
coins: from the synthetic texts alone (similarity and 2-grams, after Meeus et al., "The Canary's Echo", ICML 2025); from
all releases, by the votes that a canary would cast; and a server that makes the populations of the canaries themselves,
so that each round asks for them by name. What the last one proves is the most that a run can reveal of anybody.
"""

from __future__ import annotations

import io
import json
import logging
import math
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, redirect_stderr
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from statistics import fmean

import numpy as np
from numpy.typing import NDArray

from pretext.audit.canary_texts import HashEmbedder, edit_sample, invent_nonces, invent_sentences
from pretext.audit.finding import Finding, finding_from_errors, finding_from_guesses
from pretext.clients.nearest import find_nearest
from pretext.config.resolve import dump_settings, resolve
from pretext.config.settings import Config, Privacy
from pretext.errors import NoSignal
from pretext.evolution.loop import candidate_points
from pretext.jobs.parts import ModelPair, Parts, TimedModels
from pretext.jobs.run import synthesize
from pretext.jobs.timing import Meter
from pretext.lazy import Once
from pretext.models.engines.scripted import ScriptedEngine
from pretext.run.folder import Run
from pretext.run.records import Candidate
from pretext.vectors import Embedder
from privacy import Ledger, Relation

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]
_KINDS = ("natural", "nonces")
_CANARIES_PER_KIND = 16
_BYSTANDERS, _PUBLIC_TEXTS = 12, 200
_SIMILAR_TEXTS = 3  # the nearest synthetic texts, whose similarity counts


@dataclass(frozen=True)
class Canaries:
    """Invented clients and texts, all different.

    Attributes:
        heads: the text that each canary holds when its coin shows heads.
        tails: the other one, for replace-one.
        bystanders: the texts of the clients that always take part.
        public: the texts that the population begins with.
    """

    heads: list[str]
    tails: list[str]
    bystanders: list[str]
    public: list[str]

    @classmethod
    def invent(cls) -> Canaries:
        """Invent canaries, half of them natural, half nonces; the same in every audit."""
        rng, sides = np.random.default_rng(1), 2 * _CANARIES_PER_KIND
        natural = invent_sentences(sides + _BYSTANDERS + _PUBLIC_TEXTS, rng)
        nonces = invent_nonces(sides, rng)
        heads = natural[:_CANARIES_PER_KIND] + nonces[:_CANARIES_PER_KIND]
        tails = natural[_CANARIES_PER_KIND:sides] + nonces[_CANARIES_PER_KIND:]
        rest = natural[sides:]
        return cls(heads, tails, rest[:_BYSTANDERS], rest[_BYSTANDERS:])

    def rows(self, coins: Bools, privacy: Privacy) -> list[dict[str, str]]:
        """Return the private rows of a run; a client repeats its text as often as texts of a client may count."""
        texts = {f"bystander {i}": text for i, text in enumerate(self.bystanders)}
        for i, (heads, tails, coin) in enumerate(zip(self.heads, self.tails, coins, strict=True)):
            if coin or privacy.relation is Relation.REPLACE_ONE:
                texts[f"canary {i}"] = heads if coin else tails
        times = privacy.max_texts_per_client
        return [{"client": client, "text": text} for client, text in texts.items() for _ in range(times)]


@dataclass(frozen=True)
class Workshop:
    """Where runs are made: a scratch folder with a ledger of its own, the models, and who is attacked."""

    folder: Path
    config: Config
    ledger: Ledger
    models: ModelPair
    canaries: Canaries

    @classmethod
    def of(cls, config: Config, folder: Path, ledger: Ledger, models: ModelPair | None) -> Workshop:
        """Take a configuration's guarantee; without models, a scripted generator and a hashing embedder."""
        canaries = Canaries.invent()
        public, fast = _write_texts(folder / "public.jsonl", canaries.public), models is None
        models = models or (ScriptedEngine(edit_sample), HashEmbedder(256))
        return cls(folder, _shrink_config(config, public, fast), ledger, models, canaries)

    def run(self, name: str, coins: Bools, hostile: bool) -> Run:
        """Make one whole run on the canaries that the coins choose; a hostile server asks for them by name."""
        settings = dump_settings(self.config)
        # The bystanders' own texts are among the candidates, so that their votes do not fall on a canary's.
        texts = [*self.canaries.heads, *self.canaries.tails, *self.canaries.bystanders]
        settings["privacy"]["dataset"] = name
        if hostile:
            settings["initial"]["texts"] = str(_write_texts(self.folder / "crafted.jsonl", texts))
            settings["evolution"] |= {"population": len(texts), "kept_parents": 0.0, "lookahead": 0}
        config = resolve(settings=settings)
        parts = Parts.of(config, self.canaries.rows(coins, config.privacy), self.models)
        if hostile:
            parts = replace(parts, variation=Once(lambda: _HostileVariation(texts)))
        try:
            return synthesize(config, self.folder / name, parts, ledger=self.ledger)
        except NoSignal:
            return Run.open(self.folder / name)[0]

    def claim(self, name: str) -> float:
        """Return the epsilon that the ledger states for a run."""
        return self.ledger.account(name).spent_epsilon


@dataclass(frozen=True)
class _HostileVariation:
    """The hostile server's variation: always the same texts, whatever was voted for."""

    texts: list[str]

    def __call__(
        self, parents: Sequence[Candidate], pool: Sequence[Candidate], rng: np.random.Generator
    ) -> list[str | None]:
        return [self.texts[row % len(self.texts)] for row in range(len(parents))]


def attack_runs(workshop: Workshop, runs: int, advance: Callable[[int], None]) -> Iterator[Finding]:
    """Attack `runs` honest runs and as many of a hostile server."""
    yield from attack_honest_runs(workshop, runs, advance)
    yield attack_hostile_runs(workshop, runs, advance)


def attack_honest_runs(workshop: Workshop, runs: int, advance: Callable[[int], None]) -> Iterator[Finding]:
    """Attack the texts, and the releases, of honest runs, for natural canaries and for nonces."""
    canaries, (_, embed) = workshop.canaries, workshop.models
    coins, finished = _make_runs(workshop, runs, False, advance)
    claim, delta = workshop.claim(finished[0].folder.name), workshop.config.privacy.delta
    attacks = {
        "synthetic texts, similarity": [_score_similarity(run, canaries, embed) for run in finished],
        "synthetic texts, 2-grams": [_score_two_grams(run, canaries) for run in finished],
        "all releases": [_score_votes(workshop, run) for run in finished],
    }
    for attack, scores_of_runs in attacks.items():
        scores = np.array(scores_of_runs)
        scores -= scores.mean(axis=0)  # what a canary scores in general says nothing of its coin
        for kind, columns in zip(_KINDS, np.split(np.arange(2 * _CANARIES_PER_KIND), 2), strict=True):
            games = scores[:, columns].ravel(), coins[:, columns].ravel()
            yield finding_from_guesses(f"{attack} ({kind})", *games, claim, delta)


def attack_hostile_runs(workshop: Workshop, runs: int, advance: Callable[[int], None]) -> Finding:
    """Attack as a server that asks for the canaries by name.

    Every canary has candidates of its own, hence noise of its own: the games of one run are independent.
    """
    coins, finished = _make_runs(workshop, runs, True, advance)
    privacy = workshop.config.privacy
    scores = np.array([_score_own_candidates(run, workshop.canaries, privacy.relation) for run in finished])
    claim = workshop.claim(finished[0].folder.name)
    return finding_from_errors("hostile server", scores[~coins], scores[coins], claim, privacy.delta)


def _make_runs(workshop: Workshop, runs: int, hostile: bool, advance: Callable[[int], None]) -> tuple[Bools, list[Run]]:
    """Toss coins, shape (runs, canaries), and make the runs that they ask for."""
    coins = np.random.default_rng().random((runs, len(workshop.canaries.heads))) < 0.5
    finished, kind = [], "hostile" if hostile else "honest"
    for number, coins_of_run in enumerate(coins):
        with _silence_logs():
            finished.append(workshop.run(f"{kind}-{number}", coins_of_run, hostile))
        advance(1)
    return coins, finished


@contextmanager
def _silence_logs() -> Iterator[None]:
    """Keep hundreds of runs from reporting each round."""
    log = logging.getLogger("pretext")
    before = log.level
    log.setLevel(logging.ERROR)
    try:
        with redirect_stderr(io.StringIO()):
            yield
    finally:
        log.setLevel(before)


def _write_texts(path: Path, texts: Sequence[str]) -> Path:
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts), encoding="utf-8")
    return path


def _shrink_config(config: Config, public: Path, fast: bool) -> Config:
    """Keep the configuration's guarantee, and make the rest as small as lets an attack see the most."""
    settings = dump_settings(config)
    sections = {name: settings[name] for name in ("privacy", "models", "speed", "variation")}
    sections["privacy"].pop("budget_epsilon", None)
    sections["privacy"].pop("clients", None)
    sections["privacy"]["clients_exact"] = False
    if config.privacy.release == "profile":  # the attackers read votes, here under a profile's bound
        sections["privacy"] |= {"release": "votes", "vote_norm": 1.0}
    if fast:
        sections["variation"] = {}
    return resolve(
        settings={
            **sections,
            "data": {"client_column": "client"},
            "initial": {"texts": str(public)},
            "evolution": {
                "population": 48,
                "threshold": 0.0,
                "seeds_from_round": 0,
                "selection": "rank",
                "survivors": 0.5,
                "seed_power": 1.0,
            },
            "expansion": {"texts": 96},
        }
    )


def _read_synthetic(run: Run) -> list[str]:
    file = run.folder / "synthetic.jsonl"
    return [json.loads(line)["text"] for line in file.read_text(encoding="utf-8").splitlines()] if file.exists() else []


def _score_similarity(run: Run, canaries: Canaries, embed: Embedder) -> Floats:
    """Score each canary by its mean similarity to the synthetic texts nearest to it."""
    texts = _read_synthetic(run)
    if not texts:
        return np.zeros(len(canaries.heads))
    highest = np.sort(embed(canaries.heads) @ embed(texts).T, axis=1)[:, -_SIMILAR_TEXTS:]
    return np.asarray(highest.mean(axis=1), dtype=np.float64)


def _score_two_grams(run: Run, canaries: Canaries) -> Floats:
    """Score each canary by its mean log likelihood per word under a 2-gram model of the synthetic texts.

    The model falls back on single words.
    """
    pair_counts: Counter[tuple[str, str]] = Counter()
    word_counts: Counter[str] = Counter()
    for text in _read_synthetic(run):
        words = text.casefold().split()
        word_counts.update(words)
        pair_counts.update(pairwise(words))
    total = word_counts.total() + len(word_counts) + 1

    def log_likelihood(text: str) -> float:
        return fmean(
            math.log((pair_counts[first, second] + (word_counts[second] + 1) / total) / (word_counts[first] + 1))
            for first, second in pairwise(text.casefold().split())
        )

    return np.array([log_likelihood(text) for text in canaries.heads])


def _score_votes(workshop: Workshop, run: Run) -> Floats:
    """Score each canary by the released votes for the candidates that it would vote for, over all rounds."""
    config, (_, embed), canaries = workshop.config, workshop.models, workshop.canaries
    parts = Parts.of(config, [], workshop.models)
    models = TimedModels(parts, Meter(parts.engine), varies=True)
    scores = np.zeros(len(canaries.heads))
    for round_number in range(config.privacy.rounds):
        population, selection = run.population(round_number), run.selection(round_number)
        if population is None or selection is None:
            break
        points, noisy = candidate_points(round_number, population, models, config.evolution), np.array(selection.noisy)
        of_heads, of_tails = (
            noisy[find_nearest(points, embed(texts), config.evolution.nearest)].mean(axis=1)
            for texts in (canaries.heads, canaries.tails)
        )
        replaced = config.privacy.relation is Relation.REPLACE_ONE
        scores += of_heads - of_tails if replaced else of_heads
    return scores


def _score_own_candidates(run: Run, canaries: Canaries, relation: Relation) -> Floats:
    """Score each canary by the votes for its own text, over all rounds."""
    scores = np.zeros(len(canaries.heads))
    round_number = 0
    while (selection := run.selection(round_number)) is not None:
        population = run.population(round_number)
        assert population is not None
        votes = {candidate.text: noisy for candidate, noisy in zip(population, selection.noisy, strict=True)}
        scores += [votes[text] for text in canaries.heads]
        if relation is Relation.REPLACE_ONE:
            scores -= [votes[text] for text in canaries.tails]
        round_number += 1
    return scores
