"""The whole audit of a configuration's guarantee, and its result for people and programs."""

from __future__ import annotations

import json
import tempfile
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from pretext.audit.finding import ACCUSATION_CONFIDENCE, BOUND_CONFIDENCE, Finding
from pretext.audit.joint_noise import attack_joint_noise
from pretext.audit.joint_noise import count_games as count_joint_games
from pretext.audit.origins import Origins
from pretext.audit.raw_rows import attack_moments, compare_raw_rows, count_moment_games
from pretext.audit.release_path import ReleasePath, attack_releases, count_games
from pretext.audit.whole_runs import Workshop, attack_runs
from pretext.config.resolve import resolve
from pretext.config.settings import Config, Privacy
from pretext.files import replace_nonfinite
from pretext.jobs.parts import ModelPair
from pretext.jobs.plan import make_plan
from pretext.progress import show_progress
from privacy import Ledger
from privacy.rounding import round_up

MEANING = (
    "A lower bound is the part of epsilon that an attack has proved, with 95 % confidence on each line; on a correct "
    "program one line in twenty may exceed the claim by chance. ABOVE THE CLAIM is printed only where chance is ruled "
    "out (two false accusations in a million audits at most): then the program has a defect, and you should release "
    "nothing more. A bound below the claim is no proof of privacy: a better attack may exist. The proof is in "
    "PRIVACY.md; this audit looks for mistakes in the program. Only invented clients were attacked: no private file "
    "was opened, and no budget was charged."
)
_MEMORY = Path("/dev/shm")  # noqa: S108  # invented data only; a ledger is a hundred times faster where nothing spins


@dataclass(frozen=True)
class Audit:
    """What all attacks proved.

    Attributes:
        privacy: the settings that were attacked.
        findings: one for each attack.
        origins: of a run folder's candidates; None without a run folder.
    """

    privacy: Privacy
    findings: list[Finding]
    origins: Origins | None = None

    @property
    def is_refuted(self) -> bool:
        """Whether any attack refutes the claim."""
        return any(finding.certain > finding.claim for finding in self.findings)

    @property
    def is_passed(self) -> bool:
        """Whether no attack refutes the claim and no origin is wrong."""
        return not self.is_refuted and not (self.origins and self.origins.wrong)

    def format_audit(self) -> str:
        """Format a table, and say what it means."""
        privacy = self.privacy
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
        lines = [guarantee, "", head, *rows, "", *textwrap.wrap(MEANING, 100)]
        if self.origins is not None:
            lines += ["", f"Origins of the run's candidates: {self.origins.checked}", *self.origins.wrong]
        return "\n".join(lines)

    def to_json(self) -> str:
        """Write the same for programs; null is a bound that no finite epsilon keeps."""
        document = {
            "delta": self.privacy.delta,
            "unit": "client",
            "relation": self.privacy.relation.value,
            "rounds": self.privacy.rounds,
            "confidence": BOUND_CONFIDENCE,
            "confidence_of_an_accusation": ACCUSATION_CONFIDENCE,
            "findings": [asdict(finding) | {"verdict": finding.verdict} for finding in self.findings],
            "exceeded": self.is_refuted,
            "meaning": MEANING,
        }
        if self.origins is not None:
            document["origins"] = asdict(self.origins)
        return json.dumps(replace_nonfinite(document), indent=1)


def default_config() -> Config:
    """Return the configuration that is attacked when none is named."""
    return resolve(
        settings={
            "privacy": {"epsilon": 4.0, "delta": 1e-5, "rounds": 4},
            "initial": {"prompts": ["Short notes about things at home."]},
        }
    )


def run_audit(
    config: Config, *, games: int, runs: int, models: ModelPair | None = None, origins: Origins | None = None
) -> Audit:
    """Attack the clients' side, the release path and whole runs at a configuration's guarantee.

    Args:
        config: its privacy section is attacked; its data are not opened.
        games: of each attack on the release path, about.
        runs: so many whole runs of an honest server, and so many of a hostile one; 0 leaves them out.
        models: generator and embedder for the runs; default: a scripted and a hashing one, fast.
        origins: what `check_run_origins` found, for the result.

    Raises:
        PretextError: as the main job.
    """
    findings: list[Finding] = []
    with make_scratch_folder() as folder:
        ledger = Ledger(folder / "ledger.sqlite")
        path = ReleasePath.of(config.privacy, make_plan(config), ledger)
        findings += compare_raw_rows(config.privacy, path.mechanism)
        total = count_games(games, path.rounds) + count_joint_games(games) + count_moment_games(games)
        with show_progress("Attacking the release path", total) as advance:
            findings += attack_releases(path, games, advance)
            findings.append(attack_joint_noise(path, games, advance))
            findings.append(attack_moments(config.privacy, ledger, games, advance))
        if runs:
            with show_progress("Attacking whole runs", 2 * runs) as advance:
                findings += attack_runs(Workshop.of(config, folder, ledger, models), runs, advance)
    return Audit(config.privacy, findings, origins)


@contextmanager
def make_scratch_folder() -> Iterator[Path]:
    """Make a folder that is deleted when the block ends, in memory where the platform has such a place."""
    try:
        scratch = tempfile.TemporaryDirectory(prefix="pretext-audit-", dir=_MEMORY if _MEMORY.is_dir() else None)
    except OSError:
        scratch = tempfile.TemporaryDirectory(prefix="pretext-audit-")
    with scratch as folder:
        yield Path(folder)
