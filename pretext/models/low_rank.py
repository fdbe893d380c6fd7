"""Train, save and load low-rank adapters (LoRA, arXiv 2106.09685) with peft, which only this module imports."""

from __future__ import annotations

import importlib.util
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pretext.errors import ModelError
from pretext.models.sources import explain_model_errors, is_quantized

WEIGHTS_FILE = "adapter_model.safetensors"
_SCALE = 2  # lora_alpha / rank: the same at every rank, so a learning rate suits all of them


def check_low_rank_support() -> None:
    """Raise ModelError if peft is not installed."""
    if importlib.util.find_spec("peft") is None:
        raise ModelError(
            "LoRA adapters need the package peft, which is not installed; run `pip install 'pretext[adapt]'`, or do "
            "without an adapter (models.adapter, adapt.method, --lora)."
        )


def attach_adapter(model: Any, rank: int) -> Any:
    """Freeze a model and put adapters of that rank on all its linear layers but the last; they change nothing yet.

    The adapters have float32 weights, whatever the model has. Their first weights come from torch's global generator.

    Raises:
        ModelError: peft is not installed.
    """
    check_low_rank_support()
    import peft

    settings = peft.LoraConfig(task_type="CAUSAL_LM", r=rank, lora_alpha=_SCALE * rank, target_modules="all-linear")
    with _quiet_peft():
        return peft.get_peft_model(model, settings)


def merge_adapter(learner: Any) -> Any:
    """Return the model with its adapters added to the weights."""
    return learner.merge_and_unload()


def save_adapter(learner: Any, folder: Path, generator: str) -> None:
    """Save adapters as peft and vLLM load them; the folder names the generator and no path of this machine."""
    import peft
    from safetensors.torch import save_file

    settings = learner.peft_config["default"]
    settings.base_model_name_or_path = generator
    settings.inference_mode = True
    settings.target_modules = sorted(settings.target_modules)  # a set has another order in each process
    settings.save_pretrained(str(folder))
    weights = peft.get_peft_model_state_dict(learner, save_embedding_layers=False)
    whole = {name: weight.detach().cpu().contiguous() for name, weight in sorted(weights.items())}
    save_file(whole, folder / WEIGHTS_FILE, metadata={"format": "pt"})


def load_adapter(model: Any, adapter: str) -> Any:
    """Apply an adapter: merged into the weights, which costs nothing later, unless they are quantized.

    Raises:
        ModelError: peft is not installed, or the adapter cannot be read or has another model's shapes.
    """
    check_low_rank_support()
    from peft import PeftModel

    with explain_model_errors(adapter), _quiet_peft():
        adapted: Any = PeftModel.from_pretrained(model, adapter)
        return adapted.eval() if is_quantized(model.config) else adapted.merge_and_unload().eval()


@contextmanager
def _quiet_peft() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # peft uses what transformers will rename
        yield
