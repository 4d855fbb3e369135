"""What happens around every command: choice, errors, exit codes."""

import sys
from collections.abc import Sequence

from localgrad.cli import compare, train
from localgrad.cli.errors import CommandError
from localgrad.cli.options import Train, parse

INTERRUPTED = 130


def run(argv: Sequence[str]) -> int:
    """Run one command; returns its exit code.

    0: all went well; 1: the command failed; 2: wrong usage; 130: stopped by Ctrl-C.
    """
    try:
        options = parse(argv)
        if isinstance(options, Train):
            train.run(options)
        else:
            compare.run(options)
    except CommandError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print("localgrad: stopped by Ctrl-C", file=sys.stderr)
        return INTERRUPTED
    return 0
