"""What every test shares: markers that skip themselves where their means are missing, and a cache of their own."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

DATA = os.environ.get("SECUREGAN_DATA")

if "PYTEST_XDIST_WORKER" in os.environ:  # one of several side by side: they and their processes take a core each
    os.environ["OMP_NUM_THREADS"] = "1"
    torch.set_num_threads(1)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    missing = {}
    if not DATA or not Path(DATA).is_dir():
        missing["data"] = "SECUREGAN_DATA does not name the data folder"
    if not torch.cuda.is_available():
        missing["gpu"] = "no CUDA device"
    if shutil.which("sbatch") is None:
        missing["slurm"] = "no Slurm installation"
    for item in items:
        for marker, reason in missing.items():
            if item.get_closest_marker(marker):
                item.add_marker(pytest.mark.skip(reason=reason))


@pytest.fixture(scope="session", autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A cache folder of the session's own, so that no test reads or leaves anything in the user's."""
    folder = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SECUREGAN_CACHE", str(folder))
        yield folder


@pytest.fixture(scope="session")
def data_folder() -> Path:
    """The folder of real data sets; only for tests marked ``data``."""
    assert DATA is not None, "mark the test with pytest.mark.data"
    return Path(DATA)
