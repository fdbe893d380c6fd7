"""Tell what an adapted generator is: the record beside its weights, and whether it belongs to a generator."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final, Literal

from pydantic import TypeAdapter, ValidationError

from pretext.config.settings import Models
from pretext.errors import ModelError
from pretext.files import replace_nonfinite, write_atomically
from pretext.models.sources import resolve_generator

RECORD_FILE: Final = "adaptation.json"
_ADAPTER_SETTINGS = "adapter_config.json"
_WEIGHTS = ("*.safetensors", "pytorch_model*.bin")


@dataclass(frozen=True)
class PassLosses:
    """What a pass over the examples achieved, in nats per token of the answers; None: not a finite number.

    Attributes:
        training: mean over the pass, while the weights changed.
        held_out: after the pass, on examples that it never saw.
        judgment: of the caller; smaller is better. None where nobody judges.
    """

    training: float | None
    held_out: float | None
    judgment: float | None = None


@dataclass(frozen=True)
class AdapterRecord:
    """How a generator was adapted.

    Attributes:
        method: lora (an adapter) or full (a whole model).
        generator: name of the model that was adapted.
        generator_digest: of its weights, see `digest_weights`.
        rank: of the adapter; without meaning for a whole model.
        passes, learning_rate, batch_size: as in `settings.Adapt`.
        seed: of the first weights and the order of the examples.
        examples, held_out: how many there were.
        start: loss on the held-out examples before the first pass, in nats per token.
        losses: of each pass.
        best: number of the pass, from 1, whose weights were kept.
        digest: of these weights.
    """

    method: Literal["lora", "full"]
    generator: str
    generator_digest: str
    rank: int
    passes: int
    learning_rate: float
    batch_size: int
    seed: int
    examples: int
    held_out: int
    start: float | None
    losses: tuple[PassLosses, ...]
    best: int
    digest: str

    @property
    def lowered_loss(self) -> bool:
        """Whether the generator predicts the held-out examples better than before."""
        best = self.losses[self.best - 1].held_out
        return best is not None and self.start is not None and best < self.start


_RECORD = TypeAdapter(AdapterRecord)


def save_record(folder: Path, record: AdapterRecord) -> None:
    """Write the record beside the weights."""
    write_atomically(folder / RECORD_FILE, json.dumps(replace_nonfinite(asdict(record)), indent=2) + "\n")


def load_record(folder: Path) -> AdapterRecord | None:
    """Read the record of an adapted generator; None where there is none.

    Raises:
        ModelError: it is damaged.
    """
    try:
        return _RECORD.validate_json((folder / RECORD_FILE).read_bytes())
    except FileNotFoundError:
        return None
    except (OSError, ValidationError):
        raise ModelError(
            f"{folder / RECORD_FILE} cannot be read; delete the folder {str(folder)!r} and adapt the generator again."
        ) from None


def digest_weights(folder: Path) -> str:
    """Return the SHA-256 digest of the weight files of a model or adapter, names included, in hexadecimal digits."""
    whole = hashlib.sha256()
    for path in sorted({path for pattern in _WEIGHTS for path in folder.glob(pattern)}):
        with path.open("rb") as file:
            whole.update(f"{path.name} {hashlib.file_digest(file, 'sha256').hexdigest()}\n".encode())
    return whole.hexdigest()


def find_model_folder(name: str) -> Path | None:
    """Find the folder that holds a generator's weights here; None for a hub model that is not on this machine.

    Raises:
        ModelError: as `resolve_generator`.
    """
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    source = resolve_generator(name)
    if isinstance(source, Path):
        return source
    try:
        folder = Path(snapshot_download(source, local_files_only=True))
    except (LocalEntryNotFoundError, HfHubHTTPError, HFValidationError):
        return None
    return folder if any(path for pattern in _WEIGHTS for path in folder.glob(pattern)) else None


def resolve_adapter(name: str, generator: str) -> Path | str:
    """Return the folder of a LoRA adapter for the generator, or its Hugging Face name.

    An adapter with a record is compared with it, and its generator with the one to be used. An adapter without one
    comes from elsewhere; loading it will show whether its shapes fit.

    Raises:
        ModelError: the folder holds no adapter, a whole model, other weights than were trained, or an adapter of
            another generator.
    """
    folder = Path(name).expanduser()
    if not folder.is_dir():
        return name
    record = load_record(folder)
    if record is not None and record.method == "full":
        raise ModelError(
            f"The folder {name!r} holds a whole model, not a LoRA adapter; name it as models.generator, and leave "
            "models.adapter out."
        )
    if not (folder / _ADAPTER_SETTINGS).is_file():
        raise ModelError(
            f"The folder {name!r} holds no LoRA adapter (no {_ADAPTER_SETTINGS}); name the folder that "
            "`save_pretrained` of an adapter wrote, or leave models.adapter out."
        )
    if record is not None:
        _check_record(name, folder, record, generator)
    return folder


def use_adapted(models: Models, folder: Path) -> Models:
    """Return the settings of the models with the adapted generator of a folder in place of the generator.

    Raises:
        ModelError: the folder holds no adapted generator, or a damaged one.
    """
    record = load_record(folder)
    if record is None:
        raise ModelError(f"The folder {str(folder)!r} holds no adapted generator; adapt the generator again.")
    changed = {"adapter": str(folder)} if record.method == "lora" else {"generator": str(folder), "adapter": None}
    return models.model_copy(update=changed)


def _check_record(name: str, folder: Path, record: AdapterRecord, generator: str) -> None:
    if digest_weights(folder) != record.digest:
        raise ModelError(
            f"The weights of the adapter {name!r} are not those that were trained; delete the folder and adapt the "
            "generator again."
        )
    model = find_model_folder(generator)
    if model is not None and digest_weights(model) != record.generator_digest:
        raise ModelError(
            f"The adapter {name!r} belongs to the generator {record.generator!r} and not to {generator!r}, whose "
            "weights are others; name that generator, or adapt this one."
        )
