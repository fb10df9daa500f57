"""Every file from outside that this package parses, on damaged and invented input: one sentence, or what it says.

A short run by default; ``pytest -m slow tests/release/test_fuzz.py -s`` makes a long one and prints its counts.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from securegan.errors import UserError
from securegan.release.anomaly import Calibration
from securegan.release.intake import Gate
from securegan.release.plan import PLAN, Plan, opened, read_plan
from securegan.runs.checkpoints import load_weights, read_index
from securegan.runs.folder import CONFIG, SPEC, RunFolder
from securegan.runs.sampling import load_module
from securegan.security.provenance import sidecar
from securegan.security.provenance.statement import ImageOrigin

SHORT, LONG = 60, 3000
LEAVES = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8)
VALUES = st.recursive(
    LEAVES, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3)
)
Parse = Callable[[bytes], object]


def damaged(whole: bytes) -> st.SearchStrategy[bytes]:
    """``whole`` with bytes changed, cut out or put in; anything at all; and JSON of any shape."""
    places = st.integers(0, max(0, len(whole) - 1))
    changed = st.tuples(places, places, st.binary(max_size=4)).map(lambda t: whole[: t[0]] + t[2] + whole[t[1] :])
    anything = st.binary(max_size=200) | VALUES.map(lambda value: json.dumps(value).encode())
    return changed | anything | replaced(whole)


def replaced(whole: bytes) -> st.SearchStrategy[bytes]:
    """A sound JSON object with one of its values another, a field more, or one less."""
    try:
        sound = json.loads(whole)
    except ValueError:
        return st.nothing()
    if not isinstance(sound, dict) or not sound:
        return st.nothing()
    names = st.sampled_from(sorted(sound))
    other = st.tuples(names | st.text(max_size=8), VALUES).map(lambda t: {**sound, t[0]: t[1]})
    less = names.map(lambda name: {key: value for key, value in sound.items() if key != name})
    return (other | less).map(lambda value: json.dumps(value).encode())


def parsers(run: Path, place: Path, office: Any) -> dict[str, tuple[bytes, Parse]]:
    """A sound file and what reads it, by name."""
    index = (run / "checkpoints" / "index.json").read_bytes()
    digests = {"model": "a" * 64, "config": "b" * 64, "dataset": "c" * 64}
    plan = Plan(
        **digests,
        run="run",
        seed=0,
        label=None,
        averaged=True,
        on_flagged="review",
        detectors=[],
        recipients=[],
        log="",
    )
    with opened(place / "release", plan):
        pass
    module = load_module(run)
    image = np.random.default_rng(0).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    Image.fromarray(image).save(place / "a.png")
    png = (place / "a.png").read_bytes()
    gate = Gate(None, trust=office.trust())
    signed = sidecar.sign(png, "a.png", office.signer, ImageOrigin())
    calibration = Calibration("w", {"mahalanobis": (0.0, 1.0)}, [0.5], [0.25])
    calibration.save(place)

    def read(name: str, content: bytes, parse: Callable[[], object]) -> object:
        (place / name).write_bytes(content)
        return parse()

    def weights(content: bytes) -> object:
        import hashlib

        folder = place / "checkpoints"
        folder.mkdir(exist_ok=True)
        about = {"file": "w.safetensors", "sha256": hashlib.sha256(content).hexdigest()}
        (folder / "w.safetensors").write_bytes(content)
        entry = {"file": "w.ckpt", "epoch": 1, "sha256": "", "weights": about}
        (folder / "index.json").write_text(json.dumps({"best": entry}))
        return load_weights(module, RunFolder(place))

    def released(content: bytes) -> object:
        (place / "release" / PLAN).write_bytes(content)
        found = read_plan(place / "release" / PLAN)
        assert Plan.model_validate(found.model_dump()) == found and set(found.id) <= set("0123456789abcdef")
        with opened(place / "release", plan):
            return None

    whole = (run / "checkpoints" / "epoch-0001.safetensors").read_bytes()
    return {
        "index.json": (index, lambda c: read("index.json", c, lambda: read_index(place))),
        "release.json": ((place / "release" / PLAN).read_bytes(), released),
        "intake.json": (
            (place / "intake.json").read_bytes(),
            lambda c: read("intake.json", c, lambda: Calibration.load(place, "w")),
        ),
        CONFIG: ((run / CONFIG).read_bytes(), lambda c: read(CONFIG, c, lambda: RunFolder(place).config())),
        SPEC: ((run / SPEC).read_bytes(), lambda c: read(SPEC, c, lambda: RunFolder(place).spec())),
        "weights": (whole[:4000], weights),
        "an image": (png, lambda c: gate.check("a.png", c, None)),
        "a sidecar": (signed, lambda c: gate.check("a.png", png, c)),
    }


def fuzz(name: str, run: Path, place: Path, office: Any, examples: int) -> int:
    whole, parse = parsers(run, place, office)[name]
    count = 0

    @settings(max_examples=examples, deadline=None, suppress_health_check=list(HealthCheck), database=None)
    @given(damaged(whole))
    def attempt(content: bytes) -> None:
        nonlocal count
        count += 1
        try:
            parse(content)
        except UserError as error:
            assert "\n" not in str(error)

    attempt()
    return count


NAMES = ["index.json", "release.json", "intake.json", CONFIG, SPEC, "weights", "an image", "a sidecar"]


@pytest.mark.parametrize("name", NAMES)
def test_damage_is_one_sentence(run: Path, tmp_path: Path, office: Any, name: str) -> None:
    assert fuzz(name, run, tmp_path, office, SHORT) >= SHORT / 2


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_much_damage_is_one_sentence(
    run: Path, tmp_path: Path, office: Any, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    count = fuzz(name, run, tmp_path, office, LONG)
    with capsys.disabled():
        print(f"\n{name}: {count} inputs")
