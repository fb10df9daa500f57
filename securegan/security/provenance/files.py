"""Reading files that somebody else laid there: regular ones alone, never more than asked for."""

import hashlib
import os
import stat
from io import BufferedReader
from pathlib import Path

from securegan.errors import UserError

MAX_IMAGE = 512 * 2**20  # bytes of an image that is decoded or given a manifest; bytes are compared at any size


def open_regular(path: Path, *, follow: bool = True) -> BufferedReader:
    """``path`` for reading. Raises OSError where it is missing, a device, a pipe or (without ``follow``) a link."""
    handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | (0 if follow else os.O_NOFOLLOW))
    try:
        if not stat.S_ISREG(os.fstat(handle).st_mode):
            raise OSError(0, "it is no regular file", str(path))
        return os.fdopen(handle, "rb")
    except BaseException:
        os.close(handle)
        raise


def read_regular(path: Path, limit: int) -> bytes:
    """At most ``limit`` bytes of ``path``, and one more where there are more. Raises OSError."""
    with open_regular(path) as file:
        return file.read(limit + 1)


def read_given(path: Path, limit: int, what: str) -> bytes:
    """All of a file that the user named, of at most ``limit`` bytes. Raises UserError."""
    try:
        data = read_regular(path, limit)
    except OSError as error:
        raise UserError(f"{what} {path} cannot be read: {error.strerror}.") from error
    if len(data) > limit:
        raise UserError(f"{what} {path} cannot be read: it has more than {limit} bytes.")
    return data


def digest_file(path: Path, *, follow: bool = True) -> str:
    """SHA-256 of a file of any size, read in pieces. Raises OSError."""
    with open_regular(path, follow=follow) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
