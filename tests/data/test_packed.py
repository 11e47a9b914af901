"""Packed data sets: the same samples and pixels as the folder, from anywhere, and nothing broken passes for whole."""

from __future__ import annotations

import hashlib
import http.server
import json
import re
import shutil
import tarfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import fsspec
import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader

from compnet3d.cli import main as cli
from compnet3d.data.augment import Augmentation
from compnet3d.data.epoch_order import epoch_batches
from compnet3d.data.imagenet3d import ImageNet3D
from compnet3d.data.images import load_image, load_mask
from compnet3d.data.loader import CropDataset
from compnet3d.data.members import Member
from compnet3d.data.packed import PackedSet, is_packed, open_data, source_of, split_pattern, verify
from compnet3d.data.packing import pack_dataset
from compnet3d.data.transforms import InputConfig
from compnet3d.errors import CompNetError
from compnet3d.robustness.occluded_data import occlude_dataset
from compnet3d.robustness.shift import Shift
from compnet3d.training.data import TrainingData
from compnet3d.utils.shards import Shard

SPEC = InputConfig(height=40, width=40, focal=110.0, distance=3.0, box_fill=0.8)


@pytest.fixture(scope="module")
def source(tiny_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny data set with masks, a symmetry table, a name with dots, and an object that cannot be used."""
    root = tmp_path_factory.mktemp("source") / "data"
    shutil.copytree(tiny_data, root)
    for sample in ImageNet3D(root).samples("train"):
        mask = np.zeros((sample.height, sample.width), np.uint8)
        mask[10:30, 12:40] = 255
        (root / "masks" / sample.category).mkdir(parents=True, exist_ok=True)
        Image.fromarray(mask).save(root / "masks" / sample.category / f"{sample.name}.png")
    (root / "symmetry.json").write_text('{"brick": {"z": 2}}')
    for folder in ("images", "annotations", "masks"):
        found = next((root / folder / "tower").glob("tower_i000_v01.*"))
        found.rename(root / folder / "tower" / f"v1.2%{found.suffix}")
    path = root / "lists" / "tower_imagenet_train.txt"
    path.write_text(path.read_text().replace("tower_i000_v01", "v1.2%"))
    (root / "annotations" / "brick" / "brick_i001_v01.npz").write_bytes(b"nonsense")
    return root


@pytest.fixture(scope="module")
def packed(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("packed") / "toys"
    pack_dataset(source, out, shard_bytes=30_000, workers=1)
    return out


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


class Ranges(http.server.SimpleHTTPRequestHandler):
    """Serves files; parts of them where `ranges`."""

    ranges = True
    protocol_version = "HTTP/1.1"
    wbufsize = 2**16  # head and body in one packet: the second one would wait for the client

    def log_message(self, *_: Any) -> None:
        pass

    def do_GET(self) -> None:
        wanted = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("Range") or "")
        path = Path(self.translate_path(self.path))
        if not (self.ranges and wanted and path.is_file()):
            return super().do_GET()
        part = path.read_bytes()[int(wanted[1]) : int(wanted[2]) + 1]
        self.send_response(206)
        self.send_header("Content-Length", str(len(part)))
        self.end_headers()
        self.wfile.write(part)


class Whole(Ranges):
    ranges = False


@contextmanager
def served(folder: Path, kind: type[Ranges]) -> Iterator[str]:
    pytest.importorskip("aiohttp")
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), partial(kind, directory=str(folder.parent))) as running:
        running.daemon_threads, running.block_on_close = True, False
        running.handle_error = lambda *_: None  # type: ignore[method-assign]  # clients that hang up
        threading.Thread(target=running.serve_forever, args=(0.05,), daemon=True).start()
        yield f"http://127.0.0.1:{running.server_port}/{folder.name}"
        running.shutdown()


@pytest.fixture
def server(packed: Path) -> Iterator[str]:
    with served(packed, Ranges) as where:
        yield where


def copied(packed: Path, place: Path) -> Path:
    shutil.copytree(packed, place)
    return place


def same(folder: ImageNet3D, packed: ImageNet3D, split: str) -> None:
    before, after = folder.samples(split), packed.samples(split)
    assert [replace(s, image=Path(), mask=None) for s in before] == [replace(s, image=Path(), mask=None) for s in after]
    for old, new in zip(before, after, strict=True):
        assert isinstance(new.image, Member) and isinstance(old.image, Path)
        assert new.image.read() == old.image.read_bytes()
        assert (old.mask is None) == (new.mask is None)
        if new.mask is not None and old.mask is not None:
            assert (load_mask(new.mask) == load_mask(old.mask)).all()


def test_samples_and_files_are_those_of_the_folder(source: Path, packed: Path) -> None:
    folder, opened = ImageNet3D(source), open_data(packed)
    assert isinstance(opened, PackedSet) and not isinstance(open_data(source), PackedSet)
    assert opened.splits == ["train", "val"] and opened.categories == ["brick", "tower"]
    for split in ("train", "val"):
        same(folder, opened, split)
    assert opened.symmetry == folder.symmetry
    assert [len(mesh.vertices) for mesh in opened.meshes("tower")] == [len(m.vertices) for m in folder.meshes("tower")]
    index = json.loads((packed / "index.json").read_text())
    # the val list has the image whose annotation is broken, or the train list; both are counted once
    assert index["left_out"] == {"unreadable annotation": 1}
    assert sum(shard["images"] for shard in index["splits"]["train"]) == 15
    # in another order of categories, and of one alone
    turned = PackedSet(packed, ["tower", "brick"]).samples("train")
    assert [s.key for s in turned] == [s.key for s in ImageNet3D(source, ["tower", "brick"]).samples("train")]
    assert {s.category for s in PackedSet(packed, ["tower"]).samples("val")} == {"tower"}
    with pytest.raises(CompNetError, match="has no usable object in split 'test'"):
        opened.samples("test")


def test_shards_have_the_layout_of_webdataset(source: Path, packed: Path, tmp_path: Path) -> None:
    index = json.loads((packed / "index.json").read_text())
    groups: dict[str, dict[str, bytes]] = {}
    for shard in index["splits"]["train"]:
        path = packed / f"{shard['name']}.tar"
        assert hashlib.sha256(path.read_bytes()).hexdigest() == shard["sha256"]
        assert 15_000 < shard["bytes"] < 60_000
        keys = []
        with tarfile.open(path) as archive:
            for member in archive:
                # as webdataset splits names: all up to the first dot of the last part
                key, suffix = re.fullmatch(r"((?:.*/|)[^.]+)[.]([^/]*)", member.name).groups()  # type: ignore[union-attr]
                keys.append(key)
                file = archive.extractfile(member)
                assert file is not None
                groups.setdefault(key, {})[suffix] = file.read()
        assert [key for key, before in zip(keys, [None, *keys], strict=False) if key != before] == list(
            dict.fromkeys(keys)
        )  # what belongs together lies together
    assert len(groups) == 15 and all(set(group) == {"JPEG", "npz", "mask.png"} for group in groups.values())
    assert groups["tower/v1%2E2%25"]["JPEG"] == (source / "images/tower/v1.2%.JPEG").read_bytes()
    assert groups["brick/brick_i000_v00"]["npz"] == (source / "annotations/brick/brick_i000_v00.npz").read_bytes()
    # neighbours are of different categories, but for chance
    order = [key.partition("/")[0] for key in groups]
    assert sum(a != b for a, b in zip(order, order[1:], strict=False)) > 4
    with pytest.raises(CompNetError, match="not an empty folder"):
        pack_dataset(source, packed)


@pytest.mark.slow  # it starts processes
def test_shards_do_not_depend_on_the_number_of_processes(source: Path, packed: Path, tmp_path: Path) -> None:
    pack_dataset(source, tmp_path / "again", shard_bytes=30_000, workers=2)
    assert {p.name: p.read_bytes() for p in (tmp_path / "again").iterdir() if p.is_file()} == {
        p.name: p.read_bytes() for p in packed.iterdir() if p.is_file()
    }


def test_occluded_data_keep_their_masks(source: Path, tmp_path: Path) -> None:
    occlude_dataset(source, tmp_path / "hidden", Shift("L1"), split="train")
    pack_dataset(tmp_path / "hidden", tmp_path / "out", workers=1)
    before, after = ImageNet3D(tmp_path / "hidden").samples("train"), open_data(tmp_path / "out").samples("train")
    assert [s.hidden for s in after] == [s.hidden for s in before] and after[0].hidden is not None
    for old, new in zip(before, after, strict=True):
        assert isinstance(new.occluder_mask, Member) and isinstance(old.occluder_mask, Path)
        assert new.occluder_mask.read() == old.occluder_mask.read_bytes()


@pytest.mark.parametrize("how", ["file", "memory", "http", "simplecache"])
def test_any_url_gives_the_same(how: str, source: Path, packed: Path, request: pytest.FixtureRequest) -> None:
    if how == "memory":
        memory = fsspec.filesystem("memory")
        for path in packed.rglob("*"):
            if path.is_file():
                memory.pipe(f"/toys/{path.relative_to(packed).as_posix()}", path.read_bytes())
        where = "memory://toys"
    elif how == "file":
        where = f"file://{packed}"
    else:
        where = ("simplecache::" if how == "simplecache" else "") + request.getfixturevalue("server")
    opened = PackedSet(where)
    same(ImageNet3D(source), opened, "train")
    assert opened.meshes("brick") and opened.symmetry and verify(where) == []
    assert TrainingData.read(where).sources == (where,)
    # once more, from the copy of the small files
    assert len(PackedSet(where).samples("val")) == 16
    some = PackedSet(f"{where}/train-{{000000..000001}}.tar")
    assert {s.image.shard for s in some.samples("train") if isinstance(s.image, Member)} == {
        f"{where}/train-00000{number}.tar" for number in (0, 1)
    }


def test_records_name_where_data_come_from(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert source_of("toys") == str(tmp_path.resolve() / "toys")
    assert source_of(Path("toys/train-{0..1}.tar")) == str(tmp_path.resolve() / "toys" / "train-{0..1}.tar")
    assert source_of("s3://bucket/toys@2/train-{0..1}.tar") == "s3://bucket/toys@2/train-{0..1}.tar"
    # a password is nobody's business
    assert source_of("simplecache::https://me:secret@host/a@b") == "simplecache::https://host/a@b"


def test_a_server_without_parts_is_named_and_can_be_copied_from(source: Path, packed: Path) -> None:
    with served(packed, Whole) as where:
        sample = PackedSet(where).samples("train")[0]
        with pytest.raises(CompNetError, match="sends whole files instead of parts; give simplecache::http"):
            load_image(sample.image)
        same(ImageNet3D(source), PackedSet(f"simplecache::{where}"), "train")


class Flaky(Ranges):
    """Answers no request for a part at the first attempt."""

    asked: ClassVar[set[str]] = set()

    def do_GET(self) -> None:
        wanted = f"{self.path} {self.headers.get('Range')}"
        if wanted in self.asked or ".tar" not in self.path:
            return super().do_GET()
        self.asked.add(wanted)
        self.send_error(503)


def test_a_request_that_fails_is_sent_again(source: Path, packed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    waits: list[float] = []
    monkeypatch.setattr("compnet3d.data.members.time.sleep", waits.append)
    with served(packed, Flaky) as where:
        same(ImageNet3D(source), PackedSet(where), "train")
    assert set(waits) == {0.5} and len(waits) >= 15
    # gone for good: at the third attempt it is an error that names the shard
    sample = PackedSet(packed).samples("train")[0]
    assert isinstance(sample.image, Member)
    waits.clear()
    with pytest.raises(CompNetError, match=r"^memory://gone/train-0.tar: .*restore the shard"):
        load_image(replace(sample.image, shard="memory://gone/train-0.tar"))
    assert waits == [0.5, 5.0]


def test_other_commands_say_that_they_want_a_folder(packed: Path) -> None:
    with pytest.raises(CompNetError, match="has no usable object in split 'val': it is packed, which train, evaluate"):
        ImageNet3D(packed).samples("val")


def test_patterns() -> None:
    assert split_pattern("a/b/train-{00..02}.tar") == ("a/b", ["train-00", "train-01", "train-02"])
    assert split_pattern("http://h/x/{a,b}-{1..2}.tar") == ("http://h/x", ["a-1", "a-2", "b-1", "b-2"])
    assert split_pattern("x/train-5.tar") == ("x", ["train-5"]) and split_pattern("train-5.tar")[0] == "."
    assert split_pattern("data/toys/") == ("data/toys", None) and split_pattern("/") == ("/", None)
    assert is_packed("s3://bucket/toys") and not is_packed("nowhere")


def crops(dataset: ImageNet3D, **options: Any) -> CropDataset:
    augmentation = Augmentation(scale=(0.8, 1.2), copy_paste=0.8, background_swap=0.5)
    return CropDataset(dataset.samples("train"), dataset.categories, SPEC, augmentation=augmentation, **options)


def equal(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> bool:
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


def test_crops_are_the_same_to_the_bit(source: Path, packed: Path, server: str) -> None:
    folder, local, remote = crops(ImageNet3D(source)), crops(PackedSet(packed)), crops(PackedSet(server))
    keys = [(epoch, index) for epoch in range(2) for index in range(len(folder))]
    for one, two, three in zip(
        folder.__getitems__(keys), local.__getitems__(keys), remote.__getitems__(keys), strict=True
    ):
        assert equal(one, two) and equal(one, three)


def flip(path: Path, offset: int) -> None:
    data = bytearray(path.read_bytes())
    data[offset] ^= 1
    path.write_bytes(data)


def test_broken_shards_stop_or_are_left_out_by_name(packed: Path, tmp_path: Path, capsys: Any) -> None:
    toys = copied(packed, tmp_path / "toys")
    total = len(PackedSet(toys).samples("train"))
    with (toys / "train-000001.tar").open("r+b") as file:
        file.truncate(5000)
    (toys / "train-000002.tar").unlink()
    with pytest.raises(CompNetError, match=r"2 of \d+ shards are broken .*000001.tar: has 5,000 bytes instead of"):
        PackedSet(toys)
    left = PackedSet(toys, broken="skip")
    error = capsys.readouterr().err
    lost = sum(s["images"] for s in json.loads((toys / "index.json").read_text())["splits"]["train"][1:3])
    assert f"({lost} images)" in error and "train-000002.tar: is missing" in error and error.count("\n") == 1
    assert len(left.samples("train")) == total - lost
    assert len(PackedSet(f"{toys}/train-000000.tar").samples("train")) < total  # what is not asked for may be broken
    faults = verify(toys)
    assert len(faults) == 2 and "train-000001.tar: has 5,000 bytes" in faults[0] and "is missing" in faults[1]


def test_damaged_bytes_are_found_when_they_are_read(packed: Path, tmp_path: Path, capsys: Any) -> None:
    toys = copied(packed, tmp_path / "toys")
    victim = PackedSet(toys).samples("train")[3]
    assert isinstance(victim.image, Member)
    flip(Path(victim.image.shard), victim.image.offset + 40)
    dataset = crops(PackedSet(toys))
    with pytest.raises(CompNetError, match=rf"^{victim.image.shard}: {victim.image.name}: its bytes are not those"):
        dataset[0, 3]
    skipping = crops(PackedSet(toys, broken="skip")).plain()
    assert equal(skipping[0, 3], skipping[0, 4]) and skipping[0, 3]["index"] == 4
    error = capsys.readouterr().err
    assert error.startswith(f"{victim.image.shard}") and "1 images so far" in error and error.count("\n") == 1
    assert [fault.partition(": ")[0] for fault in verify(toys)] == [victim.image.shard]
    (toys / "train-000000.jsonl").write_text("{}\n")
    with pytest.raises(CompNetError, match=r"train-000000.jsonl: cannot be read as the index of a shard"):
        PackedSet(toys).samples("train")
    for shard in toys.glob("train-*.tar"):
        shard.write_bytes(bytes(shard.stat().st_size))
    with pytest.raises(CompNetError, match="cannot be read as the index"):
        PackedSet(toys, broken="skip").samples("train")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda index: index.update(version=2), "is no index of a packed data set"),
        (lambda index: index["files"][0].update(name="../../evil"), "a file outside the data set"),
        (lambda index: index["files"][0].update(name="/etc/passwd"), "a file outside the data set"),
        (lambda index: index["splits"]["train"][0].update(name="../x"), "a shard with the name"),
        (lambda index: index.pop("splits"), "is no index of a packed data set"),
        (lambda index: index["splits"]["train"][0].update(bytes="many"), "is no index of a packed data set"),
        (lambda index: index.update(splits=[]), "is no index of a packed data set"),
    ],
)
def test_an_index_that_is_none_is_refused(change: Any, message: str, packed: Path, tmp_path: Path) -> None:
    toys = copied(packed, tmp_path / "toys")
    index = json.loads((toys / "index.json").read_text())
    change(index)
    (toys / "index.json").write_text(json.dumps(index))
    with pytest.raises(CompNetError, match=message):
        PackedSet(f"file://{toys}")
    with pytest.raises(CompNetError, match=message):
        PackedSet(toys)


def test_small_files_from_a_url_are_compared_with_their_checksums(packed: Path, tmp_path: Path) -> None:
    toys = copied(packed, tmp_path / "toys")
    flip(toys / "CAD" / "brick" / "01.off", 30)
    with pytest.raises(CompNetError, match=r"CAD/brick/01.off: its bytes are not those that were packed"):
        PackedSet(f"file://{toys}")
    assert not list((tmp_path / "cache").rglob("*.off"))
    with pytest.raises(CompNetError, match=r"nowhere/index.json: is missing"):
        PackedSet("memory://nowhere")
    with pytest.raises(CompNetError, match="cannot be read without another package|gopher"):
        PackedSet("gopher://nowhere/toys")
    with pytest.raises(CompNetError, match=r"has no shard train-000008.tar; it has 7"):
        PackedSet(f"{packed}/train-{{000008..000009}}.tar")


# -- the order of an epoch ---------------------------------------------------------------------------------------------


def batches_of(shards: list[int], count: int, seed: int = 0, **options: int) -> list[list[int]]:
    return epoch_batches(shards, count, torch.Generator().manual_seed(seed), **options)


def test_an_epoch_has_every_sample_once_in_batches_of_one_size() -> None:
    shards = [index // 37 for index in range(1000)]
    for options in ({}, {"window": 200, "lanes": 4}, {"window": 0, "lanes": 16}, {"window": 999, "lanes": 7}):
        batches = batches_of(shards, 33, **options)
        assert sorted(index for batch in batches for index in batch) == list(range(1000))
        assert {len(batch) for batch in batches} == {30, 31}
        assert batches == batches_of(shards, 33, **options) != batches_of(shards, 33, seed=1, **options)


def test_what_fits_the_window_is_shuffled_as_a_folder_is() -> None:
    order = torch.randperm(100, generator=torch.Generator().manual_seed(5)).tolist()
    shards = [index // 10 for index in range(100)]
    assert [i for batch in batches_of(shards, 1, seed=5, window=100) for i in batch] == order
    assert [i for batch in batches_of([None] * 100, 1, seed=5, window=1) for i in batch] == order  # type: ignore[list-item]


def test_few_shards_are_in_use_at_a_time_and_ranks_read_different_ones() -> None:
    size, lanes, window, count = 200, 8, 800, 400
    shards = [index // size for index in range(64 * size)]
    batches = batches_of(shards, count, window=window, lanes=lanes)
    first, last = {}, {}
    for number, batch in enumerate(batches):
        for index in batch:
            first.setdefault(shards[index], number)
            last[shards[index]] = number
    # a shard of 200 samples, each moved by less than 100, takes 300 places of its lane, and a batch has 4 of these
    assert max(last[shard] - first[shard] for shard in first) <= 300 / 4 + 2
    in_use = [sum(first[shard] <= number <= last[shard] for shard in first) for number in range(count)]
    assert max(in_use) <= 2 * lanes + 2
    for world in (2, 4, 8):
        read = [{shards[i] for batch in batches for i in Shard(rank + 1, world).of(batch)} for rank in range(world)]
        shared = sum(map(len, read)) - 64
        assert shared == 0, f"{shared} of 64 shards are read by two of {world}"
    # batches are mixed: neighbours in the list are not neighbours in the epoch
    assert np.mean([len({shards[i] for i in batch}) for batch in batches]) > lanes


class _Shares(torch.utils.data.Sampler[list[tuple[int, int]]]):
    """A rank's share of the batches, from one on."""

    def __init__(self, batches: list[list[int]], rank: int, world_size: int, done: int = 0) -> None:
        self.batches, self.shard, self.done = batches, Shard(rank + 1, world_size), done

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        for batch in self.batches[self.done :]:
            yield [(2, index) for index in self.shard.of(batch)]


@pytest.mark.parametrize(("world_size", "workers"), [(1, 0), (1, 2), (3, 1)])
def test_ranks_and_workers_see_each_sample_once_and_go_on_in_the_middle(
    world_size: int, workers: int, packed: Path
) -> None:
    data = crops(PackedSet(packed))
    batches = epoch_batches(data.samples.shards, 4, torch.Generator().manual_seed(1), window=4, lanes=2)

    def seen(done: int) -> list[list[int]]:
        samplers = [_Shares(batches, rank, world_size, done) for rank in range(world_size)]
        loaders = [DataLoader(data, batch_sampler=sampler, num_workers=workers) for sampler in samplers]
        parts = [[batch["index"].tolist() for batch in loader] for loader in loaders]
        return [sum(share, []) for share in zip(*parts, strict=True)]

    assert seen(0) == batches
    assert seen(2) == batches[2:]


# -- commands ----------------------------------------------------------------------------------------------------------


def test_commands_pack_and_check(source: Path, tmp_path: Path, capsys: Any) -> None:
    toys = tmp_path / "toys"
    cli.main(["data", "pack", str(source), str(toys), "--workers", "1"])
    printed = capsys.readouterr().out
    assert "left out: 1 x unreadable annotation" in printed and "train: 15 images, 0 MB, train-000000.tar\n" in printed
    with pytest.raises(SystemExit) as stop:
        cli.main(["data", "check", str(toys)])
    assert not stop.value.code and "all bytes are those that were packed" in capsys.readouterr().out
    flip(toys / "train-000000.tar", 600)
    with pytest.raises(SystemExit) as stop:
        cli.main(["data", "check", f"file://{toys}"])
    assert stop.value.code == 1 and "train-000000.tar: its bytes are not" in capsys.readouterr().out


@pytest.mark.slow
def test_training_on_shards_is_training_on_the_folder_to_the_bit(source: Path, tmp_path: Path) -> None:
    pack_dataset(source, tmp_path / "toys", workers=1)
    line = ["train", "--recipe", "quickstart", "--epochs", "1", "--workers", "0", "--set", "schedule.processes=1"]
    cli.main([*line, "--data", str(source), "--out", str(tmp_path / "a")])
    cli.main([*line, "--data", f"file://{tmp_path}/toys/{{train,val}}-000000.tar", "--out", str(tmp_path / "b")])
    weights = [tmp_path / run / "model" / "model.safetensors" for run in "ab"]
    assert weights[0].read_bytes() == weights[1].read_bytes()
