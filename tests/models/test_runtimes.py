from __future__ import annotations

import importlib.util
import json
import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sentence_transformers import SentenceTransformer

from pretext.errors import ModelError, UsageError
from pretext.home import model_cache_folder
from pretext.models import runtimes
from pretext.models.embedder import SentenceEmbedder
from pretext.models.runtimes import SAMPLE_TEXTS, Features, Runtime, list_runtimes, open_fastest_runtime
from pretext.models.sources import resolve_embedder

pytestmark = pytest.mark.slow

HAS_OPENVINO = importlib.util.find_spec("openvino") is not None
needs_openvino = pytest.mark.skipif(not HAS_OPENVINO, reason="needs the extra openvino")
TORCH = Runtime("torch", "float32")
OPENVINO = Runtime("openvino", "float32")
TEXTS = [" ".join(f"word{number}" for number in range(length)) for length in (1, 70, 3, 3, 12, 40, 2, 25, 9)]


def hide_openvino(monkeypatch: pytest.MonkeyPatch) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *_: None if name == "openvino" else find(name))


def test_without_the_extra_torch_is_chosen_and_a_wish_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    hide_openvino(monkeypatch)
    assert {runtime.name for runtime in list_runtimes("cpu", None, None)} == {"torch"}
    with pytest.raises(UsageError, match=r"pip install 'pretext\[openvino\]'"):
        SentenceEmbedder("embedded", 64, 128, "cpu", None, "openvino")


@needs_openvino
@pytest.mark.parametrize(("device", "dtype"), [("cuda", None), ("cpu", "float16")])
def test_what_openvino_cannot_do_is_one_sentence(device: str, dtype: str | None) -> None:
    with pytest.raises(UsageError, match=r"float32 or bfloat16; set speed\.device to cpu"):
        list_runtimes(device, "openvino", dtype)


def test_half_precision_and_other_devices_leave_torch_alone() -> None:
    assert list_runtimes("cpu", None, "float16") == [Runtime("torch", "float16")]
    assert list_runtimes("mps", None, None) == [TORCH]
    assert all(runtime.dtype == "float32" for runtime in list_runtimes("cpu", None, "float32"))


def fake_timing(monkeypatch: pytest.MonkeyPatch, seconds: dict[str, float]) -> list[str]:
    """Give every runtime these seconds per batch; the list grows by each runtime that is timed."""
    timed: list[str] = []

    def time_batch(session: runtimes.RuntimeSession, sample: Features) -> float:
        timed.append(str(session.runtime))
        return seconds[str(session.runtime)]

    monkeypatch.setattr(runtimes, "_time_batch", time_batch)
    return timed


HALF = Runtime("torch", "bfloat16")


class PlainModule(torch.nn.Module):
    """A first module without a model library: an embedding and a linear layer."""

    def __init__(self) -> None:
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(0)
            self.words, self.layer = torch.nn.Embedding(30, 8), torch.nn.Linear(8, 8)

    def forward(self, features: Features) -> Features:
        return {**features, "token_embeddings": self.layer(self.words(features["input_ids"]))}


class InputDependentLoop(PlainModule):
    """The input decides the number of steps; a trace freezes the number of its example."""

    def forward(self, features: Features) -> Features:
        states = self.words(features["input_ids"])
        for _ in range(int(features["attention_mask"].sum()) % 7):
            states = torch.tanh(self.layer(states)) * 3
        return {**features, "token_embeddings": states}


class Untraceable(PlainModule):
    """Fails when it is traced."""

    def forward(self, features: Features) -> Features:
        if torch.jit.is_tracing():
            raise RuntimeError("no trace of me")
        return super().forward(features)


def make_features(lengths: tuple[int, ...] = (3, 9, 5, 9, 2, 7)) -> Features:
    columns = torch.arange(max(lengths))
    mask = (columns < torch.tensor(lengths)[:, None]).long()
    return {"input_ids": (columns * 3 + torch.arange(len(lengths))[:, None]) % 30 * mask, "attention_mask": mask}


@pytest.mark.parametrize(("torch_seconds", "half_seconds", "best"), [(1.0, 2.0, TORCH), (2.0, 1.0, HALF)])
def test_the_faster_one_is_taken_and_kept(
    torch_seconds: float, half_seconds: float, best: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    timed = fake_timing(monkeypatch, {str(TORCH): torch_seconds, str(HALF): half_seconds})
    for _ in range(2):
        assert open_fastest_runtime(PlainModule(), make_features(), [TORCH, HALF], "a model").runtime == best
    assert timed == [str(TORCH), str(HALF)]  # the second time nothing is measured
    open_fastest_runtime(PlainModule(), make_features(), [TORCH, HALF], "another model")
    assert len(timed) == 4
    choices = json.loads((model_cache_folder() / "embedder-runtimes.json").read_text(encoding="utf-8"))
    assert len(choices) == 2 and set(choices.values()) == {str(best)}


@pytest.mark.parametrize("damage", ["", "{", "[]", '{"a": 1}', "\udcff"])
def test_a_damaged_file_of_choices_is_measured_again(damage: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model_cache_folder().mkdir(parents=True)
    (model_cache_folder() / "embedder-runtimes.json").write_bytes(damage.encode(errors="surrogateescape"))
    fake_timing(monkeypatch, {str(TORCH): 1.0, str(HALF): 2.0})
    assert open_fastest_runtime(PlainModule(), make_features(), [TORCH, HALF], "a model").runtime == TORCH


def test_a_cache_folder_that_cannot_be_written_stops_nothing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("PRETEXT_HOME", str(tmp_path / "file"))
    timed = fake_timing(monkeypatch, {str(TORCH): 1.0, str(HALF): 2.0})
    for _ in range(2):
        assert open_fastest_runtime(PlainModule(), make_features(), [TORCH, HALF], "a model").runtime == TORCH
    assert len(timed) == 4


def test_what_is_measured_are_seconds() -> None:
    assert (
        0
        < runtimes._time_batch(
            open_fastest_runtime(PlainModule(), make_features(), [TORCH], "a model"), make_features()
        )
        < 10
    )


@needs_openvino
@pytest.mark.parametrize(
    ("module", "reason"), [(InputDependentLoop, "results differ"), (Untraceable, "no trace of me")]
)
def test_a_module_that_cannot_be_converted_stays_on_torch(
    module: type[PlainModule], reason: str, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, logger="pretext"):
        assert open_fastest_runtime(module(), make_features(), [TORCH, OPENVINO], "a model").runtime == TORCH
    assert reason in caplog.text
    with pytest.raises(ModelError, match=r"set speed\.embed_runtime to torch"):
        open_fastest_runtime(module(), make_features(), [OPENVINO], "a model")


@needs_openvino
def test_openvino_computes_what_torch_computes_for_every_shape() -> None:
    module = PlainModule()
    session = open_fastest_runtime(module, make_features(), [OPENVINO], "a model")
    batches = [make_features(lengths) for lengths in ((1,), (4, 4), (2, 30), tuple(range(1, 20)))] * 3
    for batch, output in zip(batches, session.run_all(batches), strict=True):
        assert set(output) == {"input_ids", "attention_mask", "token_embeddings"}
        torch.testing.assert_close(output["token_embeddings"], module(batch)["token_embeddings"], atol=1e-5, rtol=1e-5)


@needs_openvino
@pytest.mark.parametrize(("dtype", "least", "mean"), [("float32", 0.99999, 0.999999), ("bfloat16", 0.996, 0.9999)])
def test_the_embedder_that_is_installed_with_the_program(dtype: str, least: float, mean: float) -> None:
    plain = SentenceTransformer(str(resolve_embedder("embedded")), device="cpu")
    plain.max_seq_length = 64
    texts = [*TEXTS, *SAMPLE_TEXTS, "", "😀", "مرحبا بالعالم", "x" * 5000]
    cosines = (plain.encode(texts) * SentenceEmbedder("embedded", 64, 128, "cpu", dtype, "openvino")(texts)).sum(1)
    assert cosines.min() >= least and cosines.mean() >= mean


@needs_openvino
def test_nobody_is_told_that_a_model_was_converted(monkeypatch: pytest.MonkeyPatch) -> None:
    import openvino_telemetry

    def called(*arguments: Any, **options: Any) -> None:
        raise AssertionError("OpenVINO's telemetry was started")

    monkeypatch.setattr(openvino_telemetry.Telemetry, "__init__", called)
    assert SentenceEmbedder("embedded", 64, 128, "cpu", "float32", "openvino")(["a text"]).shape == (1, 384)


def test_nothing_of_the_texts_is_logged(caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]) -> None:
    embed = SentenceEmbedder("embedded", 64, 64, "cpu")
    caplog.clear()
    with caplog.at_level(logging.DEBUG, logger="pretext"):
        assert np.isfinite(embed(["zqxj-unique-secret"] * 3 + TEXTS)).all()
    assert caplog.records == [] and capfd.readouterr() == ("", "")
