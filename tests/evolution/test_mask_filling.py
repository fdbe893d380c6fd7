"""Mask filling samples what the model predicts, at every batch size, and leaves control tokens alone."""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pretext.config.settings import Config
from pretext.errors import ModelError, UsageError
from pretext.evolution.mask_filling import MaskFill, _batch_rows, _deal_positions, _MaskedText
from pretext.jobs.parts import open_variation_of
from pretext.models.masked_lm import MaskedLM, head_takes_positions
from pretext.run.records import Candidate
from tests.support.tiny_masked import TINY, save_bert, save_roberta

Make = Callable[..., Config]


def open_mask_fill(config: Config) -> MaskFill:
    """Open the variation as the configuration names it."""
    model = MaskedLM(config.models.masked, config.speed.device, config.speed.dtype)
    return MaskFill(model, config.variation, config.speed.batch_size)


Fill = Callable[..., MaskFill]


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folders = {name: tmp_path_factory.mktemp(name) for name in ("bert", "roberta")}
    save_bert(folders["bert"])
    save_roberta(folders["roberta"])
    return folders


@pytest.fixture(params=["bert", "roberta"])
def make_fill(request: pytest.FixtureRequest, folders: dict[str, Path], make_config: Make) -> Callable[..., MaskFill]:
    def make(*overrides: str) -> MaskFill:
        base = [f"models.masked={folders[request.param]}", "speed.device=cpu", "speed.dtype=float32"]
        return open_mask_fill(make_config(*base, "variation.max_tokens=32", *overrides))

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


def test_temperature_zero_refills_the_likeliest(make_fill: Fill) -> None:
    # One token leaves no order to choose, and nothing is drawn.
    vary = make_fill("variation.temperature=0", "variation.mask_share=1")
    assert fill(vary, ["a"], 1) == fill(vary, ["a"], 2)


@pytest.mark.parametrize("masks_per_pass", [1, 3])
def test_the_rest_of_the_batch_does_not_matter(make_fill: Fill, masks_per_pass: int) -> None:
    # Each text draws from its own generator, so batches of any size, and the slow twin of one text at a time, agree.
    settings = ["variation.mask_share=0.5", f"variation.masks_per_pass={masks_per_pass}"]
    together, single = make_fill(*settings), make_fill(*settings, "speed.batch_size=1")
    assert len([*_batch_rows(together._tokenize_rows(TEXTS, np.random.default_rng(0)), together._batch_tokens)]) == 1
    assert len([*_batch_rows(single._tokenize_rows(TEXTS, np.random.default_rng(0)), single._batch_tokens)]) > 1
    assert fill(together, TEXTS) == fill(single, TEXTS)


def test_scoring_all_positions_gives_the_same(make_fill: Fill, monkeypatch: pytest.MonkeyPatch) -> None:
    vary = make_fill("variation.mask_share=0.5")
    assert vary._model.scores_positions
    gathered = fill(vary, TEXTS)
    monkeypatch.setattr(vary._model, "scores_positions", False)
    assert fill(vary, TEXTS) == gathered


@pytest.mark.parametrize(
    "family", ["Bert", "Roberta", "DistilBert", "ModernBert", "Electra", "Albert", "DebertaV2", "MPNet"]
)
def test_the_heads_of_these_families_take_positions(family: str) -> None:
    import torch
    import transformers

    torch.manual_seed(0)
    ids = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2, "cls_token_id": 1, "sep_token_id": 2}
    config = getattr(transformers, f"{family}Config")(vocab_size=50, embedding_size=16, **TINY, **ids)
    assert head_takes_positions(getattr(transformers, f"{family}ForMaskedLM")(config).eval())


class HeadThatNeedsAllPositions:
    """Wrap a masked model so that its head looks at neighbors: gathering positions before it would be wrong."""

    def __init__(self, model: Any, shifts: bool) -> None:
        import torch

        self.model, self.base_model, self.device = model, model.base_model, torch.device("cpu")
        self._shifts = shifts

    def __call__(self, **inputs: Any) -> Any:
        states = self.base_model(**inputs).last_hidden_state
        if not self._shifts:
            assert states.shape[:2] == inputs["input_ids"].shape
        output = self.model(**inputs)
        output.logits = self.model.cls(states + states.mean(dim=1, keepdim=True))
        return output


@pytest.mark.parametrize("shifts", [True, False])
def test_a_head_that_needs_all_positions_gets_them(folders: dict[str, Path], shifts: bool) -> None:
    from transformers import BertForMaskedLM

    model = BertForMaskedLM.from_pretrained(folders["bert"]).eval()
    assert head_takes_positions(model)
    assert not head_takes_positions(HeadThatNeedsAllPositions(model, shifts))


def joint_probabilities(vary: MaskFill) -> np.ndarray:
    """Probability of each pair of tokens when both of two are hidden and refilled one at a time, in either order.

    By the model itself, without anything of `MaskFill` but its list of excluded tokens; shape (vocabulary, vocabulary).
    """
    import torch

    size, tokenizer = len(vary._model.tokenizer), vary._model.tokenizer
    mask, start, end = tokenizer.mask_token_id, tokenizer.cls_token_id, tokenizer.sep_token_id

    def chances(ids: torch.Tensor, column: int) -> np.ndarray:
        with torch.no_grad():
            logits = vary._model.model(input_ids=ids).logits[:, column].double()
        logits[:, vary._model.excluded] = -torch.inf
        return torch.softmax(logits, dim=1).numpy()

    both = torch.tensor([[start, mask, mask, end]])
    total = np.zeros((size, size))
    for column in (1, 2):
        known = both.repeat(size, 1)
        known[:, column] = torch.arange(size)
        path = chances(both, column)[0][:, None] * chances(known, 3 - column)
        total += (path if column == 1 else path.T) / 2
    return total


def p_value(vary: MaskFill, exact: np.ndarray, count: int = 20_000) -> float:
    """P-value of a chi-square test of `count` refills against the exact probabilities; rare pairs are pooled."""
    from scipy.stats import chisquare

    rows = vary._tokenize_rows(["ab"] * count, np.random.default_rng(0))
    assert all(len(row.ids) == 4 for row in rows)
    for batch in _batch_rows(rows, 4 * 2000):
        vary._refill(batch)
    counts = np.zeros_like(exact)
    np.add.at(counts, tuple(np.array([row.ids[1:3] for row in rows]).T), 1)
    common = exact * count >= 10
    observed = [*counts[common], counts[~common].sum()]
    expected = [*(exact[common] * count), exact[~common].sum() * count]
    return float(chisquare(observed, np.array(expected) * (count / np.sum(expected))).pvalue)


@pytest.mark.slow
def test_the_tokens_follow_the_model_s_distribution(make_fill: Fill) -> None:
    # False alarms: one in a million. The twins sample both tokens at once, or too hot, and must be rejected.
    whole = ["variation.mask_share=1", "variation.mask_passes=1", "variation.temperature=1"]
    paper = make_fill(*whole, "variation.masks_per_pass=1")
    exact = joint_probabilities(paper)
    assert exact.sum() == pytest.approx(1)
    assert p_value(paper, exact) > 1e-6
    assert p_value(make_fill(*whole, "variation.masks_per_pass=2"), exact) < 1e-6
    hot = [*whole[:2], "variation.temperature=1.2", "variation.masks_per_pass=1"]
    assert p_value(make_fill(*hot), exact) < 1e-6


def test_excluded_tokens_are_never_sampled(make_fill: Fill) -> None:
    import torch

    vary = make_fill("variation.temperature=5")
    special = {*vary._model.tokenizer.all_special_ids}
    assert special <= set(vary._model.excluded.tolist()) and len(special) == 5
    # Logits that want nothing but excluded tokens, and the uniforms at both ends.
    uniforms = np.linspace(0, 1, 500, endpoint=False, dtype=np.float32)
    uniforms[-1] = np.nextafter(np.float32(1), np.float32(0))
    logits = torch.zeros(500, vary._model.model.config.vocab_size)
    logits[:, vary._model.excluded] = 1000.0
    sampled = vary._model.sample(logits, uniforms, 5)
    assert set(vary._model.excluded).isdisjoint(sampled.tolist()) and 0 <= int(sampled.min()) <= int(sampled.max())
    assert int(sampled.max()) < vary._model.model.config.vocab_size


def test_excluded_tokens_are_never_hidden(make_fill: Fill) -> None:
    vary = make_fill("variation.mask_share=1")
    for row in vary._tokenize_rows([*TEXTS, "", "red \N{SNOWMAN} soup"], np.random.default_rng(0)):
        special = np.isin(row.ids, [*vary._model.tokenizer.all_special_ids])
        assert set(row.maskable.tolist()) == set(np.flatnonzero(~special).tolist())


def test_unused_tokens_and_ids_without_a_token_are_excluded(tmp_path: Path, make_config: Make) -> None:
    from transformers import BertConfig, BertForMaskedLM

    save_bert(tmp_path)
    files = json.loads((tmp_path / "tokenizer.json").read_text())
    size = len(files["model"]["vocab"])
    files["model"]["vocab"] |= {"[unused7]": size, "unused": size + 1}
    (tmp_path / "tokenizer.json").write_text(json.dumps(files))
    BertForMaskedLM(BertConfig(vocab_size=size + 4, **TINY)).save_pretrained(tmp_path)
    vary = open_mask_fill(make_config(f"models.masked={tmp_path}", "speed.device=cpu"))
    assert vary._model.excluded.tolist() == [0, 1, 2, 3, 4, size, size + 2, size + 3]


@settings(deadline=None)
@given(st.integers(0, 60), st.floats(0.01, 1), st.integers(1, 70), st.integers(0, 99))
def test_the_share_is_dealt_into_groups(count: int, share: float, masks_per_pass: int, seed: int) -> None:
    maskable = np.arange(count) * 3 + 1
    groups = _deal_positions(maskable, share, masks_per_pass, np.random.default_rng(seed))
    positions = [position for group in groups for position in group.tolist()]
    assert set(positions) <= set(maskable.tolist()) and len(set(positions)) == len(positions)
    assert len(positions) == (max(1, round(share * count)) if count else 0)
    assert len(groups) == -(-len(positions) // masks_per_pass)
    assert max(map(len, groups), default=0) <= masks_per_pass
    # Two neighbors among the hidden ones share a group only where there is one group.
    ordered = sorted(positions)
    pairs = set(itertools.pairwise(ordered))
    shared = [
        pair for group in groups for pair in zip(group.tolist(), group.tolist()[1:], strict=False) if pair in pairs
    ]
    assert not shared or len(groups) == 1


def test_every_position_is_as_likely_to_come_first() -> None:
    # 4 of 8 positions, one at a time: each comes first in 1/8 of the draws. The bound is five standard deviations of
    # the binomial for each of 8 positions: false alarm below 1e-5 / 1.5; six: below 2e-8.
    draws, rng = 20_000, np.random.default_rng(0)
    first = np.bincount([_deal_positions(np.arange(8), 0.5, 1, rng)[0][0] for _ in range(draws)], minlength=8)
    assert np.abs(first - draws / 8).max() < 6 * np.sqrt(draws * 7 / 64)


@settings(deadline=None)
@given(st.lists(st.integers(1, 40), max_size=40), st.integers(1, 200))
def test_batches_hold_rows_of_similar_length(lengths: list[int], tokens: int) -> None:
    empty = np.empty(0, np.int64)
    rows = [_MaskedText("", empty, np.zeros(n, np.int64), [], empty, np.random.default_rng(0)) for n in lengths]
    batches = [[len(row.ids) for row in batch] for batch in _batch_rows(rows, tokens)]
    assert [length for batch in batches for length in batch] == sorted(lengths, reverse=True)
    assert all(max(batch) * len(batch) <= max(tokens, max(batch)) for batch in batches)


def test_fewer_passes_with_more_tokens_at_once(make_fill: Fill, monkeypatch: pytest.MonkeyPatch) -> None:
    def count_passes(masks_per_pass: int) -> int:
        vary = make_fill(
            f"variation.masks_per_pass={masks_per_pass}", "variation.mask_share=1", "variation.mask_passes=1"
        )
        calls: list[int] = []
        logits = vary._model.logits
        monkeypatch.setattr(vary._model, "logits", lambda *inputs: calls.append(1) or logits(*inputs))
        assert fill(vary, ["red and blue oven"])
        return len(calls)

    positions = count_passes(1)
    assert positions >= 4 and count_passes(2) == -(-positions // 2) and count_passes(99) == 1


def test_each_text_retains_what_is_not_hidden(make_fill: Callable[..., MaskFill]) -> None:
    vary = make_fill("variation.mask_passes=1", "speed.batch_size=2")
    letters = "vwxyz"
    for letter, new in zip(letters, fill(vary, [f"{letter} " * 10 for letter in letters]), strict=True):
        # Three words of ten are hidden, or six bytes of twenty: at least four letters stay, in any batch.
        assert new is not None and new != " ".join(letter * 10)
        assert new.count(letter) >= 4 and new.count(letter) == max(map(new.count, letters))


def test_an_empty_text_stays_empty(make_fill: Callable[..., MaskFill]) -> None:
    vary = make_fill()
    assert fill(vary, [""]) == [""] and fill(vary, []) == []
    assert fill(vary, ["", "soup"])[0] == ""


def test_a_long_text_is_cut(make_fill: Callable[..., MaskFill]) -> None:
    vary = make_fill("variation.max_tokens=16")
    (new,) = fill(vary, ["garden " * 5000])
    assert new and len(vary._model.tokenizer(new, truncation=False)["input_ids"]) <= 16 * 2


@pytest.mark.parametrize("control", ["[SEP]", "[MASK]", "</s>", "<mask>", "<s>", "[PAD]"])
def test_control_tokens_inside_a_text_stay_text(make_fill: Callable[..., MaskFill], control: str) -> None:
    vary = make_fill("variation.mask_share=0.01", "variation.temperature=0", "variation.mask_passes=1")
    # One token of the text is refilled. A control token that was understood would vanish, or all of it would
    # be refilled; letters of its name in one of the draws show that it was read as text.
    name = re.sub(r"\W", "", control).lower()
    has_name = [
        name in re.sub(r"\W", "", str(fill(vary, [f"red {control} blue"], seed)[0])).lower() for seed in range(8)
    ]
    assert any(has_name)


def test_mask_fill_needs_no_engine(folders: dict[str, Path], make_config: Make) -> None:
    config = make_config(f"models.masked={folders['bert']}", "variation.kind=mask-fill", "speed.device=cpu")

    def refuse() -> Any:
        raise AssertionError("the generator was opened")

    assert isinstance(open_variation_of(config, refuse), MaskFill)


def test_a_causal_model_is_refused(tmp_path: Path, folders: dict[str, Path], make_config: Make) -> None:
    from transformers import AutoTokenizer, GPT2Config, GPT2LMHeadModel

    GPT2LMHeadModel(GPT2Config(vocab_size=20, n_embd=8, n_layer=1, n_head=1, n_positions=8)).save_pretrained(tmp_path)
    AutoTokenizer.from_pretrained(folders["roberta"]).save_pretrained(tmp_path)
    check_refusal(make_config, tmp_path, "masked language model")


def test_a_model_without_a_mask_token_is_refused(tmp_path: Path, make_config: Make) -> None:
    from transformers import AutoTokenizer

    save_bert(tmp_path)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path)
    tokenizer.mask_token = None
    tokenizer.save_pretrained(tmp_path)
    check_refusal(make_config, tmp_path, "mask token")


def test_an_encoder_without_a_head_is_refused(tmp_path: Path, folders: dict[str, Path], make_config: Make) -> None:
    from transformers import AutoTokenizer, BertModel

    BertModel.from_pretrained(folders["bert"], add_pooling_layer=False).save_pretrained(tmp_path)
    AutoTokenizer.from_pretrained(folders["bert"]).save_pretrained(tmp_path)
    check_refusal(make_config, tmp_path, "without the head")


@pytest.mark.parametrize("tokens", [2, 71])
def test_lengths_that_the_model_does_not_take(make_fill: Fill, tokens: int) -> None:
    with pytest.raises(UsageError, match=rf"max_tokens is {tokens}, .* texts of 3 to (64|70) tokens"):
        make_fill(f"variation.max_tokens={tokens}")
    assert fill(make_fill("variation.max_tokens=3"), ["red soup"])[0]


def test_a_folder_without_a_model_is_one_sentence(tmp_path: Path, make_config: Make) -> None:
    (tmp_path / "empty").mkdir()
    check_refusal(make_config, tmp_path / "empty", "configuration")
    check_refusal(make_config, tmp_path / "missing", "no model folder")


def check_refusal(make_config: Make, folder: Path, reason: str) -> None:
    with pytest.raises(ModelError, match=reason) as caught:
        open_mask_fill(make_config(f"models.masked={folder}", "speed.device=cpu"))
    message = str(caught.value)
    assert str(folder) in message and "\n" not in message and message.endswith(".")
