"""The one exception that bad input raises."""


class InputError(ValueError):
    """Say which file or parameter is wrong, what was found, what was expected and what to do.

    The command line prints its message without a traceback and exits with status 2.
    """


class MissingFiles(InputError):
    """The files of a dataset are not there; says which, where to put them and how to get them."""
