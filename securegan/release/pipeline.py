"""Images from a generator to files that others may have: sampled, screened, signed, encrypted, written and logged.

Image i is a function of the seed and i, so the log is all the memory that a release needs: its last entry says how far
it came. An image's files are whole and on the disk before its entry is written, and the sidecar before the image; what
lies there without an entry is rubble of a process that was killed, and is removed; more than that can be, and the log
was cut (:mod:`.leftovers`). So a release that is killed anywhere and started again has every image once in the log, and
none unsigned.
"""

import hashlib
import io
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from torch import Tensor

from securegan.errors import UserError
from securegan.models.base import GenerativeModule
from securegan.release.entries import REJECTED, RELEASED, REVIEW, Kind, ReleaseLog, Use, of_key, of_model, of_recipients
from securegan.release.flush import flush
from securegan.release.leftovers import sweep
from securegan.release.plan import FOLDERS, Plan, plain_text
from securegan.release.record import Counts, Record
from securegan.release.screening import Screen
from securegan.release.stopwatch import Stopwatch
from securegan.runs.sampling import in_8_bits, picture, whole_batches
from securegan.security.durable import written
from securegan.security.envelope.files import SUFFIX as SEALED
from securegan.security.provenance.log import Entry
from securegan.security.provenance.pixels import digest_of
from securegan.security.provenance.sidecar import SUFFIX
from securegan.security.provenance.signing import PublicKey


@dataclass(frozen=True)
class Tools:
    """What is done to an image's bytes, and where it is written down.

    ``sign(file, name, number, pixels)`` gives the sidecar; ``pixels`` is their digest. ``seal(data, name)`` gives the
    envelope; without it files are written as they are. ``keys`` are those that sign, to be named in the log;
    ``check()`` raises PolicyError where one of them must not any more.
    ``recipients``: kids, where they may have changed.
    """

    sign: Callable[[bytes, str, int, str], bytes]
    seal: Callable[[bytes, str], bytes] | None
    log: ReleaseLog
    keys: Mapping[Use, PublicKey] = field(default_factory=dict)
    check: Callable[[], object] = lambda: None
    recipients: Sequence[str] | None = None


@dataclass(frozen=True)
class _Image:
    number: int
    pixels: Tensor  # uint8 (C, H, W)
    label: str
    flagged: bool
    scores: list[float]


class Pipeline:
    """One release, in a folder that this process has to itself."""

    def __init__(self, module: GenerativeModule, screen: Screen, plan: Plan, folder: Path, tools: Tools) -> None:
        self.module, self.screen, self.plan, self.folder, self.tools = module, screen, plan, folder, tools
        self.watch = Stopwatch()
        self.counts = Counts()
        self.made = self.sealed = 0  # images and envelopes of this process

    def run(self, n: int, progress: Callable[[int], object] = lambda done: None) -> Counts:
        """Bring the release to images 0 to ``n`` - 1, whatever there is of it already; gives the counts of all.

        Args: progress: called with how many images are done.
        Raises UserError where the disk is full or refuses, a key has expired or was revoked, or the log is not as it
        was left; what was logged stands, and the same call goes on.
        """
        self._count()
        first = self.counts.all
        progress(first)
        try:
            for part in FOLDERS.values():
                (self.folder / part).mkdir(exist_ok=True)
                sweep(self.folder / part, first)
            with ThreadPoolExecutor(min(4, len(os.sched_getaffinity(0)))) as pool:
                waiting: list[Future[Entry]] = []
                try:
                    for images in self._screened(first, n):
                        self.tools.check()
                        following = [pool.submit(self._finish, image) for image in images]
                        waiting, ready = following, waiting
                        self._commit(ready, progress)
                    self._commit(waiting, progress)
                except BaseException:
                    pool.shutdown(cancel_futures=True)
                    raise
        except (OSError, UserError) as error:
            reason = f"{self.folder}: {error.strerror}" if isinstance(error, OSError) else str(error).rstrip(".")
            raise UserError(
                f"{reason}; the {self.counts.all} images done so far are kept, and the same command goes on from there."
            ) from error
        return self.counts

    def _count(self) -> None:
        """How far an earlier process came, as the log says."""
        record, log = Record(self.plan), self.tools.log
        log.read(record.see)
        record.require_whole(self.folder)
        self.counts = record.counts
        changed = [of_key(self.plan, use, key) for use, key in self.tools.keys.items() if not record.under(use, key)]
        recipients = self.tools.recipients
        if recipients is not None and sorted(recipients) != sorted(record.recipients):
            changed.append(of_recipients(self.plan, recipients))
        if new := [*([] if record.begun else [of_model(self.plan)]), *changed]:
            log.append(new)

    def _add(self, entry: Entry) -> None:
        self.counts.add(entry.kind)

    def _screened(self, first: int, stop: int) -> Iterator[list[_Image]]:
        """The images ``first`` to ``stop`` (exclusive), by forwards; judged by the pixels that will be in the file."""
        plan, names = self.plan, self.module.spec.class_names
        if first >= stop:
            return
        batches = whole_batches(self.module, first, stop, seed=plan.seed, label=plan.label, averaged=plan.averaged)
        while True:
            with self.watch.stage("sample"):
                batch = next(batches, None)
                if batch is None:
                    return
                numbers, images, labels = batch
                pixels = in_8_bits(images)
            with self.watch.stage("screen"):
                flagged, scores = self.screen(pixels.float() / 255)
            pixels = pixels.cpu()
            yield [
                _Image(
                    number,
                    pixels[i],
                    "" if labels is None else plain_text(names[int(labels[i])]),
                    bool(flagged[i]),
                    scores[i].tolist(),
                )
                for i, number in enumerate(numbers)
                if first <= number < stop
            ]

    def _finish(self, image: _Image) -> Entry:
        """Write the files of an image; gives its entry for the log."""
        name = f"{image.number:06d}.png"
        kind: Kind = RELEASED if not image.flagged else REVIEW if self.plan.on_flagged == "review" else REJECTED
        channels, height, width = image.pixels.shape
        raw = image.pixels.permute(1, 2, 0).contiguous().numpy().tobytes()
        with self.watch.stage("sign"):
            pixels = digest_of("L" if channels == 1 else "RGB", width, height, raw)
        told: dict[str, str | int | bool] = {"release": self.plan.id, "number": image.number, "pixels": pixels}
        if image.label:
            told["class"] = image.label
        for detector, score in zip(self.screen.detectors, image.scores, strict=True):
            told[f"score {detector.name}"] = f"{score:.6g}"
        if kind == REJECTED:
            return Entry(kind=kind, name=name, details=told)
        with self.watch.stage("encode"):
            held = io.BytesIO()
            picture(image.pixels).save(held, format="PNG")
            data = held.getvalue()
        files, signed = {name: data}, None
        if kind == RELEASED:
            with self.watch.stage("sign"):
                # the sidecar first: an image that can be seen can be verified
                files = {name + SUFFIX: self.tools.sign(data, name, image.number, pixels), name: data}
                signed = hashlib.sha256(files[name + SUFFIX]).hexdigest()
        if self.tools.seal is not None:
            with self.watch.stage("encrypt"):
                files = {f"{part}{SEALED}": self.tools.seal(content, part) for part, content in files.items()}
        with self.watch.stage("write"):
            _write(self.folder / FOLDERS[kind], files)
        subject = hashlib.sha256(data).hexdigest()
        return Entry(kind=kind, subject=subject, sidecar=signed, name=name, details=told)

    def _commit(self, ready: Sequence[Future[Entry]], progress: Callable[[int], object]) -> None:
        """Log the images of a forward, once their files are on the disk."""
        if not ready:
            return
        entries = [future.result() for future in ready]
        self.tools.check()
        with self.watch.stage("flush"):
            flush(self.folder)
        with self.watch.stage("log"):
            self.tools.log.append(entries)
        for entry in entries:
            self._add(entry)
            self.made += 1
            if self.tools.seal is not None and entry.kind != REJECTED:
                self.sealed += 2 if entry.kind == RELEASED else 1
        progress(self.counts.all)


def _write(folder: Path, files: Mapping[str, bytes]) -> None:
    for name, content in files.items():
        with written(folder / name, replace=True, mode=0o644, flush=False) as file:
            file.write(content)
