"""The dataset card: README.md with Hugging Face's header, so that `datasets.load_dataset(folder)` loads the synthetic
texts and nothing else of the run folder, and whoever finds the folder reads what it promises.
"""

from __future__ import annotations

from typing import Any

from pretext.config.settings import Config
from pretext.report import wording as words
from pretext.report.page import make_template_environment
from pretext.run.folder import Run

CARD = "README.md"
_TAGS = ["synthetic", "differential-privacy", "pretext"]


def write_card(config: Config, run: Run) -> None:
    """Write the run folder's card anew. Raises RunFolderError if it cannot be written, or the folder is damaged."""
    place = f"synthetic.{config.expansion.format}"
    if config.expansion.shard_texts is not None:
        place = f"synthetic/*.{config.expansion.format}"
    run.write(CARD, render_card(config, run, place, 'datasets.load_dataset("FOLDER")'))


def render_card(config: Config, run: Run, data_files: str, loading: str) -> str:
    """The text of a card.

    Args:
        config: of the run.
        run: its folder.
        data_files: where the texts are, relative to the card.
        loading: how they are loaded, for the reader.
    """
    texts = int((run.load("expansion.json") or {}).get("kept", 0))
    body = (
        make_template_environment()
        .get_template("card.md.j2")
        .render(
            config=config,
            run=run,
            version=(run.load("run.json") or {}).get("pretext"),
            privacy=run.load("privacy.json"),
            texts=texts,
            loading=loading,
            words=words,
        )
    )
    return f"---\n{_render_header(config, texts, data_files)}\n---\n\n{body}"


def _render_header(config: Config, texts: int, data_files: str) -> str:
    from huggingface_hub import DatasetCardData

    files: list[dict[str, Any]] = [{"split": "train", "path": data_files}]
    return DatasetCardData(
        license=config.card.license,
        language=list(config.card.languages) or None,
        tags=_TAGS,
        size_categories=[words.size_category(texts)],
        task_categories=["text-generation"],
        configs=[{"config_name": "default", "data_files": files}],
    ).to_yaml()
