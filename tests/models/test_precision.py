from __future__ import annotations

import itertools

import pytest
import torch

from pretext.models import precision
from pretext.models.precision import choose_dtype


def test_preferred_dtype():
    assert choose_dtype("cpu") == choose_dtype("cpu") in ("float32", "bfloat16")
    assert choose_dtype("mps") == "float32"


@pytest.mark.parametrize(("bfloat16", "expected"), [(0.5, "bfloat16"), (0.9, "float32"), (5.0, "float32")])
def test_bfloat16_has_to_win_clearly(monkeypatch, bfloat16, expected):
    seconds = {"torch.bfloat16": bfloat16, "torch.float32": 1.0}
    monkeypatch.setattr(precision, "_time_product", lambda dtype, width, inner: seconds[str(dtype)])
    assert choose_dtype.__wrapped__("cpu") == expected


def test_the_measurement_is_of_the_models_shapes_and_short(monkeypatch):
    shapes, product, clock = [], torch.nn.functional.linear, itertools.count()
    monkeypatch.setattr(precision.time, "perf_counter", lambda: next(clock) * precision._MAX_SECONDS)

    def record_shapes(tokens, weights):
        shapes.append((tuple(tokens.shape), tuple(weights.shape), tokens.dtype))
        return product(tokens, weights)

    monkeypatch.setattr(torch.nn.functional, "linear", record_shapes)
    assert precision._time_product(torch.float32, 576, 1536) == pytest.approx(precision._MAX_SECONDS)
    assert shapes == [((512, 576), (1536, 576), torch.float32)] * 2  # so slow that two have to do
    precision._time_product(torch.float32, 16384, 65536)
    assert shapes[-1][1] == (4096, 1024)
