"""Define the methods that write texts: each as settings of pretext, and where its texts come from.

    prompt-only     epsilon 0: a public sentence and three invented examples, alone in every prompt
    expand-only     epsilon 0: the initial population of `votes`, expanded; nobody votes
    private-seeds   epsilon infinity: the private texts themselves in the place of survivors, expanded. No choice of
                    seeds can be expected to beat this; the generator explains the rest to `non-private`
    profile         a release of profiles, told the sentence and the invented examples, as the three above: clients
                    answer once, a pool that is written from them alone is weighed, and the generator adapted to it
    votes           a release of votes, told the same: clients vote in every round, and survivors stand in prompts
    pretext-icml24  the PrE-Text paper's setting (preset icml2024, Hou et al. 2024): sensitivity k, its threshold, 11
                    rounds, multinomial selection. Without a masked model new candidates are written in context instead
                    of by mask-filling, and none is looked ahead; the cell's setting says so
    aug-pe          Xie et al. 2024: the initial population from the prompt alone, rank selection without a threshold,
                    variations and final texts by rewriting, each text one full vote (so a client moves a candidate by
                    up to k votes, as in the paper's text-level analysis taken to clients)

All share generator, embedder, length of a text, budget, clients and number of texts; their initial populations come
from the same public file or prompt.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import numpy as np

from comparison.baselines import NO_ACCOUNT, expand_only, prompt_only
from comparison.costs import NOTHING, ClientCost, profile_cost, voting_cost
from comparison.domains import Domain
from pretext.api import Result
from pretext.config.resolve import resolve
from pretext.config.settings import Config
from pretext.home import open_ledger
from pretext.jobs.parts import Parts, open_variation_of
from pretext.jobs.run import evolve_run, expand_run, save_seeds
from pretext.lazy import Once
from pretext.run.account import AccountReference
from pretext.run.folder import Run
from pretext.run.records import Candidate
from pretext.screening.screen import Screen

FREE_METHODS: Final = ("prompt-only", "expand-only")
PRIVATE_SEEDS: Final = "private-seeds"
ON_PUBLIC: Final = "adapted-on-public"
ON_PRIVATE: Final = "adapted-on-private"
DP_SGD: Final = "dp-sgd-lora"
ADAPTED_METHODS: Final = (ON_PUBLIC, ON_PRIVATE, DP_SGD)
"""The methods that adapt the generator to texts; see `comparison.adapted`."""
METHODS_WITHOUT_RELEASES: Final = (*FREE_METHODS, PRIVATE_SEEDS, *ADAPTED_METHODS)
"""The methods that ask no client."""
PAPER_METHOD: Final = "pretext-icml24"
PROFILE: Final = "profile"
METHODS_WITH_RELEASES: Final = (PROFILE, "votes", PAPER_METHOD, "aug-pe")
_MAX_ATTEMPTS = 20


@dataclass(frozen=True)
class Scale:
    """What all cells of a table share: sizes that a machine can pay for.

    Attributes:
        population: candidates of a round of votes.
        rounds: of voting; the paper's own setting keeps its 11.
        pool: texts that `profile` writes before its release, and as many after it.
        texts: synthetic texts of a cell.
        tokens: longest candidate and longest synthetic text.
        texts_per_client: k.
        delta: of every guarantee.
        generator: as `models.generator`.
        engine: as `speed.engine`.
        masked: folder of a masked language model for the paper's own setting, or None.
        overrides: settings as `pretext --set` takes them, above every method's own; for trials.
    """

    population: int
    rounds: int
    pool: int
    texts: int
    tokens: int
    texts_per_client: int
    delta: float
    generator: str = "embedded"
    engine: str = "transformers"
    masked: str | None = None
    overrides: tuple[str, ...] = ()


def config_of(
    method: str, epsilon: float, seed: int, scale: Scale, domain: Domain, public: str, name: str, clients: int
) -> Config:
    """Return the configuration of a method that writes texts.

    `name` is the dataset's in the ledger, `clients` the number that it tells the public.
    """
    k = scale.texts_per_client
    shared: dict[str, Any] = {
        "data": {"client_column": "client_id"},
        "privacy": {
            "epsilon": 1.0
            if method in METHODS_WITHOUT_RELEASES
            else epsilon,  # a configuration has one, even where nobody is asked
            "delta": scale.delta,
            "relation": "add/remove",
            "rounds": scale.rounds,
            "max_texts_per_client": k,
            "dataset": name,
            "clients": clients,
        },
        "evolution": {"population": scale.population, "seed": seed},
        "variation": {"max_tokens": scale.tokens},
        "expansion": {"texts": scale.texts, "max_tokens": scale.tokens},
        "models": {"generator": scale.generator, "embedder": "embedded"},
        "speed": {"engine": scale.engine},
    }
    return resolve(defaults=shared, settings=_method_settings(method, scale, domain, public), overrides=scale.overrides)


def _method_settings(method: str, scale: Scale, domain: Domain, public: str) -> dict[str, Any]:
    """Return what a method changes in the default preset."""
    k = float(scale.texts_per_client)
    match method:
        case "pretext-icml24":
            fill = {"models": {"masked": scale.masked}}
            no_fill = {"variation": {"kind": "in-context"}, "evolution": {"lookahead": 0}}
            return {
                "preset": "icml2024",
                "initial": {"texts": public, "subset": None},
                "privacy": {"rounds": 11, "vote_norm": k},
                **(fill if scale.masked else no_fill),
            }
        case "profile":
            sizes = {
                "prompted_texts": scale.pool,
                "guided_texts": scale.pool,
                "adapted_texts": max(100, 2 * scale.texts),
            }
            return {
                "initial": {"prompts": [domain.sentence], "examples": domain.examples},
                "privacy": {"release": "profile", "rounds": 1},
                "profile": sizes,
            }
        case "aug-pe":
            return {
                "initial": {"prompts": [domain.sentence]},
                "privacy": {"release": "votes", "vote_norm": k, "normalize_votes": False},
                "evolution": {
                    "selection": "rank",
                    "threshold": 0.0,
                    "kept_parents": 0.25,
                    "seeds_from_round": scale.rounds - 1,
                },
                "variation": {"kind": "rewrite", "temperature": 1.0},  # they are its final texts; those of all have 1
            }
        case _:
            return {
                "privacy": {"release": "votes"},
                "initial": {"prompts": [domain.sentence], "examples": domain.examples},
            }


def setting_of(method: str, scale: Scale) -> str:
    """Describe what a reader of the table must know of a cell besides its name."""
    texts = f"{scale.texts} texts of {scale.tokens} tokens at most by {scale.generator}"
    sizes = "; ".join((texts, *scale.overrides))
    if method in METHODS_WITHOUT_RELEASES:
        return sizes
    if method == PROFILE:
        return f"{sizes}; a pool of {scale.pool} texts and {scale.pool} guided ones, delta {scale.delta:g}"
    rounds = 11 if method == PAPER_METHOD else scale.rounds
    evolution = f"{sizes}; population {scale.population}, {rounds} rounds, delta {scale.delta:g}"
    if method != PAPER_METHOD:
        return evolution
    variation = (
        "mask-fill by another model than RoBERTa-large, lookahead 4" if scale.masked else "in context, no lookahead"
    )
    return f"{evolution}; {variation}"


def cost_of(method: str, config: Config, scale: Scale) -> tuple[int, ClientCost]:
    """Return the rounds, and the cost of a client in one."""
    if method in METHODS_WITHOUT_RELEASES:
        return 0, NOTHING
    if method == PROFILE:
        return 1, profile_cost(config.profile_features, config.profile.clusters, scale.texts_per_client)
    rounds = 11 if method == PAPER_METHOD else scale.rounds
    return rounds, voting_cost(scale.population, rounds, scale.texts_per_client)


def write_cell_texts(
    method: str, config: Config, folder: Path, parts: Parts, domain: Domain, initial: list[Candidate]
) -> list[str]:
    """Write the texts of a cell in a folder with a ledger of its own; what the folder holds is not written again.

    Args:
        parts: shared by all cells of the set; the variation is opened anew, as it depends on the configuration.
        initial: the first population, shared by the cells that begin alike; for `private-seeds` the private texts.

    Raises:
        NoSignal: no candidate rose above the method's threshold.
    """
    parts = replace(parts, variation=Once(lambda: open_variation_of(config, parts.engine)))
    if method == "prompt-only":
        return Result(prompt_only(config, folder, parts, domain.sentence, domain.examples).folder).texts
    run = Run.create(folder / "run", config, _account_of(method, config, folder))
    if run.population(0) is None:
        run.save_population(0, initial)
    if method in METHODS_WITHOUT_RELEASES:
        return Result(expand_only(config, run.folder, parts).folder).texts
    with use_ledger_in(folder):
        evolve_run(config, run.folder, parts)
        if method == "aug-pe":
            return rewrite_survivors(config, run, parts)
        expand_run(config, run, parts, config.expansion.texts)
    return Result(run.folder).texts


def rewrite_survivors(config: Config, run: Run, parts: Parts) -> list[str]:
    """Write Aug-PE's texts: rewrites of the last round's survivors, which take turns."""
    survivors = [Candidate(seed.text, seed.label) for seed in save_seeds(config, run)]
    wanted, rng = config.expansion.texts, np.random.default_rng([config.evolution.seed, 5])
    screen = Screen(config.screening)
    texts: list[str] = []
    for _ in range(_MAX_ATTEMPTS):
        parents = [survivors[i % len(survivors)] for i in range(wanted - len(texts))]
        texts += [text or "" for text in parts.variation()(parents, survivors, rng) if screen.keep(text)]
        if len(texts) >= wanted:
            break
    return texts


def _account_of(method: str, config: Config, folder: Path) -> AccountReference:
    if method in METHODS_WITHOUT_RELEASES:
        return NO_ACCOUNT
    with use_ledger_in(folder):
        return AccountReference.of(str(config.privacy.dataset), open_ledger())


@contextmanager
def use_ledger_in(folder: Path) -> Iterator[None]:
    """Use a ledger in `folder`: these are experiments on public research data, not releases."""
    before = os.environ.get("PRETEXT_HOME")
    os.environ["PRETEXT_HOME"] = str(folder.absolute() / "home")
    try:
        yield
    finally:
        if before is None:
            del os.environ["PRETEXT_HOME"]
        else:
            os.environ["PRETEXT_HOME"] = before
