"""Run TFLite files by LiteRT's interpreter, without torch.

The interpreter trusts what it is given, and may end the process on a damaged file. So a file comes to it only after
`check`, and in `hwr predict` only after its checksum has been compared as well.
"""

import logging
import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hwr_utils.errors import InputError

IDENTIFIER = b"TFL3"  # bytes 4 to 8 of every TFLite file


class Network:
    """A network from a TFLite file, on one thread.

    Attributes:
        input_shape: of what it takes.
        n_outputs: number of logits.

    Raises:
        InputError: not a TFLite file, one that the interpreter refuses, or the interpreter is not installed.
    """

    def __init__(self, path: str | Path) -> None:
        content = read(path)
        try:
            from ai_edge_litert.interpreter import Interpreter
        except ImportError as error:
            raise InputError(
                f"{path} needs LiteRT's interpreter, which is not there ({error}). Run `pip install ai-edge-litert`."
            ) from error
        try:
            with quiet():  # it greets on stderr
                self._interpreter: Any = Interpreter(model_content=content, num_threads=1)
                self._interpreter.allocate_tensors()
            inputs, outputs = self._interpreter.get_input_details(), self._interpreter.get_output_details()
        except (RuntimeError, ValueError) as error:
            raise InputError(
                f"{path}: LiteRT's interpreter refuses it ({first_line(error)}). Make it again with `hwr quantize`."
            ) from error
        floats = all(one["dtype"] == np.float32 for one in (*inputs, *outputs))
        rows = [tuple(one["shape"][:-1]) for one in outputs]
        if len(inputs) != 1 or rows != [(1,)] or not floats:
            raise InputError(
                f"{path} takes {[(*map(int, one['shape']), one['dtype'].__name__) for one in inputs]} and gives "
                f"{[(*map(int, one['shape']), one['dtype'].__name__) for one in outputs]}; one float32 image and one "
                "row of logits were expected. Use a file that `hwr quantize` has made."
            )
        self.input_shape = tuple(int(side) for side in inputs[0]["shape"])
        self.n_outputs = int(outputs[0]["shape"][1])
        self._input, self._output = inputs[0]["index"], outputs[0]["index"]

    def __call__(self, image: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the (C,) logits of an image of `input_shape`."""
        self._interpreter.set_tensor(self._input, image)
        self._interpreter.invoke()
        logits: NDArray[np.float32] = self._interpreter.get_tensor(self._output)[0]
        return logits


def read(path: str | Path) -> bytes:
    """Read a file and see that it is TFLite's kind.

    Raises:
        InputError: it cannot be read, or begins like no TFLite file.
    """
    try:
        content = Path(path).read_bytes()
    except OSError as error:
        raise InputError(
            f"cannot read {path}: {error.strerror}. A .tflite file was expected, as `hwr quantize RUN` makes them."
        ) from error
    if content[4:8] != IDENTIFIER:
        found = f"{len(content)} bytes that begin with {content[:8].hex(' ')}" if content else "an empty file"
        raise InputError(
            f"{path} is not a TFLite file: found {found}, expected {IDENTIFIER.decode()} at byte 4. Give a file that "
            "`hwr quantize RUN` has made."
        )
    return content


def first_line(error: BaseException) -> str:
    """Return what an error says, at most a line of it."""
    return next(iter(str(error).splitlines()), type(error).__name__)[:200]


@contextmanager
def quiet() -> Iterator[None]:
    """Keep what libraries print, from C++ too, off the terminal; an error gets the end of it as a note.

    It is the whole process that is quiet, other threads as well.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    kept = os.dup(1), os.dup(2)
    disabled = logging.root.manager.disable
    with tempfile.TemporaryFile() as log, open(os.dup(log.fileno()), "w", errors="replace") as text:
        try:
            logging.disable()
            for stream in (1, 2):
                os.dup2(log.fileno(), stream)
            # in a notebook, print() does not write to file 1
            with redirect_stdout(text), redirect_stderr(text):
                yield
        except Exception as error:
            text.flush()
            log.seek(max(0, log.seek(0, os.SEEK_END) - 2000))
            error.add_note(log.read().decode(errors="replace"))
            raise
        finally:
            for stream, copy in zip((1, 2), kept, strict=True):
                os.dup2(copy, stream)
                os.close(copy)
            logging.disable(disabled)
