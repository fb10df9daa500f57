"""The report of files that could not be used, or not as they were."""

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import NamedTuple


class BadFile(NamedTuple):
    """A file's name within its source, and what is the matter with it."""

    name: str
    reason: str


@dataclass(frozen=True)
class BadFiles:
    """Files left out (``skipped``) and files used after a conversion (``converted``), each with its reason."""

    skipped: tuple[BadFile, ...] = ()
    converted: tuple[BadFile, ...] = ()

    @property
    def counts(self) -> dict[str, int]:
        """How many were ``skipped`` and ``converted``."""
        return {"skipped": len(self.skipped), "converted": len(self.converted)}

    def reasons(self) -> dict[str, dict[str, int]]:
        """Counts per reason, the most frequent first, under ``skipped`` and ``converted``."""
        return {
            "skipped": dict(Counter(file.reason for file in self.skipped).most_common()),
            "converted": dict(Counter(file.reason for file in self.converted).most_common()),
        }

    def summary(self) -> str:
        """One line: how many files were skipped and converted, with the most frequent reason of each."""
        parts = []
        for kind, reasons in self.reasons().items():
            if reasons:
                most = next(iter(reasons))
                parts.append(f"{self.counts[kind]} files {kind} (mostly: {most})")
        return ", ".join(parts) or "no file skipped or converted"

    def save(self, path: Path) -> None:
        """Write the report as JSON to ``path``."""
        report = {"counts": self.counts, "reasons": self.reasons(), **asdict(self)}
        path.write_text(json.dumps(report, indent=1), encoding="utf-8")

    @classmethod
    def load(cls, path: Path) -> "BadFiles":
        """Read a report of :meth:`save`; raises OSError, ValueError, KeyError or TypeError where it is damaged."""
        report = json.loads(path.read_text(encoding="utf-8"))
        return cls(*(tuple(BadFile(*file) for file in report[kind]) for kind in ("skipped", "converted")))


def name_few(files: Sequence[BadFile], few: int = 3) -> str:
    """The first ``few`` files with their reasons, and how many more there are, for one sentence."""
    named = ", ".join(f"'{file.name}' ({file.reason})" for file in files[:few])
    return named + (f" and {len(files) - few} more" if len(files) > few else "")
