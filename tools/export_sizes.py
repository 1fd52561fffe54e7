"""Say how large the exported files of a network are, and where their bytes go, for 10, 26 and 3,755 classes.

    python tools/export_sizes.py inception_hccr

writes results/benchmarks/sizes-inception_hccr.json, which the chapter on quantization shows. The weights are random, so
only the sizes mean anything. The classifier is the last layer's weights with their scales, the backbone is those of all
other layers, and the overhead is the rest: the graph, names and padding.
"""

import math
import os
import sys
from collections.abc import Sequence
from typing import Any

import torch
from safetensors.torch import load as load_safetensors
from torch import nn

from hwr_utils import files, models, recipes, records, results
from hwr_utils.device import export, quantization
from hwr_utils.errors import InputError

CLASS_COUNTS = (10, 26, 3755)  # of digits, letters and hanzi


def measure(architecture: str, formats: Sequence[str] = export.FORMATS) -> dict[str, Any]:
    """Return the record: a row for each number of classes and each format."""
    config = recipes.configure("mnist", architecture, "paper")
    size, rows, generator = config.training["image_size"], [], torch.Generator().manual_seed(0)
    noise = torch.rand(8, 1, size, size, generator=generator).numpy()
    for n_classes in CLASS_COUNTS:
        model = models.build(architecture, n_classes, size, config.model)
        with torch.no_grad():
            for parameter in model.parameters():  # no zeros, which a converter would leave out
                parameter.normal_(std=0.05, generator=generator)
        for name, content in export.convert(model, size, noise, formats).items():
            row = {"classes": n_classes, "format": name, "bytes": len(content)}
            rows.append(row | {"parts": parts(name, content, model, size)})
    head = {"schema_version": records.SCHEMA_VERSION, "benchmark": "sizes", "created": records.now()}
    head |= {"weights": "random, untrained", "architecture": architecture, "image_size": size}
    return head | {"versions": quantization.versions(), "rows": rows}


def parts(name: str, content: bytes, model: nn.Module, image_size: int) -> dict[str, int]:
    """Say how many bytes of a model's file are its classifier, its backbone and overhead."""
    last = models.layer_table(model, image_size).layer.iloc[-1]
    if name == "safetensors":
        sizes: dict[Any, int] = {key: tensor.nbytes for key, tensor in load_safetensors(content).items()}
        classifier = {key for key in sizes if key.startswith(f"{last}.")}
    else:
        sizes, shapes, operations = (tflite_graph if name.endswith(".tflite") else onnx_graph)(content)
        weight = model.get_parameter(f"{last}.weight").numel()
        # the output of an operation on constants alone is constant, as that of dequantizing a weight is
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


def tflite_graph(content: bytes) -> Graph:
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


def onnx_graph(content: bytes) -> Graph:
    import onnx

    graph = onnx.load_from_string(content).graph
    sizes = {one.name: len(one.raw_data) or one.ByteSize() for one in graph.initializer}
    return sizes, {one.name: one.dims for one in graph.initializer}, [(one.input, one.output[0]) for one in graph.node]


if __name__ == "__main__":
    os.environ.setdefault("TQDM_DISABLE", "1")
    try:
        record = measure(*sys.argv[1:])
        files.write_json(results.RESULTS_DIR / "benchmarks" / f"sizes-{record['architecture']}.json", record)
    except InputError as error:
        sys.exit(f"tools/export_sizes.py: error: {error}")
