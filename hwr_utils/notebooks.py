"""What notebooks need: strict names for their parameters, a way to run them, and findings that are checked."""

import ast
import os
import re
import shutil
import sys
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np

from hwr_utils import files, recipes
from hwr_utils.errors import InputError, reading

FOLDER = files.REPOSITORY / "notebooks"
OUTPUT = files.REPOSITORY / "_build" / "notebooks"


def find(name: str | Path) -> Path:
    """Return the path of a notebook, given as a path or as a name in `notebooks/`; errors as `recipes.known`."""
    known = {path.stem: path for path in sorted(FOLDER.glob("*.ipynb"))}
    if (path := Path(name)).is_file() and path.suffix == ".ipynb":
        return path
    recipes.known("notebook ", str(name), known)
    return known[str(name)]


def parameters(path: Path) -> dict[str, Any]:
    """Return the parameters of a notebook as papermill reads them, name -> default.

    Raises an InputError where it is no notebook, or a default is more than a literal value.
    """
    import nbformat
    import papermill  # takes a second or two

    remedy = "Mend its cell tagged `parameters`: lines such as `seed = 0  # what it means`."
    with reading(path, "a notebook with parameters", remedy):
        found = papermill.inspect_notebook(nbformat.read(path, 4))  # type: ignore[no-untyped-call]
        return {name: ast.literal_eval(one["default"]) for name, one in found.items()}


def check(path: Path, values: Mapping[str, Any]) -> dict[str, Any]:
    """Return values that a notebook's parameters can take, whole numbers made floats where floats are expected.

    A value has the type of the default. If the default is None, it may be None, or has the type of the hyperparameter
    of the same name, or is text if there is no such hyperparameter. A value given as text is read by `parse`. Raises an
    InputError for an unknown name, with the nearest valid one, and for a value of a wrong type.
    """
    known, checked = parameters(path), {}
    for name, value in values.items():
        recipes.known(f"{path.name}: parameter ", name, known)
        default = known[name]
        wanted = recipes.PARAMETERS.get(name, {"type": str})["type"] if default is None else type(default)
        if isinstance(value, str):
            value = parse(value, wanted)
        if value is not None or default is not None:
            rule = {"type": wanted, "meaning": f"its default is {default!r}"}
            value = recipes.checked(f"{path.name}: {name}", value, rule)
        if isinstance(value, str) and not value.isprintable():  # this also refuses bytes that are not UTF-8
            raise InputError(f"{path.name}: {name}={value!r} has characters that cannot be shown. Give other ones.")
        checked[name] = value
    return checked


def parse(text: str, wanted: type | None = None) -> Any:
    """Read a value from the command line or a profile: None, true or false, a number, or else text.

    If `wanted` is str, everything stays text, digits too, except `None` and `null`.
    """
    words = {"None": None, "null": None, "True": True, "true": True, "False": False, "false": False}
    if text in words and (wanted is not str or words[text] is None):
        return words[text]
    for kind in (int, float) if wanted is not str else ():
        with suppress(ValueError):
            return kind(text)
    return text


def label(path: Path, values: Mapping[str, Any]) -> str:
    """Return a file name for an execution, made of the notebook's name and its parameters; no two share a name."""
    told = "-".join([path.stem, *(f"{name}-{value}" for name, value in values.items())])
    # a value may look like the next parameter
    return _safe(told, repr(values) if any("-" in str(value) for value in values.values()) else "")


def _safe(told: str, more: str = "") -> str:
    """Turn a text into a name that any file system takes; another text, or `more` than it tells, gives another name."""
    name = re.sub(r"[^A-Za-z0-9._-]+|^\.+|^$", "_", told)
    plain = name == told and len(name) <= 120 and not more
    return name if plain else f"{name[:110]}-{files.sha256(repr(told + more).encode())[:8]}"


def execute(
    name: str | Path, values: Mapping[str, Any], output: Path | None = None, figures: str = "png", kernel: Any = None
) -> Path:
    """Run a notebook with the values of some parameters, and write it executed, in one step when all has run.

    It goes to `output`, or to `_build/notebooks/<notebook>-<parameters>.ipynb`. Figures are drawn as "png" or "svg".
    The kernel of an AsyncKernelManager that is given goes on afterwards, and then no bar is shown. Raises an InputError
    as `check` does, and where a cell failed or the kernel died: what has run is kept beside `output`, as
    `*.failed.ipynb`.
    """
    path = find(name)
    checked = check(path, values)
    output = output or OUTPUT / f"{label(path, checked)}.ipynb"
    failed = output.with_name(f"{output.stem}.failed.ipynb")

    import nbformat
    import papermill

    options, environment = _kernel()
    with tempfile.TemporaryDirectory() as scratch, patch.dict(os.environ, environment):
        draft = shutil.copyfile(path, Path(scratch) / "notebook.ipynb")  # papermill would fill in braces in its path
        try:
            notebook = papermill.execute_notebook(
                draft,
                draft,
                checked,
                kernel_name="python3",
                # what is left cannot be told from the number of cells
                progress_bar=not kernel and {"desc": path.stem, "bar_format": "{l_bar}{bar}| {n}/{total} [{elapsed}]"},
                extra_arguments=[*options, f"--InlineBackend.figure_formats={{{figures!r}}}"],
                # of many short ones the draft need not be written after every cell
                **({"km": kernel, "request_save_on_cell_execute": False} if kernel else {}),
            )
        except (papermill.PapermillExecutionError, RuntimeError) as error:  # a DeadKernelError is one of these
            files.write_bytes(failed, draft.read_bytes())
            told = f"the kernel died: {error}"
            if isinstance(error, papermill.PapermillExecutionError):
                told = f"the cell In [{error.exec_count}] failed: {error.ename}: {error.evalue}"
                if error.ename != "InputError" and checked.get("results_dir"):
                    told += ". It may need runs that results_dir lacks: put yours beside the study's records"
            raise InputError(f"{path.name}: {told.rstrip('.')}. The notebook as far as it ran is {failed}.") from error
    # papermill notes times and paths of this machine: without them, the same work always gives the same file
    notebook.metadata.papermill = {"parameters": checked}
    for cell in notebook.cells:
        for notes in ("papermill", "execution"):
            cell.metadata.pop(notes, None)
    files.write_text(output, nbformat.writes(notebook) + "\n")  # type: ignore[no-untyped-call]
    failed.unlink(missing_ok=True)
    return output


def _kernel() -> tuple[list[str], dict[str, str]]:
    """Return the options and the environment of a kernel whose bars go to our terminal, or nowhere if there is none.

    In an executed notebook a bar would stand still for ever, but a cell that trains for minutes should show one.
    """
    # without this the kernel prints a warning that it is not encrypted, and errors when it is stopped
    options = ["--log-level=CRITICAL"]
    # a kernel of this name that another installation has left where Jupyter looks first would not have our packages
    environment = {"JUPYTER_PATH": str(Path(sys.prefix) / "share" / "jupyter")}
    try:
        terminal = os.ttyname(sys.stderr.fileno())
    except (OSError, AttributeError):  # no terminal, or a system that gives them no names
        return options, environment | {"TQDM_DISABLE": "1"}
    lines = [
        "import functools, tqdm",
        f"tqdm.tqdm.__init__ = functools.partialmethod(tqdm.tqdm.__init__, file=open({terminal!r}, 'w'), leave=False)",
        "del functools, tqdm",
    ]
    return [*options, f"--IPKernelApp.exec_lines={lines!r}"], environment


def execute_each(
    name: str | Path, parameter: str, each: Sequence[Any], values: Mapping[str, Any], folder: Path, figures: str
) -> None:
    """Run a notebook once for each value of a parameter, with other `values`, and write it as `<value>.ipynb`.

    They share one kernel, which takes far longer to import the libraries than to report a run. So such a notebook must
    not depend on names that it has not set itself. Errors as `execute`, and where there are no values.
    """
    if not each:
        raise InputError(f"--each {parameter}: values of the parameter were expected, for instance --each seed 1 2.")
    from jupyter_client.manager import AsyncKernelManager
    from nbclient.util import run_sync

    kernel = AsyncKernelManager()
    try:
        for value in each:
            execute(name, {**values, parameter: value}, folder / f"{_safe(str(value))}.ipynb", figures, kernel)
    finally:
        if kernel.has_kernel:
            run_sync(kernel.shutdown_kernel)(now=True)


def finding(sentence: str, holds: bool | np.bool_) -> None:
    """Show a sentence that a chapter concludes, as Markdown, with a mark that says whether the numbers bear it out.

    A reader who executes a chapter with other parameters sees which conclusions fall, and nbval notices when a changed
    record makes one fall. Raises a TypeError where `holds` is no truth value, for instance a whole column.
    """
    from IPython.display import Markdown, display

    if not isinstance(holds, bool | np.bool_):
        raise TypeError(f"finding: holds is a {type(holds).__name__}, expected True or False: {sentence}")
    display(Markdown(f"✓ **{sentence}**" if holds else f"✗ **This does not hold here:** {sentence}"))
