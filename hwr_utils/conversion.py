"""Write a network as the files that phones, browsers and servers run, and say where the bytes of such a file go.

TFLite files come from LiteRT's converter and quantizer, ONNX files from PyTorch's exporter and ONNX Runtime's
quantizer. The same weights give the same bytes: nothing of the machine, the folder or the time is in them.
"""

import json
import math
import tempfile
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import save as save_safetensors
from torch import nn

from hwr_utils import models
from hwr_utils.errors import InputError
from hwr_utils.tflite import quiet

# A format is named by how its file ends: model.<format>.
FORMATS = {
    "safetensors": "32-bit floats, the weights alone, run by PyTorch",
    "fp32.tflite": "32-bit floats",
    "fp16.tflite": "weights as 16-bit floats, computed as 32-bit ones",
    "dynamic_int8.tflite": "dynamic range: weights as 8-bit integers, activations quantized as they come; K. Kim's",
    "weight_only_int8.tflite": "weights as 8-bit integers, computed as 32-bit floats",
    "weight_only_int4.tflite": "weights as 4-bit integers, computed as 32-bit floats",
    "fp32.onnx": "32-bit floats",
    "static_int8.onnx": "weights and activations as 8-bit integers, their ranges measured on training images",
}

ONNX_INPUT = "image"


def check_formats(names: Iterable[str]) -> list[str]:
    """Return the formats of these names, in the order of `FORMATS`.

    Raises:
        InputError: an unknown one.
    """
    wanted = set(names)
    if unknown := sorted(wanted - set(FORMATS)):
        raise InputError(f"format {unknown[0]!r} is unknown, expected some of {', '.join(FORMATS)}.")
    return [name for name in FORMATS if name in wanted]


def convert(
    model: nn.Module, image_size: int, calibration: NDArray[np.float32], formats: Iterable[str] = tuple(FORMATS)
) -> dict[str, bytes]:
    """Return the content of the file of each format.

    Args:
        model: any network of the study, on the CPU; put into evaluation mode.
        image_size: side of its input in pixels.
        calibration: (N, 1, image_size, image_size) float32 in 0..1, by which static_int8.onnx chooses its ranges.
        formats: names of `FORMATS`.

    Raises:
        InputError: an unknown format, or the libraries that convert are not installed.
    """
    wanted = check_formats(formats)
    model = model.eval()
    files: dict[str, bytes] = {}
    try:
        if any(name.endswith(".tflite") for name in wanted):
            files["fp32.tflite"] = _tflite(model, image_size)
        if any(name.endswith(".onnx") for name in wanted):
            files["fp32.onnx"] = _onnx(model, image_size)
        for name in wanted:
            if name == "safetensors":
                files[name] = save_safetensors(model.state_dict())
            elif name in _RECIPES:
                files[name] = _quantize_tflite(files["fp32.tflite"], _RECIPES[name])
            elif name == "static_int8.onnx":
                files[name] = _quantize_onnx(files["fp32.onnx"], calibration)
    except ImportError as error:
        raise InputError(
            f"converting needs {error.name or 'libraries'}, which cannot be imported ({error}). Run `make setup`, or "
            "`pip install 'hwr-utils[device]'`."
        ) from error
    return {name: files[name] for name in wanted}


def _tflite(model: nn.Module, image_size: int) -> bytes:
    with quiet(), warnings.catch_warnings(), tempfile.TemporaryDirectory() as folder:
        warnings.simplefilter("ignore")  # of PyTorch, about what the converter calls
        import litert_torch

        litert_torch.config.show_progress = False  # in a notebook it is displayed, which `quiet` does not keep off
        path = Path(folder) / "model.tflite"
        litert_torch.convert(model, (torch.zeros(1, 1, image_size, image_size),)).export(str(path))
        return path.read_bytes()


# Which method of LiteRT's quantizer, and what it is told besides "all layers". Its weights are symmetric, with a scale
# for each output channel.
_RECIPES: dict[str, tuple[str, dict[str, Any]]] = {
    "fp16.tflite": ("add_weight_only_config", {"num_bits": 16, "algorithm_key": "float_casting"}),
    "dynamic_int8.tflite": ("add_dynamic_config", {"num_bits": 8}),
    "weight_only_int8.tflite": ("add_weight_only_config", {"num_bits": 8}),
    "weight_only_int4.tflite": ("add_weight_only_config", {"num_bits": 4}),
}


def _quantize_tflite(content: bytes, recipe: tuple[str, Mapping[str, Any]]) -> bytes:
    with quiet():
        from ai_edge_quantizer import qtyping, quantizer

        worker = quantizer.Quantizer(bytearray(content))
        method, options = recipe
        getattr(worker, method)(regex=".*", operation_name=qtyping.TFLOperationName.ALL_SUPPORTED, **options)
        return bytes(worker.quantize().quantized_model)


def _onnx(model: nn.Module, image_size: int) -> bytes:
    with quiet(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        program = torch.onnx.export(
            model,
            (torch.zeros(1, 1, image_size, image_size),),
            dynamo=True,
            input_names=[ONNX_INPUT],
            output_names=["logits"],
        )
    assert program is not None
    proto = program.model_proto
    for part in (proto, proto.graph, *proto.graph.node, *proto.graph.value_info, *proto.graph.input):
        del part.metadata_props[:]  # stack traces with this machine's paths
    return proto.SerializeToString(deterministic=True)


def _quantize_onnx(content: bytes, calibration: NDArray[np.float32]) -> bytes:
    """Quantize statically, as QuantizeLinear and DequantizeLinear around each operation.

    With reduce_range a weight has 7 bits: sums of products of 8 bits overflow the 16 that CPUs without VNNI add in.
    """
    with quiet(), warnings.catch_warnings(), tempfile.TemporaryDirectory() as folder:
        warnings.simplefilter("ignore")
        from onnxruntime import quantization

        class Images(quantization.CalibrationDataReader):  # type: ignore[misc]
            def __init__(self) -> None:
                self.rest = iter(calibration)

            def get_next(self) -> dict[str, NDArray[np.float32]] | None:
                image = next(self.rest, None)
                return None if image is None else {ONNX_INPUT: image[None]}

        given, prepared, result = (Path(folder) / name for name in ("given.onnx", "prepared.onnx", "result.onnx"))
        given.write_bytes(content)
        quantization.quant_pre_process(given, prepared, skip_symbolic_shape=True)  # shapes are known: all are fixed
        quantization.quantize_static(
            prepared,
            result,
            Images(),
            quant_format=quantization.QuantFormat.QDQ,
            per_channel=True,
            reduce_range=True,
            activation_type=quantization.QuantType.QUInt8,
            weight_type=quantization.QuantType.QInt8,
        )
        return result.read_bytes()


def parts(name: str, content: bytes, model: nn.Module, image_size: int) -> dict[str, int]:
    """Say where the bytes of a file go.

    Args:
        name: its format.
        content: the whole file.
        model: the network that it was made of.
        image_size: side of the network's input in pixels.

    Returns:
        classifier: the last layer's weights with their scales; backbone: those of all other layers; overhead: the
        graph, names and padding, which is all the rest. The three sum to the file's size.
    """
    last = models.layer_table(model, image_size)[-1].layer
    weight = model.get_submodule(last).weight
    assert isinstance(weight, torch.Tensor)
    measure: Callable[[], tuple[int, int]] = {
        "safetensors": lambda: _safetensors_parts(content, last),
        "tflite": lambda: _tflite_parts(content, weight.numel()),
        "onnx": lambda: _onnx_parts(content, weight.numel()),
    }[name.rpartition(".")[2]]
    classifier, all_layers = measure()
    return {
        "backbone": all_layers - classifier,
        "classifier": classifier,
        "overhead": len(content) - all_layers,
    }


def _safetensors_parts(content: bytes, last: str) -> tuple[int, int]:
    """Return the bytes of the layer `last`, and of all layers."""
    header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
    header.pop("__metadata__", None)
    sizes = {key: entry["data_offsets"][1] - entry["data_offsets"][0] for key, entry in header.items()}
    return sum(size for key, size in sizes.items() if key.startswith(f"{last}.")), sum(sizes.values())


def _tflite_parts(content: bytes, last: int) -> tuple[int, int]:
    """Return the bytes of the last operation whose weights are `last` in number, and of all constants."""
    from ai_edge_litert import schema_py_generated as schema

    model = schema.Model.GetRootAs(content, 0)
    graph = model.Subgraphs(0)
    shapes: dict[int, tuple[int, ...]] = {}
    sizes: dict[int, int] = {}
    for index in range(graph.TensorsLength()):
        tensor = graph.Tensors(index)
        buffer = model.Buffers(tensor.Buffer())
        if data := buffer.DataLength() or buffer.Size():  # in the graph, or after it in the file
            scales = tensor.Quantization()  # a 4-byte scale and an 8-byte zero point for each channel
            sizes[index] = data + (4 * scales.ScaleLength() + 8 * scales.ZeroPointLength() if scales else 0)
            shapes[index] = tuple(tensor.Shape(axis) for axis in range(tensor.ShapeLength()))
    operations = [graph.Operators(index) for index in range(graph.OperatorsLength())]
    inputs = [
        [one.Inputs(index) for index in range(one.InputsLength()) if one.Inputs(index) >= 0] for one in operations
    ]
    outputs = [one.Outputs(0) for one in operations]
    return _last(inputs, outputs, sizes, shapes, last)


def _onnx_parts(content: bytes, last: int) -> tuple[int, int]:
    import onnx

    graph = onnx.load_from_string(content).graph
    sizes = {one.name: len(one.raw_data) or one.ByteSize() for one in graph.initializer}
    shapes = {one.name: tuple(one.dims) for one in graph.initializer}
    return _last(
        [list(node.input) for node in graph.node], [node.output[0] for node in graph.node], sizes, shapes, last
    )


def _last(
    inputs: Sequence[Sequence[Any]],
    outputs: Sequence[Any],
    sizes: Mapping[Any, int],
    shapes: Mapping[Any, tuple[int, ...]],
    wanted: int,
) -> tuple[int, int]:
    """Return the bytes of the last operation with a weight of `wanted` elements, and of all constants of a graph.

    Args:
        inputs: names of what each operation takes, in the order in which they run.
        outputs: the name of what each gives.
        sizes: bytes of each constant, by its name.
        shapes: its shape.
        wanted: elements of the weight that is looked for.
    """
    # what an operation on constants alone gives is constant: a weight that is dequantized first
    made_of: dict[Any, set[Any]] = {name: {name} for name in sizes}
    for taken, given in zip(inputs, outputs, strict=True):
        if taken and all(name in made_of for name in taken):
            made_of[given] = set().union(*(made_of[name] for name in taken))
    for taken in reversed(inputs):
        constants = set().union(*(made_of.get(name, set()) for name in taken))
        if any(name not in made_of for name in taken) and any(math.prod(shapes[one]) == wanted for one in constants):
            return sum(sizes[one] for one in constants), sum(sizes.values())
    raise AssertionError(f"no operation has a weight of {wanted} elements")
