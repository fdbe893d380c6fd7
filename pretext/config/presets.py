"""Named starting points. A preset is a layer under the user's own settings."""

from __future__ import annotations

from typing import Any, Final, TypeAlias

Settings: TypeAlias = dict[str, Any]
"""Nested plain values, as in the configuration file."""

PRESETS: Final[dict[str, Settings]] = {
    # The best settings known at equal epsilon: the defaults of `pretext.config.settings`.
    "default": {},
    # One release of what the clients' texts are like; a pool is weighed by it and the generator adapted to the pool.
    "profile": {"privacy": {"release": "profile", "rounds": 1}},
    # The PrE-Text paper's own setting (arXiv 2406.02958), for anyone to repeat. Its sensitivity is k = 8: all votes
    # of a client may fall on one candidate. Its threshold is one standard deviation, k times the noise multiplier.
    "icml2024": {
        "privacy": {
            "noise_multiplier": 11.3,
            "delta": 3e-6,
            "relation": "add/remove",
            "release": "votes",
            "rounds": 11,
            "max_texts_per_client": 8,
            "vote_norm": 8.0,
            "normalize_votes": False,
        },
        "initial": {"texts": "allenai/c4", "subset": "en", "min_words": 21},
        "evolution": {
            "population": 1024,
            "lookahead": 4,
            "nearest": 1,
            "selection": "multinomial",
            "threshold": 1.0,
            "kept_parents": 0.0,
            "seeds_from_round": 0,
            "seed_power": 1.0,
        },
        "variation": {
            "kind": "mask-fill",
            "mask_share": 0.3,
            "mask_passes": 2,
            "masks_per_pass": 1,
            "temperature": 1.0,
            "top_p": 1.0,
            "max_tokens": 64,
        },
        "expansion": {"texts": 2_000_000, "examples": 3, "temperature": 1.0, "top_p": 1.0, "max_tokens": 85},
        "screening": {"min_words": 4, "identifiers": False},
        "models": {
            "generator": "meta-llama/Llama-2-7b-hf",
            "prompt_format": "base",
            "one_paragraph": False,
            "embedder": "sentence-transformers/all-MiniLM-L6-v2",
            "embedder_tokens": 64,
            "masked": "FacebookAI/roberta-large",
        },
        "speed": {"engine": "vllm"},
    },
}
