"""The methods' settings: what each differs in, and what all share."""

from __future__ import annotations

from pathlib import Path

import pytest
from comparison.domains import DOMAINS
from comparison.methods import METHODS_WITH_RELEASES, METHODS_WITHOUT_RELEASES, Scale, config_of, cost_of, setting_of

from pretext.config.resolve import compare_configs, resolve
from pretext.config.settings import Config
from pretext.jobs.plan import make_plan

SCALE = Scale(population=128, rounds=4, pool=100, texts=600, tokens=32, texts_per_client=8, delta=3e-6)


def make_config(method: str, epsilon: float = 1.29, scale: Scale = SCALE) -> Config:
    return config_of(method, epsilon, 0, scale, DOMAINS["irc_ubuntu"], "public.jsonl", "irc_ubuntu", 1000)


@pytest.mark.parametrize("method", METHODS_WITH_RELEASES)
def test_every_method_keeps_the_budget(method: str) -> None:
    plan = make_plan(make_config(method))
    assert 1.28 < plan.epsilon <= 1.29
    assert make_config(method).privacy.relation.value == "add/remove"


def test_the_papers_setting_is_the_preset_but_for_what_the_machine_forbids() -> None:
    preset = resolve(settings={"preset": "icml2024", "privacy": {"epsilon": 1.29}})
    changed = set(compare_configs(make_config("pretext-icml24"), preset))
    assert changed == {
        "data.client_column", "evolution.lookahead", "evolution.population", "expansion.max_tokens", "expansion.texts",
        "initial.subset", "initial.texts", "models.embedder", "models.generator", "privacy.clients", "privacy.dataset",
        "variation.kind", "variation.max_tokens",
    }  # fmt: skip
    assert make_config("pretext-icml24").privacy.rounds == 11


def test_at_k_8_its_noise_is_the_papers() -> None:
    """11 rounds at epsilon 1.29: multiplier 10.4857 by the exact curve, so 83.9 votes at sensitivity 8."""
    plan = make_plan(make_config("pretext-icml24"))
    assert plan.noise_multiplier == pytest.approx(10.4857, abs=1e-3)
    assert plan.sigma == pytest.approx(8 * 10.4857, rel=1e-4)


def test_a_masked_model_brings_mask_fill_and_lookahead_back(tmp_path: Path) -> None:
    config = make_config("pretext-icml24", scale=Scale(128, 4, 100, 600, 32, 8, 3e-6, masked=str(tmp_path)))
    assert (config.variation.kind, config.evolution.lookahead) == ("mask-fill", 4)
    assert config.models.masked == str(tmp_path)


def test_aug_pe_rewrites_ranks_and_gives_each_text_a_full_vote() -> None:
    config = make_config("aug-pe")
    assert (config.variation.kind, config.evolution.selection, config.evolution.threshold) == ("rewrite", "rank", 0.0)
    assert config.privacy.norm_squared == 64
    assert config.initial.texts is None


def test_the_votes_are_those_of_the_default_settings() -> None:
    changed = compare_configs(
        make_config("votes"), resolve(settings={"privacy": {"epsilon": 1.29}, "initial": {"texts": "-"}})
    )
    assert not any(name.startswith("evolution.") for name in changed if name != "evolution.population")


def test_a_profile_is_asked_once_and_its_features_are_as_many_as_clients_and_epsilon_tell_from_noise() -> None:
    few, many = make_config("profile", 0.5), make_config("profile", 2.0)
    assert (few.privacy.release, few.privacy.rounds) == ("profile", 1)
    assert few.profile_features < many.profile_features
    (rounds, cost), (_, dearer) = cost_of("profile", few, SCALE), cost_of("profile", many, SCALE)
    assert rounds == 1
    assert cost.bytes_up == 8 * (few.profile_features + few.profile.clusters)
    assert dearer.bytes_down > cost.bytes_down


@pytest.mark.parametrize("method", METHODS_WITHOUT_RELEASES)
def test_methods_without_a_vote_ask_nobody(method: str) -> None:
    rounds, cost = cost_of(method, make_config(method), SCALE)
    assert (rounds, cost.flops, cost.bytes_up, cost.bytes_down) == (0, 0.0, 0, 0)
    assert "rounds" not in setting_of(method, SCALE)
