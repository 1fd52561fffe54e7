"""Write a network as the files that phones, browsers and servers run.

TFLite files come from LiteRT's converter and quantizer, ONNX files from PyTorch's exporter and ONNX Runtime's
quantizer. The same weights give the same bytes: nothing of the machine, the folder or the time is in them.
"""

import tempfile
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import save as save_safetensors
from torch import nn

from hwr_utils import recipes
from hwr_utils.device.recognizer import quiet

INPUT = "image"
# Which method of LiteRT's quantizer makes a format, and what it is told besides "all layers". Its weights are
# symmetric, with a scale for each output channel. `dynamic_int8` is K. Kim's.
_RECIPES: dict[str, tuple[str, dict[str, Any]]] = {
    "fp16.tflite": ("add_weight_only_config", {"num_bits": 16, "algorithm_key": "float_casting"}),
    "dynamic_int8.tflite": ("add_dynamic_config", {"num_bits": 8}),
    "weight_only_int8.tflite": ("add_weight_only_config", {"num_bits": 8}),
    "weight_only_int4.tflite": ("add_weight_only_config", {"num_bits": 4}),
}
FORMATS = ("safetensors", "fp32.tflite", *_RECIPES, "fp32.onnx", "static_int8.onnx")  # a run has model.<format>


def convert(
    model: nn.Module, image_size: int, calibration: NDArray[np.float32], formats: Iterable[str] = FORMATS
) -> dict[str, bytes]:
    """Return the content of the file of each format, in the order of `FORMATS`.

    Args:
        model: any network of the study, on the CPU; put into evaluation mode.
        image_size: side of its input in pixels.
        calibration: (N, 1, image_size, image_size) float32 in 0..1, by which static_int8.onnx chooses its ranges.
        formats: names of `FORMATS`; an InputError for another.
    """
    wanted, made = set(formats), cache(lambda kind: kind(model.eval(), image_size))
    for name in wanted:
        recipes.known("format ", name, FORMATS)
    contents: dict[str, bytes] = {}
    for name in (name for name in FORMATS if name in wanted):
        if name == "safetensors":
            contents[name] = save_safetensors(model.state_dict())
        elif name in _RECIPES:
            contents[name] = _quantize_tflite(made(_tflite), *_RECIPES[name])
        elif name == "static_int8.onnx":
            contents[name] = _quantize_onnx(made(_onnx), calibration)
        else:
            contents[name] = made(_tflite if name == "fp32.tflite" else _onnx)
    return contents


def _tflite(model: nn.Module, image_size: int) -> bytes:
    with quiet():
        import litert_torch

        litert_torch.config.show_progress = False  # in a notebook it is displayed, which `quiet` does not keep off
        converted = litert_torch.convert(model, (torch.zeros(1, 1, image_size, image_size),))
        return bytes(converted.model_content())


def _quantize_tflite(content: bytes, method: str, options: dict[str, Any]) -> bytes:
    with quiet():
        from ai_edge_quantizer import qtyping, quantizer

        worker = quantizer.Quantizer(bytearray(content))
        getattr(worker, method)(regex=".*", operation_name=qtyping.TFLOperationName.ALL_SUPPORTED, **options)
        return bytes(worker.quantize().quantized_model)


def _onnx(model: nn.Module, image_size: int) -> bytes:
    with quiet():
        image = torch.zeros(1, 1, image_size, image_size)
        program = torch.onnx.export(model, (image,), dynamo=True, input_names=[INPUT], output_names=["logits"])
    assert program is not None
    proto = program.model_proto
    for part in (proto, proto.graph, *proto.graph.node, *proto.graph.value_info, *proto.graph.input):
        del part.metadata_props[:]  # stack traces with this machine's paths
    return proto.SerializeToString(deterministic=True)


def _quantize_onnx(content: bytes, calibration: NDArray[np.float32]) -> bytes:
    """Quantize statically, as QuantizeLinear and DequantizeLinear around each operation.

    With reduce_range a weight has 7 bits: CPUs without VNNI add in 16 bits, which sums of 8-bit products overflow.
    """
    with quiet(), tempfile.TemporaryDirectory() as folder:
        from onnxruntime import quantization

        class Images(quantization.CalibrationDataReader):  # type: ignore[misc]
            rest = iter(calibration)

            def get_next(self) -> dict[str, NDArray[np.float32]] | None:
                return next(({INPUT: image[None]} for image in self.rest), None)

        path = Path(folder) / "model.onnx"
        path.write_bytes(content)
        quantization.quant_pre_process(path, path, skip_symbolic_shape=True)  # shapes are known: all are fixed
        types = {"activation_type": quantization.QuantType.QUInt8, "weight_type": quantization.QuantType.QInt8}
        options = {"quant_format": quantization.QuantFormat.QDQ, "per_channel": True, "reduce_range": True}
        quantization.quantize_static(path, path, Images(), **options, **types)
        return path.read_bytes()
