"""The exceptions for wrong input."""


class UserError(Exception):
    """Wrong input: the message is one line that names the file, key or tensor and the remedy.

    The command line prints it and exits with status 2, without a traceback.
    """


class Diverged(UserError):
    """Training or learning that ended in NaN or infinity; another setting may not."""


class Stale(UserError):
    """A file that is intact but would be made differently today."""
