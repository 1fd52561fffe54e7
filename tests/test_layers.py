"""The package's floors: each module imports only from below, in no circle, and training needs few libraries."""

import ast
import graphlib
import sys
from functools import cache
from pathlib import Path

import pytest

import hwr_utils

PACKAGE = Path(hwr_utils.__file__).parent
# from the ground up; a package's modules share its floor, and may import each other in one direction
FLOORS = [
    {"errors", "literature"},
    {"files"},
    {"records"},
    {"recipes"},
    {"preprocessing"},
    {"canvas"},
    {"tflite"},
    {"prediction"},  # without torch
    {"data"},
    {"synthesis"},  # draws what `data` then reads, and writes it with `data.idx`
    {"models", "augmentation"},
    {"calibration"},
    {"conversion"},
    {"evaluation"},
    {"distributed"},
    {"training"},
    {"runs"},
    {"measurement"},
    {"comparison", "plots", "notebooks", "benchmark", "quantization", "realism"},
    {"transfer"},
    {"study"},
    {"cli"},
    {"__main__"},
]
MODULES = {
    ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts).removesuffix(".__init__"): path
    for path in sorted(PACKAGE.rglob("*.py"))
}
# what a CUDA machine without the book's tools has, and what pip brings with torchvision and pyproject.toml's base
LIBRARIES = {"torch", "torchvision", "numpy", "pandas", "matplotlib", "safetensors", "PIL", "tqdm"}


def part(module: str) -> str:
    """Return the part of the package that a module belongs to: hwr_utils.data.idx is of data."""
    return module.split(".")[1] if "." in module else "__init__"


@cache
def imports(module: str, at_once: bool = False) -> frozenset[str]:
    """Return the full names that a module imports; `at_once`, only those outside functions."""
    tree = ast.parse(MODULES[module].read_text("utf-8"))
    found: set[str] = set()
    nodes: list[ast.AST] = [tree]
    while nodes:
        node = nodes.pop()
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0 and node.module, f"{module}: imports are absolute here"
            # "from hwr_utils import files" names a module, "from hwr_utils.files import sha256" a thing in one
            for name in (f"{node.module}.{alias.name}" for alias in node.names):
                found.add(name if name in MODULES else node.module)
        if not (at_once and isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)):
            nodes += ast.iter_child_nodes(node)
    return frozenset(found)


def floor(module: str) -> int:
    return next(index for index, parts in enumerate(FLOORS) if part(module) in parts)


def test_every_module_has_a_floor() -> None:
    for module in MODULES:
        assert module == "hwr_utils" or any(part(module) in parts for parts in FLOORS), f"give {module} a floor above"


def test_the_reader_of_imports_reads_imports() -> None:
    assert {"hwr_utils.files", "hwr_utils.errors", "json", "jsonschema"} <= imports("hwr_utils.records")
    assert "jsonschema" not in imports("hwr_utils.records", at_once=True)
    assert "hwr_utils.data.idx" in imports("hwr_utils.data")


@pytest.mark.parametrize("module", MODULES)
def test_a_module_imports_only_from_below(module: str) -> None:
    ours = {name for name in imports(module) if name.split(".")[0] == "hwr_utils"}
    assert ours <= set(MODULES), "a name of the package itself, not of a module"
    if module == "hwr_utils":
        assert not ours  # or importing anything would import everything
        return
    for name in ours:
        assert part(name) == part(module) or floor(name) < floor(module), f"{module} imports {name} from above"


def test_there_is_no_circle() -> None:
    graph = {module: {name for name in imports(module) if name in MODULES} for module in MODULES}
    list(graphlib.TopologicalSorter(graph).static_order())  # raises CycleError


def test_training_imports_only_what_a_bare_machine_has() -> None:
    """Follow what `hwr train` imports, through the package: `cli` imports `runs` when it is needed."""
    reached, waiting = set(), ["hwr_utils.__main__", "hwr_utils.runs"]
    while waiting:
        module = waiting.pop()
        if module in reached:
            continue
        reached.add(module)
        for name in imports(module, at_once=True):
            root = name.split(".")[0]
            if name in MODULES:
                waiting += {name, name.rsplit(".", 1)[0]}  # a package's __init__ runs first
            else:
                assert root in sys.stdlib_module_names or root in LIBRARIES, f"{module} imports {name} at once"
    assert {"hwr_utils.cli", "hwr_utils.training"} <= reached
