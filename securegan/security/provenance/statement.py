"""What is signed: an in-toto Statement v1, subjects by their digests and one of the predicates known here.

Parsed from verified bytes alone; a field or predicate that is not known is refused, for who made it meant something by
it that would be passed over.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from typing import Annotated, Any, ClassVar, Literal, TypeAlias

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints, ValidationError

from securegan.security.errors import PolicyError
from securegan.security.provenance import strict_json
from securegan.security.spelling import as_text, moment

PAYLOAD = "application/vnd.in-toto+json"
STATEMENT = "https://in-toto.io/Statement/v1"
FIELDS = {"_type", "subject", "predicateType", "predicate"}
LIMIT = 256 * 2**20  # bytes of a statement: a directory of a million files
MAX_NAME = 255
BYTES, PIXELS = "sha256", "pixelSha256"  # the names of a subject's digests
HEX = re.compile(r"[0-9a-f]{64}")
SHOWN = re.compile(r"[^\x00-\x1f\x7f-\x9f\\]+")  # no control character, no backslash


def now() -> str:
    """The time, as it stands in statements, logs and trust stores: UTC, to the second."""
    return as_text(datetime.now(UTC))


def _time(text: str) -> str:
    moment(text)
    return text


Sha256: TypeAlias = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
Time: TypeAlias = Annotated[str, StringConstraints(max_length=20), AfterValidator(_time)]
Text: TypeAlias = Annotated[str, StringConstraints(min_length=1, max_length=200, pattern=r"^[^\x00-\x1f\x7f-\x9f]+$")]
Count: TypeAlias = Annotated[int, Field(ge=0, lt=2**63)]
Seed: TypeAlias = Annotated[int, Field(gt=-(2**63), lt=2**64)]


class Facts(BaseModel):
    """Fields that are all known and of their own types."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class Watermark(Facts):
    """Which mark an image bears: the id of its key, the digest of the extractor that reads it, the key's epoch."""

    id: Text
    extractor: Sha256
    epoch: Count = 0


class Origin(Facts):
    """Where something comes from, as far as its maker says so; digests are SHA-256."""

    time: Time = Field(default_factory=now)
    software: Text | None = None
    run: Text | None = None
    model: Sha256 | None = None  # of the manifest of the model's folder
    config: Sha256 | None = None
    dataset: Sha256 | None = None
    seed: Seed | None = None
    commit: Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{40}([0-9a-f]{24})?$")] | None = None


class ImageOrigin(Origin):
    """Of an image: who generated it, and that it was generated (IPTC's digital source type)."""

    predicate: ClassVar[str] = "urn:securegan:image:v1"
    source: Literal["trainedAlgorithmicMedia", "compositeWithTrainedAlgorithmicMedia", "algorithmicMedia"] = (
        "trainedAlgorithmicMedia"
    )
    index: Count | None = None  # which image of the seed
    weights: Literal["averaged", "raw"] | None = None  # the generator's moving average, or as it was trained
    watermark: Watermark | None = None


class DirectoryOrigin(Origin):
    """Of a directory: what it is for; its subjects are all the files in it."""

    predicate: ClassVar[str] = "urn:securegan:directory:v1"
    holds: Literal["image", "checkpoint", "dataset", "run"]


PREDICATES: dict[str, type[ImageOrigin] | type[DirectoryOrigin]] = {
    ImageOrigin.predicate: ImageOrigin,
    DirectoryOrigin.predicate: DirectoryOrigin,
}


@dataclass(frozen=True)
class Subject:
    """A file by the digest of its bytes and, if it is an image, of its pixels; ``name``: parted by slashes."""

    name: str
    sha256: str
    pixels: str | None = None

    def __post_init__(self) -> None:
        for part in self.name.split("/"):
            if not SHOWN.fullmatch(part) or part in (".", "..") or len(part.encode()) > MAX_NAME:
                raise ValueError(f"the name {self.name!r} does not stay within its folder")
        if not all(HEX.fullmatch(digest) for digest in (self.sha256, self.pixels) if digest is not None):
            raise ValueError("a digest is not 64 hexadecimal digits")

    def json(self) -> dict[str, Any]:
        digests = {BYTES: self.sha256} | ({} if self.pixels is None else {PIXELS: self.pixels})
        return {"name": self.name, "digest": digests}

    @classmethod
    def of_json(cls, value: Any) -> "Subject":
        if not isinstance(value, dict) or set(value) != {"name", "digest"} or not isinstance(value["digest"], dict):
            raise ValueError("a subject is not a name and its digests")
        digests = value["digest"]
        if not {BYTES} <= set(digests) <= {BYTES, PIXELS}:
            raise ValueError("a subject has not the digests known here")
        if not all(isinstance(text, str) for text in (value["name"], *digests.values())):
            raise ValueError("a subject's name and digests are texts")
        return cls(value["name"], digests[BYTES], digests.get(PIXELS))


@dataclass(frozen=True)
class Statement:
    """Subjects and what is said of them."""

    subjects: tuple[Subject, ...]
    origin: ImageOrigin | DirectoryOrigin

    def payload(self) -> bytes:
        """The bytes to be signed."""
        return strict_json.write(
            {
                "_type": STATEMENT,
                "subject": [subject.json() for subject in self.subjects],
                "predicateType": self.origin.predicate,
                "predicate": self.origin.model_dump(exclude_none=True),
            }
        )

    @cached_property
    def time(self) -> datetime:
        """When it was signed, as the signer says."""
        return moment(self.origin.time)


def read(payload: bytes, wanted: type[ImageOrigin] | type[DirectoryOrigin], what: object) -> Statement:
    """The statement of verified bytes, its predicate of the type ``wanted``. Raises PolicyError about ``what``."""
    try:
        value = strict_json.parse(payload, limit=LIMIT)
        if not isinstance(value, Mapping) or set(value) != FIELDS or value["_type"] != STATEMENT:
            raise ValueError("it is no in-toto statement of version 1")
        kind = value["predicateType"]
        if not isinstance(kind, str) or PREDICATES.get(kind) is not wanted:
            raise ValueError(f"its predicate {str(kind)[:80]!r} is not {wanted.predicate}")
        if not isinstance(value["subject"], list) or not value["subject"]:
            raise ValueError("it has no subject")
        subjects = tuple(Subject.of_json(each) for each in value["subject"])
        return Statement(subjects, wanted.model_validate(value["predicate"]))
    except ValidationError as error:
        said = error.errors(include_url=False)[0]
        where = ".".join(str(part) for part in said["loc"])
        raise PolicyError(f"{what} is refused: in its statement, {where[:80]}: {said['msg']}.") from error
    except ValueError as error:
        raise PolicyError(f"{what} is refused: {error}.") from error
