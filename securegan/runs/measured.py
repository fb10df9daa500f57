"""How a run's figures were measured, in full: what metrics.json says beside them."""

from typing import TYPE_CHECKING, Any

from securegan.data.module import ImageDataModule
from securegan.evaluation.lighter import at_epochs
from securegan.evaluation.outcome import Outcome

if TYPE_CHECKING:
    from securegan.experiment import Experiment


def protocol_of(run: "Experiment", outcome: Outcome, instead: str | None) -> dict[str, Any]:
    """The ``protocol`` of metrics.json; ``instead`` says which checkpoint was taken where none could be chosen."""
    spec = run.data.spec
    protocol: dict[str, Any] = {
        "seed": run.seed,
        "quality": {
            "extractor": "judge",
            "digest": run.judge.digest,
            "judge_task": run.judge.task,
            "judge_accuracy": run.judge.accuracy,
            "n_fake": run.protocol.generated,
            "n_fake_kept": min(run.protocol.generated, run.protocol.kept_features),
            "weights": "EMA of the generator, batch norm in evaluation mode",
            "split": "test",
            **outcome.protocol["quality"],
        },
        "fidelity": outcome.protocol["fidelity"],
        "data": {
            "name": spec.name,
            "channels": spec.channels,
            "size": spec.size,
            "num_classes": spec.num_classes,
            "class_names": list(spec.class_names),
            "digest": spec.digest,
            "splits": {split: run.data.split_size(split) for split in ("train", "calibrate", "validate", "test")},
            "bad_files": _bad_files(run.data),
        },
        "detectors": {
            d.name: {
                "false_positive_rate": d.false_positive_rate,
                "noise_norm": run.evaluator.noise[0],
                "noise_eps": run.evaluator.noise[1],
            }
            for d in run.detectors
        },
        "defenses": {d.name: d.facts for d in run.defenses},
        "selection": instead
        or (
            f"lowest {run.evaluation.selection} on the validation split after "
            f"{100 * run.protocol.choose_after:.0f} % of the epochs, defences at full strength"
        ),
    }
    if run.attack is not None:
        protocol["surfaces"] = outcome.protocol.get("surfaces", {})
        lighter = at_epochs(run.attack, run.protocol)
        protocol["attack"] = {
            "name": run.attack.name,
            **run.attack.settings(),
            "epochs": {"name": lighter.name, **lighter.settings()},
            "threat_models": outcome.protocol.get("threat_models", {}),
        }
    return protocol


def _bad_files(data: ImageDataModule) -> dict[str, Any]:
    bad = data.bad
    named = {"skipped": bad.skipped, "converted": bad.converted}
    return {"counts": bad.counts, **{kind: [list(file) for file in files[:100]] for kind, files in named.items()}}
