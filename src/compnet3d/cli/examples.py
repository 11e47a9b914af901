"""An example for every command, which ends its --help; after `compnet3d quickstart` they run as they are."""

from __future__ import annotations

EXAMPLES = {
    "": "compnet3d quickstart",
    "quickstart": "compnet3d quickstart --out runs/quickstart",
    "train": "compnet3d train --recipe quickstart --data runs/quickstart/data --out runs/mine",
    "recipes": "compnet3d recipes quickstart",
    "evaluate": "compnet3d evaluate runs/quickstart/run --data runs/quickstart/data --report report.html",
    "calibrate": "compnet3d calibrate runs/quickstart/run --data runs/quickstart/data",
    "add-category": "compnet3d add-category runs/quickstart/run --data data/mine --out runs/larger",
    "remove-category": "compnet3d remove-category runs/quickstart/run mug --out runs/smaller",
    "rename-category": "compnet3d rename-category runs/quickstart/run mug cup --out runs/renamed",
    "predict": "compnet3d predict quickstart runs/quickstart/run/examples/mug.png --whole",
    "demo": "compnet3d demo quickstart",
    "serve": "compnet3d serve runs/quickstart/run --port 8000",
    "export": "compnet3d export runs/quickstart/run exported --category mug --int8 static --data runs/quickstart/data",
    "reproduce": "compnet3d reproduce table2 --data runs/quickstart/data --seeds 1",
    "report": "compnet3d report runs/reproduce",
    "data": "compnet3d data make data/everyday",
    "data make": "compnet3d data make data/everyday --categories 10 --train 60 --val 12",
    "data render": "compnet3d data render data/mine --cad runs/quickstart/data/CAD",
    "data occlude": "compnet3d data occlude runs/quickstart/data data/occluded --level L1",
    "data corrupt": "compnet3d data corrupt runs/quickstart/data data/fog --corruption fog --severity 3",
    "data import": "compnet3d data import table poses.csv data/mine --angles degrees",
    "data import table": "compnet3d data import table poses.csv data/mine --angles degrees",
    "data import imagenet3d": "compnet3d data import imagenet3d download data/imagenet3d",
    "data import ood-cv": "compnet3d data import ood-cv OOD-CV data/ood-cv --cad PASCAL3D+_release1.1/CAD",
    "data import objectnet3d": "compnet3d data import objectnet3d ObjectNet3D data/objectnet3d",
    "data import coco": "compnet3d data import coco instances.json data/mine --poses poses.csv --images photos",
    "data import bop": "compnet3d data import bop lm data/lm --axes z,-y --names 1=ape 5=can",
    "data import pascal3d": "compnet3d data import pascal3d PASCAL3D+_release1.1 data/pascal3d",
    "data import occluded-pascal3d": "compnet3d data import occluded-pascal3d OccludedPASCAL3D data/occluded"
    " --pascal3d PASCAL3D+_release1.1 --level L1",
    "data import walk": "compnet3d data import walk mug.mp4 data/mug --category mug",
    "data pack": "compnet3d data pack runs/quickstart/data data/packed",
    "data check": "compnet3d data check runs/quickstart/data",
    "data show": "compnet3d data show runs/quickstart/data --out annotations.html",
    "data symmetry": "compnet3d data symmetry runs/quickstart/data",
    "annotate": "compnet3d annotate runs/quickstart/data/images/mug --category mug --out data/mugs",
    "runs": "compnet3d runs runs --plot runs.png",
    "models": "compnet3d models --keep runs/quickstart/run --name toys",
    "models list": "compnet3d models list",
    "models push": "compnet3d models push quickstart someone/toys --licence cc-by-4.0 --dry-run published",
    "bench": "compnet3d bench matching",
    "bench loss": "compnet3d bench loss --json loss.json",
    "bench matching": "compnet3d bench matching --model runs/quickstart/run --data runs/quickstart/data",
    "bench pose": "compnet3d bench pose --images 2",
    "bench step": "compnet3d bench step --workers 1",
    "bench scale": "compnet3d bench scale --figure scale.png",
    "bench input": "compnet3d bench input --images 20",
    "bench distributed": "compnet3d bench distributed --rounds 1",
    "doctor": "compnet3d doctor --json doctor.json",
    "completion": "compnet3d completion bash > ~/.local/share/bash-completion/completions/compnet3d",
}


def example_for(arguments: list[str]) -> str:
    """The example of the command that these arguments ask help for."""
    words: list[str] = []
    for word in arguments:
        if " ".join([*words, word]) not in EXAMPLES:
            break
        words.append(word)
    return EXAMPLES[" ".join(words)]
