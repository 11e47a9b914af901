"""One step of training: down the gradient of a batch's losses, and what the method learns beside it."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from compnet3d.training.batch import Batch
from compnet3d.training.batch_statistics import own_statistics
from compnet3d.training.objectives import Losses, Objective
from compnet3d.training.run_folder import Run
from compnet3d.training.stopping import StopRequest
from compnet3d.training.watch import NotFiniteError
from compnet3d.utils.distributed import ProcessGroup


class LossOf(nn.Module):
    """A model with its objective: a batch in, its losses out, as `DistributedDataParallel` wraps it."""

    def __init__(self, model: nn.Module, objective: Objective, group: ProcessGroup) -> None:
        super().__init__()
        self.model, self.objective, self.group = model, objective, group

    def forward(self, batch: Batch, generator: torch.Generator) -> Losses:
        """See `Objective.loss`."""
        return self.objective.loss(self.model, batch, generator, self.group)


def train_step(
    run: Run, loss_of: nn.Module, batch: dict[str, Tensor], *, seed: int, stop: StopRequest | None = None
) -> dict[str, Tensor]:
    """One gradient step, and what the method learns after it.

    Args:
        run: its model in training mode.
        loss_of: the `LossOf` of it, in a group of several processes as `in_parallel` wraps it.
        batch: this process's share, as `CropDataset` collates it.
        seed: of the sampled vertices and background cells, the same for all members of the group.
        stop: is told whether any member has been asked to end.

    Returns:
        The losses of the whole batch by name, scalars on the CPU.

    Raises:
        NotFiniteError: if a loss, the gradient or a feature is not finite; the model is of no use then. All members
            get to know.
    """
    device = run.model.device
    # on the device, so that no draw waits for a copy; hence a CPU and a GPU draw differently for one seed
    generator = torch.Generator(device).manual_seed(seed)
    losses: Losses = loss_of(Batch.of(batch, device), generator)
    run.optimizer.zero_grad()
    losses.by_name["loss"].backward()
    # of the mean over all shares, which backward has made of the shares' gradients
    length = torch.nn.utils.clip_grad_norm_(run.model.parameters(), 5.0)
    run.optimizer.step()
    # after the gradient step, as the paper has it (section 3.3.2), with the features from before it: they are not
    # computed again
    losses.learn()
    # a sum is finite only if all of it is
    sums = {name: tensor.detach().sum(dtype=torch.float32) for name, tensor in losses.watched.items()}
    stops = length.new_tensor(float(stop is not None and stop.number > 0))
    numbers = losses.by_name | {"the gradient": length, "stops": stops} | sums
    # one copy from an accelerator, and one message, not several: with it goes what else differs between members
    statistics = own_statistics(run.model) if run.group.size > 1 else []
    message = torch.cat([torch.stack(list(numbers.values())).detach(), *statistics])
    values, *means = run.group.mean(message).split([len(numbers), *map(len, statistics)])
    for own, mean in zip(statistics, means, strict=True):
        own.copy_(mean)
    found = dict(zip(numbers, values.cpu().unbind(), strict=True))
    for name, value in found.items():
        if not value.isfinite():
            raise NotFiniteError(name)
    if stop is not None:
        stop.heard = float(found["stops"]) > 0
    return {name: found[name] for name in losses.by_name}
