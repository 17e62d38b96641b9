"""The error that a user can act on."""


class LetsError(ValueError):
    """Wrong input from outside: a file, a name, a number. The CLI prints it and exits with 2."""
