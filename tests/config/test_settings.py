"""Layers of settings: what is refused, which layer wins, what survives a round trip."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path
from typing import Any

import pytest
import tomlkit
from hypothesis import given, settings
from hypothesis import strategies as st

from pretext.config.presets import PRESETS
from pretext.config.resolve import compare_configs, dump_settings, resolve, validate_settings
from pretext.config.settings import Config
from pretext.errors import UsageError

BASE: dict[str, Any] = {"privacy": {"epsilon": 1.0}, "initial": {"prompts": ["Short notes."]}}


def small(*overrides: str) -> Config:
    return resolve(overrides=overrides, defaults=BASE)


def refused(*overrides: str) -> str:
    with pytest.raises(UsageError) as caught:
        small(*overrides)
    message = str(caught.value)
    assert caught.value.exit_code == 2
    assert message.rstrip("?").endswith((".", *"abcdefghijklmnopqrstuvwxyz")) and "\n" not in message
    return message


@pytest.mark.parametrize(
    ("override", "neighbor"),
    [
        ("evoluton.population=3", "evolution"),
        ("evolution.populaton=3", "evolution.population"),
        ("privacy.epsilom=1", "privacy.epsilon"),
        ("privacy.noise_multiplyer=1", "privacy.noise_multiplier"),
        ("data.client_colum=id", "data.client_column"),
        ("speed.batchsize=1", "speed.batch_size"),
    ],
)
def test_an_unknown_key_names_its_nearest_neighbor(override: str, neighbor: str) -> None:
    assert refused(override).endswith(f" {neighbor}?")


def test_an_unknown_key_without_a_neighbor_lists_what_is_allowed() -> None:
    assert "preset, data, privacy" in refused("zzz=1")
    assert "epsilon, noise_multiplier" in refused("privacy.zzzzzz=1")


@pytest.mark.parametrize("value", ["0", "-1", "nan", "inf", "-inf", "lots", "[1]"])
@pytest.mark.parametrize("name", ["epsilon", "noise_multiplier", "vote_norm", "budget_epsilon"])
def test_what_must_be_positive_and_finite_is(name: str, value: str) -> None:
    assert f"privacy.{name} is" in refused(f"privacy.{name}={value}")


@pytest.mark.parametrize("value", ["0", "1", "1.5", "-0.1", "nan", "small"])
def test_delta_lies_between_zero_and_one(value: str) -> None:
    assert "privacy.delta is" in refused(f"privacy.delta={value}")


@pytest.mark.parametrize(
    ("override", "named"),
    [
        ("privacy.rounds=0", "privacy.rounds"),
        ("privacy.max_texts_per_client=0", "privacy.max_texts_per_client"),
        ("privacy.relation=swap", "privacy.relation"),
        ("evolution.population=1", "evolution.population"),
        ("evolution.population=1.5", "evolution.population"),
        ("evolution.kept_parents=1", "evolution.kept_parents"),
        ("variation.kind=dream", "variation.kind"),
        ("expansion.temperature=-1", "expansion.temperature"),
        ("expansion.top_p=0", "expansion.top_p"),
        ("screening.min_words=200", "min_words"),
        ("privacy=1", "privacy"),
        ("data.labels=a", "data.labels"),
        ("speed.dtype=float99", "speed.dtype"),
    ],
)
def test_a_value_out_of_range_is_named(override: str, named: str) -> None:
    assert named in refused(override)


def test_one_target_is_needed() -> None:
    with pytest.raises(UsageError, match=r"privacy\.epsilon"):
        resolve(settings={"initial": {"prompts": ["x"]}})
    with pytest.raises(UsageError, match="noise_multiplier"):
        resolve(settings={"privacy": {"rounds": 3}, "initial": {"prompts": ["x"]}})


def test_both_targets_in_one_layer_contradict_each_other(tmp_path: Path) -> None:
    both = {**BASE, "privacy": {"epsilon": 1.0, "noise_multiplier": 2.0}}
    with pytest.raises(UsageError, match="noise_multiplier"):
        resolve(settings=both)
    (tmp_path / "both.toml").write_text(tomlkit.dumps(both), encoding="utf-8")
    with pytest.raises(UsageError, match="noise_multiplier"):
        resolve(tmp_path / "both.toml")
    # A wrong guess here would spend a budget that nobody named.
    assert "noise_multiplier" in refused("privacy.epsilon=1", "privacy.noise_multiplier=2")


def test_a_target_takes_away_the_other_one_of_a_lower_layer(tmp_path: Path) -> None:
    file = tmp_path / "run.toml"
    file.write_text("[privacy]\nnoise_multiplier = 3.0\n", encoding="utf-8")
    assert resolve(overrides=["preset=icml2024", "privacy.epsilon=2"]).privacy.noise_multiplier is None
    assert resolve(file, defaults=BASE).privacy.epsilon is None
    assert resolve(file, ["privacy.epsilon=2"], defaults=BASE).privacy.noise_multiplier is None
    assert resolve(file, settings=BASE).privacy.epsilon == 1.0


def test_later_layers_win(tmp_path: Path) -> None:
    file = tmp_path / "run.toml"
    layers: list[dict[str, Any]] = [{"delta": 1e-3}, {"delta": 1e-4}, {"delta": 1e-5}]
    file.write_text(tomlkit.dumps({"privacy": layers[1]}), encoding="utf-8")
    lower = {"preset": "icml2024", "privacy": layers[0]}
    assert resolve(overrides=["preset=icml2024"]).privacy.delta == 3e-6
    assert resolve(defaults=lower).privacy.delta == 1e-3
    assert resolve(file, defaults=lower).privacy.delta == 1e-4
    assert resolve(file, defaults=lower, settings={"privacy": layers[2]}).privacy.delta == 1e-5
    highest = resolve(file, ["privacy.delta=1e-7"], defaults=lower, settings={"privacy": layers[2]})
    assert highest.privacy.delta == 1e-7
    # What no layer names comes from the preset, and what that does not name from the defaults.
    assert highest.privacy.rounds == 11 and highest.screening.max_words == 150


def test_the_highest_layer_names_the_preset() -> None:
    config = resolve(settings={"preset": "icml2024"}, defaults={**BASE, "preset": "default"})
    assert config.preset == "icml2024" and config.evolution.population == 1024


@pytest.mark.parametrize("preset", ["paper", 3, [1], {"a": 1}])
def test_an_unknown_preset_is_a_usage_error(preset: Any) -> None:
    with pytest.raises(UsageError, match="default"):
        resolve(settings={**BASE, "preset": preset})


def test_resolving_leaves_the_presets_alone() -> None:
    before = repr(PRESETS)
    resolve(overrides=["preset=icml2024", "privacy.epsilon=1", "models.generator=x"])
    assert repr(PRESETS) == before


def test_set_without_a_value_shows_how_to_write_it() -> None:
    assert "section.key=value" in refused("privacy.epsilon")


@pytest.mark.parametrize(
    ("override", "value"),
    [
        ("data.text_column=/data/my notes.csv", "/data/my notes.csv"),
        ("data.text_column='7.csv'", "7.csv"),
        ("data.text_column=a=b.csv", "a=b.csv"),
        ("data.text_column=hash#tag.csv", "hash#tag.csv"),
        ("data.text_column=", ""),
        ("data.text_column=C:\\notes.csv", "C:\\notes.csv"),
    ],
)
def test_set_takes_what_is_not_toml_as_a_string(override: str, value: str) -> None:
    assert small(override).data.text_column == value


def test_set_reads_toml_and_nests() -> None:
    config = small("data.labels=['a', 'b']", "privacy.normalize_votes=true", "data.label_column=kind")
    assert config.data.labels == ("a", "b") and config.privacy.normalize_votes and config.data.label_column == "kind"
    assert small("privacy.rounds=3", "privacy.rounds=4").privacy.rounds == 4


def test_labels_are_listed_and_differ() -> None:
    assert "label_column" in refused("data.label_column=kind")
    assert "twice" in refused("data.label_column=kind", "data.labels=['a','a']")
    assert "evolution.population" in refused(
        "data.label_column=kind", "data.labels=['a','b','c']", "evolution.population=2"
    )


def test_some_seeds_must_come_from_a_round() -> None:
    assert "seeds_from_round is 8" in refused("evolution.seeds_from_round=8")
    assert small("evolution.seeds_from_round=7").seed_rounds == range(7, 8)
    assert small().seed_rounds == range(3, 8)
    assert small("privacy.rounds=1").seed_rounds == range(1)


@pytest.mark.parametrize("value", ["-1", "-0.001", "nan", "inf", "high"])
def test_the_threshold_is_finite_and_not_negative(value: str) -> None:
    assert "evolution.threshold" in refused(f"evolution.threshold={value}")


def test_the_threshold_may_be_nothing() -> None:
    assert small("evolution.threshold=0").evolution.threshold == 0


def test_what_prompts_say_of_the_texts() -> None:
    described = small("initial.prompts=['Notes of a nurse.']")
    assert (described.prompt_style.about(0), small("initial.prompts=['a', 'b']").prompt_style.about(0)) == (
        "Notes of a nurse.",
        None,
    )
    labeled = small("initial.prompts=['a']", "data.labels=['x', 'y']", "data.label_column=kind")
    assert [labeled.prompt_style.about(0), labeled.prompt_style.about(1)] == ["x", "y"]
    refusal = refused("initial.examples=['invented']", "initial.prompts=[]", "initial.texts=public.jsonl")
    assert "examples" in refusal and "prompts" in refusal


def test_the_initial_population_has_a_source() -> None:
    with pytest.raises(UsageError, match=r"texts .* prompts .* public_sets"):
        resolve(settings={"privacy": {"epsilon": 1.0}})


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    for path in (tmp_path / "none.toml", tmp_path):
        with pytest.raises(UsageError, match=re.escape(str(path))):
            resolve(path)
    broken = tmp_path / "broken.toml"
    for content in (b"privacy = [", b"\xff\xfe"):
        broken.write_bytes(content)
        with pytest.raises(UsageError, match=re.escape(str(broken))):
            resolve(broken)


def test_the_paper_s_preset() -> None:
    config = resolve(overrides=["preset=icml2024"])
    privacy, evolution, variation = config.privacy, config.evolution, config.variation
    assert (privacy.rounds, privacy.noise_multiplier, privacy.delta, privacy.epsilon) == (11, 11.3, 3e-6, None)
    assert privacy.vote_norm == 8.0 and privacy.norm_squared == 64 and privacy.max_texts_per_client == 8
    assert (evolution.population, evolution.lookahead, evolution.threshold, evolution.nearest) == (1024, 4, 1.0, 1)
    assert (evolution.selection, evolution.kept_parents) == ("multinomial", 0.0)
    assert (variation.kind, variation.mask_share, variation.mask_passes, variation.max_tokens) == (
        "mask-fill",
        0.3,
        2,
        64,
    )
    assert (config.expansion.texts, config.expansion.max_tokens, config.expansion.top_p) == (2_000_000, 85, 1.0)
    assert config.initial.min_words == 21  # "more than 20 words"
    assert config.screening.min_words == 4  # "more than 3 words"
    models = config.models
    assert all("/" in name for name in (models.generator, models.embedder, models.masked))


def test_the_default_preset_holds_the_square_root_of_the_cap() -> None:
    config = small("privacy.max_texts_per_client=9")
    assert config.privacy.vote_norm is None and config.privacy.norm_squared == 9


@pytest.mark.parametrize("preset", PRESETS)
def test_plain_values_round_trip_through_toml(preset: str) -> None:
    required = BASE if preset != "icml2024" else {}
    config = resolve(
        settings={**required, "preset": preset}, overrides=["data.labels=['é', 'b']", "data.label_column=k"]
    )
    assert validate_settings(tomlkit.parse(tomlkit.dumps(dump_settings(config))).unwrap()) == config
    assert compare_configs(config, validate_settings(dump_settings(config))) == []


@settings(deadline=None)
@given(
    st.floats(1e-9, 1e9),
    st.floats(1e-12, 1, exclude_max=True),
    st.floats(0, 100),
    st.text(st.characters(exclude_categories=["Cs"]), max_size=20),
)
def test_any_settings_round_trip(epsilon: float, delta: float, threshold: float, path: str) -> None:
    tables = {
        "privacy": {"epsilon": epsilon, "delta": delta},
        "evolution": {"threshold": threshold},
        "data": {"path": path},
        "initial": {"prompts": [path]},
    }
    config = validate_settings(tables)
    again = validate_settings(tomlkit.parse(tomlkit.dumps(dump_settings(config))).unwrap())
    assert again == config and math.isclose(again.privacy.delta, delta, rel_tol=0)


def test_differences_ignore_speed() -> None:
    config = small()
    changed = small("speed.engine=openai", "speed.batch_size=1", "privacy.rounds=6", "data.split=test")
    assert compare_configs(config, changed) == ["data.split", "privacy.rounds"]
    assert compare_configs(config, small("speed.chunk=1")) == []
    assert compare_configs(config, small("privacy.clients=5")) == ["privacy.clients"]


def test_labels__numbers_and_truth_values__are_written_down() -> None:
    assert small("data.label_column=k", "data.labels=[0, 1.0, true]").data.labels == ("0", "1", "true")


@pytest.mark.parametrize("labels", ["['1', 1]", "['1.0', '1']", "['a', 'a ']", "['', 'a']", "[1.5, 2]"])
def test_labels__the_same_twice_or_none__is_refused(labels: str) -> None:
    assert "labels" in refused("data.label_column=k", f"data.labels={labels}")


def test_resolve__a_path_in_a_file__belongs_to_the_files_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "conf"
    folder.mkdir()
    for place in (folder, tmp_path):
        (place / "notes.jsonl").touch()
    (folder / "c.toml").write_text(
        'data.path = "notes.jsonl"\nprivacy.epsilon = 1\ninitial.texts = "gone.csv"\nmodels.embedder = "owner/model"\n'
    )
    monkeypatch.chdir(tmp_path)
    config = resolve(Path("conf/c.toml"))
    assert config.data.path == str(folder / "notes.jsonl")
    assert config.initial.texts == str(folder / "gone.csv")
    assert (config.models.embedder, config.models.generator) == ("owner/model", "embedded")
    assert resolve(Path("conf/c.toml"), ["data.path=notes.jsonl"]).data.path == str(tmp_path / "notes.jsonl")


def test_resolve__a_file_with_a_byte_order_mark__is_read(tmp_path: Path) -> None:
    (tmp_path / "c.toml").write_text("privacy.epsilon = 1\ninitial.prompts = ['a']\n", encoding="utf-8-sig")
    assert resolve(tmp_path / "c.toml").privacy.epsilon == 1


ODD_FILES = {
    "nested": b"a = " + b"[" * 5000,
    "a date that is none": b"data.path = 2020-13-99",
    "a huge integer": b"privacy.epsilon = 1" + b"0" * 5000,
    "a NUL": b"\x00",
    "Latin-1": b"initial.prompts = ['caf\xe9']",
    "a section that is none": b"privacy = 3",
    "an escape for half a character": b'initial.prompts = ["\\ud800"]',
    "lists for paths": b"data.path = [1]\ninitial.texts = [[]]\ninitial.public_sets = [2]",
}


@pytest.mark.parametrize("case", ODD_FILES)
def test_resolve__an_odd_file__is_one_usage_error(case: str, tmp_path: Path) -> None:
    (tmp_path / "c.toml").write_bytes(ODD_FILES[case])
    with pytest.raises(UsageError) as caught:
        resolve(tmp_path / "c.toml")
    assert len(str(caught.value)) < 2000


def test_resolve__half_a_character__is_refused() -> None:
    with pytest.raises(UsageError, match=r"initial\.prompts"):
        resolve(settings={"privacy": {"epsilon": 1.0}, "initial": {"prompts": ["caf\udce9"]}})


@pytest.mark.parametrize("name", ["notes ", "no\u200btes", "\nnotes"])
def test_dataset__in_another_spelling__is_the_same_name(name: str) -> None:
    assert small(f"privacy.dataset={json.dumps(name)}").privacy.dataset == "notes"


@pytest.mark.parametrize("name", ["", "  ", "\u202e", "\x00"])
def test_dataset__without_a_name__is_refused(name: str) -> None:
    assert "privacy.dataset" in refused(f"privacy.dataset={json.dumps(name)}")


def test_most_rows__that_nothing_can_count__is_refused() -> None:
    assert "initial.most_rows" in refused("initial.most_rows=99999999999999999999")


@pytest.mark.parametrize("field", ["stream=true", "n=5", "messages=[]", 'model="other"'])
def test_request__that_changes_which_answers_come__is_refused(field: str) -> None:
    assert "speed.request" in refused(f"speed.request={{{field}}}")
