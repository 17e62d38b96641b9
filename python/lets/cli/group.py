"""How every verb fails: one line on standard error and the exit code 2."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

import typer
from typer.core import TyperGroup

from lets.errors import LetsError

_LONGEST = 2000  # characters of a message


class LetsGroup(TyperGroup):
    """The root command: turns user errors and usage errors into one line."""

    def main(
        self,
        args: Sequence[str] | None = None,
        prog_name: str | None = None,
        complete_var: str | None = None,
        standalone_mode: bool = True,
        windows_expand_args: bool = True,
        **extra: Any,
    ) -> Any:
        def run() -> Any:
            return super(LetsGroup, self).main(
                args, prog_name, complete_var, False, windows_expand_args, **extra
            )

        if not standalone_mode:
            return run()
        try:
            code = run()
        except LetsError as error:
            _fail(str(error), 2)
        except ImportError as error:
            # The compiled part is missing, or an extra; lets_ext says how to get it.
            if not str(error).startswith("lets_ext: "):
                raise
            _fail(str(error), 2)
        except OSError as error:
            if error.filename is None:
                raise
            _fail(f"{error.filename}: {error.strerror}", 2)
        except typer.Abort:
            _fail("aborted", 1)
        except Exception as error:
            # Usage errors: typer carries its own copy of click, whose class has no public name.
            if not hasattr(error, "format_message"):
                raise
            _fail(f"{error.format_message()} (see --help)", getattr(error, "exit_code", 2))
        sys.exit(code if isinstance(code, int) else 0)


def _fail(message: str, code: int) -> None:
    # Messages quote files of strangers, who may know the terminal's escape codes.
    line = "".join(c if c.isprintable() else "?" for c in " ".join(message.split()))
    typer.echo(f"lets: {line if len(line) <= _LONGEST else line[:_LONGEST] + '...'}", err=True)
    sys.exit(code)
