"""What is installed on this machine and whether it works: the checks of `compnet3d doctor`."""

from __future__ import annotations

import os
import platform
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from functools import partial
from importlib import import_module, metadata
from pathlib import Path
from typing import Literal

from compnet3d import __version__
from compnet3d.utils.files import Json

# what each extra of the package is needed for
FEATURES = {
    "viz": "HTML reports and plots",
    "video": "videos and cameras (`predict`)",
    "sfm": "walks round an object (`data import walk`)",
    "onnx": "detectors in ONNX (`predict --detector`)",
    "demo": "the demo in the browser (`compnet3d demo`)",
    "collada": "CAD models in COLLADA (.dae)",
    "tensorboard": "TensorBoard (`train --log tensorboard`)",
    "wandb": "Weights & Biases (`train --log wandb`)",
    "stream": "packed data sets over http(s)",
    "serve": "predictions over HTTP and the annotation page (`compnet3d serve`, `annotate`)",
    "export": "exported models (`compnet3d export`)",
    "docs": "building the documentation",
    "dev": "work on the code: tests, style, types",
    "fuzz": "fuzzing the readers (`make fuzz`)",
}
Status = Literal["ok", "note", "missing", "broken"]


@dataclass(frozen=True)
class Check:
    """One line of the doctor.

    Attributes:
        section: what it belongs to; name: of what was looked at; found: what is there.
        status: "ok"; "note": works, and could be better; "missing": a feature lacks something; "broken": the main job
            (training, predicting) does not work.
        advice: what to do, empty where nothing is.
    """

    section: str
    name: str
    found: str
    status: Status = "ok"
    advice: str = ""


def examine(data: Path) -> list[Check]:
    """All checks, those of the software first; none raises.

    Args:
        data: a data set, near which pretrained weights are looked for (it need not exist).
    """
    software = list(_software())
    if any(check.status == "broken" for check in software):
        # what follows computes with these packages
        return [*software, *_places()]
    return [*software, *_features(), *_devices(), *_places(), *_weights(data), *_trials()]


def works(checks: Sequence[Check]) -> bool:
    """Whether the main job does: training and predicting."""
    return all(check.status != "broken" for check in checks)


def to_dict(checks: Sequence[Check]) -> Json:
    """For JSON: whether the main job works, and every check."""
    return {"works": works(checks), "checks": [asdict(check) for check in checks]}


def print_checks(checks: Sequence[Check]) -> None:
    """Print each section, what to do below what was found, and one sentence at the end."""
    from rich.table import Table
    from rich.text import Text

    from compnet3d.reporting.terminal import terminal
    from compnet3d.utils.text import printable

    colours = {"ok": "green", "note": "yellow", "missing": "yellow", "broken": "bold red"}
    console = terminal()
    for section in dict.fromkeys(check.section for check in checks):
        table = Table.grid(padding=(0, 2, 0, 0))
        table.add_column(min_width=7)
        table.add_column(min_width=22, max_width=30, overflow="fold")
        table.add_column(overflow="fold")
        for check in checks:
            if check.section == section:
                found = Text(printable(check.found))
                if check.advice:
                    found.append(f"\n{printable(check.advice)}", "bold")
                table.add_row(Text(check.status, colours[check.status]), Text(printable(check.name)), found)
        console.print(Text(section, "bold"))
        console.print(table)
        console.print()
    if works(checks):
        console.print("[green]compnet3d works here[/green]")
    else:
        console.print("[bold red]compnet3d does not work here[/bold red]: see what to do about each broken line")


def _software() -> Iterator[Check]:
    """Python, compnet3d and every package that it cannot do without."""
    section = "software"
    yield Check(section, "Python", f"{platform.python_version()}, {platform.system()} {platform.machine()}")
    yield Check(section, "compnet3d", __version__)
    try:
        requirements = metadata.requires("compnet3d") or []
    except metadata.PackageNotFoundError:
        advice = 'install it: pip install "compnet3d", or pip install . in its folder'
        yield Check(section, "compnet3d", "its code is here, but it is not installed", "note", advice)
        return
    for name, needed in _needed(requirements, ""):
        found, fits = _installed(name, needed)
        if fits:
            yield Check(section, name, found)
        else:
            yield Check(section, name, f"{found}, needs {needed}", "broken", f'pip install "{name}{needed}"')
    yield _tried(section, "import torch", lambda: import_module("torch"))


def _features() -> Iterator[Check]:
    """Each extra: what it is for, and whether its packages are there."""
    with suppress(metadata.PackageNotFoundError):
        requirements = metadata.requires("compnet3d") or []
        for extra in metadata.metadata("compnet3d").get_all("Provides-Extra") or []:
            lacking = [name for name, needed in _needed(requirements, extra) if not _installed(name, needed)[1]]
            found = f"lacks {', '.join(lacking)}" if lacking else "all there"
            advice = f'pip install "compnet3d[{extra}]"' if lacking else ""
            what = f"{extra}: {FEATURES.get(extra, 'optional')}"
            yield Check("optional features", what, found, "missing" if lacking else "ok", advice)


def _needed(requirements: Sequence[str], extra: str) -> Iterator[tuple[str, str]]:
    """Names and version ranges of the packages that an extra adds here; those that are always needed for ""."""
    from packaging.requirements import Requirement

    for requirement in map(Requirement, requirements):
        marker = requirement.marker
        always = marker is None or marker.evaluate({"extra": ""})
        if always == (not extra) and (marker is None or marker.evaluate({"extra": extra})):
            yield requirement.name, str(requirement.specifier)


def _installed(name: str, needed: str) -> tuple[str, bool]:
    """The version of a package that is installed, and whether it is in a range."""
    from packaging.specifiers import SpecifierSet

    try:
        version = metadata.version(name)
    except metadata.PackageNotFoundError:
        return "not installed", False
    # versions with a build's name, such as 2.9.0+cpu, and preliminary ones count too
    return version, SpecifierSet(needed).contains(version, prereleases=True)


def _devices() -> Iterator[Check]:
    """What computes: processor, threads, bfloat16, GPUs."""
    import torch

    from compnet3d.utils.matmul import bf16_is_fast, processor_has
    from compnet3d.utils.workers import available_cores

    section, cores, threads = "devices", available_cores(), torch.get_num_threads()
    yield Check(section, "processor", f"{cores} of {os.cpu_count()} cores may be used")
    limit = os.environ.get("OMP_NUM_THREADS")
    if limit is not None and threads < cores:
        advice = "unset OMP_NUM_THREADS to compute with all cores"
        yield Check(section, "threads", f"{threads} (OMP_NUM_THREADS={limit})", "note", advice)
    else:
        yield Check(section, "threads", str(threads))
    fast = [name for name, feature in (("AMX", "amx_tile"), ("AVX-512 BF16", "avx512_bf16")) if processor_has(feature)]
    found = ", ".join(fast) if fast else "not in the processor's hardware: trainings on it compute in float32"
    yield Check(section, "bf16 on the CPU", found)
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    for number in range(count):
        free, total = torch.cuda.mem_get_info(number)
        bf16 = "bf16" if bf16_is_fast() else "no bf16"
        found = f"{torch.cuda.get_device_name(number)}, {free / 1e9:.0f} of {total / 1e9:.0f} GB free, {bf16}"
        yield Check(section, f"cuda:{number}", found)
    if not count:
        has_driver, has_build = shutil.which("nvidia-smi") is not None, torch.version.cuda is not None
        advice = ""
        if has_driver:
            advice = "look whether nvidia-smi lists it" if has_build else "install a CUDA build: see pytorch.org"
        found = f"none that PyTorch {torch.__version__} can use" + (", though there is a driver" if has_driver else "")
        yield Check(section, "GPU", found, "note" if has_driver else "ok", advice)


def _places() -> Iterator[Check]:
    """Memory, and the folders that are written to."""
    from compnet3d.utils.memory import available_mb

    section, memory = "memory and disk", available_mb()
    if memory is not None:
        small = memory < 2000
        advice = "smaller batches (--set schedule.batch_size=8), fewer --workers" if small else ""
        yield Check(section, "memory", f"{memory / 1000:.1f} GB free", "note" if small else "ok", advice)
    for name, folder in (("this folder", Path()), ("temporary files", Path(tempfile.gettempdir()))):
        yield _disk(section, name, folder, least=1.0)
    shared = Path("/dev/shm")
    if shared.is_dir():
        yield _disk(section, "shared memory", shared, least=0.5)


def _disk(section: str, name: str, folder: Path, least: float) -> Check:
    """Whether a folder can be written and has `least` gigabytes free."""
    advice = {"shared memory": "give more (docker run --shm-size=2g), or take --workers 0"}
    try:
        free = shutil.disk_usage(folder).free / 1e9
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        what = "work in a folder that can be written" if name == "this folder" else "let TMPDIR name one that can be"
        return Check(section, name, f"cannot be written ({error.strerror})", "note", advice.get(name, what))
    status: Status = "note" if free < least else "ok"
    return Check(section, name, f"{free:.1f} GB free", status, advice.get(name, "free some") if free < least else "")


def _weights(data: Path) -> Iterator[Check]:
    """Where the pretrained backbones of the recipes are."""
    from huggingface_hub import try_to_load_from_cache

    from compnet3d.models.pretrained import find_weights, weight_folders
    from compnet3d.training.builtin_recipes import RECIPES

    section = "pretrained weights"
    yield Check(section, "looked for in", ", ".join(map(str, weight_folders(data))))
    users: dict[tuple[str, ...], list[str]] = {}
    for name, recipe in RECIPES.items():
        if recipe.backbone.pretrained:
            users.setdefault(recipe.backbone.pretrained, []).append(name)
    for names, recipes in users.items():
        place = find_weights(names, data)
        what = f"{names[0]}, for {min(recipes, key=len)}"
        if isinstance(place, Path):
            yield Check(section, what, str(place))
        elif isinstance(try_to_load_from_cache(names[-1], "model.safetensors"), str):
            yield Check(section, what, f"{names[-1]} in the cache of the Hugging Face hub")
        else:
            advice = f"comes from the hub when first needed; without a network, put its files into weights/{names[0]}"
            yield Check(section, what, "not here", "missing", advice)


def _trials() -> Iterator[Check]:
    """A small model classifies an image and estimates its pose, on each kind of device."""
    import torch

    for device in ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]:
        yield _tried("trial", f"predict on {device}", partial(_predict, device))


def _tried(section: str, name: str, work: Callable[[], object]) -> Check:
    try:
        work()
    except Exception as error:  # whatever a broken installation raises
        reason = (str(error).splitlines() or [""])[0]
        advice = "install compnet3d in a new environment; if that does not help, please report it with these lines"
        return Check(section, name, f"{type(error).__name__}: {reason}", "broken", advice)
    return Check(section, name, "works")


def _predict(device: str) -> None:
    """Raise unless a model with random weights answers."""
    import torch

    from compnet3d.data.transforms import InputConfig
    from compnet3d.models.backbones import BackboneConfig
    from compnet3d.models.compnet import CompNet
    from compnet3d.models.config import CompNetConfig

    network = {"embedding_size": 8, "hidden_sizes": [8, 8, 16, 16], "depths": [1, 1, 1, 1], "layer_type": "basic"}
    config = CompNetConfig(
        categories=("brick", "tower"),
        bounds=(((-0.5, -0.2, -0.2), (0.5, 0.2, 0.2)), ((-0.2, -0.2, -0.5), (0.2, 0.2, 0.5))),
        backbone=BackboneConfig(family="resnet", architecture=network, dimension=16),
        input_config=InputConfig(height=64, width=64, focal=120.0, distance=3.0, box_fill=0.7),
        vertex_count=40,
        background_size=8,
    )
    model = CompNet(config).eval().to(device)
    generator = torch.Generator().manual_seed(0)
    image = torch.randint(0, 256, (1, 3, 64, 64), dtype=torch.uint8, generator=generator)
    answer = model.predict_crops(image.to(device))
    if not bool(torch.isfinite(answer.pose.azimuth).all()):
        raise ValueError("the pose is not finite")
