"""What the commands print on standard output: lines, and the table of a comparison."""

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

import localgrad as lg

DIFFERENTIATED = "args[0]"
"""What every parameter's name begins with."""


def output() -> Console:
    """Standard output: coloured on a terminal, plain text otherwise."""
    return Console(markup=False, highlight=False)


def print_comparison(console: Console, comparison: lg.Comparison) -> None:
    """Print one row per parameter, the worst of each column, and what makes them doubtful."""
    table = Table(
        title=f"Gradient by {comparison.rule.name} against backpropagation",
        caption=_caption(comparison),
        box=box.SIMPLE_HEAD if console.is_terminal else box.MARKDOWN,
        show_footer=True,
    )
    table.add_column("parameter", "worst", overflow="fold")
    table.add_column("shape", overflow="fold")
    table.add_column("norm", justify="right", no_wrap=True)
    table.add_column("max abs", f"{comparison.max_abs:.1e}", justify="right", no_wrap=True)
    table.add_column("max rel", f"{comparison.max_rel:.1e}", justify="right", no_wrap=True)
    table.add_column("cosine", f"{comparison.cosine:.6f}", justify="right", no_wrap=True)
    is_stepwise = comparison.steps is not None
    if is_stepwise:  # how much of the gradient was delivered
        table.add_column("part", justify="right", no_wrap=True)
    for leaf in comparison.leaves:
        table.add_row(
            Text(leaf.name.removeprefix(DIFFERENTIATED) or leaf.name),
            "x".join(map(str, leaf.shape)) or "scalar",
            f"{leaf.norm:.1e}",
            f"{leaf.max_abs:.1e}",
            f"{leaf.max_rel:.1e}",
            f"{leaf.cosine:.6f}",
            *([f"{leaf.delivered:.3f}"] if is_stepwise else []),
        )
    console.print(table)
    for warning in comparison.warnings:
        console.print(f"warning: {warning}")


def _caption(comparison: lg.Comparison) -> str:
    caption = f"loss {float(comparison.value):.6g}"
    if comparison.steps is not None:
        caption += f"; {comparison.steps} steps, depth {comparison.depth}"
    if comparison.residual is not None:
        caption += f", residual {comparison.residual:.1e}"
    return caption
