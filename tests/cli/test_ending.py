"""Signals that end a command."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest

MISSED = """
import ctypes, operator, os, pathlib, signal, sys
from functools import partial
from securegan.cli.ending import ended_tidily
signal.signal(int(sys.argv[2]), signal.SIG_DFL)  # nohup ignores one of them
library, left = ctypes.CDLL(None), pathlib.Path(sys.argv[1])
reading, writing = os.pipe()
with ended_tidily():
    left.touch()
    try:
        # from one call to the next within C: nothing handles the signal before the read waits
        list(map(operator.call, [
            partial(library.kill, os.getpid(), int(sys.argv[2])),
            partial(library.read, reading, ctypes.create_string_buffer(1), 1),
        ]))
    finally:
        left.unlink()
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_just_before_a_read_that_waits_ends_it(tmp_path: Path, number: signal.Signals) -> None:
    left = tmp_path / "left"
    ended = subprocess.run([sys.executable, "-c", MISSED, left, str(int(number))], timeout=60, capture_output=True)
    assert ended.returncode == 128 + number and not left.exists() and not ended.stderr


def test_after_the_block_everything_is_as_before() -> None:
    from securegan.cli.ending import ended_tidily

    with ended_tidily():
        assert signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
    assert signal.set_wakeup_fd(-1) == -1
