"""`compnet3d data pack`: a data set as shards that can be read from anywhere."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from tyro.conf import Positional, arg

from compnet3d.cli.options import Count, at_least, require_folder


@dataclass(frozen=True)
class DataPack:
    """Pack a data set into shards (tar files in the layout of WebDataset), which `train` reads from any disk or URL."""

    data: Annotated[Positional[Path], arg(metavar="DIR")]
    """The data set, in the ImageNet3D layout."""
    out: Annotated[Positional[Path], arg(metavar="OUT")]
    """The folder to make, new or empty."""
    shard_mb: Annotated[int, arg(metavar="MB")] = 512
    """About how large a shard is."""
    seed: int = 0
    """Seed of the order in which images lie in the shards."""
    workers: Count = None
    """Processes that pack; one per core by default. The shards do not depend on it."""

    def run(self) -> None:
        """Pack, and say into what."""
        at_least(1, shard_mb=self.shard_mb, workers=self.workers)
        at_least(0, seed=self.seed)
        require_folder(self.data, "DIR")
        from compnet3d.data.packing import pack_dataset

        size = self.shard_mb * 2**20
        index = pack_dataset(self.data, self.out, shard_bytes=size, seed=self.seed, workers=self.workers, progress=True)
        for reason, count in index["left_out"].items():
            print(f"left out: {count} x {reason}")
        for split, shards in index["splits"].items():
            images, total = (sum(shard[key] for shard in shards) for key in ("images", "bytes"))
            names = f"{shards[0]['name']}.tar" + (f" to {shards[-1]['name']}.tar" if len(shards) > 1 else "")
            print(f"{split}: {images} images, {total / 2**20:.0f} MB, {names}")
        print(f"the packed data set is in {self.out}")
