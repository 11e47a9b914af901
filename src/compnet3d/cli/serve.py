"""`compnet3d serve`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from tyro.conf import Positional, arg

from compnet3d.cli.evaluate import load_model
from compnet3d.cli.options import Device, Number, at_least
from compnet3d.cli.predict import Name
from compnet3d.errors import CompNetError

if TYPE_CHECKING:
    from compnet3d.inference.detection import Detector
    from compnet3d.models.registry import TrainedModel


@dataclass(frozen=True)
class Serve:
    """Answer over HTTP: POST /v1/predict, /healthz, /metrics, /openapi.json; until Ctrl-C.

    Only programs on this machine can ask, unless --host says otherwise.
    """

    model: Annotated[Positional[Path], arg(metavar="MODEL")]
    """The model: its folder, a training run's, or a name such as quickstart."""
    host: Annotated[str, arg(metavar="ADDRESS")] = "127.0.0.1"
    """The address to listen on; 0.0.0.0 lets other machines in."""
    port: Number = 8000
    """The port to listen on; 0 takes a free one."""
    batch: Number = 16
    """Images computed at a time."""
    queue: Number = 64
    """Requests at a time; any more are told to come again."""
    body_mb: Number = 32
    """The largest body of a request, in megabytes."""
    megapixels: Number = 50
    """The largest image."""
    timeout: Number = 60
    """Seconds after which a request is given up."""
    detector: Name = None
    """For images without boxes: see `predict --detector`; without it the model searches itself."""
    matching: Literal["exhaustive", "pruned"] = "exhaustive"
    """How categories are compared: all of them closely (Eq. 7), or only the most likely ones (faster from 50 on)."""
    device: Device = "auto"
    """Where to run the model; auto takes the GPU if there is one."""

    def run(self) -> None:
        """Load, listen, answer."""
        limits = {"batch": self.batch, "queue": self.queue, "body_mb": self.body_mb}
        at_least(1, **limits, megapixels=self.megapixels, timeout=self.timeout)
        at_least(0, port=self.port)
        try:
            import python_multipart  # noqa: F401  # FastAPI misses it only at the first form

            from compnet3d.apps.jobs import JobPredictor
            from compnet3d.apps.service import Limits, Service, build_app, listen, run_app
        except ModuleNotFoundError as error:
            advice = 'install what serves: pip install "compnet3d[serve]"'
            raise CompNetError(f"the service needs {error.name}; {advice}") from None
        with listen(self.host, self.port) as listener:
            model = load_model(self.model, self.device, self.matching)
            predictor = JobPredictor(model, self._detector(model), self.batch, self.megapixels * 10**6)
            service = Service(predictor, Limits(self.queue, self.body_mb * 10**6, self.timeout))
            host, port = listener.getsockname()[:2]
            shown = f"[{host}]" if ":" in host else host
            print(f"serving {self.model} on http://{shown}:{port} (Ctrl-C ends it)", flush=True)
            run_app(build_app(service, self.model.name), listener, self.timeout)
        print("ended: all that was asked has been answered")

    def _detector(self, model: TrainedModel) -> Detector | None:
        if self.detector is not None:
            from compnet3d.models.detectors import load_detector

            return load_detector(self.detector, model.categories, device=str(model.device))
        try:
            return model.object_search()
        except CompNetError:  # this kind cannot; requests need boxes
            return None
