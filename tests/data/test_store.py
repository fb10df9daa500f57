"""The prepared store: complete or not there, checked when opened, built once, flat in memory."""

import multiprocessing
import os
import pickle
import resource
import zipfile
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from securegan.data.bad_files import BadFiles
from securegan.data.folder import Folder
from securegan.data.records import FileRecords
from securegan.errors import UserError

FORK = multiprocessing.get_context("fork")  # a fresh interpreter would take seconds to import torch


def png(values: np.ndarray) -> bytes:
    buffer = BytesIO()
    Image.fromarray(values).save(buffer, "PNG")
    return buffer.getvalue()


def colour(seed: int) -> bytes:
    return png(np.random.default_rng(seed).integers(0, 256, (8, 8, 3), dtype=np.uint8))


def grey(seed: int) -> bytes:
    return png(np.random.default_rng(seed).integers(0, 256, (8, 8), dtype=np.uint8))


@pytest.fixture
def make(tmp_path: Path) -> Callable[..., Folder]:
    """A data module over a folder of the given files (20 colour images by default)."""

    def made(files: dict[str, bytes] | None = None, **settings: Any) -> Folder:
        root = tmp_path / "images"
        root.mkdir(exist_ok=True)
        for name, data in (files or {f"{n:02}.png": colour(n) for n in range(20)}).items():
            if not (root / name).exists():  # a file written again is another file
                (root / name).write_bytes(data)
        settings.setdefault("path", str(root))
        settings.setdefault("size", 8)
        return Folder(tmp_path / "cache", 0, **settings)

    return made


def store_of(module: Folder) -> Path:
    (header,) = module.cache_dir.glob("data/*/header.json")
    return header.parent


def pixels_of(module: Folder) -> np.ndarray:
    return module._ready().records.read(range(20))


def test_records_are_the_images_in_the_order_of_their_names(make: Callable[..., Folder]) -> None:
    module = make()
    expected = [np.asarray(Image.open(BytesIO(colour(n)))).transpose(2, 0, 1) for n in range(20)]
    assert np.array_equal(pixels_of(module), expected)
    assert np.array_equal(module._ready().records.read([7, 3, 7]), np.stack([expected[7], expected[3], expected[7]]))


def test_folder_and_zip_give_the_same_data(make: Callable[..., Folder], tmp_path: Path) -> None:
    folder = make()
    with zipfile.ZipFile(tmp_path / "images.zip", "w") as archive:
        for n in range(20):
            archive.writestr(f"images/{n:02}.png", colour(n))
    zipped = make(path=str(tmp_path / "images.zip"))
    assert zipped.spec == folder.spec
    assert np.array_equal(pixels_of(zipped), pixels_of(folder))


def test_a_second_opening_decodes_nothing(make: Callable[..., Folder], monkeypatch: pytest.MonkeyPatch) -> None:
    spec = make().spec
    monkeypatch.setattr("securegan.data.layout.decode", lambda *_: pytest.fail("an image was decoded again"))
    assert make().spec == spec


def test_a_changed_file_is_prepared_anew(make: Callable[..., Folder]) -> None:
    before = make().spec.digest
    root = Path(str(make().path))
    (root / "00.png").write_bytes(colour(99))
    os.utime(root / "00.png", ns=(1, 1))
    after = make()
    assert after.spec.digest != before
    assert np.array_equal(pixels_of(after)[0], np.asarray(Image.open(BytesIO(colour(99)))).transpose(2, 0, 1))


@pytest.mark.parametrize("name", ["records.bin", "about.npy", "header.json", "bad_files.json"])
@pytest.mark.parametrize("damage", ["cut", "gone", "changed"])
def test_a_damaged_store_is_built_again(make: Callable[..., Folder], name: str, damage: str) -> None:
    module = make()
    expected, spec = pixels_of(module), module.spec
    path = store_of(module) / name
    whole = path.read_bytes()
    if damage == "cut":
        path.write_bytes(whole[:-3])
    elif damage == "gone":
        path.unlink()
    elif name != "records.bin":  # a changed pixel is not looked for: it would cost a full read at every start
        path.write_bytes(b"[" + whole[1:])
    again = make()
    assert again.spec == spec
    assert np.array_equal(pixels_of(again), expected)
    assert path.read_bytes() == whole


def test_auto_channels_are_1_only_where_all_images_are_grey(make: Callable[..., Folder]) -> None:
    files = {f"{n:02}.png": grey(n) for n in range(20)}
    module = make(files)
    assert module.spec.channels == 1
    assert np.array_equal(pixels_of(module), pixels_of(make(files, channels=1)))
    assert np.array_equal(pixels_of(module).repeat(3, axis=1), pixels_of(make(files, channels=3)))
    assert make(files | {"20.png": colour(0)}).spec.channels == 3


BAD = {"bad.png": b"", "text.jpg": b"not an image", "movie.gif": b"GIF89a"}


def test_bad_files_are_left_out_and_reported(make: Callable[..., Folder]) -> None:
    good = {f"{n:02}.png": colour(n) for n in range(20)}
    jpeg = BytesIO()
    Image.new("RGB", (8, 8)).save(jpeg, "JPEG")
    module = make(good | BAD | {"wrong.png": jpeg.getvalue()})
    assert {file.name for file in module.bad.skipped} == set(BAD)
    assert module.bad.converted == (("wrong.png", "a JPEG file named '.png'"),)
    assert module.bad.counts == {"skipped": 3, "converted": 1}
    assert sum(module.split_size(split) for split in ("train", "calibrate", "validate", "test")) == 21
    assert BadFiles.load(store_of(module) / "bad_files.json") == module.bad == make().bad


def test_bad_files_are_refused_where_asked(make: Callable[..., Folder]) -> None:
    files = {f"{n:02}.png": colour(n) for n in range(20)} | BAD | {f"empty{n}.png": b"" for n in range(3)}
    for _ in range(2):  # while building, and from the finished store
        with pytest.raises(UserError, match=r"6 files cannot be used: 'bad.png' \(the file is empty\).*and 3 more"):
            make(files, on_bad="refuse").setup()


def test_no_usable_image_is_an_error(make: Callable[..., Folder]) -> None:
    module = make(BAD)
    with pytest.raises(UserError, match=r"None of 3 images can be used: 'bad\.png'"):
        module.setup()
    assert [path.suffix for path in (module.cache_dir / "data").iterdir()] == [".lock"]


def _prepare_without_room(module: Folder, results: "multiprocessing.Queue[str]") -> None:
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
    try:
        module.setup()
        results.put("no error")
    except UserError as error:
        results.put(str(error))


def test_a_full_disk_is_one_sentence_and_leaves_nothing(make: Callable[..., Folder]) -> None:
    """A real limit on file sizes, in a process of its own: the write fails half way, as on a full disk."""
    module = make()
    results: multiprocessing.Queue[str] = FORK.Queue()
    process = FORK.Process(target=_prepare_without_room, args=(module, results))
    process.start()
    assert "is full, and the prepared data do not fit" in results.get(timeout=60)
    process.join()
    assert [path.suffix for path in (module.cache_dir / "data").iterdir()] == [".lock"]
    assert module.spec.channels == 3  # with room again, it is built


def test_an_unwritable_cache_is_one_sentence(make: Callable[..., Folder], tmp_path: Path) -> None:
    module = make()
    module.cache_dir.write_text("a file where the cache should be")
    with pytest.raises(UserError, match="cannot be written to"):
        module.setup()


def test_rubble_of_a_killed_process_is_cleared(make: Callable[..., Folder]) -> None:
    spec = make().spec
    place = store_of(make())
    place.rename(f"{place}.partial")
    (Path(f"{place}.partial") / "records.bin").write_bytes(b"half")
    assert make().spec == spec
    assert not Path(f"{place}.partial").exists()


def _prepare(cache: Path, path: str, results: "multiprocessing.Queue[tuple[str, int]]") -> None:
    from securegan.data import layout

    decoded = 0
    plain = layout.decode

    def counted(*arguments: object) -> object:
        nonlocal decoded
        decoded += 1
        return plain(*arguments)  # type: ignore[arg-type]

    layout.decode = counted  # type: ignore[assignment]
    results.put((Folder(cache, 0, path=path, size=8).spec.digest, decoded))


def test_two_processes_at_once_build_one_store(make: Callable[..., Folder]) -> None:
    module = make({f"{n:03}.png": colour(n) for n in range(200)})
    results: multiprocessing.Queue[tuple[str, int]] = FORK.Queue()
    processes = [FORK.Process(target=_prepare, args=(module.cache_dir, module.path, results)) for _ in range(2)]
    for process in processes:
        process.start()
    reports = [results.get(timeout=60) for _ in processes]
    for process in processes:
        process.join()
    assert sorted(decoded for _, decoded in reports) == [0, 200]
    assert {digest for digest, _ in reports} == {module.spec.digest}


def test_reading_keeps_memory_flat(tmp_path: Path) -> None:
    """A store of 512 MB (a hole in the file) is read through without the process growing by a tenth of that."""
    path, shape = tmp_path / "records.bin", (3, 64, 64)
    count = 512 * 2**20 // (3 * 64 * 64)
    with open(path, "wb") as file:
        file.truncate(count * 3 * 64 * 64)
    records = FileRecords(path, shape)
    records.read(range(256))
    before = peak = _resident_bytes()
    for start in range(0, count, 256):
        records.read(range(start, min(start + 256, count)))
        peak = max(peak, _resident_bytes())
    assert peak - before < 50 * 2**20


def _resident_bytes() -> int:
    """Memory of this process, mapped files included."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


def test_records_survive_pickling_and_notice_a_cut_file(tmp_path: Path) -> None:
    path = tmp_path / "records.bin"
    path.write_bytes(bytes(range(192)))
    records = pickle.loads(pickle.dumps(FileRecords(path, (1, 8, 8))))
    assert records.read([2, 0])[:, 0, 0, 0].tolist() == [128, 0]
    assert records.read([]).shape == (0, 1, 8, 8)
    os.truncate(path, 150)
    with pytest.raises(UserError, match="cut short"):
        records.read([2])
