"""The whole audit of a configuration's guarantee, and what it says to people."""

from __future__ import annotations

import tempfile
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pretext.audit.finding import ACCUSATION_CONFIDENCE, BOUND_CONFIDENCE, Finding
from pretext.audit.release_path import attack_releases, count_games
from pretext.audit.whole_runs import Workshop, attack_runs
from pretext.config.resolve import resolve
from pretext.config.settings import Config
from pretext.files import replace_nonfinite
from pretext.jobs.parts import ModelPair
from pretext.progress import show_progress
from privacy import Ledger
from privacy.rounding import round_up

MEANING = (
    "A lower bound says how much of epsilon an attack has shown to be there, with 95 % confidence on each line; on a "
    "correct program one line in twenty may stand above the claim by chance. ABOVE THE CLAIM is said only where "
    "chance is ruled out (one false accusation in a million audits): then the program has a defect, and nothing more "
    "should be released. A bound below the claim is no proof of privacy: a better attack may exist. The proof is in "
    "PRIVACY.md; this audit looks for mistakes in the program. Only invented clients were attacked: no private file "
    "was opened, and no budget was charged."
)
_MEMORY = Path("/dev/shm")  # noqa: S108  # invented data only; a ledger is a hundred times faster where nothing spins


@dataclass(frozen=True)
class Audit:
    """What all attacks found."""

    config: Config
    findings: list[Finding]

    @property
    def is_refuted(self) -> bool:
        """Whether any attack refutes the claim."""
        return any(finding.certain > finding.claim for finding in self.findings)

    def format_audit(self) -> str:
        """A table, and what it means."""
        privacy = self.config.privacy
        width = max(len(finding.attack) for finding in self.findings)
        methods = max(len(finding.method) for finding in self.findings)
        head = (
            f"{'attack':<{width}}  {'method':<{methods}}  {'games':>7}  {'epsilon at least':>16}  {'claim':>8}  verdict"
        )
        rows = [
            f"{finding.attack:<{width}}  {finding.method:<{methods}}  {finding.trials:>7,}  "
            f"{finding.bound_text:>16}  {round_up(finding.claim):>8}  {finding.verdict}"
            for finding in self.findings
        ]
        guarantee = (
            f"Attacked: {privacy.rounds} rounds, delta {privacy.delta:g}, unit client, relation "
            f"{privacy.relation.value}, all by the program's own code"
        )
        return "\n".join([guarantee, "", head, *rows, "", *textwrap.wrap(MEANING, 100)])

    def as_json(self) -> dict[str, Any]:
        """The same for programs; null is a bound that no finite epsilon keeps."""
        privacy = self.config.privacy
        return {
            "delta": privacy.delta,
            "unit": "client",
            "relation": privacy.relation.value,
            "rounds": privacy.rounds,
            "confidence": BOUND_CONFIDENCE,
            "confidence_of_an_accusation": ACCUSATION_CONFIDENCE,
            "findings": [
                replace_nonfinite(asdict(finding) | {"verdict": finding.verdict}) for finding in self.findings
            ],
            "exceeded": self.is_refuted,
            "meaning": MEANING,
        }


def default_config() -> Config:
    """What is attacked when nothing is named."""
    return resolve(
        settings={
            "privacy": {"epsilon": 4.0, "delta": 1e-5, "rounds": 4},
            "initial": {"prompts": ["Short notes about things at home."]},
        }
    )


def run_audit(config: Config, *, games: int, runs: int, models: ModelPair | None = None) -> Audit:
    """Attack the release path and whole runs at a configuration's guarantee.

    Args:
        config: its privacy section is what is attacked; its data are not looked at.
        games: of each attack on the release path, about.
        runs: whole runs, so many honest ones and so many of a hostile server's; 0 leaves them out.
        models: generator and embedder for the runs; default: a scripted and a hashing one, fast.

    Raises:
        PretextError, PrivacyError: as the main job.
    """
    findings: list[Finding] = []
    with make_scratch_folder() as folder:
        ledger = Ledger(folder / "ledger.sqlite")
        with show_progress("Attacking the release path", count_games(config, games)) as advance:
            findings += attack_releases(config, ledger, games, advance)
        if runs:
            with show_progress("Attacking whole runs", 2 * runs) as advance:
                findings += attack_runs(Workshop.of(config, folder, ledger, models), runs, advance)
    return Audit(config, findings)


@contextmanager
def make_scratch_folder() -> Iterator[Path]:
    """A folder that goes away again, in memory where there is such a place."""
    place = _MEMORY if _MEMORY.is_dir() else None
    try:
        made = tempfile.TemporaryDirectory(prefix="pretext-audit-", dir=place)
    except OSError:
        made = tempfile.TemporaryDirectory(prefix="pretext-audit-")
    with made as folder:
        yield Path(folder)
