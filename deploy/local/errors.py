"""The one error that these scripts report without a traceback."""


class DeployError(Exception):
    """A problem that the user can fix; the text says what is wrong and what to do."""
