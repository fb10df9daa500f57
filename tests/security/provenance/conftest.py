"""Keys, a trust store and an image that the tests of provenance share; a memory of the session's own."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from io import BytesIO
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from PIL import Image

from securegan.security.provenance.memory import Memory
from securegan.security.provenance.signing import Signer
from securegan.security.provenance.statement import ImageOrigin
from securegan.security.provenance.trust import PURPOSES, Contents, Purpose, Trust, TrustedKey, trusted_key
from securegan.security.spelling import as_text


class Party(NamedTuple):
    """Somebody who signs, and those who believe them."""

    signer: Signer
    key: TrustedKey
    trust: Trust


@dataclass(frozen=True)
class Lab:
    """Keys good from ``start`` to ``end``; the tests play at the time ``now``."""

    start: datetime = datetime(2026, 11, 1, tzinfo=UTC)
    now: datetime = datetime(2026, 11, 21, tzinfo=UTC)
    end: datetime = datetime(2027, 11, 1, tzinfo=UTC)

    def day(self, number: int) -> str:
        """The time so many days after ``now``, as it stands in statements."""
        return as_text(self.now + timedelta(days=number))

    def trust(self, *keys: TrustedKey) -> Trust:
        """A trust store that was read."""
        contents = Contents(name="lab", version=1, time=self.day(-20), until=self.day(345), keys=list(keys))
        return Trust(contents)

    def party(self, seed: int = 7, purposes: Sequence[Purpose] = PURPOSES, name: str = "release") -> Party:
        signer = Signer(bytes([seed]) * 32)
        key = trusted_key(name, signer.public, purposes, self.start, self.end)
        return Party(signer, key, self.trust(key))

    def origin(self, day: int = 0) -> ImageOrigin:
        return ImageOrigin(time=self.day(day), model="a" * 64, seed=2**63 + 1, index=3)


@pytest.fixture
def lab() -> Lab:
    return Lab()


@pytest.fixture
def party(lab: Lab) -> Party:
    return lab.party()


@pytest.fixture
def memory(tmp_path: Path) -> Memory:
    return Memory(tmp_path / "memory")


@pytest.fixture(autouse=True)
def own_folders(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """No test reads or leaves keys or memories in the user's folders."""
    with pytest.MonkeyPatch.context() as patch:
        for name in ("SECUREGAN_TRUST", "SECUREGAN_KEYS"):
            patch.setenv(name, str(tmp_path_factory.mktemp(name.lower())))
        yield


@pytest.fixture
def picture() -> Callable[..., Image.Image]:
    """Random pixels."""

    def make(seed: int = 0, size: int = 8, mode: str = "RGB") -> Image.Image:
        channels = {"L": (), "RGB": (3,), "RGBA": (4,)}[mode]
        return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (size, size, *channels), dtype=np.uint8))

    return make


@pytest.fixture
def encoded() -> Callable[..., bytes]:
    """The bytes of an image in a format."""

    def make(image: Image.Image, form: str = "PNG", **options: object) -> bytes:
        file = BytesIO()
        image.save(file, form, **options)
        return file.getvalue()

    return make


@pytest.fixture
def image(picture: Callable[..., Image.Image], encoded: Callable[..., bytes]) -> bytes:
    return encoded(picture())
