"""Test what FreD is for: does the set that it ranks first make the better model?

    python scripts/studies/fred_prefinetune.py --private a.jsonl.gz b.jsonl.gz --public c.jsonl.gz d.jsonl.gz
        --cache FOLDER [--epsilon 1] [--model transformer] [--tokens 240000] [--seconds 300]

A small causal language model over a byte-pair vocabulary of 4,096 (trained on the public sets) is trained from scratch
on each candidate, on equally many tokens, and tested on texts of held-out clients of the private set: a transformer of
about 1.3 M parameters (a minute a candidate on two idle cores), or an interpolated trigram model (a second). Candidates
of a private set are the public sets, the other private sets, and mixtures with 10, 30, 60 and 90 % of its own domain
(clients who neither vote nor test). The script prints for each private set the candidates, their loss in nats per token
and three distances: FreD's at --epsilon (delta 1e-6, add/remove), that of the means in the same release,
and Frechet's without noise; then the Spearman correlations of the loss with each.

Finished cells are saved in FOLDER/MODEL.json; --seconds limits the training, and the same command goes on from there.
"""

from __future__ import annotations

import argparse
import json
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from fred_ranking import SHARES, EmbeddedTexts, client_law, embed_file, multiplier_for, noisy_sum
from numpy.typing import NDArray
from scipy.stats import spearmanr

from pretext.fred.design import design_query
from pretext.fred.estimation import estimate_moments
from pretext.fred.frechet import frechet
from pretext.fred.public_sets import sum_in_groups
from pretext.fred.ranking import estimate_distances
from privacy import Relation
from privacy.moments import bounded_moments, moments_mechanism

VOCABULARY = 4096
LENGTH = 64
BATCH = 32
CANDIDATE_TEXTS = 2000
TEST_TEXTS = 600


@dataclass(frozen=True)
class Corpus:
    """Texts with their embeddings; parts 0 (votes), 1 (mixtures) and 2 (tests) hold different clients."""

    texts: list[str]
    embeddings: EmbeddedTexts
    part: NDArray[np.int64]

    def rows(self, part: int) -> NDArray[np.int64]:
        """Row numbers of a part."""
        return np.flatnonzero(self.part == part)


def main() -> None:
    """Train what is missing and print what is there."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--private", type=Path, nargs="+", required=True)
    parser.add_argument("--public", type=Path, nargs="+", required=True)
    parser.add_argument("--cache", type=Path, required=True)
    parser.add_argument("--epsilon", type=float, default=1.0)
    parser.add_argument("--model", choices=["transformer", "trigram"], default="transformer")
    parser.add_argument("--tokens", type=int, default=240_000)
    parser.add_argument("--seconds", type=float, default=300.0)
    options = parser.parse_args()
    corpora = {
        path.name.split(".")[0]: read_corpus(path, options.cache) for path in [*options.private, *options.public]
    }
    publics = [path.name.split(".")[0] for path in options.public]
    privates = [path.name.split(".")[0] for path in options.private]
    tokenizer = train_tokenizer([text for name in publics for text in corpora[name].texts])
    store = options.cache / f"{options.model}.json"
    losses: dict[str, dict[str, float]] = json.loads(store.read_text()) if store.exists() else {}
    tests = {}
    for name in privates:
        texts = [corpora[name].texts[i] for i in corpora[name].rows(2)[:TEST_TEXTS]]
        tests[name] = stream(tokenizer, texts, None)
    started = time.monotonic()
    for name, texts in training_sets(corpora, privates, publics[0]).items():
        if name not in losses and time.monotonic() - started < options.seconds:
            rows = stream(tokenizer, texts, options.tokens)
            model = Transformer(rows) if options.model == "transformer" else Trigram(rows)
            losses[name] = {private: model.loss(rows) for private, rows in tests.items()}
            store.write_text(json.dumps(losses, indent=1))
    for private in privates:
        report(private, corpora, publics[0], losses, options.epsilon)


def read_corpus(path: Path, cache: Path) -> Corpus:
    """Read a file's texts and embeddings; deal its clients out over the parts: 70, 20 and 10 %."""
    embeddings = embed_file(path, cache)
    texts = [text for _, text in json.loads((cache / f"{path.name.split('.')[0]}.json").read_text())]
    part = np.random.default_rng(1).choice(3, size=embeddings.client.max() + 1, p=[0.7, 0.2, 0.1])
    return Corpus(texts, embeddings, part[embeddings.client])


def training_sets(corpora: dict[str, Corpus], privates: list[str], base: str) -> dict[str, list[str]]:
    """Return the texts to train on, by name; mixtures are called "60 % of NAME"."""
    rng = np.random.default_rng(2)
    sets = {name: [own.texts[i] for i in rng.permutation(len(own.texts))] for name, own in corpora.items()}
    for private in privates:
        own = [corpora[private].texts[i] for i in corpora[private].rows(1)]
        for share in SHARES:
            sets[f"{share:.0%} of {private}"] = interleave_texts(own, corpora[base].texts, share, rng)
    return sets


def interleave_texts(own: list[str], base: list[str], share: float, rng: np.random.Generator) -> list[str]:
    """Draw ten thousand texts, a share of them from `own`."""
    draws = rng.random(10_000) < share
    return [str(own[rng.integers(len(own))] if mine else base[rng.integers(len(base))]) for mine in draws]


def train_tokenizer(texts: list[str]) -> Any:
    """Train a byte-level byte-pair tokenizer."""
    from tokenizers import ByteLevelBPETokenizer

    tokenizer = ByteLevelBPETokenizer()
    tokenizer.train_from_iterator(texts, vocab_size=VOCABULARY, special_tokens=["<|end|>"], show_progress=False)
    return tokenizer


def stream(tokenizer: Any, texts: list[str], tokens: int | None) -> NDArray[np.int64]:
    """Return token ids, an end after each text, in rows of LENGTH + 1; repeated up to `tokens` where given."""
    ids = np.array([token for encoded in tokenizer.encode_batch(texts) for token in [*encoded.ids, 0]], np.int64)
    rows = (len(ids) if tokens is None else tokens) // (LENGTH + 1)
    return np.resize(ids, rows * (LENGTH + 1)).reshape(rows, LENGTH + 1)


class Transformer:
    """Llama's architecture, two layers of 160, one pass."""

    def __init__(self, rows: NDArray[np.int64]) -> None:
        import torch
        from transformers import LlamaConfig, LlamaForCausalLM

        torch.manual_seed(0)
        config = LlamaConfig(
            vocab_size=VOCABULARY,
            hidden_size=160,
            intermediate_size=448,
            num_hidden_layers=2,
            num_attention_heads=4,
            max_position_embeddings=LENGTH + 1,
            tie_word_embeddings=True,
        )
        self.model = LlamaForCausalLM(config)
        steps = len(rows) // BATCH
        optimizer = torch.optim.AdamW(self.model.parameters(), lr=3e-3, weight_decay=0.05)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 3e-3, total_steps=steps + 1, pct_start=0.1)
        order = np.random.default_rng(3).permutation(len(rows))
        for step in range(steps):
            batch = torch.from_numpy(rows[order[step * BATCH : (step + 1) * BATCH]])
            self.model(input_ids=batch, labels=batch).loss.backward()
            torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
            optimizer.step()
            schedule.step()
            optimizer.zero_grad()
        self.model.eval()

    def loss(self, rows: NDArray[np.int64]) -> float:
        """Return nats per token on other rows; the first token of each row is options."""
        import torch

        with torch.no_grad():
            parts = [
                float(self.model(input_ids=part, labels=part).loss) * len(part)
                for part in torch.from_numpy(rows).split(64)
            ]
        return sum(parts) / len(rows)


class Trigram:
    """Trigrams, bigrams and single tokens interpolated by Witten and Bell's weights, down to the uniform law."""

    def __init__(self, rows: NDArray[np.int64]) -> None:
        self.counts: list[Counter[int]] = []
        self.histories: list[Counter[int]] = []
        self.kinds: list[Counter[int]] = []
        for order in range(3):
            history, whole = keys(rows, order)
            self.counts.append(Counter(whole.tolist()))
            self.histories.append(Counter(history.tolist()))
            self.kinds.append(Counter(key // VOCABULARY for key in self.counts[-1]))

    def loss(self, rows: NDArray[np.int64]) -> float:
        """Return nats per token on other rows; the first token of each row is options."""
        chance = np.full(rows[:, 1:].size, 1 / VOCABULARY)
        for order in range(3):
            history, whole = (numbers.tolist() for numbers in keys(rows, order))
            seen = np.array([self.histories[order][key] for key in history], float)
            kinds = np.array([self.kinds[order][key] for key in history], float)
            count = np.array([self.counts[order][key] for key in whole], float)
            chance = np.where(seen > 0, (count + kinds * chance) / np.maximum(seen + kinds, 1), chance)
        return float(-np.log(chance).mean())


def keys(rows: NDArray[np.int64], order: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Number the `order` tokens before every token but the first of a row, and these together with that token."""
    padded = np.concatenate([np.zeros_like(rows[:, :1]), rows], axis=1)
    history = np.zeros_like(rows[:, 1:])
    for back in range(order, 0, -1):
        history = history * VOCABULARY + padded[:, 2 - back : padded.shape[1] - back]
    return history.ravel(), (history * VOCABULARY + rows[:, 1:]).ravel()


def report(
    private: str, corpora: dict[str, Corpus], base: str, losses: dict[str, dict[str, float]], epsilon: float
) -> None:
    """Print the table of a private set, with the candidates that are trained already."""
    rng = np.random.default_rng(4)
    mine = corpora[private]
    own, public = mine.embeddings.rows[mine.rows(1)], corpora[base].embeddings.rows
    rows = {
        name: corpus.embeddings.rows[rng.choice(len(corpus.texts), CANDIDATE_TEXTS)]
        for name, corpus in corpora.items()
        if name != private
    }
    for share in SHARES:
        count = round(share * CANDIDATE_TEXTS)
        picked = [own[rng.choice(len(own), count)], public[rng.choice(len(public), CANDIDATE_TEXTS - count)]]
        rows[f"{share:.0%} of {private}"] = rng.permutation(np.concatenate(picked))
    rows = {name: embeddings for name, embeddings in rows.items() if name in losses}
    if len(rows) < 2:
        print(f"{private}: not trained yet")
        return
    measured = np.array([losses[name][private] for name in rows])
    voters = mine.rows(0)
    clients = np.unique(mine.embeddings.client[voters], return_inverse=True)[1].astype(np.int64)
    distances = three_distances(EmbeddedTexts(mine.embeddings.rows[voters], clients), list(rows.values()), epsilon)
    print(f"{private}: {clients.max() + 1} clients vote at epsilon {epsilon}")
    for i in np.argsort(measured):
        print(f"    {list(rows)[i]:<28} loss {measured[i]:.3f}   " + "   ".join(f"{d[i]:.4f}" for d in distances))
    correlations = [spearmanr(measured, distance).statistic for distance in distances]
    print("    Spearman: FreD {:.3f}, mean {:.3f}, Frechet without noise {:.3f}".format(*correlations), flush=True)


def three_distances(
    private: EmbeddedTexts, candidates: list[NDArray[np.float32]], epsilon: float
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Return FreD's distances, those of the means in the same release, and Frechet's without noise."""
    known = [sum_in_groups([rows]) for rows in candidates]
    noise = moments_mechanism(multiplier_for(epsilon), Relation.ADD_REMOVE)
    clients = int(private.client.max()) + 1
    query = design_query(known, noise.standard_deviation, clients, count_clients=False).query
    released = noisy_sum(noise, bounded_moments(query, private.rows, private.client))
    moments, law = estimate_moments(query, released, noise.standard_deviation, clients)
    laws = [candidate.project(query) for candidate in known]
    means = np.array([np.square(moments.mean - seen.moments.mean).sum() for seen in laws])
    full = np.array([float(frechet(client_law(private), candidate.moments)) for candidate in known])
    return estimate_distances(moments, law, laws).distance, means, full


if __name__ == "__main__":
    main()
