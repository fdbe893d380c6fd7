from __future__ import annotations

import json
import math
import shutil
from collections import Counter

import numpy as np
import pytest
import torch

from pretext.config.settings import Adapt, Models, Speed
from pretext.errors import ModelError, RunFolderError, UsageError
from pretext.models import adaptation
from pretext.models.adaptation import Example, adapt, check_adaptable, hold_out
from pretext.models.adapters import RECORD_FILE, digest_weights, load_record, resolve_adapter, use_adapted
from pretext.models.chat_format import encode_answer, encode_prompt
from pretext.models.engines import Sampling, open_engine
from pretext.models.engines.transformers import TransformersEngine
from pretext.models.learner import Learner, Row, cut_batch, make_batches
from pretext.prompts import HEADER, Prompt, PromptStyle
from tests.support import tiny

SPEED = Speed(device="cpu", dtype="float32", batch_size=8)
SETTINGS = Adapt(method="lora", rank=8, passes=3, learning_rate=0.01, batch_size=8)
GREEDY = Sampling(max_tokens=24, temperature=0.0, stop=PromptStyle().stops)
PROMPT = PromptStyle().describe("Orders at a bakery.", ())
CHAT = PromptStyle(chat=True).describe("Orders at a bakery.", ())
ANSWERS = [f"{count} loaves of {kind} please" for count in ("two", "six", "ten", "nine") for kind in ("rye", "oat")] * 5


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory):
    return str(tiny.build(tmp_path_factory.mktemp("tiny")))


def _examples(prompt=PROMPT, answers=ANSWERS):
    return [Example(prompt, answer) for answer in answers]


def _adapt(checkpoint, folder, settings=SETTINGS, prompt=PROMPT, **arguments):
    models = Models(generator=checkpoint)
    examples = arguments.pop("examples", _examples(prompt))
    return adapt(models, settings, SPEED, examples, _examples(prompt)[:8], folder, 0, **arguments)


@pytest.mark.slow
@pytest.mark.parametrize("method", ["lora", "full"])
@pytest.mark.parametrize("prompt", [PROMPT, CHAT], ids=["base", "chat"])
def test_adapt__examples_of_one_kind__the_engine_writes_such_texts_and_ends_them(checkpoint, tmp_path, method, prompt):
    settings = SETTINGS.model_copy(update={"method": method, "passes": 6})
    record = _adapt(checkpoint, tmp_path / "adapter", settings, prompt)
    assert record.lowered_loss and len(record.losses) <= 6
    adapted = use_adapted(Models(generator=checkpoint), tmp_path / "adapter")
    engine = open_engine(adapted, SPEED)
    assert engine.complete([prompt], GREEDY)[0].strip() in ANSWERS
    assert engine.usage.written < GREEDY.max_tokens


@pytest.mark.slow
def test_adapt__same_arguments__same_weights_and_no_path_in_the_folder(checkpoint, tmp_path):
    first, second = _adapt(checkpoint, tmp_path / "one"), _adapt(checkpoint, tmp_path / "two")
    assert first == second == load_record(tmp_path / "one")
    assert first.digest == digest_weights(tmp_path / "one")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["one", "two"]
    whole = b"".join(path.read_bytes() for path in (tmp_path / "one").iterdir())
    assert str(tmp_path).encode() not in whole
    for path in (tmp_path / "one").iterdir():
        assert path.read_bytes() == (tmp_path / "two" / path.name).read_bytes()


class _Killed(BaseException):
    pass


@pytest.mark.slow
@pytest.mark.parametrize("method", ["lora", "full"])
def test_adapt__killed_in_a_pass__goes_on_after_the_last_one_to_the_same_weights(
    checkpoint, tmp_path, monkeypatch, method
):
    settings = SETTINGS.model_copy(update={"method": method})
    whole = _adapt(checkpoint, tmp_path / "whole", settings)
    train_pass, trained = Learner.train_pass, []

    def train(self, number, rows, advance):
        trained.append(number)
        if trained == [0, 1]:
            raise _Killed
        return train_pass(self, number, rows, advance)

    monkeypatch.setattr(Learner, "train_pass", train)
    with pytest.raises(_Killed):
        _adapt(checkpoint, tmp_path / "cut", settings)
    assert not (tmp_path / "cut").exists()
    assert _adapt(checkpoint, tmp_path / "cut", settings) == whole
    assert trained[:4] == [0, 1, 1, 2]
    assert not (tmp_path / "cut-passes").exists()


@pytest.mark.slow
def test_adapt__killed_and_called_with_other_examples__starts_anew(checkpoint, tmp_path, monkeypatch):
    def die(path):
        raise _Killed

    with pytest.raises(_Killed):
        _adapt(checkpoint, tmp_path / "cut", judge=die)
    others = _examples(answers=ANSWERS[::-1])
    record = _adapt(checkpoint, tmp_path / "cut", examples=others)
    assert record == _adapt(checkpoint, tmp_path / "whole", examples=others)


@pytest.mark.slow
def test_adapt__killed_while_judging__judges_again_and_does_not_train_again(checkpoint, tmp_path, monkeypatch):
    judged = []

    def judge(path):
        judged.append(path.name)
        if len(judged) == 1:
            raise _Killed
        TransformersEngine(checkpoint, adapter=str(path), device="cpu", dtype="float32")
        return [2.0, 1.0, 3.0][int(path.name) - 1]

    with pytest.raises(_Killed):
        _adapt(checkpoint, tmp_path / "adapter", judge=judge)
    record = _adapt(checkpoint, tmp_path / "adapter", judge=judge)
    assert judged == ["001", "001", "002", "003"]
    assert record.best == 2 and [losses.judgment for losses in record.losses] == [2.0, 1.0, 3.0]


@pytest.mark.slow
def test_hold_out__answers_that_come_often__stand_on_one_side() -> None:
    prompt = Prompt("Notes:")
    examples = [Example(prompt, f"text {number % 40}") for number in range(200)]
    learned, held_out = hold_out(examples, np.random.default_rng(0))
    sides = [{example.answer for example in side} for side in (learned, held_out)]
    assert not sides[0] & sides[1]
    assert [len(side) for side in (learned, held_out, *sides)] == [180, 4, 36, 4]


def test_adapt__held_out_loss_rises__stops_and_keeps_the_best_pass(checkpoint, tmp_path, monkeypatch):
    losses = iter([3.0, 2.0, 2.5, 1.0])
    monkeypatch.setattr(Learner, "measure", lambda self, rows: next(losses))
    record = _adapt(checkpoint, tmp_path / "adapter")
    assert (record.start, record.best, [ended.held_out for ended in record.losses]) == (3.0, 1, [2.0, 2.5])
    monkeypatch.undo()
    first = _adapt(checkpoint, tmp_path / "first", judge=lambda path: float(path.name))
    assert first.best == 1 and first.digest == record.digest == digest_weights(tmp_path / "adapter")


def test_adapt__diverging__is_refused_and_leaves_no_adapter(checkpoint, tmp_path, monkeypatch):
    monkeypatch.setattr(Learner, "measure", lambda self, rows: math.nan)
    with pytest.raises(ModelError):
        _adapt(checkpoint, tmp_path / "adapter")
    assert not (tmp_path / "adapter").exists()


@pytest.mark.slow
def test_adapt__a_finished_folder__is_returned_and_one_of_other_settings_is_refused(checkpoint, tmp_path, monkeypatch):
    record = _adapt(checkpoint, tmp_path / "adapter")
    with monkeypatch.context() as patch:
        patch.setattr(adaptation, "Learner", None)  # nothing is loaded
        assert _adapt(checkpoint, tmp_path / "adapter") == record
        (tmp_path / "adapter" / "state.pt").write_bytes(b"")  # killed while tidying
        (tmp_path / "adapter-passes" / "002").mkdir(parents=True)
        assert _adapt(checkpoint, tmp_path / "adapter") == record
    assert not (tmp_path / "adapter" / "state.pt").exists() and not (tmp_path / "adapter-passes").exists()
    with pytest.raises(RunFolderError):
        _adapt(checkpoint, tmp_path / "adapter", SETTINGS.model_copy(update={"rank": 4}))
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "notes.txt").write_text("mine")
    with pytest.raises(RunFolderError):
        _adapt(checkpoint, tmp_path / "other")


@pytest.mark.parametrize(
    ("models", "settings", "speed", "error"),
    [
        ({}, {"method": "none"}, {}, UsageError),
        ({}, {}, {"engine": "openai"}, UsageError),
        ({}, {}, {"engine": "ray"}, UsageError),
        ({"adapter": "some/adapter"}, {}, {}, UsageError),
    ],
    ids=["method none", "server", "ray", "adapter"],
)
def test_check_adaptable__what_cannot_be_adapted__is_refused(models, settings, speed, error):
    with pytest.raises(error):
        check_adaptable(Models(**models), Adapt(**settings), Speed(**speed))


@pytest.mark.parametrize("change", ["no weights", "quantized"])
def test_check_adaptable__a_folder_without_weights_to_train__is_refused(change, checkpoint, tmp_path):
    folder = tmp_path / "model"
    shutil.copytree(checkpoint, folder)
    check_adaptable(Models(generator=str(folder)), SETTINGS, SPEED)
    if change == "quantized":
        config = json.loads((folder / "config.json").read_text())
        (folder / "config.json").write_text(json.dumps({**config, "quantization_config": {"quant_method": "awq"}}))
    else:
        for path in folder.glob("*.safetensors"):
            path.unlink()
    with pytest.raises(ModelError):
        check_adaptable(Models(generator=str(folder)), SETTINGS, SPEED)


def test_check_adaptable__without_peft__lora_is_refused_and_full_is_not(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ModelError, match=r"pip install 'pretext\[adapt\]'"):
        check_adaptable(Models(), Adapt(method="lora"), Speed())
    check_adaptable(Models(), Adapt(method="full"), Speed(engine="ray"))


@pytest.mark.parametrize("answers", [ANSWERS[:15], [" \n"] * 100, ["word " * 3000] * 40], ids=["few", "blank", "long"])
def test_adapt__too_few_usable_examples__is_refused(checkpoint, tmp_path, answers):
    with pytest.raises(UsageError):
        _adapt(checkpoint, tmp_path / "adapter", examples=_examples(answers=answers))
    assert not list(tmp_path.iterdir())


def test_adapt__quantized_generator__is_refused(checkpoint, tmp_path, monkeypatch):
    monkeypatch.setattr("pretext.models.learner.is_quantized", lambda config: True)
    with pytest.raises(ModelError):
        _adapt(checkpoint, tmp_path / "adapter")


def test_adapt__all_weights_of_a_model_that_is_too_large__is_refused(checkpoint, tmp_path, monkeypatch):
    monkeypatch.setattr("pretext.models.learner._FULL_BYTES", 2**40)
    with pytest.raises(UsageError):
        _adapt(checkpoint, tmp_path / "adapter", SETTINGS.model_copy(update={"method": "full"}))


@pytest.mark.slow
def test_resolve_adapter__of_another_generator_or_changed_or_a_whole_model__is_refused(checkpoint, tmp_path):
    _adapt(checkpoint, tmp_path / "adapter", SETTINGS.model_copy(update={"passes": 1}))
    adapter = str(tmp_path / "adapter")
    assert resolve_adapter(adapter, checkpoint) == tmp_path / "adapter"
    moved = shutil.copytree(checkpoint, tmp_path / "moved")
    assert resolve_adapter(adapter, str(moved)) == tmp_path / "adapter"
    with pytest.raises(ModelError):
        resolve_adapter(adapter, str(_change_weights(moved / "model.safetensors").parent))
    _change_weights(tmp_path / "adapter" / "adapter_model.safetensors")
    with pytest.raises(ModelError):
        TransformersEngine(checkpoint, adapter=adapter, device="cpu")
    whole = tmp_path / "whole"
    _adapt(checkpoint, whole, SETTINGS.model_copy(update={"method": "full", "passes": 1}))
    with pytest.raises(ModelError):
        resolve_adapter(str(whole), checkpoint)
    (whole / RECORD_FILE).write_text("{")
    with pytest.raises(ModelError):
        use_adapted(Models(generator=checkpoint), whole)


def _change_weights(path):
    from safetensors.torch import load_file, save_file

    save_file({name: weight + 1 for name, weight in load_file(path).items()}, path, metadata={"format": "pt"})
    return path


def test_sum_losses__prompts_read_once__as_each_row_by_itself(checkpoint):
    """The slow twin: every row alone, prompt and answer in one forward pass without a cache."""
    learner = Learner(checkpoint, SETTINGS, "cpu", "float32", 0)
    few_shot = PromptStyle().few_shot(["one roll", "two buns with butter"], 0)
    rows = [learner.encode(prompt, answer) for prompt in (PROMPT, few_shot, CHAT) for answer in ANSWERS[:3]]
    expected = []
    for row in rows:
        ids = torch.tensor([[*row.prompt, *row.answer]])
        with torch.inference_mode():
            logits = learner._model.eval()(input_ids=ids).logits[0, len(row.prompt) - 1 : -1]
        expected.append(torch.nn.functional.cross_entropy(logits, torch.tensor(row.answer), reduction="sum").item())
    with torch.inference_mode():
        together, tokens = learner._sum_losses(learner._model, rows)
    assert together.item() == pytest.approx(sum(expected), rel=1e-4)
    assert tokens == sum(len(row.answer) for row in rows)


def test_sum_losses__prompts_read_once__has_the_gradient_of_each_row_by_itself(checkpoint):
    learner = Learner(checkpoint, SETTINGS.model_copy(update={"method": "full"}), "cpu", "float32", 0)
    rows = [learner.encode(PROMPT, answer) for answer in ANSWERS[:4]]
    weights = [weight for weight in learner._model.parameters() if weight.requires_grad]
    together = torch.autograd.grad(learner._sum_losses(learner._model, rows)[0], weights, allow_unused=True)
    alone = [torch.zeros_like(weight) for weight in weights]
    for row in rows:
        ids = torch.tensor([[*row.prompt, *row.answer]])
        logits = learner._model(input_ids=ids).logits[0, len(row.prompt) - 1 : -1]
        loss = torch.nn.functional.cross_entropy(logits, torch.tensor(row.answer), reduction="sum")
        for sums, part in zip(alone, torch.autograd.grad(loss, weights, allow_unused=True), strict=True):
            sums += 0 if part is None else part
    for one, other in zip(together, alone, strict=True):
        torch.testing.assert_close(torch.zeros_like(other) if one is None else one, other, rtol=1e-3, atol=1e-4)


def test_make_batches__any_order__all_rows_once_in_as_many_batches_as_steps_are_planned():
    rows = [Row((number % 3,), tuple(range(number % 11 + 2))) for number in range(203)]
    for rng in (None, np.random.default_rng(0)):
        batches = list(make_batches(rows, 8, rng))
        assert len(batches) == math.ceil(203 / 8)
        assert Counter(row for batch in batches for row in batch) == Counter(rows)


def test_cut_batch__long_answers__all_rows_in_order_in_parts_that_fit():
    rows = [Row((1,), tuple(range(length))) for length in (3, 20, 5, 90, 5, 5)]
    parts = list(cut_batch(rows, 40))
    assert [row for part in parts for row in part] == rows
    assert [len(part) for part in parts] == [2, 1, 1, 2]


@pytest.mark.slow
def test_adapt__batches_cut_into_parts__same_losses_as_whole_batches(checkpoint, tmp_path, monkeypatch):
    settings = SETTINGS.model_copy(update={"passes": 1})
    whole = _adapt(checkpoint, tmp_path / "whole", settings)
    monkeypatch.setattr("pretext.models.learner._PLACES", {"cpu": 16})
    cut = _adapt(checkpoint, tmp_path / "cut", settings)
    assert cut.losses[0].training == pytest.approx(whole.losses[0].training, rel=1e-3)
    assert cut.losses[0].held_out == pytest.approx(whole.losses[0].held_out, rel=1e-2)


def test_encode_answer__base_and_chat__ends_where_the_engines_stop(checkpoint):
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(checkpoint)
    base = encode_answer(" Two rolls. ", False, tokenizer)
    assert tokenizer.decode(base) == f"Two rolls.\n\n{HEADER}"
    chat = encode_answer("Two <|im_end|> rolls.", True, tokenizer)
    assert chat.count(tokenizer.convert_tokens_to_ids("<|im_end|>")) == 1
    assert chat[-1] == tokenizer.convert_tokens_to_ids("<|im_end|>")
    dialog = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Two rolls."}]
    whole = tokenizer.apply_chat_template(dialog, tokenize=False)
    ids = [*encode_prompt(Prompt("Hi", chat=True), tokenizer), *encode_answer("Two rolls.", True, tokenizer)]
    assert whole.startswith(tokenizer.decode(ids))
