"""What happens around every command: choice, help, errors, exit codes."""

import sys
import traceback
from collections.abc import Sequence
from importlib import import_module

import localgrad as lg
from localgrad.cli.errors import CommandError, UsageError
from localgrad.experiments.names import suggest

INTERRUPTED = 130

COMMANDS = {
    "graph": "show the vertices that errors travel on, as a table or a figure",
    "trace": "record a rule step by step, and write the page that plays it",
    "compare": "measure how far a rule's gradient is from backpropagation's",
    "audit": "tell what the updates of rules read: are they local?",
    "train": "train a model with a rule, and compare it with backpropagation",
    "reproduce": "repeat a paper's experiments: tables, figures, claims judged",
}
"""What there is, each in a module of that name with `Options` and `run`."""

HELP = """\
usage: localgrad COMMAND [OPTIONS]

Gradients by local learning rules on a computational graph: that of a built-in
model, or of your own JAX function, named as package.module:function.

commands:
{commands}

options:
  -h, --help  show this help; localgrad COMMAND --help shows that of a command
  --version   show the version

exit codes:
  0    all went well
  1    the command failed
  2    wrong usage: a command, an option or a name that there is not
  130  stopped by Ctrl-C

examples:
  localgrad trace --rule fa-zil --open
  localgrad compare my_package.my_module:my_function --rule il --steps 100"""


def run(argv: Sequence[str]) -> int:
    """Run one command; returns its exit code.

    0: all went well; 1: the command failed; 2: wrong usage; 130: stopped by Ctrl-C.
    """
    match list(argv):
        case []:
            print(_help(), file=sys.stderr)
            return UsageError.exit_code
        case ["-h" | "--help", *_]:
            print(_help())
            return 0
        case ["--version", *_]:
            print("localgrad", lg.__version__)
            return 0
        case [name, *rest]:
            return _guarded(name, rest)
    raise AssertionError(argv)


def _guarded(name: str, argv: Sequence[str]) -> int:
    try:
        if name not in COMMANDS:
            raise UsageError(
                f"there is no command {name!r}", f"localgrad {name}", suggest(name, COMMANDS)
            )
        # Only now, for they are slow to load.
        options, command = (import_module(f"localgrad.cli.{part}") for part in ("options", name))
        command.run(options.parse(name, command.Options, argv))
    except CommandError as error:
        if "--debug" in argv:
            traceback.print_exception(error.__cause__ or error)
        print(error, file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print("localgrad: stopped by Ctrl-C", file=sys.stderr)
        return INTERRUPTED
    return 0


def _help() -> str:
    width = max(map(len, COMMANDS))
    return HELP.format(commands="\n".join(f"  {n:{width}}  {d}" for n, d in COMMANDS.items()))
