"""How a command ends when it is told to: as by an exception, so that nothing half made stays behind."""

import os
import select
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

AGAIN = 0.05  # seconds until a signal that was not handled is sent again


@contextmanager
def ended_tidily() -> Iterator[None]:
    """SIGTERM and SIGHUP end the block as an exception does: what was opened so far does not stay behind.

    Python handles a signal between two calls. One that comes just before a call that waits, such as the read of a pipe,
    interrupts nothing, and nobody sends a second: a thread here does, until the first was handled.
    """

    def end(number: int, frame: object) -> None:
        while caught:
            signal.signal(caught.pop(), signal.SIG_IGN)  # to the end of the process: the first does it all
        sys.exit(128 + number)

    caught = [each for each in (signal.SIGTERM, signal.SIGHUP) if signal.getsignal(each) == signal.SIG_DFL]
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    before = signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
    again = threading.Thread(target=_send_again, args=(reading, {*caught}, threading.get_ident()), daemon=True)
    again.start()
    for each in caught:
        signal.signal(each, end)
    try:
        yield
    finally:
        signal.set_wakeup_fd(before)
        os.close(writing)
        again.join()
        os.close(reading)
        for each in caught:
            signal.signal(each, signal.SIG_DFL)


def _send_again(reading: int, signals: set[int], thread: int) -> None:
    """Send those of ``signals`` whose numbers come through the pipe to ``thread``, again and again, until it ends."""
    signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())  # they are the other thread's
    came: set[int] = set()
    while True:
        if select.select([reading], [], [], AGAIN if came else None)[0]:
            numbers = os.read(reading, 64)
            if not numbers:
                return
            came |= signals & {*numbers}
            continue
        for number in came:
            signal.pthread_kill(thread, number)
