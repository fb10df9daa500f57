"""What Weights & Biases was sent of a run, for a run that is continued."""

import json
from pathlib import Path
from typing import Literal, get_args

from securegan.runs.atomic import write_atomically

Kind = Literal["steps", "epochs"]


class Sent:
    """How far an earlier process of this run came, in images seen; and, for the next one, how far this one does."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.before = {"steps": -1, "epochs": -1, **self._read()}
        self.now = dict(self.before)

    def _read(self) -> dict[str, int]:
        try:
            found = json.loads(self.path.read_text(encoding="utf-8"))
            return {kind: int(found[kind]) for kind in get_args(Kind)}
        except (OSError, ValueError, KeyError, TypeError):
            return {}

    def is_new(self, kind: Kind, images_seen: int | None) -> bool:
        """Whether no earlier process sent ``kind`` at ``images_seen``."""
        return images_seen is None or images_seen > self.before[kind]

    def note(self, kind: Kind, images_seen: int | None) -> None:
        """``kind`` at ``images_seen`` was sent. Written with the next step, when all of an epoch's items were."""
        if images_seen is not None and images_seen > self.now[kind]:
            self.now[kind] = images_seen
            if kind == "steps":
                self.write()

    def write(self) -> None:
        """Keep how far this process came, whenever it is killed."""
        text = json.dumps(self.now)
        write_atomically(self.path, lambda temporary: temporary.write_text(text, encoding="utf-8"))
