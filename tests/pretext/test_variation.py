from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pretext.config import Config
from pretext.engines import Sampling, Usage, unheard
from pretext.engines.scripted import ScriptedEngine
from pretext.errors import ModelError
from pretext.population import Candidate
from pretext.prompts import HEADER, Prompt
from pretext.variation import MaskFill, Prompted, _masks, open_variation

Make = Callable[..., Config]

WORDS = ["the", "kernel", "garden", "soup", "oven", "was", "is", "and", "red", "blue", "sep", "cls", "mask", *"[]</>"]
TINY: dict[str, Any] = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}


def save_bert(folder: Path) -> None:
    """A BERT of two layers over whole words and single characters."""
    import torch
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
    from transformers import BertConfig, BertForMaskedLM, PreTrainedTokenizerFast

    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    characters = [mark + letter for letter in "abcdefghijklmnopqrstuvwxyz" for mark in ("", "##")]
    vocabulary = {word: number for number, word in enumerate(dict.fromkeys([*special, *WORDS, *characters]))}
    backend = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    backend.normalizer = normalizers.BertNormalizer()
    backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    backend.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", vocabulary["[CLS]"]), ("[SEP]", vocabulary["[SEP]"])]
    )
    names = {f"{name}_token": f"[{name.upper()}]" for name in ("pad", "unk", "cls", "sep", "mask")}
    PreTrainedTokenizerFast(tokenizer_object=backend, **names).save_pretrained(folder)
    torch.manual_seed(0)
    BertForMaskedLM(BertConfig(vocab_size=len(vocabulary), max_position_embeddings=64, **TINY)).save_pretrained(folder)


def save_roberta(folder: Path) -> None:
    """A RoBERTa of two layers over bytes."""
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast, RobertaConfig, RobertaForMaskedLM

    special = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    vocabulary = {word: number for number, word in enumerate([*special, *sorted(pre_tokenizers.ByteLevel.alphabet())])}
    backend = Tokenizer(models.BPE(vocabulary, []))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    backend.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", special_tokens=[("<s>", 0), ("</s>", 2)]
    )
    names = {"bos": "<s>", "cls": "<s>", "eos": "</s>", "sep": "</s>", "pad": "<pad>", "unk": "<unk>", "mask": "<mask>"}
    tokens = {f"{name}_token": token for name, token in names.items()}
    PreTrainedTokenizerFast(tokenizer_object=backend, **tokens).save_pretrained(folder)
    torch.manual_seed(0)
    ids: dict[str, Any] = {"pad_token_id": 1, "bos_token_id": 0, "eos_token_id": 2}
    config = RobertaConfig(vocab_size=len(vocabulary), max_position_embeddings=70, **TINY, **ids)
    RobertaForMaskedLM(config).save_pretrained(folder)


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    made = {name: tmp_path_factory.mktemp(name) for name in ("bert", "roberta")}
    save_bert(made["bert"])
    save_roberta(made["roberta"])
    return made


@pytest.fixture(params=["bert", "roberta"])
def make_fill(request: pytest.FixtureRequest, folders: dict[str, Path], make_config: Make) -> Callable[..., MaskFill]:
    def make(*overrides: str) -> MaskFill:
        base = [f"models.masked={folders[request.param]}", "speed.device=cpu", "speed.dtype=float32"]
        return MaskFill(make_config(*base, "variation.max_tokens=32", *overrides))

    return make


def fill(vary: Any, texts: Sequence[str], seed: int = 0) -> list[str | None]:
    return list(vary([Candidate(text) for text in texts], [], np.random.default_rng(seed)))


TEXTS = ["the kernel driver was red", "soup", "the garden is blue and the flower is red and the oven", "butter is soup"]


def test_the_generator_decides(make_fill: Callable[..., MaskFill]) -> None:
    vary = make_fill()
    assert fill(vary, TEXTS, 1) == fill(vary, TEXTS, 1) != fill(vary, TEXTS, 2)


def test_no_other_randomness_is_used(make_fill: Callable[..., MaskFill]) -> None:
    import torch

    vary = make_fill()
    first = fill(vary, TEXTS)
    torch.manual_seed(99)
    before = torch.get_rng_state()
    assert fill(vary, TEXTS) == first and torch.equal(before, torch.get_rng_state())


def test_temperature_zero_refills_the_likeliest(make_fill: Callable[..., MaskFill]) -> None:
    # With everything hidden and no randomness in the refill, the order of the refills is all the generator decides; one
    # token leaves no order.
    vary = make_fill("variation.temperature=0", "variation.mask_share=1")
    assert fill(vary, ["a"], 1) == fill(vary, ["a"], 2)


def test_special_tokens_are_neither_hidden_nor_sampled(make_fill: Callable[..., MaskFill]) -> None:
    vary = make_fill("variation.temperature=5", "variation.mask_share=1", "variation.mask_passes=1")
    import torch

    special = {*vary._tokenizer.all_special_ids}
    assert special <= set(vary._special) and len(special) == 5
    # Logits that want nothing but special tokens.
    logits = torch.zeros(500, len(vary._tokenizer))
    logits[:, sorted(special)] = 1000.0
    assert special.isdisjoint(vary._sampled(logits, np.random.default_rng(0)).tolist())


@pytest.mark.parametrize("rows", [["the kernel", "", "the kernel driver was red and blue"]])
def test_the_share_is_each_row_s_own(make_fill: Callable[..., MaskFill], rows: list[str]) -> None:
    vary = make_fill()
    ids = vary._tokenizer(rows, padding=True, return_tensors="np")["input_ids"]
    hidden = _masks(ids, vary._special, 0.3, np.random.default_rng(0))
    for row, positions in zip(ids, hidden, strict=True):
        ordinary = [i for i, token in enumerate(row) if token not in set(vary._tokenizer.all_special_ids)]
        assert len(positions) == (max(1, round(0.3 * len(ordinary))) if ordinary else 0)
        assert set(positions) <= set(ordinary) and len(set(positions)) == len(positions)


@settings(deadline=None)
@given(
    st.lists(st.lists(st.integers(0, 9), min_size=6, max_size=6), min_size=1, max_size=5),
    st.floats(0.01, 1),
    st.integers(0, 99),
)
def test_masks(rows: list[list[int]], share: float, seed: int) -> None:
    ids, special = np.array(rows), [0, 1, 2]
    for row, positions in zip(ids, _masks(ids, special, share, np.random.default_rng(seed)), strict=True):
        ordinary = np.flatnonzero(row > 2)
        assert set(positions) <= set(ordinary) and len(set(positions)) == len(positions)
        assert len(positions) == min(len(ordinary), max(1, round(share * len(ordinary))))


def test_each_text_keeps_what_is_not_hidden(make_fill: Callable[..., MaskFill]) -> None:
    vary = make_fill("variation.mask_passes=1", "speed.batch_size=2")
    letters = "vwxyz"
    for letter, new in zip(letters, fill(vary, [f"{letter} " * 10 for letter in letters]), strict=True):
        # Three words of ten are hidden, or six bytes of twenty: at least four letters stay, in any batch.
        assert new is not None and new != " ".join(letter * 10)
        assert new.count(letter) >= 4 and new.count(letter) == max(new.count(other) for other in letters)


def test_an_empty_text_stays_empty(make_fill: Callable[..., MaskFill]) -> None:
    vary = make_fill()
    assert fill(vary, [""]) == [""] and fill(vary, []) == []
    assert fill(vary, ["", "soup"])[0] == ""


def test_a_long_text_is_cut(make_fill: Callable[..., MaskFill]) -> None:
    vary = make_fill("variation.max_tokens=16")
    (new,) = fill(vary, ["garden " * 5000])
    assert new and len(vary._tokenizer(new, truncation=False)["input_ids"]) <= 16 * 2


@pytest.mark.parametrize("control", ["[SEP]", "[MASK]", "</s>", "<mask>", "<s>", "[PAD]"])
def test_control_tokens_inside_a_text_stay_text(make_fill: Callable[..., MaskFill], control: str) -> None:
    vary = make_fill("variation.mask_share=0.01", "variation.temperature=0", "variation.mask_passes=1")
    # One token of the text is refilled. A control token that was understood would be gone without trace, or all of it
    # would have been filled in; letters of its name in most of the draws show that it was read as text.
    name = re.sub(r"\W", "", control).lower()
    kept = [name in re.sub(r"\W", "", str(fill(vary, [f"red {control} blue"], seed)[0])).lower() for seed in range(8)]
    assert any(kept)


def test_mask_fill_needs_no_engine(folders: dict[str, Path], make_config: Make) -> None:
    config = make_config(f"models.masked={folders['bert']}", "variation.kind=mask-fill", "speed.device=cpu")

    def refuse() -> Any:
        raise AssertionError("the generator was opened")

    assert isinstance(open_variation(config, refuse), MaskFill)


def test_what_is_no_masked_model_is_one_sentence(tmp_path: Path, folders: dict[str, Path], make_config: Make) -> None:
    from transformers import AutoTokenizer, GPT2Config, GPT2LMHeadModel

    causal = tmp_path / "causal"
    GPT2LMHeadModel(GPT2Config(vocab_size=20, n_embd=8, n_layer=1, n_head=1, n_positions=8)).save_pretrained(causal)
    AutoTokenizer.from_pretrained(folders["roberta"]).save_pretrained(causal)
    (tmp_path / "empty").mkdir()
    for folder in (causal, tmp_path / "missing", tmp_path / "empty"):
        with pytest.raises(ModelError) as caught:
            MaskFill(make_config(f"models.masked={folder}"))
        message = str(caught.value)
        assert str(folder) in message and "\n" not in message and message.endswith(".")


def test_a_model_without_a_mask_token_is_refused(tmp_path: Path, make_config: Make) -> None:
    from transformers import AutoTokenizer

    save_bert(tmp_path)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path)
    tokenizer.mask_token = None
    tokenizer.save_pretrained(tmp_path)
    with pytest.raises(ModelError, match="no mask token"):
        MaskFill(make_config(f"models.masked={tmp_path}"))


class Listening:
    """A generator that remembers what it was asked, and answers nothing to a prompt that holds `bad`."""

    usage = Usage()

    def __init__(self) -> None:
        self.prompts: list[Prompt] = []
        self.samplings: list[Sampling] = []

    def complete(self, prompts: Sequence[Prompt], sampling: Sampling, advance=unheard) -> list[str | None]:
        self.prompts += prompts
        self.samplings.append(sampling)
        return [None if "bad" in prompt.text else f" new \n\n{HEADER} 9\nrubbish" for prompt in prompts]


POOL = [Candidate(f"{'xy'[number % 2]} text {number}", number % 2) for number in range(10)]


def samples(prompt: Prompt) -> list[str]:
    return [part.split("\n", 1)[1].strip() for part in prompt.text.split(HEADER)[1:]]


@pytest.mark.parametrize("chat", [False, True])
@pytest.mark.parametrize("examples", [1, 3, 20])
def test_in_context_shows_the_parent_last(make_config: Make, chat: bool, examples: int) -> None:
    config = make_config(
        f"variation.examples={examples}",
        f"models.prompt_format={'chat' if chat else 'base'}",
        "data.label_column=kind",
        "data.labels=['ex', 'why']",
    )
    engine = Listening()
    parents = [POOL[3], POOL[4], Candidate("y parent out of the pool", 1)]
    assert open_variation(config, lambda: engine)(parents, POOL, np.random.default_rng(0)) == ["new"] * 3
    for parent, prompt in zip(parents, engine.prompts, strict=True):
        shown = [sample for sample in samples(prompt) if sample]
        assert shown[-1] == parent.text and shown.count(parent.text) == 1
        assert all(sample[0] == parent.text[0] for sample in shown)  # examples of its own label
        assert len(shown) <= examples and (len(shown) == examples or examples == 20)
        assert f" ({['ex', 'why'][parent.label]})" in prompt.text and prompt.chat is chat


def test_a_parent_alone_is_its_own_example(make_config: Make) -> None:
    engine = Listening()
    Prompted(make_config(), engine)([Candidate("lonely text")], [], np.random.default_rng(0))
    assert [sample for sample in samples(engine.prompts[0]) if sample] == ["lonely text"]


def test_rewrite_shows_the_parent_alone(make_config: Make) -> None:
    engine = Listening()
    Prompted(make_config("variation.kind=rewrite"), engine)([POOL[0]], POOL, np.random.default_rng(0))
    assert [sum(candidate.text in prompt.text for candidate in POOL) for prompt in engine.prompts] == [1]


def test_failed_completions_are_none(make_config: Make) -> None:
    parents = [Candidate(text) for text in ("good one", "bad one", "good two")]
    config = make_config("variation.examples=1", "speed.chunk=2")
    assert Prompted(config, Listening())(parents, parents, np.random.default_rng(0)) == ["new", None, "new"]


def test_all_prompts_of_a_phase_at_once(make_config: Make) -> None:
    engine, rng = Listening(), np.random.default_rng(0)
    config = make_config("variation.max_tokens=7", "variation.temperature=0.5", "variation.top_p=0.9")
    vary = Prompted(config, engine)
    vary(POOL, POOL, rng)
    vary(POOL, POOL, rng)
    first, second = engine.samplings
    assert len(engine.prompts) == 2 * len(POOL)
    assert (first.max_tokens, first.temperature, first.top_p, first.stop) == (7, 0.5, 0.9, (HEADER, "\n\n"))
    assert first.seed != second.seed


def test_prompted_variations_are_repeatable(make_config: Make) -> None:
    def reply(prompt: Prompt, rng: np.random.Generator) -> str:
        return f"{len(prompt.text)} {rng.random()}"

    def once(seed: int) -> list[str | None]:
        return Prompted(make_config(), ScriptedEngine(reply))(POOL, POOL, np.random.default_rng(seed))

    assert once(1) == once(1) != once(2)
