"""Step-level losses as a plain CSV file that survives kills and resumes."""

import csv
import io
import os
from argparse import Namespace
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pytorch_lightning.loggers import Logger
from pytorch_lightning.utilities import rank_zero_only

from securegan.configuration.types import NonNegativeInt
from securegan.reports.results import X_COLUMN
from securegan.runs.atomic import write_atomically


class CSVLogger(Logger):
    """Appends what Lightning logs to ``steps.csv`` in the run folder, one row a call, against images seen.

    A kill loses at most ``flush_every`` rows and one half-written line, which the next writer removes. A metric seen
    for the first time adds a column, for which the file is replaced as a whole. Only rank zero writes.
    """

    def __init__(self, folder: Path, *, flush_every: NonNegativeInt = 50) -> None:
        """Args:
        folder: the run folder.
        flush_every: rows held in memory at most; 0 writes at the end only.
        """
        super().__init__()
        self.path = Path(folder) / "steps.csv"
        self.flush_every = flush_every
        self._columns: list[str] | None = None  # None until the file has been looked at
        self._pending: list[dict[str, str]] = []
        self._images_seen = "0"

    @property
    def name(self) -> str:
        return "csv"

    @property
    def version(self) -> str:
        return ""

    @property
    def save_dir(self) -> str:
        return str(self.path.parent)

    @property
    def log_dir(self) -> str:
        return str(self.path.parent)

    @rank_zero_only
    def log_hyperparams(self, params: dict[str, Any] | Namespace, *args: Any, **kwargs: Any) -> None:
        """Nothing to do: the run folder's config.yaml holds them."""

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, Any], step: int | None = None) -> None:
        """Add a row. Metrics that come without ``images_seen`` carry the latest one; ``step`` is not used because
        Lightning counts every optimiser's steps.
        """
        if X_COLUMN in metrics:
            self._images_seen = str(int(metrics[X_COLUMN]))
        row = {name: repr(float(value)) for name, value in metrics.items() if name != X_COLUMN}
        if not row:
            return
        self._pending.append({X_COLUMN: self._images_seen, **row})
        if self.flush_every and len(self._pending) >= self.flush_every:
            self.flush()

    def save(self) -> None:
        """Nothing to do: Lightning calls this after every row, ``flush_every`` says when to write."""

    @rank_zero_only
    def finalize(self, status: str) -> None:
        self.flush()

    @rank_zero_only
    def flush(self) -> None:
        """Write the rows held in memory."""
        if not self._pending:
            return
        if self._columns is None:
            self._mend()
        known = self._columns or [X_COLUMN]
        columns = list(dict.fromkeys([*known, *(name for row in self._pending for name in row)]))
        if columns == self._columns:
            with self.path.open("ab") as file:
                file.write(_lines(self._pending, columns))
                file.flush()
                os.fsync(file.fileno())
        else:
            self._rewrite([*self._stored(), *self._pending], columns)
        self._pending.clear()

    @rank_zero_only
    def prune(self, images_seen: int) -> None:
        """Drop the rows after ``images_seen``, which a run resumed from that point writes again."""
        self.flush()
        self._images_seen = str(int(images_seen))
        rows = self._stored()
        kept = [row for row in rows if float(row[X_COLUMN]) <= images_seen]
        if self.path.is_file():
            # Unconditionally, so that a line torn by a kill goes as well.
            self._rewrite(kept, list(rows[0]) if rows else self._header() or [X_COLUMN])

    def _mend(self) -> None:
        """Take over a file of an earlier process, without the line a kill may have torn."""
        header = self._header()
        if not header:
            return
        whole = self._stored()
        content = _lines([dict(zip(header, header, strict=True)), *whole], header)
        if self.path.read_bytes() != content:
            self._replace(content)
        self._columns = header

    def _header(self) -> list[str]:
        """Column names of the file, empty where there is none."""
        if not self.path.is_file():
            return []
        with self.path.open(newline="", encoding="utf-8") as file:
            return next(csv.reader(file), [])

    def _stored(self) -> list[dict[str, str]]:
        """The whole rows of the file: a line without its end was torn by a kill and counts as unwritten."""
        if not self.path.is_file():
            return []
        text = self.path.read_text(encoding="utf-8", errors="replace")
        lines = list(csv.reader(io.StringIO(text[: text.rfind("\n") + 1], newline="")))
        header, *rows = lines or [[]]
        return [dict(zip(header, row, strict=True)) for row in rows if len(row) == len(header) and row[0]]

    def _rewrite(self, rows: list[dict[str, str]], columns: list[str]) -> None:
        titles = dict(zip(columns, columns, strict=True))
        self._replace(_lines([titles, *rows], columns))
        self._columns = columns

    def _replace(self, content: bytes) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)

        def write(temporary: Path) -> None:
            temporary.write_bytes(content)

        write_atomically(self.path, write)


def _lines(rows: list[dict[str, str]], columns: list[str]) -> bytes:
    """CSV lines, empty cells where a row lacks a column."""
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, columns, restval="", lineterminator="\n")
    writer.writerows(rows)
    return text.getvalue().encode()
