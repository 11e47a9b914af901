"""`compnet3d calibrate`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from tyro.conf import Positional, arg

from compnet3d.cli.options import Device, at_least, choose_device, require_data


@dataclass(frozen=True)
class Calibrate:
    """Fit when a trained model is sure, and when it answers unknown, on held-out images; the network stays as it is."""

    model: Annotated[Positional[Path], arg(metavar="MODEL")]
    """The run's folder, or a model's with --split. Its config.json is written anew."""
    data: Annotated[str, arg(metavar="DIR")]
    """The data set, in the ImageNet3D layout."""
    split: str | None = None
    """The list to take, of images that were not trained on; the part of the train list that the run held out by
    default."""
    batch_size: Annotated[int, arg(metavar="N")] = 32
    """Images that go through the model together."""
    device: Device = "auto"
    """Where to run the model; auto takes the GPU if there is one."""

    def run(self) -> None:
        """Fit, save, say what was done."""
        at_least(1, batch_size=self.batch_size)
        require_data(self.data, "--data")
        device = choose_device(self.device)
        from compnet3d.data.loader import CropDataset
        from compnet3d.data.packed import open_data
        from compnet3d.data.symmetry import symmetry_orders
        from compnet3d.evaluation.unseen import common_samples
        from compnet3d.models.checkpoint import find_model
        from compnet3d.models.registry import load_predictor
        from compnet3d.training.held_out import calibrate_confidence, held_out_samples

        folder = find_model(self.model)
        model, dataset = load_predictor(folder).to(device), open_data(self.data)
        if self.split is None:
            samples, epochs = held_out_samples(self.model, dataset.samples("train"))
        else:
            samples, epochs = dataset.samples(self.split), 0
        samples = common_samples(samples, model.categories)
        if epochs:
            print(f"the last {epochs} epochs trained on these images, too: a list of its own (--split) is fairer")
        print(f"calibrating on {len(samples)} images, as they are and partly covered")
        crops = CropDataset(samples, model.categories, model.input_config)
        orders = symmetry_orders(model.categories, dataset.symmetry)
        calibrate_confidence(model, crops, orders, batch_size=self.batch_size)
        model.save_pretrained(folder)
        print(f"wrote {folder}")
