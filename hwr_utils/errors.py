"""What the command line tells without a traceback: bad input, and a device that failed."""


class InputError(ValueError):
    """Say which file or parameter is wrong, what was found, what was expected and what to do.

    The command line prints its message without a traceback and exits with status 2.
    """


class MissingFiles(InputError):
    """The files of a dataset are not there; says which, where to put them and how to get them."""


class MissingRecord(InputError):
    """A run or a measurement has no record; says which command makes it."""


class DeviceError(RuntimeError):
    """The GPU failed while it trained; says when, what is kept and how to go on."""
