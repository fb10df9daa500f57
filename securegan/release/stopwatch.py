"""Where the time of a release goes."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager


class Stopwatch:
    """Seconds by stage, summed over threads: of the clock, and of the processor, which other processes do not slow."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self.work: dict[str, float] = {}
        self._lock = threading.Lock()
        self._start = time.perf_counter()

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Count what the block takes to ``name``."""
        start, worked = time.perf_counter(), time.thread_time()
        try:
            yield
        finally:
            taken, work = time.perf_counter() - start, time.thread_time() - worked
            with self._lock:
                self.seconds[name] = self.seconds.get(name, 0.0) + taken
                self.work[name] = self.work.get(name, 0.0) + work

    @property
    def total(self) -> float:
        """Seconds since the start."""
        return time.perf_counter() - self._start
