"""The dataset card: README.md with Hugging Face's header. With it `datasets.load_dataset(folder)` loads the synthetic
texts and nothing else of the run folder, and whoever finds the folder reads what it promises.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pretext.config.settings import Card
from pretext.report import wording
from pretext.report.page import make_template_environment
from pretext.run.folder import Run

CARD = "README.md"
_TAGS = ["synthetic", "differential-privacy", "pretext"]


def write_card(folder: Path) -> None:
    """Write the run folder's card anew. Raises RunFolderError if it cannot be written, or the folder is damaged."""
    run, config = Run.open(folder)
    files = "synthetic" if config.expansion.shard_texts is None else "synthetic/*"
    run.write(CARD, render_card(folder, f"{files}.{config.expansion.format}", 'datasets.load_dataset("FOLDER")'))


def render_card(folder: Path, data_files: str, loading: str) -> str:
    """Render the text of a card.

    Args:
        folder: the run folder.
        data_files: where the texts are, relative to the card.
        loading: the line of Python that loads them.

    Raises:
        RunFolderError: this is no run folder, or it is damaged.
    """
    run, config = Run.open(folder)
    texts = run.expansion_state().kept
    template = make_template_environment().get_template("card.md.j2")
    body = template.render(config=config, run=run, privacy=run.statement(), texts=texts, loading=loading, words=wording)
    return f"---\n{_render_header(config.card, texts, data_files)}\n---\n\n{body}"


def _render_header(card: Card, texts: int, data_files: str) -> str:
    from huggingface_hub import DatasetCardData

    files: list[dict[str, Any]] = [{"split": "train", "path": data_files}]
    return DatasetCardData(
        license=card.license,
        language=list(card.languages) or None,
        tags=_TAGS,
        size_categories=[wording.size_category(texts)],
        task_categories=["text-generation"],
        configs=[{"config_name": "default", "data_files": files}],
    ).to_yaml()
