"""The ``securegan`` command in the tests' own process, with a key ring of the test's own."""

from pathlib import Path

import pytest

from securegan import cli


class Command:
    """``securegan ...`` in this process: its exit code and what it wrote."""

    def __init__(self, patch: pytest.MonkeyPatch, capture: pytest.CaptureFixture[str]) -> None:
        self._patch, self._capture = patch, capture

    def __call__(self, *words: object) -> tuple[int, str, str]:
        self._patch.setattr("sys.argv", ["securegan", *map(str, words)])
        code = 0
        try:
            cli.main()
        except SystemExit as ended:
            code = int(ended.code or 0)
        out, err = self._capture.readouterr()
        return code, out, err


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Command:
    monkeypatch.setenv("SECUREGAN_KEYS", str(tmp_path / "keys"))
    return Command(monkeypatch, capsys)
