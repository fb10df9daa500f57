"""The stream of chunks: what goes in comes out, however it is cut, and no more memory is used for more of it."""

import tracemalloc
from io import BytesIO

import pytest
from hypothesis import given
from hypothesis import strategies as st

from securegan.errors import UserError
from securegan.security.envelope.backends import BACKENDS, Backend, load_backend
from securegan.security.envelope.chunked import BATCH, CHUNK, Opener, Sealer, sealed_size

SIZES = st.integers(0, 3) | st.integers(-2, 2).map(lambda off: CHUNK + off) | st.integers(0, 3 * BATCH * CHUNK)


class Dribble(BytesIO):
    """A pipe that gives a few bytes at a time."""

    def readinto(self, view: memoryview) -> int:  # type: ignore[override]
        return super().readinto(view[:1000])


class Endless:
    """Zeros without end in, nothing kept."""

    def __init__(self, size: int) -> None:
        self.left = size

    def readinto(self, view: memoryview) -> int:
        read = min(len(view), self.left)
        self.left -= read
        return read

    def write(self, data: bytes) -> int:
        return len(data)


def sealed(plain: bytes, pieces: list[int], backend: Backend) -> bytes:
    out = BytesIO()
    sealer = Sealer(bytes(32), b"", out, backend)
    at = 0
    for piece in [*pieces, len(plain)]:
        sealer.write(plain[at : at + piece])
        at += piece
    sealer.finish()
    return out.getvalue()


@given(size=SIZES, pieces=st.lists(st.integers(0, 2 * CHUNK), max_size=8), names=st.permutations(BACKENDS))
def test_what_one_backend_seals_in_pieces_the_other_opens(size: int, pieces: list[int], names: list[str]) -> None:
    one, other = map(load_backend, names)
    plain = (bytes(range(251)) * (size // 251 + 1))[:size]
    text = sealed(plain, pieces, one)
    assert len(text) == sealed_size(size)
    assert b"".join(bytes(block) for block in Opener(bytes(32), b"", BytesIO(text), other).blocks()) == plain


def test_pipes_that_dribble_are_read_to_their_end(backend: Backend) -> None:
    plain = bytes(range(256)) * 1000
    opener = Opener(bytes(32), b"", Dribble(sealed(plain, [10, 20000], backend)), backend)
    assert b"".join(bytes(block) for block in opener.blocks()) == plain


def test_memory_does_not_grow_with_the_message(backend: Backend) -> None:
    peaks = []
    for size in (4 << 20, 16 << 20):
        tracemalloc.start()
        sealer = Sealer(bytes(32), b"", Endless(0), backend)  # type: ignore[arg-type]
        block = memoryview(bytearray(1 << 20))
        source = Endless(size)
        while read := source.readinto(block):
            sealer.write(block[:read])
        sealer.finish()
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < peaks[0] + 100_000 and peaks[1] < 4 << 20


def test_two_messages_under_one_key_share_nothing(backend: Backend) -> None:
    one, other = (sealed(bytes(CHUNK), [], backend) for _ in range(2))
    assert not any(one[at : at + 8] == other[at : at + 8] for at in range(0, len(one), 8))


@pytest.mark.parametrize("key", [b"", bytes(16), bytes(31), bytes(33)])
def test_keys_of_other_lengths_are_refused(key: bytes, backend: Backend) -> None:
    with pytest.raises(ValueError, match="32 bytes"):
        Sealer(key, b"", BytesIO(), backend)


def test_there_are_two_backends() -> None:
    with pytest.raises(UserError, match="Did you mean 'cryptography'"):
        load_backend("cryptograhpy")
