"""How a run was measured, in the words that stand beside its figures."""

import math
from collections.abc import Sequence
from typing import Any

from securegan.reports.glossary import attack_named, count_written, radius_written, written
from securegan.reports.results import RunResults

_NORMS = {"linf": "L∞", "l2": "L2", "l0": "L0"}
_TOLD = (
    "name",
    "norm",
    "eps",
    "steps",
    "restarts",
    "objectives",
    "goal",
    "knowledge",
    "adaptive",
    "space",
    "latent_eps",
    *("alpha", "momentum", "random_start", "early_drop"),  # of PGD, and seldom changed
)


def attack_sentence(attack: dict[str, Any]) -> str:
    """The threat model of an attack in one line; empty where there was none."""
    if not attack:
        return ""
    words = [attack_named(attack.get("name", "attack"))]
    if "norm" in attack or "eps" in attack:
        words.append(_ball(attack))
    for key, noun in (("steps", "steps"), ("restarts", "restarts")):
        if attack.get(key) is not None:
            words.append(f"{attack[key]} {noun if attack[key] != 1 else noun[:-1]}")
    epochs = attack.get("epochs") or {}
    if epochs.get("name") not in (None, attack.get("name")):
        words.append(f"during training {attack_named(epochs['name'])} with {epochs.get('steps')} steps")
    elif epochs and "restarts" in attack and epochs.get("restarts") != attack["restarts"]:
        words[-1] += f" ({epochs['restarts']} during training)"
    objectives = attack.get("objectives")
    if isinstance(objectives, list) and objectives:
        words.append(f"objective {' + '.join(map(str, objectives))}")
    if attack.get("space"):
        words.append(f"in {attack['space']}")
    words += [str(attack[key]) for key in ("goal", "knowledge") if attack.get(key)]
    if isinstance(attack.get("adaptive"), bool):
        words.append("adaptive in the system attack success" if attack["adaptive"] else "nonadaptive")
    others = {key: value for key, value in attack.items() if key not in _TOLD and not isinstance(value, dict)}
    words += [f"{key.replace('_', ' ')} {plain(value)}" for key, value in others.items() if value is not None]
    return ", ".join(words)


def threat_of(results: RunResults, surface: str) -> dict[str, Any]:
    """The attack as it was run on a surface: radii and norms may differ between pixels and latents."""
    own = _threat_models(results).get(surface)
    return {**results.part("attack"), **(own if isinstance(own, dict) else {})}


def _threat_models(results: RunResults) -> dict[str, Any]:
    """The threat model of each surface, empty where the run recorded but one."""
    models = results.part("attack").get("threat_models")
    return models if isinstance(models, dict) else {}


def footer(
    results: RunResults, *, n: str, split: str, surfaces: Sequence[str] | None = None, restarts: bool = True
) -> str:
    """The line under a figure: n, split, seed, data, and the protocol: that of the attack on ``surfaces`` if given.

    Args:
        results: the run.
        n: how many inputs.
        split: of the data.
        surfaces: what was attacked; None for figures of quality, empty for those that need neither attack nor judge.
        restarts: whether to name the restarts, which are fewer at evaluation epochs than at the end.
    """
    seed = "not recorded" if results.seed is None else results.seed
    words = [f"n = {n}", f"split {split}", f"seed {seed}"]
    if name := results.part("data").get("name"):
        words.append(str(name))
    if surfaces:
        words.append(_brief(results, surfaces, restarts=restarts))
    elif surfaces is None and (digest := extractor_digest(results)):
        words.append(f"judge {digest[:8]}")
    return " · ".join(filter(None, words))


def _brief(results: RunResults, surfaces: Sequence[str], *, restarts: bool) -> str:
    """The attack in few words, with the radius of each surface where they differ."""
    keys = ("name", "norm", "eps", "steps", "restarts") if restarts else ("name", "norm", "eps", "steps")
    attack = {key: value for key, value in results.part("attack").items() if key in keys}
    balls: dict[str, list[str]] = {}
    for surface in surfaces:
        threat = threat_of(results, surface)
        balls.setdefault(_ball(threat), []).append(surface)
    if len(balls) == 1:
        only = threat_of(results, surfaces[0])
        return (
            attack_sentence({**attack, **{key: only[key] for key in ("norm", "eps") if key in only}}) if attack else ""
        )
    rest = (
        attack_sentence({key: value for key, value in attack.items() if key not in ("norm", "eps")}) if attack else ""
    )
    return "; ".join(filter(None, [rest, *(f"{', '.join(names)} {ball}" for ball, names in balls.items())]))


def _ball(threat: dict[str, Any]) -> str:
    """Norm and radius of an attack."""
    if threat.get("norm") == "l0" and "eps" in threat:
        return f"{threat['eps']:g} pixels"
    pixels = threat.get("space") != "latent"  # whose radii are standard deviations, not grey levels
    radius = f"eps {radius_written(threat['eps'], pixels=pixels)}" if "eps" in threat else ""
    return f"{_NORMS.get(str(threat.get('norm')), str(threat.get('norm') or ''))} {radius}".strip()


def extractor_digest(results: RunResults) -> str:
    """The digest of the network in whose features quality is measured; empty where it is not recorded."""
    quality = results.part("quality")
    return str(quality.get("digest") or quality.get("digest_judge") or "")


def floor(results: RunResults, key: str = "quality/fid_judge") -> float | None:
    """The real-against-real value of a quality figure, below which no generator can be expected."""
    value = results.part("quality").get(f"floor_{key.partition('/')[2]}")
    return float(value) if isinstance(value, int | float) and math.isfinite(value) else None


def floor_of_fewer(results: RunResults, key: str) -> bool:
    """Whether the floor is of fewer images on either side than the figure, and of one that falls with their number."""
    quality = results.part("quality")
    kept, scored = quality.get("n_real_kept"), results.headline.n.get(key) or quality.get("n_fake")
    if not (isinstance(kept, int) and isinstance(scored, int)):
        return False
    return key.startswith("quality/fid_") and kept // 2 < scored


def halves(results: RunResults) -> str:
    """Between what the floors were taken, in words."""
    kept = results.part("quality").get("n_real_kept")
    return "two halves of the real images" + (f", {count_written(kept // 2)} each" if isinstance(kept, int) else "")


def bad_files(results: RunResults) -> tuple[str, list[dict[str, str]]]:
    """Files that the data set lost or changed: a sentence, and name, action and reason of each."""
    data = results.part("data")
    found = next((data[key] for key in ("bad_files", "bad") if key in data), None)
    if not isinstance(found, dict):
        return ("" if found is None else f"Recorded as: {plain(found)}."), []
    listed = [
        {"name": name, "action": action, "reason": reason}
        for action in ("skipped", "converted")
        for name, reason in map(_file, _listed(found.get(action)))
    ]
    counts = found.get("counts") if isinstance(found.get("counts"), dict) else found
    numbers = [counts.get(action) for action in ("skipped", "converted")]  # type: ignore[union-attr]
    skipped, converted = (
        number if isinstance(number, int) else sum(entry["action"] == action for entry in listed)
        for number, action in zip(numbers, ("skipped", "converted"), strict=True)
    )
    if not skipped and not converted:
        return "Every file of the data set was used as it is.", []
    return f"Skipped: {count_written(skipped)}. Converted: {count_written(converted)}.", listed


def _listed(value: object) -> list[object]:
    return value if isinstance(value, list) else []


def _file(entry: object) -> tuple[str, str]:
    """Name and reason of one bad file, stored as a pair or a mapping."""
    if isinstance(entry, dict):
        return str(entry.get("name", "")), str(entry.get("reason", ""))
    if isinstance(entry, list | tuple) and len(entry) == 2:
        return str(entry[0]), str(entry[1])
    return str(entry), ""


def plain(value: object) -> str:
    """Any recorded value as one line of text."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return written(value)
    if isinstance(value, dict):
        return ", ".join(
            f"{str(key).replace('_', ' ')} {plain(item)}" for key, item in value.items() if item is not None
        )
    if isinstance(value, list | tuple):
        return ", ".join(map(plain, value))
    return "not recorded" if value is None else str(value)


def facts(results: RunResults) -> list[tuple[str, str]]:
    """The protocol of the run as pairs of a title and a line, for a reader who wants to repeat it."""
    figures, data, quality = results.headline, results.part("data"), results.part("quality")
    where = f"{figures.split} split"
    if results.test is None:
        where += ", last evaluation: this run has not been judged on its test split"
    elif figures.epoch is not None:
        where += f"; {figures.checkpoint} checkpoint, of epoch {figures.epoch}, supplies all figures"
    told = {
        key: value for key, value in data.items() if key not in ("bad", "bad_files", "class_names", "digest", "name")
    }
    environment = results.environment
    pairs = [
        ("Figures of", where),
        ("Data", ", ".join(filter(None, [str(data.get("name", "")), plain(told)]))),
        ("Data digest", str(data.get("digest") or "")),
        ("Seed", "" if results.seed is None else plain(results.seed)),
        *_threats(results),
        ("Defences", plain(results.protocol["defenses"] or "none") if "defenses" in results.protocol else ""),
        ("Quality", plain({key: value for key, value in quality.items() if not key.startswith("digest")})),
        ("Extractor digest", extractor_digest(results)),
        ("Checkpoint chosen by", str(results.protocol.get("selection") or "")),
        ("Detectors", plain(results.protocol["detectors"] or "none") if "detectors" in results.protocol else ""),
        (
            "Time",
            ", ".join(f"{name} {duration(value)}" for name, value in results.seconds.items() if value is not None),
        ),
        ("Commit", str(environment.get("commit") or "")),
        ("Versions", plain(environment.get("versions") or "")),
        ("Machine", plain(environment.get("machine") or "")),
    ]
    return [(title, line or "not recorded") for title, line in pairs]


def _threats(results: RunResults) -> list[tuple[str, str]]:
    """The threat model, once for each surface where they are recorded so."""
    if not _threat_models(results):
        return [("Threat model", attack_sentence(results.part("attack")))]
    return [(f"Threat model: {name}", attack_sentence(threat_of(results, name))) for name in results.surfaces]


def duration(seconds: float) -> str:
    """Seconds as a reader would say them."""
    if not math.isfinite(seconds):
        return "unknown"
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = seconds / 60
    return f"{minutes:.0f} min" if minutes < 90 else f"{minutes / 60:.1f} h"
