"""What notebooks need: strict names for their parameters, a way to run them, and findings that are checked."""

import ast
import json
import os
import re
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from hwr_utils import files, recipes
from hwr_utils.errors import InputError

FOLDER = files.REPOSITORY / "notebooks"
OUTPUT = files.REPOSITORY / "_build" / "notebooks"


class NotebookError(InputError):
    """A cell of a notebook failed; says which, why, and where the partly executed notebook is."""


@dataclass(frozen=True)
class Parameter:
    """A line of the parameters cell: its default, and the type that other values must have.

    None is a value only of a parameter whose default it is. The type of such a one is that of the hyperparameter of
    its name, else text.
    """

    default: Any
    type: type


def find(name: str | Path) -> Path:
    """Return the path of a notebook, given as a path or as a name in `notebooks/`, with or without .ipynb.

    Raises:
        InputError: there is none; gives the nearest name.
    """
    known = {path.stem: path for path in sorted(FOLDER.glob("*.ipynb"))}
    if str(name) in known:
        return known[str(name)]
    for path in (Path(name), FOLDER / name):
        if path.is_file() and path.suffix == ".ipynb":
            return path
    near = recipes.nearest(Path(name).stem, known)
    raise InputError(f"notebook {str(name)!r} is unknown, expected a path or one of {', '.join(known)}{near}")


def parameters(path: Path) -> dict[str, Parameter]:
    """Return what the parameters cell of a notebook offers, by name.

    Raises:
        InputError: not a notebook, or one without exactly one cell tagged `parameters`, or that cell is more than
            plain assignments of literal values; says what to change.
    """
    try:
        cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
        tagged = [cell["source"] for cell in cells if "parameters" in cell["metadata"].get("tags", [])]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"{path}: not a readable notebook ({type(error).__name__}: {error}).") from error
    if len(tagged) != 1:
        raise InputError(f"{path}: found {len(tagged)} cells tagged `parameters`, expected exactly one.")
    found = {}
    try:
        for line in ast.parse("".join(tagged[0])).body:
            if not (isinstance(line, ast.Assign) and len(line.targets) == 1 and isinstance(line.targets[0], ast.Name)):
                raise ValueError(f"line {line.lineno} is not `name = value`")
            name, default = line.targets[0].id, ast.literal_eval(line.value)
            known = recipes.PARAMETERS.get(name)
            found[name] = Parameter(default, type(default) if default is not None else known.type if known else str)
    except (ValueError, SyntaxError) as error:
        raise InputError(
            f"{path}: the parameters cell must be lines such as `seed = 0  # what it means`, and nothing else: {error}."
        ) from error
    return found


def check(path: Path, values: Mapping[str, Any]) -> dict[str, Any]:
    """Return values that a notebook's parameters can take, whole numbers made floats where floats are expected.

    Raises:
        InputError: an unknown name (the nearest valid one is given), or a value of a wrong type.
    """
    known = parameters(path)
    checked = {}
    for name, value in values.items():
        if name not in known:
            near = recipes.nearest(name, known)
            raise InputError(f"{path.name}: parameter {name!r} is unknown, expected one of {', '.join(known)}{near}")
        wanted = known[name].type
        if wanted is float and type(value) is int:
            value = float(value)
        # not isinstance: True would pass for an int
        if type(value) is not wanted and not (value is None and known[name].default is None):
            raise InputError(
                f"{path.name}: {name}={value!r} is of type {type(value).__name__}, expected {wanted.__name__}; "
                f"its default is {known[name].default!r}."
            )
        checked[name] = value
    return checked


def parse(text: str) -> Any:
    """Read a value from the command line as papermill's -p does: None, true or false, a number, else text."""
    words = {"None": None, "True": True, "true": True, "False": False, "false": False}
    if text in words:
        return words[text]
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text


def label(path: Path, values: Mapping[str, Any]) -> str:
    """Name an execution after the notebook and its parameters, safe as a file name."""
    name = "-".join([path.stem, *(f"{name}-{value}" for name, value in values.items())])
    name = re.sub(r"[^A-Za-z0-9._-]+", "_", name)
    return name if len(name) <= 120 else f"{name[:110]}-{files.sha256(name.encode())[:8]}"


def execute(
    name: str | Path,
    values: Mapping[str, Any],
    output: str | Path | None = None,
    cwd: Path | None = None,
    progress: bool = True,
    environment: Mapping[str, str] | None = None,
    kernel: Any = None,
) -> Path:
    """Run a notebook with some of its parameters changed, and write it executed, in one step when all has run.

    Args:
        name: see `find`.
        values: parameter -> value; checked before anything runs.
        output: where to; None is `_build/notebooks/<notebook>-<parameters>.ipynb`.
        cwd: folder that the notebook runs in, and that relative paths in `values` start from; None is the current one.
        progress: show papermill's progress bar over the cells.
        environment: variables for the notebook, beside those of this process.
        kernel: a `jupyter_client.AsyncKernelManager` whose kernel executes it and goes on; None starts one of its own.

    Returns:
        The path of the executed notebook.

    Raises:
        InputError: see `find`, `parameters` and `check`.
        NotebookError: a cell failed, or the kernel died. What has run is kept beside `output`, as `*.failed.ipynb`.
    """
    path = find(name)
    checked = check(path, values)
    output = Path(output) if output is not None else OUTPUT / f"{label(path, checked)}.ipynb"
    failed = output.with_name(f"{output.stem}.failed.ipynb")

    import nbformat  # these take seconds to import, and a wrong parameter is told without them
    import papermill
    from nbclient.exceptions import DeadKernelError

    # papermill fills braces in a path with parameters, and a folder's name may hold some
    source = str(path).replace("{", "{{").replace("}", "}}")
    names = set(papermill.inspect_notebook(source))
    if names != set(parameters(path)):
        raise InputError(f"{path}: papermill reads the parameters {', '.join(sorted(names))}; write one on each line.")
    # a progress bar in an executed notebook would stand still
    with tempfile.TemporaryDirectory() as scratch, _environment({"TQDM_DISABLE": "1", **(environment or {})}):
        draft = Path(scratch) / "notebook.ipynb"
        try:
            notebook = papermill.execute_notebook(
                source,
                draft,
                checked,
                kernel_name="python3",
                cwd=cwd,
                progress_bar=progress and {"desc": path.stem},
                extra_arguments=["--log-level=ERROR"],  # of the kernel, or it warns that it runs without encryption
                # of many short ones the draft need not be written after every cell
                **({"km": kernel, "request_save_on_cell_execute": False} if kernel else {}),
            )
        except (papermill.PapermillExecutionError, DeadKernelError) as error:
            files.write_bytes(failed, draft.read_bytes())
            where, told = "the kernel died", str(error)
            if isinstance(error, papermill.PapermillExecutionError):
                where = f"the cell In [{error.exec_count}] failed"
                # an input error of our own says all; of others the kind is worth knowing
                told = f"{error.ename}: {error.evalue}".removeprefix("InputError: ").removeprefix("MissingFiles: ")
            raise NotebookError(f"{path.name}: {where}: {told} The notebook as far as it ran is {failed}.") from error
    # papermill notes the paths of this machine, which are nobody's business
    notebook.metadata.papermill |= {"input_path": path.name, "output_path": output.name}
    files.write_text(output, nbformat.writes(notebook) + "\n")  # type: ignore[no-untyped-call]
    failed.unlink(missing_ok=True)
    return output


def execute_each(
    name: str | Path, parameter: str, each: Sequence[str], values: Mapping[str, Any], folder: Path
) -> None:
    """Run a notebook once for each value of a parameter, and write it as `<value>.ipynb` into a folder.

    All of them run in one kernel, one after the other, because importing the libraries takes a kernel far longer than
    the report of a run. So such a notebook must not depend on names that it has not set itself.

    Args:
        name: see `find`.
        parameter: the parameter that differs.
        each: its values.
        values: other parameters -> value.
        folder: where the executed notebooks go.

    Raises:
        InputError, NotebookError: see `execute`.
    """
    from jupyter_client.manager import AsyncKernelManager
    from nbclient.util import run_sync

    kernel = AsyncKernelManager()
    try:
        for value in each:
            given = {**values, parameter: value}
            execute(name, given, folder / f"{value}.ipynb", progress=False, kernel=kernel)
    finally:
        if kernel.has_kernel:
            run_sync(kernel.shutdown_kernel)(now=True)


def finding(sentence: str, holds: bool | np.bool_) -> None:
    """Show a sentence that a chapter concludes, with a mark that says whether the numbers at hand bear it out.

    The sentence is written by hand and the test beside it is computed, so a reader who executes a chapter with other
    parameters sees which conclusions fall, and nbval notices when a changed record makes one fall.

    Args:
        sentence: what the chapter concludes, as Markdown.
        holds: whether it is true of the numbers at hand.

    Raises:
        TypeError: `holds` is no truth value, for instance a whole column.
    """
    from IPython.display import Markdown, display

    if not isinstance(holds, bool | np.bool_):
        raise TypeError(f"finding: holds is a {type(holds).__name__}, expected True or False: {sentence}")
    display(Markdown(f"✓ **{sentence}**" if holds else f"✗ **This does not hold here:** {sentence}"))


@contextmanager
def _environment(changes: Mapping[str, str]) -> Iterator[None]:
    """Change this process' environment, which the kernel inherits, for a while."""
    before = dict(os.environ)
    os.environ.update(changes)
    try:
        yield
    finally:
        for name in changes:
            os.environ.pop(name)
            if name in before:
                os.environ[name] = before[name]
