"""Entry point of ``localgrad`` and ``python -m localgrad``."""

import os
import sys
from importlib.util import find_spec

from localgrad.cli.app import INTERRUPTED, run

COMMAND_LINE_PACKAGES = ("docstring_parser", "equinox", "optax", "rich", "sklearn", "tyro")
"""They come with the extra ``cli``."""

NO_READER = 141


def main() -> int:
    """Run the command line; returns its exit code.

    0 ok, 1 failed, 2 wrong usage, 130 Ctrl-C, 141 if nobody reads the output to its end.
    """
    for name in COMMAND_LINE_PACKAGES:
        if find_spec(name) is None:
            print(
                f"localgrad: the command line needs {name}, which is not installed; "
                "install it with: pip install 'localgrad[cli]'",
                file=sys.stderr,
            )
            return 1
    try:
        code = run(sys.argv[1:])
        sys.stdout.flush()
    except BrokenPipeError:
        # Python would complain about it once more when it closes the output.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return NO_READER
    if code == INTERRUPTED:
        sys.stderr.flush()
        os._exit(code)  # without waiting for a computation that is still going on
    return code


if __name__ == "__main__":
    sys.exit(main())
