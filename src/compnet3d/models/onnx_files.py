"""ONNX files: written from a traced graph, run by onnxruntime, quantised to int8."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from compnet3d.errors import CompNetError
from compnet3d.models.export_graphs import Answers, Graph
from compnet3d.utils.files import Json

INPUT = "images"
# the one entry of an ONNX file's metadata, what the JSON file beside it says
METADATA_KEY = "compnet3d"

Quantisation = Literal["dynamic", "static"]


def require_onnx() -> Any:
    """The package onnxruntime, with onnx and onnxscript beside it; imported only where a model is exported or run.

    Raises:
        CompNetError: if one of them is not installed.
    """
    try:
        import onnx  # noqa: F401
        import onnxruntime
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise CompNetError(f"ONNX files need {error.name}: pip install 'compnet3d[export]'") from None
    return onnxruntime


def write_onnx(program: torch.export.ExportedProgram, graph: Graph, path: Path, about: Json) -> None:
    """Write a traced graph as one ONNX file with its description."""
    size = sum(tensor.nbytes for tensor in program.state_dict.values())
    if size > 2**31 - 2**24:
        raise CompNetError(f"{graph.name}: has {size:,} bytes of weights, and one ONNX file holds 2 GB; leave onnx out")
    exported = torch.onnx.export(
        program, (), dynamo=True, verbose=False, input_names=[INPUT], output_names=list(graph.outputs)
    )
    if exported is None:
        raise CompNetError(f"{graph.name}: this version of PyTorch gave no ONNX file; use a newer one")
    for node in exported.model.graph:
        # which lines of which files on this machine it comes from
        node.metadata_props.clear()
    exported.model.metadata_props[METADATA_KEY] = json.dumps(about)
    exported.save(path, external_data=False)


def start_session(runtime: Any, model: str | bytes) -> Any:
    """A session of onnxruntime for a file or its bytes, on the CPU with as many threads as PyTorch has."""
    options = runtime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.log_severity_level = 3  # warnings tell developers what could be fused
    return runtime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


class OnnxSession:
    """An ONNX file that answers crops."""

    def __init__(self, path: Path) -> None:
        """Load a file; `about` is its description, empty for a file of another origin."""
        runtime = require_onnx()
        try:
            self._session = start_session(runtime, str(path))
        except Exception as error:  # its own kinds, which share no base of their own
            reason = " ".join(str(error).split())[:200]
            raise CompNetError(f"{path}: onnxruntime cannot load it ({reason}); export the model again") from None
        properties = self._session.get_modelmeta().custom_metadata_map
        self.about: Json = json.loads(properties.get(METADATA_KEY, "{}"))
        self._outputs = [output.name for output in self._session.get_outputs()]

    def __call__(self, images: Tensor) -> Answers:
        """Answer crops uint8 [B, 3, height, width]."""
        values = self._session.run(None, {INPUT: images.numpy()})
        return {name: torch.from_numpy(np.asarray(value)) for name, value in zip(self._outputs, values, strict=True)}


def quantise(source: Path, target: Path, how: Quantisation, calibration: Tensor | None = None) -> None:
    """Write an ONNX file whose network has int8 weights and activations; comparing features stays in float32."""
    import onnx
    from onnxruntime import quantization
    from onnxruntime.quantization.shape_inference import quant_pre_process

    with tempfile.TemporaryDirectory() as scratch:
        prepared = Path(scratch) / "prepared.onnx"
        quant_pre_process(str(source), str(prepared), skip_symbolic_shape=True)
        chosen = _network_nodes(onnx.load(str(prepared)).graph)
        files, signed = (str(prepared), str(target)), quantization.QuantType.QInt8
        common: Json = {"nodes_to_quantize": chosen, "per_channel": True, "weight_type": signed}
        if how == "dynamic":
            quantization.quantize_dynamic(*files, **common)
            return
        assert calibration is not None
        batches = iter(calibration.split(16))

        class Crops(quantization.CalibrationDataReader):
            def get_next(self) -> Json | None:
                batch = next(batches, None)
                return None if batch is None else {INPUT: batch.numpy()}

        # processors with VNNI multiply unsigned by signed numbers, which is two to three times as fast as by others
        common["activation_type"] = quantization.QuantType.QUInt8
        quantization.quantize_static(*files, Crops(), quant_format=quantization.QuantFormat.QDQ, **common)


def _network_nodes(graph: Any) -> list[str]:
    """The names of the products and convolutions of the network: what its features, put on the sphere, depend on."""
    ends = [node for node in graph.node if node.op_type == "ReduceL2"]
    if not ends:  # a dual head, which is a network and nothing else
        return [node.name for node in graph.node]
    makers = {output: node for node in graph.node for output in node.output}
    found: dict[str, str] = {}
    while ends:
        node = ends.pop()
        if node.name not in found:
            found[node.name] = node.op_type
            ends += [makers[name] for name in node.input if name in makers]
    return [name for name, kind in found.items() if kind in ("Conv", "MatMul", "Gemm")]
