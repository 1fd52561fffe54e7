"""Write a network as the files that phones, browsers and servers run, and say where the bytes of such a file go.

TFLite files come from LiteRT's converter and quantizer, ONNX files from PyTorch's exporter and ONNX Runtime's
quantizer. The same weights give the same bytes: nothing of the machine, the folder or the time is in them.
"""

import math
import tempfile
import warnings
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load as load_safetensors
from safetensors.torch import save as save_safetensors
from torch import nn

from hwr_utils import models
from hwr_utils.device.recognizer import quiet
from hwr_utils.device.reports import FORMATS
from hwr_utils.errors import InputError

INPUT = "image"


@contextmanager
def _silence() -> Iterator[Path]:
    """Give a folder for a library that converts files, and keep what it prints and warns off the terminal."""
    with quiet(), warnings.catch_warnings(), tempfile.TemporaryDirectory() as folder:
        warnings.simplefilter("ignore")
        yield Path(folder)


def check_formats(names: Iterable[str]) -> list[str]:
    """Return the formats of these names, in the order of `FORMATS`; an InputError for an unknown one."""
    wanted = set(names)
    if unknown := sorted(wanted - set(FORMATS)):
        raise InputError(f"format {unknown[0]!r} is unknown, expected some of {', '.join(FORMATS)}.")
    return [name for name in FORMATS if name in wanted]


def convert(
    model: nn.Module, image_size: int, calibration: NDArray[np.float32], formats: Iterable[str] = FORMATS
) -> dict[str, bytes]:
    """Return the content of the file of each format; an InputError where libraries that convert are not installed.

    Args:
        model: any network of the study, on the CPU; put into evaluation mode.
        image_size: side of its input in pixels.
        calibration: (N, 1, image_size, image_size) float32 in 0..1, by which static_int8.onnx chooses its ranges.
        formats: names of `FORMATS`.
    """
    wanted, made = check_formats(formats), cache(lambda kind: kind(model.eval(), image_size))
    files: dict[str, bytes] = {}
    try:
        for name in wanted:
            if name == "safetensors":
                files[name] = save_safetensors(model.state_dict())
            elif name.endswith(".tflite"):
                files[name] = _quantize_tflite(made(_tflite), name)
            else:
                files[name] = made(_onnx) if name == "fp32.onnx" else _quantize_onnx(made(_onnx), calibration)
    except ImportError as error:
        raise InputError(
            f"converting needs {error.name or 'libraries'}, which cannot be imported ({error}). Run `make setup`, or "
            "`pip install 'hwr-utils[device]'`."
        ) from error
    return files


def _tflite(model: nn.Module, image_size: int) -> bytes:
    with _silence() as folder:
        import litert_torch

        litert_torch.config.show_progress = False  # in a notebook it is displayed, which `quiet` does not keep off
        path = folder / "model.tflite"
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


def _quantize_tflite(content: bytes, name: str) -> bytes:
    if name not in _RECIPES:
        return content
    with _silence():
        from ai_edge_quantizer import qtyping, quantizer

        worker, (method, options) = quantizer.Quantizer(bytearray(content)), _RECIPES[name]
        getattr(worker, method)(regex=".*", operation_name=qtyping.TFLOperationName.ALL_SUPPORTED, **options)
        return bytes(worker.quantize().quantized_model)


def _onnx(model: nn.Module, image_size: int) -> bytes:
    with _silence():
        image, names = torch.zeros(1, 1, image_size, image_size), ([INPUT], ["logits"])
        program = torch.onnx.export(model, (image,), dynamo=True, input_names=names[0], output_names=names[1])
    assert program is not None
    proto = program.model_proto
    for part in (proto, proto.graph, *proto.graph.node, *proto.graph.value_info, *proto.graph.input):
        del part.metadata_props[:]  # stack traces with this machine's paths
    return proto.SerializeToString(deterministic=True)


def _quantize_onnx(content: bytes, calibration: NDArray[np.float32]) -> bytes:
    """Quantize statically, as QuantizeLinear and DequantizeLinear around each operation.

    With reduce_range a weight has 7 bits: sums of products of 8 bits overflow the 16 that CPUs without VNNI add in.
    """
    with _silence() as folder:
        from onnxruntime import quantization

        class Images(quantization.CalibrationDataReader):  # type: ignore[misc]
            rest = iter(calibration)

            def get_next(self) -> dict[str, NDArray[np.float32]] | None:
                return next(({INPUT: image[None]} for image in self.rest), None)

        given, prepared, result = (folder / name for name in ("given.onnx", "prepared.onnx", "result.onnx"))
        given.write_bytes(content)
        quantization.quant_pre_process(given, prepared, skip_symbolic_shape=True)  # shapes are known: all are fixed
        types = {"activation_type": quantization.QuantType.QUInt8, "weight_type": quantization.QuantType.QInt8}
        options = {"quant_format": quantization.QuantFormat.QDQ, "per_channel": True, "reduce_range": True}
        quantization.quantize_static(prepared, result, Images(), **options, **types)
        return result.read_bytes()


def parts(name: str, content: bytes, model: nn.Module, image_size: int) -> dict[str, int]:
    """Say how many bytes of a model's file are its classifier, its backbone and overhead.

    The classifier is the last layer's weights with their scales; the backbone those of all other layers; the overhead
    all the rest: the graph, names and padding.
    """
    last = models.layer_table(model, image_size)[-1].layer
    if name == "safetensors":
        sizes: dict[Any, int] = {key: tensor.nbytes for key, tensor in load_safetensors(content).items()}
        classifier = {key for key in sizes if key.startswith(f"{last}.")}
    else:
        sizes, shapes, operations = (_tflite_graph if name.endswith(".tflite") else _onnx_graph)(content)
        weight = model.get_parameter(f"{last}.weight").numel()
        # what an operation on constants alone gives is constant: a weight that is dequantized first
        made_of, classifier = {key: {key} for key in sizes}, set[Any]()
        for taken, given in operations:
            constants = set[Any]().union(*(made_of.get(one, ()) for one in taken))
            if all(one in made_of for one in taken):
                made_of[given] = constants
            elif any(math.prod(shapes[one]) == weight for one in constants):
                classifier = constants  # of the last operation that has such a weight
    within, whole = sum(sizes[key] for key in classifier), sum(sizes.values())
    return {"backbone": whole - within, "classifier": within, "overhead": len(content) - whole}


# bytes and shape of each constant by its name, and what each operation takes and gives, in the order in which they run
Graph = tuple[dict[Any, int], dict[Any, Sequence[int]], list[tuple[Sequence[Any], Any]]]


def _tflite_graph(content: bytes) -> Graph:
    from ai_edge_litert import schema_py_generated as schema

    model = schema.ModelT.InitFromPackedBuf(content, 0)
    graph, sizes, shapes = model.subgraphs[0], {}, {}
    for index, tensor in enumerate(graph.tensors):
        buffer = model.buffers[tensor.buffer]
        size = buffer.size if buffer.data is None else len(buffer.data)  # after the graph in the file, or in it
        if size:
            scales = tensor.quantization and tensor.quantization.scale
            sizes[index] = size + (0 if scales is None else 12 * len(scales))  # and for each a zero point of 8 bytes
            shapes[index] = tensor.shape
    return sizes, shapes, [([one for one in node.inputs if one >= 0], node.outputs[0]) for node in graph.operators]


def _onnx_graph(content: bytes) -> Graph:
    import onnx

    graph = onnx.load_from_string(content).graph
    sizes = {one.name: len(one.raw_data) or one.ByteSize() for one in graph.initializer}
    return sizes, {one.name: one.dims for one in graph.initializer}, [(one.input, one.output[0]) for one in graph.node]
