"""Disturbs commands on purpose: killed, interrupted, without room, without their inputs, two at once in one folder.

    python tools/faults.py                              # each fault on each command, about ten minutes on two cores
    python tools/faults.py --only train --seed 3        # what has this in its name, at other moments
    python tools/faults.py --only "two processes" --only killed --times 20
    python tools/faults.py --minutes 5                  # nothing new is begun after five minutes

After each fault the command has either been killed, or it has ended with one sentence and nothing is half-written. Then
it runs again (with --resume where a training has a checkpoint), and what it has made must be what an undisturbed run
makes, to the bit, with no temporary file, lock, folder or process left. The status is 1 where that fails.

Disks that are full or cannot be written are small ones in memory, which root may mount. Without that a limit on the
size of files and folders without permission stand in for them.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import math
import os
import random
import resource
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
MARK = "COMPNET3D_FAULTS"  # in the environment of every process of a trial
SMALL = ("--train", "8", "--val", "2", "--size", "64")


@dataclass(frozen=True)
class Command:
    """What is disturbed.

    Attributes:
        name: of it; line: its arguments, where IN stands for the folder of the inputs and OUT for what it makes.
        inputs: of the folder of the inputs, what it reads; none where it reads nothing.
        whole: what is there where all of it is.
    """

    name: str
    line: tuple[str, ...]
    inputs: tuple[str, ...] = ()
    whole: str = "lists"

    @property
    def goes_on(self) -> bool:
        """Whether a second run goes on where the first one stopped; others make a new folder."""
        return self.name.startswith(("train", "reproduce", "data import"))

    def arguments(self, inputs: Path, out: Path) -> list[str]:
        """Of the command line."""
        words = [word.replace("IN", str(inputs), 1) if word.startswith("IN") else word for word in self.line]
        words = [str(out) if word == "OUT" else word for word in words]
        training = self.name.startswith("train") and (out / "checkpoint").is_dir()
        return [*words, "--resume"] if training else words


TRAIN = ("train", "--data", "IN/data", "--out", "OUT", "--epochs", "2", "--workers", "0", "--device", "cpu")
STUDY = ("--seeds", "1", "--epochs", "2", "--workers", "0", "--device", "cpu", "--baselines", "heads")
COMMANDS = (
    Command("train", (*TRAIN, "--recipe", "IN/one.json"), ("data",)),
    Command("train in two processes", (*TRAIN, "--recipe", "IN/two.json"), ("data",)),
    Command(
        "reproduce",
        ("reproduce", "table2", "table5", "--data", "IN/data", "--out", "OUT", "--recipe", "IN/one.json", *STUDY)
        + ("--occluders", "blobs"),
        ("data",),
    ),
    Command("data make", ("data", "make", "OUT", "--categories", "3", *SMALL, "--workers", "2")),
    Command("data render", ("data", "render", "OUT", "--cad", "IN/data/CAD", *SMALL, "--workers", "1"), ("data/CAD",)),
    Command(
        "data occlude",
        ("data", "occlude", "IN/data", "OUT", "--level", "L1", "--split", "train", "--workers", "2"),
        ("data",),
    ),
    Command(
        "data corrupt",
        ("data", "corrupt", "IN/data", "OUT", "--corruption", "fog", "--split", "train", "--workers", "1"),
        ("data",),
    ),
    Command("data import table", ("data", "import", "table", "IN/table.csv", "OUT", "--workers", "2"), ("data",)),
    Command("data import pascal3d", ("data", "import", "pascal3d", "IN/pascal", "OUT"), ("pascal",)),
    Command(
        "data import coco", ("data", "import", "coco", "IN/coco.json", "OUT", "--poses", "IN/poses.csv"), ("data",)
    ),
    Command("data import bop", ("data", "import", "bop", "IN/bop", "OUT", "--workers", "2"), ("bop",)),
    Command("shapes to render", ("data", "render", "OUT", "--cad", "IN/shapes", *SMALL, "--workers", "1"), ("shapes",)),
    Command(
        "models push",
        ("models", "push", "IN/model", "someone/toys", "--licence", "mit", "--dry-run", "OUT"),
        ("model",),
        "README.md",
    ),
)


# -- what the commands read, and what they make ----------------------------------------------------------------------


def make_inputs(folder: Path) -> None:
    """A data set of three categories in both layouts, and recipes for one process and for two."""
    from compnet3d.procedural.writer import make_dataset
    from compnet3d.training.builtin_recipes import get_recipe

    make_dataset(folder / "data", categories=3, train=8, val=2, size=64, workers=1)
    make_pascal3d(folder / "data", folder / "pascal")
    make_table(folder / "data", folder / "table.csv")
    make_coco(folder / "data", folder)
    make_bop(folder / "data", folder / "bop")
    make_shapes(folder / "data" / "CAD", folder / "shapes")
    for name, processes in (("one", 1), ("two", 2)):
        small = {"schedule.processes": processes, "schedule.batch_size": 8, "search.steps": 2, "search.starts": 1}
        recipe = get_recipe("quickstart").with_settings(small)
        (folder / f"{name}.json").write_text(json.dumps(recipe.to_dict()))
    from compnet3d.training.train import train

    few = get_recipe("quickstart").with_settings({"schedule.processes": 1, "schedule.epochs": 1})
    train(few, folder / "data", folder / "run", workers=0, progress=False).save_pretrained(folder / "model")


def make_table(data: Path, path: Path) -> None:
    """A data set in our layout, as a table beside it."""
    from compnet3d.data.imagenet3d import ImageNet3D

    dataset = ImageNet3D(data)
    lines = ["image,category,split,azimuth_rad,elevation_rad,theta_rad,x1,y1,x2,y2,mask"]
    for split in ("train", "val"):
        for sample in dataset.samples(split):
            mask = "" if sample.mask is None else sample.mask.relative_to(data.parent)
            values = (sample.image.relative_to(data.parent), sample.category, split, sample.azimuth, sample.elevation,
                      sample.theta, *sample.bbox, mask)  # fmt: skip
            lines.append(",".join(map(str, values)))
    path.write_text("\n".join(lines) + "\n")


def make_coco(data: Path, folder: Path) -> None:
    """A data set in our layout, as boxes of COCO and a table of their poses."""
    from compnet3d.data.imagenet3d import ImageNet3D

    dataset = ImageNet3D(data)
    samples = dataset.samples("train")
    images, boxes, poses = [], [], ["annotation_id,azimuth_deg,elevation_deg,theta_deg"]
    for number, sample in enumerate(samples):
        x1, y1, x2, y2 = sample.bbox
        place = {"file_name": str(sample.image.relative_to(folder)), "width": sample.width, "height": sample.height}
        images.append({"id": number, **place})
        box = {"id": number, "image_id": number, "category_id": 1 + dataset.categories.index(sample.category)}
        boxes.append({**box, "bbox": [x1, y1, x2 - x1, y2 - y1]})
        angles = (math.degrees(getattr(sample, key)) for key in ("azimuth", "elevation", "theta"))
        poses.append(",".join(map(str, (number, *angles))))
    names = [{"id": 1 + number, "name": name} for number, name in enumerate(dataset.categories)]
    (folder / "coco.json").write_text(json.dumps({"images": images, "annotations": boxes, "categories": names}))
    (folder / "poses.csv").write_text("\n".join(poses) + "\n")


def make_bop(data: Path, root: Path) -> None:
    """A data set's images in the layout of BOP, one object each, in front of the camera."""
    import trimesh

    from compnet3d.data.imagenet3d import ImageNet3D

    scene = root / "train" / "000001"
    (scene / "rgb").mkdir(parents=True)
    ground, info, cameras = {}, {}, {}
    for number, sample in enumerate(ImageNet3D(data).samples("train")):
        shutil.copy(sample.image, scene / "rgb" / f"{number:06d}.jpg")
        x1, y1, x2, y2 = map(round, sample.bbox)
        cos, sin = math.cos(sample.azimuth), math.sin(sample.azimuth)
        pose = {"cam_R_m2c": [cos, sin, 0, 0, 0, -1, -sin, cos, 0], "cam_t_m2c": [0, 0, 500], "obj_id": 1 + number % 3}
        ground[str(number)], info[str(number)] = [pose], [{"bbox_obj": [x1, y1, x2 - x1, y2 - y1]}]
        cameras[str(number)] = {"cam_K": [500, 0, sample.width / 2, 0, 500, sample.height / 2, 0, 0, 1]}
    (root / "models").mkdir()
    for number, folder in enumerate(sorted((data / "CAD").iterdir())):
        model = trimesh.load(sorted(folder.glob("*.off"))[0], force="mesh").apply_scale(100.0)  # millimetres
        model.export(root / "models" / f"obj_{1 + number:06d}.ply")
    for name, value in (("scene_gt", ground), ("scene_gt_info", info), ("scene_camera", cameras)):
        (scene / f"{name}.json").write_text(json.dumps(value))


def make_shapes(cad: Path, root: Path) -> None:
    """The models of three categories, in a format each: with a file of materials, in one file, as text."""
    import trimesh

    for folder, suffix in zip(sorted(cad.iterdir()), ("obj", "glb", "ply"), strict=True):
        (root / folder.name).mkdir(parents=True)
        model = trimesh.load(sorted(folder.glob("*.off"))[0], force="mesh")
        model.export(root / folder.name / f"01.{suffix}")


def make_pascal3d(data: Path, root: Path) -> None:
    """A data set in our layout, written in that of PASCAL3D+."""
    from scipy.io import savemat

    from compnet3d.data.imagenet3d import ImageNet3D

    dataset = ImageNet3D(data)
    shutil.copytree(data / "CAD", root / "CAD")
    for split in ("train", "val"):
        for sample in dataset.samples(split):
            folder = f"{sample.category}_imagenet"
            for part in ("Images", "Annotations"):
                (root / part / folder).mkdir(parents=True, exist_ok=True)
            shutil.copy(sample.image, root / "Images" / folder / f"{sample.name}.JPEG")
            angles = {key: math.degrees(getattr(sample, key)) for key in ("azimuth", "elevation", "theta")}
            point = dict(zip(("px", "py"), sample.principal_point, strict=True))
            view = {**angles, **point, "distance": sample.distance, "focal": 1, "viewport": round(sample.focal)}
            entry = {"class": sample.category, "bbox": sample.bbox, "cad_index": sample.cad_index, "viewpoint": view}
            record = {"imgsize": [sample.width, sample.height, 3], "objects": entry}
            savemat(root / "Annotations" / folder / f"{sample.name}.mat", {"record": record})
            (root / "Image_sets").mkdir(exist_ok=True)
            with (root / "Image_sets" / f"{folder}_{split}.txt").open("a") as names:
                names.write(f"{sample.name}\n")


def made(out: Path) -> dict[str, Any]:
    """What is in a folder, without times and what else may differ: the digests of its files, the values of its logs."""
    return {str(path.relative_to(out)): _content(path) for path in sorted(out.rglob("*")) if path.is_file()}


def _content(path: Path) -> Any:
    data = path.read_bytes()
    # logs are in JSON too, tables hold the numbers of the evaluations beside measured ones, a summary names its source
    if path.suffix in (".md", ".csv") or path.name.startswith(("table", "times.", "occlusion.")):
        return "is there"
    if path.suffix == ".jsonl":
        return [_timeless(json.loads(line)) for line in data.splitlines()]
    if path.suffix == ".json":
        return _timeless(json.loads(data))
    return hashlib.sha256(data).hexdigest()


def _timeless(value: Any) -> Any:
    """A JSON value without what is measured and where it was made."""
    measured = ("date", "command", "machine", "data", "peak", "settings", "time", "model", "made_with")
    if isinstance(value, dict):
        kept = {key: inner for key, inner in value.items() if not key.startswith(measured) and "second" not in key}
        return {key: _timeless(inner) for key, inner in kept.items()}
    return [_timeless(inner) for inner in value] if isinstance(value, list) else value


# -- one trial -------------------------------------------------------------------------------------------------------


class Failed(Exception):
    """What a trial has found."""


@dataclass
class Trial:
    """A command that is disturbed once.

    Attributes:
        command, fault: what, and how; seed: of the moment.
        folder: of everything that it writes; inputs: what it reads.
        took: seconds of an undisturbed run.
        mark: of its processes; notes: what happened.
    """

    command: Command
    fault: str
    seed: int
    folder: Path
    inputs: Path
    took: float
    mark: str = field(default_factory=lambda: uuid.uuid4().hex)
    notes: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.random = random.Random(f"{self.seed} {self.command.name} {self.fault}")
        self.disk = self.folder / "disk"  # where the command writes
        for place in (self.disk, self.folder / "tmp"):
            place.mkdir(parents=True)

    @property
    def out(self) -> Path:
        """What the command makes."""
        return self.disk / "out"

    def start(self, prepare: Callable[[], None] | None = None) -> subprocess.Popen[str]:
        """The command; `prepare` is called in its process."""
        environment = {**os.environ, MARK: self.mark, "TMPDIR": str(self.folder / "tmp"), "OMP_NUM_THREADS": "1"}
        environment["PYTHONPATH"] = str(ROOT / "src")
        line = [sys.executable, "-m", "compnet3d", *self.command.arguments(self.inputs, self.out)]
        # files, not pipes: a process that lives on too long would keep them open
        with (self.folder / f"said-{len(list(self.folder.glob('said-*')))}").open("w") as said:
            process = subprocess.Popen(line, stdout=said, stderr=said, text=True, env=environment, preexec_fn=prepare)
        process.args = said.name
        return process

    def moment(self) -> float:
        """Seconds, somewhere in an undisturbed run."""
        return self.random.uniform(0.05, 1.05) * self.took

    def wait_for_writing(self, process: subprocess.Popen[str]) -> None:
        """Return when a half-written file or folder is there, one of the first three; or when the command has ended."""
        nth, seen = self.random.randint(1, 3), set[str]()
        while process.poll() is None:
            seen |= {
                path.name
                for pattern in (".*.new-*", "*/.*.new-*", "*/*/*/.*.new-*")
                for path in self.disk.glob(pattern)
            }
            if len(seen) >= nth or (seen and not self.command.goes_on):
                time.sleep(self.random.uniform(0, 0.02) if self.command.goes_on else self.random.uniform(0, 1))
                return
            time.sleep(0.001)

    def end(self, process: subprocess.Popen[str], allowed: Sequence[int]) -> int:
        """Wait for a command and check how it has ended: as allowed, in one sentence if not well."""
        try:
            status = process.wait(300)
        except subprocess.TimeoutExpired:
            process.kill()
            raise Failed("it hangs") from None
        self.notes.append(str(status))
        text = Path(str(process.args)).read_text(errors="replace")
        if status not in allowed:
            raise Failed(f"status {status}: {text[-1500:]}")
        if "Traceback" in text or "Exception ignored" in text:
            raise Failed(f"status {status} with a traceback: {text[-1500:]}")
        sentences = [line for line in text.splitlines() if line.startswith("error: ")]
        if status > 0 and (len(sentences) != 1 or text.splitlines()[-1] != sentences[0]):
            raise Failed(f"status {status} without one sentence at its end: {text[-1500:]}")
        return status

    def check_clean(self, after: str) -> None:
        """Nothing of ours is left beside what was made, and no process."""
        until = time.monotonic() + 20
        while alive := marked_processes(self.mark):
            if time.monotonic() > until:
                raise Failed(f"processes {alive} are left after {after}")
            time.sleep(0.1)
        left = [path for path in self.folder.rglob("*") if ".new-" in path.name or "compnet3d-" in path.name]
        left += [path for path in self.folder.rglob(".*.old")] + list((self.folder / "tmp").glob("compnet3d*"))
        left += [path for path in self.disk.iterdir() if path not in (self.out, self.disk / "lost+found")]
        if left:
            raise Failed(f"left after {after}: {', '.join(sorted({str(p.relative_to(self.folder)) for p in left}))}")
        if not self.command.goes_on and self.out.exists() and not (self.out / self.command.whole).exists():
            raise Failed(f"half of it is there after {after}")

    def run_again(self, wanted: dict[str, Any]) -> None:
        """Run the command once more where it has not ended well by itself, and compare what is there then."""
        done = self.out.exists() if not self.command.goes_on else (self.out / "model").is_dir()
        if not done or (self.command.goes_on and not self.fault.startswith("rank")):
            self.end(self.start(), [0])
            self.check_clean("the second run")
        found = made(self.out)
        if differing := [name for name in sorted({*found, *wanted}) if found.get(name) != wanted.get(name)]:
            raise Failed(f"other than undisturbed: {', '.join(differing[:5])}")


def marked_processes(mark: str) -> list[int]:
    """Processes with this mark in their environment, where Linux tells."""
    found = []
    for place in Path("/proc").glob("[0-9]*"):
        try:
            if f"{MARK}={mark}".encode() in (place / "environ").read_bytes():
                found.append(int(place.name))
        except OSError:
            continue
    return found


@contextmanager
def small_disk(place: Path, options: str) -> Iterator[bool]:
    """A disk in memory at a place, or False where that may not be."""
    command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(place)]
    if subprocess.run(command, capture_output=True).returncode:
        yield False
        return
    try:
        yield True
    finally:
        subprocess.run(["umount", "-l", str(place)], check=True)


def remount(place: Path, options: str) -> None:
    """Change the options of a small disk."""
    subprocess.run(["mount", "-o", f"remount,{options}", str(place)], check=True)


# -- the faults: each disturbs, and checks how the command has ended -------------------------------------------------


def signalled(trial: Trial, what: signal.Signals, ends: int, *, writing: bool) -> None:
    """A signal at some moment, or while something is half-written."""
    process = trial.start()
    if writing:
        trial.wait_for_writing(process)
    else:
        moment = trial.moment()
        trial.notes.append(f"at {moment:.1f} s")
        try:
            process.wait(moment)
        except subprocess.TimeoutExpired:
            pass
    if process.poll() is None:
        process.send_signal(what)
    # before the program has begun to heed it, and after it has ended, a signal ends Python itself
    trial.end(process, [0, ends, -what])
    if what != signal.SIGKILL:
        trial.check_clean("the signal")


def interrupt_twice(trial: Trial) -> None:
    """Ctrl-C from an impatient user; what is left then, the next run removes."""
    process = trial.start()
    trial.wait_for_writing(process)
    for _ in range(2):
        if process.poll() is None:
            process.send_signal(signal.SIGINT)
        time.sleep(trial.random.uniform(0, 0.05))
    trial.end(process, [0, 130, -signal.SIGINT])


def full_disk(trial: Trial, wanted_bytes: int) -> None:
    """No room for all of it."""
    size = max(4096, round(trial.random.uniform(0.02, 0.95) * wanted_bytes))
    trial.notes.append(f"{size:,} bytes")
    with small_disk(trial.disk, f"size={size}") as mounted:
        limits = None if mounted else lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (size // 8, size // 8))
        trial.end(trial.start(limits), [0, 2])
        trial.check_clean("the full disk")
        if mounted:
            keep_what_is_there(trial)


def read_only(trial: Trial) -> None:
    """A place that cannot be written."""
    with small_disk(trial.disk, "size=100m") as mounted:
        if mounted:
            remount(trial.disk, "ro")
        elif os.getuid() == 0:
            raise Failed("skipped: root may not mount here, and permissions do not bind root")
        else:
            trial.disk.chmod(0o555)
        trial.end(trial.start(), [2])
        trial.check_clean("the read-only disk")
    trial.disk.chmod(0o755)


def keep_what_is_there(trial: Trial) -> None:
    """Copy what a small disk holds to where it will be unmounted."""
    copy = trial.folder / "copy"
    shutil.copytree(trial.disk, copy, symlinks=True)
    trial.notes.append("kept " + (",".join(sorted(path.name for path in (copy / "out").glob("*"))) or "nothing"))


def vanishing_input(trial: Trial) -> None:
    """A part of what it reads is gone from some moment on, and comes back."""
    own = trial.folder / "in"
    shutil.copytree(trial.inputs, own)
    theirs, trial.inputs = trial.inputs, own
    process = trial.start()
    try:
        process.wait(trial.moment())
    except subprocess.TimeoutExpired:
        pass
    root = own / trial.random.choice(trial.command.inputs)
    files = sorted(path for path in root.rglob("*") if path.is_file())
    gone = trial.random.sample(files, len(files) // 2)
    for path in gone:
        path.unlink()
    status = trial.end(process, [0, 2])
    trial.check_clean("the vanishing")
    if status == 0 and trial.out.exists() and not trial.command.goes_on:
        # what went before it looked was never there for it: it may have made what belongs to the rest
        (trial.folder / "rest").mkdir()
        rest = Trial(trial.command, "none", 0, trial.folder / "rest", own, 0.0)
        if rest.end(rest.start(), [0, 2]) == 0 and made(rest.out) == made(trial.out):
            shutil.rmtree(trial.out)
    for path in gone:
        shutil.copy(theirs / path.relative_to(own), path)
    text = Path(str(process.args)).read_text()
    if status == 0 and trial.out.exists() and any(word in text for word in ("skipped", "missing", "left out")):
        shutil.rmtree(trial.out)  # it has said what is not in there


def two_at_once(trial: Trial) -> None:
    """Two commands on one folder: one makes it, the other is refused or finds it made."""
    first = trial.start()
    time.sleep(trial.random.choice((0, 0, 1)) * trial.moment() / 2)
    second = trial.start()
    statuses = {trial.end(first, [0, 2]), trial.end(second, [0, 2])}
    if 0 not in statuses:
        raise Failed("both were refused")
    trial.check_clean("two at once")


def rank_hit(trial: Trial, what: signal.Signals) -> None:
    """A signal to one of the processes that train together, at some moment of theirs.

    All are started again, and the run ends.
    """
    process, begun = trial.start(), time.monotonic()
    while process.poll() is None and len(ranks_of(trial, process)) < 2:
        time.sleep(0.05)
    # what is left of an undisturbed run, and a little less than that: at its end there is nobody to hit
    until = time.monotonic() + trial.random.uniform(0, 0.9) * max(1.0, trial.took - (time.monotonic() - begun))
    while process.poll() is None and time.monotonic() < until:
        time.sleep(0.05)
    ranks = ranks_of(trial, process)
    trial.notes.append(f"one of {len(ranks)}")
    if ranks:
        os.kill(trial.random.choice(ranks), what)
    trial.end(process, [0])
    trial.check_clean("a rank was hit")


def ranks_of(trial: Trial, process: subprocess.Popen[str]) -> list[int]:
    """The processes that a command has started to train together."""
    found = []
    for number in marked_processes(trial.mark):
        with suppress(OSError):
            if number != process.pid and b"run_worker" in Path(f"/proc/{number}/cmdline").read_bytes():
                found.append(number)
    return found


FAULTS = (
    *("killed", "killed while writing", "interrupted", "interrupted while writing", "interrupted twice"),
    *("terminated", "terminated while writing", "full disk", "read-only", "vanishing input", "two at once"),
    *("rank killed", "rank terminated"),
)


def disturb(trial: Trial, wanted_bytes: int) -> None:
    """Let the trial's fault happen."""
    writing = trial.fault.endswith("while writing")
    match trial.fault.split()[0]:
        case "killed":
            signalled(trial, signal.SIGKILL, -signal.SIGKILL, writing=writing)
        case "terminated":
            signalled(trial, signal.SIGTERM, 128 + signal.SIGTERM, writing=writing)
        case "interrupted" if trial.fault.endswith("twice"):
            interrupt_twice(trial)
        case "interrupted":
            signalled(trial, signal.SIGINT, 128 + signal.SIGINT, writing=writing)
        case "full":
            full_disk(trial, wanted_bytes)
        case "read-only":
            read_only(trial)
        case "vanishing":
            vanishing_input(trial)
        case "two":
            two_at_once(trial)
        case "rank":
            rank_hit(trial, signal.SIGKILL if trial.fault.endswith("killed") else signal.SIGTERM)


# -- all of them -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Undisturbed:
    """What a command makes when it is left alone: its files, their bytes together, and the seconds it took."""

    files: dict[str, Any]
    bytes: int
    seconds: float


def run_undisturbed(command: Command, folder: Path, inputs: Path) -> Undisturbed:
    """Run a command in peace."""
    trial, start = Trial(command, "none", 0, folder, inputs, 0.0), time.perf_counter()
    trial.end(trial.start(), [0])
    took = time.perf_counter() - start
    trial.check_clean("an undisturbed run")
    size = sum(path.stat().st_size for path in trial.out.rglob("*") if path.is_file())
    return Undisturbed(made(trial.out), size, took)


def attempt(trial: Trial, undisturbed: Undisturbed) -> str:
    """What has come of a trial: "held", or what is wrong."""
    try:
        disturb(trial, undisturbed.bytes)
        if (trial.folder / "copy").is_dir():  # the small disk has gone
            shutil.copytree(trial.folder / "copy", trial.disk, dirs_exist_ok=True)
            shutil.rmtree(trial.folder / "copy")
        trial.run_again(undisturbed.files)
    except Failed as problem:
        return str(problem)
    return "held"


def write_record(path: Path, results: Sequence[tuple[str, str, str]]) -> None:
    """A table for `tools/fill_results.py`: of each command and fault, how often it was tried and did no harm."""
    from compnet3d.reporting.provenance import provenance
    from compnet3d.reporting.tables import Row, Table
    from compnet3d.utils.files import write_json

    kinds = sorted({(command, fault) for command, fault, _ in results})
    verdicts = {kind: [verdict for *of, verdict in results if tuple(of) == kind] for kind in kinds}
    rows = tuple(
        Row(f"{command}: {fault}", (str(len(found)), str(found.count("held"))))
        for (command, fault), found in verdicts.items()
    )
    table = Table("faults", "faults", ("", "tried", "no harm done"), rows)
    write_json(path, {"tables": [table.to_dict()], "settings": provenance(shlex.join(["python", *sys.argv]))})


def main(arguments: Sequence[str] | None = None) -> int:
    """The status: 1 where a fault has done harm."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=25, help="begin nothing new after so many")
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    parser.add_argument("--only", action="append", metavar="NAME", help="commands and faults with this in their name")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write how often each fault did no harm")
    parser.add_argument("--times", type=int, default=1, help="how often each fault is tried, at other moments")
    parser.add_argument("--jobs", type=int, default=2, help="commands that run at once")
    options = parser.parse_args(arguments)
    # started in the background by a shell, we would hand on that Ctrl-C is ignored
    signal.signal(signal.SIGINT, signal.default_int_handler)
    wanted = [
        (command, fault, options.seed + number)
        for number in range(options.times)
        for command in COMMANDS
        for fault in FAULTS
        if (command.inputs or fault != "vanishing input")
        and ("processes" in command.name or not fault.startswith("rank"))
        and all(part in f"{command.name}, {fault}" for part in options.only or ())
    ]
    random.Random(options.seed).shuffle(wanted)
    until, results = time.monotonic() + 60 * options.minutes, []
    with tempfile.TemporaryDirectory(prefix="faults-") as name, ThreadPoolExecutor(options.jobs) as pool:
        inputs, folder = Path(name, "in"), Path(name)
        sys.path.insert(0, str(ROOT / "src"))
        make_inputs(inputs)
        commands = sorted({command for command, *_ in wanted}, key=lambda command: command.name)
        alone = [pool.submit(run_undisturbed, command, folder / command.name, inputs) for command in commands]
        undisturbed = {command: future.result() for command, future in zip(commands, alone, strict=True)}

        def work(number: int) -> None:
            command, fault, seed = wanted[number]
            if time.monotonic() > until:
                return
            start, place = time.perf_counter(), folder / str(number)
            trial = Trial(command, fault, seed, place, inputs, undisturbed[command].seconds)
            verdict = attempt(trial, undisturbed[command])
            took = time.perf_counter() - start
            print(f"{command.name:24} {fault:26} {took:5.1f} s  {', '.join(trial.notes)[:40]:40} {verdict}", flush=True)
            results.append((command.name, fault, verdict))
            shutil.rmtree(place, ignore_errors=True)

        list(pool.map(work, range(len(wanted))))
        if options.json is not None:
            write_record(options.json, results)
    skipped = sum(verdict.startswith("skipped") for *_, verdict in results)
    failed = sum(verdict != "held" for *_, verdict in results) - skipped
    print(f"{len(results)} of {len(wanted)} faults tried, {failed} of them did harm, {skipped} could not be made")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
