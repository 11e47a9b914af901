"""`compnet3d demo`."""

from __future__ import annotations

import os
import webbrowser
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated

from tyro.conf import Positional, arg

from compnet3d.cli.evaluate import load_model
from compnet3d.cli.options import Device, Flag, Folder, Number, at_least, require_folder
from compnet3d.errors import CompNetError


@dataclass(frozen=True)
class Demo:
    """Show in the browser what a model says of an image, and why; until Ctrl-C. Only this machine can see it."""

    models: Annotated[Positional[tuple[Path, ...]], arg(metavar="MODEL...", help_behavior_hint="(default: quickstart)")]
    """Models to choose from and to compare: folders, or names such as quickstart."""
    examples: Folder = None
    """Images to choose from; those kept with the first model by default."""
    port: Number = 7860
    """The port to listen on; 0 takes a free one."""
    megapixels: Number = 50
    """The largest image."""
    file_mb: Number = 32
    """The largest file, in megabytes."""
    no_browser: Flag = False
    """Do not open the page."""
    device: Device = "auto"
    """Where to run the models; auto takes the GPU if there is one."""

    def run(self) -> None:
        """Load, listen, show."""
        at_least(1, megapixels=self.megapixels, file_mb=self.file_mb)
        at_least(0, port=self.port)
        require_folder(self.examples, "--examples")
        try:
            from compnet3d.apps.demo import DemoLimits, build_demo
            from compnet3d.apps.service import listen, run_app
        except ModuleNotFoundError as error:
            advice = 'install what shows it: pip install "compnet3d[demo]"'
            raise CompNetError(f"the demo needs {error.name}; {advice}") from None
        from compnet3d.data.images import images_in
        from compnet3d.models.checkpoint import find_model
        from compnet3d.models.named import find_examples

        paths = self.models or (Path("quickstart"),)
        # what is uploaded is gone when the demo ends
        folder = TemporaryDirectory(prefix="compnet3d-demo-", ignore_cleanup_errors=True)
        with folder as uploads, listen("127.0.0.1", self.port) as listener:
            os.environ["GRADIO_TEMP_DIR"] = uploads
            models = {name: load_model(path, self.device) for name, path in _named(paths).items()}
            if self.examples is None:
                examples = tuple(find_examples(find_model(paths[0])))
            else:
                examples = images_in(self.examples)
            app = build_demo(models, examples, DemoLimits(self.file_mb * 10**6, self.megapixels * 10**6))
            address = f"http://127.0.0.1:{listener.getsockname()[1]}"
            print(f"the demo is at {address} (Ctrl-C ends it)", flush=True)
            if not self.no_browser:
                # the socket listens already: the page waits until it is served
                webbrowser.open(address)
            run_app(app, listener, seconds=5.0)
        print("ended")


def _named(paths: Sequence[Path]) -> dict[str, Path]:
    """A short name for each model: the last part of its path that tells them apart, else the path."""
    short = [path.parent.name if path.name in ("run", "model") and path.parent.name else path.name for path in paths]
    names = short if len(set(short)) == len(short) else [str(path) for path in paths]
    if len(set(names)) < len(names):
        raise CompNetError("a model is named twice; name each once")
    return dict(zip(names, paths, strict=True))
