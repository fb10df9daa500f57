"""What is done to the bytes of an image that is released: its sidecar, and the envelopes of both."""

from collections.abc import Callable

import securegan
from securegan.release.keys import PURPOSE, ReleaseKeys
from securegan.release.plan import Plan
from securegan.security.envelope.backends import load_backend
from securegan.security.envelope.files import facts_for, seal_bytes
from securegan.security.provenance import sidecar
from securegan.security.provenance.statement import ImageOrigin, now


def signing(plan: Plan, keys: ReleaseKeys, commit: str | None = None) -> Callable[[bytes, str, int, str], bytes]:
    """``sign(file, name, number, pixels)`` gives the sidecar of an image.

    Args: commit: of the code that made the images, where it is known.
    """
    common = ImageOrigin(
        software=f"securegan {securegan.__version__}",
        run=plan.run,
        model=plan.model,
        config=plan.config,
        dataset=plan.dataset,
        seed=plan.seed,
        weights=plan.weights,
        commit=commit,
    )

    def sign(data: bytes, name: str, number: int, pixels: str) -> bytes:
        origin = common.model_copy(update={"index": number, "time": now()})
        return sidecar.sign(data, name, keys.signer, origin, pixels)

    return sign


def sealing(plan: Plan, keys: ReleaseKeys) -> Callable[[bytes, str], bytes] | None:
    """``seal(data, name)`` gives a file's envelope, under an id of its own: one cannot be put in the place of another.

    None where the release is not sealed.
    """
    if not keys.recipients:
        return None
    backend = load_backend()
    return lambda data, name: seal_bytes(
        data, keys.recipients, facts_for(PURPOSE, object_of(plan, name)), backend=backend
    )


def object_of(plan: Plan, name: str) -> str:
    """The id in the envelope of a release's file."""
    return f"{plan.id}/{name}"
