"""The networks, beside the data's own judge, in whose features a run is scored."""

from pathlib import Path

from securegan.configuration.extractors import ExtractorName
from securegan.data.batch import DataSpec
from securegan.errors import UserError
from securegan.evaluation.protocol import Protocol
from securegan.judges.judge import DamagedJudgeError, Judge, from_bytes
from securegan.metrics.backbone import load_backbone
from securegan.metrics.inception import load_inception
from securegan.metrics.quality import FeatureExtractor


def build_extractors(protocol: Protocol, spec: DataSpec, cache_dir: Path) -> list[FeatureExtractor]:
    """The reference Inception network where the protocol names it, then ``metrics.extractors`` in their order.

    Raises:
        UserError: a file that cannot be used, or two extractors whose scores would have one name.
    """
    extractors: list[FeatureExtractor] = []
    if protocol.inception_weights or protocol.inception_download:
        extractors.append(
            load_inception(
                protocol.inception_weights,
                cache_dir,
                download=protocol.inception_download,
                stage=protocol.inception_stage,
            )
        )
    for name in protocol.extractors:
        one = _other_judge(name.path, spec) if name.network == "judge" else load_backbone(*name)
        if any(one.key == other.key for other in extractors):
            raise UserError(f"metrics.extractors names {one.key} twice: the scores of both would have one name.")
        extractors.append(one)
    return extractors


def _other_judge(path: Path, spec: DataSpec) -> Judge:
    """The judge in a file of ``cache_dir/judges``, under a key that no data set's own judge has."""
    written = ExtractorName("judge", path)
    try:
        judge = from_bytes(path.expanduser().read_bytes())
    except OSError as error:
        raise UserError(f"metrics.extractors=[{written}] cannot be read: {error.strerror}.") from error
    except DamagedJudgeError as error:
        raise UserError(f"metrics.extractors=[{written}] holds no judge: {error}.") from error
    reads = (judge.network.channels, judge.network.size)
    if reads != (spec.channels, spec.size):
        raise UserError(
            f"metrics.extractors=[{written}] is of images of {reads[0]} channels and {reads[1]} pixels, and the data "
            f"({spec.name}) are of {spec.channels} channels and {spec.size} pixels."
        )
    judge.key = f"judge_{judge.digest[:8]}"
    return judge
