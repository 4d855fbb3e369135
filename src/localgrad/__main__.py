"""Entry point of ``localgrad`` and ``python -m localgrad``."""

import sys

COMMAND_LINE_PACKAGES = {"equinox", "optax", "rich", "sklearn", "tyro"}


def main() -> int:
    """Run the command line; returns its exit code: 0 ok, 1 failed, 2 wrong usage, 130 Ctrl-C."""
    try:
        from localgrad.cli.app import run  # the command line is an optional extra
    except ModuleNotFoundError as error:
        if error.name not in COMMAND_LINE_PACKAGES:
            raise
        print(
            f"localgrad: the command line needs {error.name}, which is not installed; "
            "install it with: pip install 'localgrad[cli]'",
            file=sys.stderr,
        )
        return 1
    return run(sys.argv[1:])


if __name__ == "__main__":
    sys.exit(main())
