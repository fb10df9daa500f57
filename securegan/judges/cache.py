"""One judge for each data set, trained once and kept."""

import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path

import torch.distributed as dist
from filelock import FileLock

from securegan.data.batch import DataSpec
from securegan.errors import UserError
from securegan.judges.judge import DamagedJudgeError, Judge, from_bytes, to_bytes
from securegan.judges.network import ARCHITECTURE
from securegan.judges.training import SEED, JudgedData, train_judge


def load_or_train_judge(data: JudgedData, cache_dir: Path) -> Judge:
    """The judge of ``data``, from ``cache_dir/judges`` or trained now; frozen, on the CPU.

    Several processes may ask at once: a file lock lets one train. In a process group rank 0 alone reads or trains and
    the other ranks receive its judge, so that all hold the same weights; every rank must call it.

    Args:
        data: a prepared data set.
        cache_dir: created where missing; a damaged file there is trained anew, with a warning.

    Raises:
        UserError: where the cache cannot be written or the train split has nothing to learn from.
    """
    if not (dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1):
        return from_bytes(_file_content(data, cache_dir))
    answer: list[bytes | str | None] = [None]
    problem: Exception | None = None
    if dist.get_rank() == 0:
        try:
            answer = [_file_content(data, cache_dir)]
        except Exception as error:  # the other ranks wait for an answer, whatever happened here
            answer, problem = [str(error)], error
    dist.broadcast_object_list(answer, src=0)
    if problem is not None:
        raise problem
    content = answer[0]
    if not isinstance(content, bytes):
        raise UserError(f"rank 0 found no judge: {content}")
    return from_bytes(content)


def judge_path(spec: DataSpec, cache_dir: Path) -> Path:
    """Where the judge of this data is kept; the name depends on the data, the architecture and the seed."""
    parts = (spec.digest, spec.channels, spec.size, spec.num_classes, ARCHITECTURE, SEED)
    key = sha256("\x1f".join(map(str, parts)).encode()).hexdigest()[:16]
    return cache_dir / "judges" / f"{key}.safetensors"


def _file_content(data: JudgedData, cache_dir: Path) -> bytes:
    path = judge_path(data.spec, cache_dir)
    with _writing_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(f"{path}.lock")
        lock.acquire()
    try:
        content = _undamaged(path)
        if content is None:
            content = to_bytes(train_judge(data), data.spec.size, data.spec.channels)
            with _writing_errors(path):
                partial = path.with_suffix(".partial")
                partial.write_bytes(content)
                os.replace(partial, path)
        return content
    finally:
        lock.release()


@contextmanager
def _writing_errors(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise UserError(f"the judge cannot be kept in '{path.parent}': {error.strerror or error}.") from error


def _undamaged(path: Path) -> bytes | None:
    """The file's content, or None where there is none that can be used."""
    if not path.is_file():
        return None
    content = path.read_bytes()
    try:
        from_bytes(content)
    except DamagedJudgeError as damage:
        warnings.warn(f"the judge in '{path}' is trained anew: {damage}", stacklevel=2)
        return None
    return content
