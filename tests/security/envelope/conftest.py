from collections.abc import Iterator
from pathlib import Path

import pytest

from securegan.security.envelope import chunked
from securegan.security.envelope.backends import BACKENDS, Backend, load_backend
from securegan.security.envelope.recipients import SecretKey
from securegan.security.keys.ring import KeyRing

KEY = bytes(range(32))


@pytest.fixture(params=BACKENDS)
def backend(request: pytest.FixtureRequest) -> Backend:
    return load_backend(request.param)


@pytest.fixture
def key() -> SecretKey:
    return SecretKey(KEY)


@pytest.fixture
def ring(tmp_path: Path) -> KeyRing:
    return KeyRing.open(tmp_path / "keys")


@pytest.fixture
def salts_repeat() -> Iterator[None]:
    """For known answers, which are given with their salts."""
    chunked._used.clear()
    yield
    chunked._used.clear()
