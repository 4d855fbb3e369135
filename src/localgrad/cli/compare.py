"""``localgrad compare``: a rule's gradient against backpropagation's."""

from dataclasses import dataclass, field
from typing import Annotated, Any

from tyro.conf import arg

import localgrad as lg
from localgrad.cli.document import document, print_document
from localgrad.cli.errors import FailedError
from localgrad.cli.options import (
    Problem,
    ProblemOptions,
    Reporting,
    ReportingOptions,
    RuleFields,
    rule_name,
)
from localgrad.cli.problem import blamed, pose
from localgrad.cli.progress import doing
from localgrad.cli.ranges import Bound
from localgrad.cli.report import Output, print_comparison


@dataclass(frozen=True)
class Options:
    """Compare a rule's gradient with backpropagation's, parameter by parameter.

    Example: localgrad compare my_package.my_module:my_function --rule il --steps 100
    """

    problem: ProblemOptions = field(default_factory=Problem)
    rule: Annotated[str, rule_name(lg.ZIL.name)] = lg.ZIL.name
    """How to compute the gradients. Its settings: localgrad compare --rule NAME --help."""
    rule_fields: RuleFields = field(default_factory=lg.ZIL)
    """The rule's own settings."""
    max_rel: Annotated[Bound, arg(help_behavior_hint="(default: no limit)")] = None
    """Fail, with exit code 1, if the largest relative difference is larger, or no number."""
    output: ReportingOptions = field(default_factory=Reporting)


def run(options: Options) -> None:
    """Compare and print the table.

    Raises:
        UsageError: if the options make no sense, or there is no such function.
        FailedError: if the function, or the comparison of what it returns, fails; or if the
            difference exceeds its limit.
    """
    problem = pose(options.problem)
    comparing = lg.compare(
        problem.loss, rule=options.rule_fields, vertices=options.problem.vertices
    )
    with (
        doing(f"comparing {options.rule} with backpropagation"),
        blamed("the comparison", problem.name),
    ):
        comparison = comparing(*problem.args)
    if options.output.json:
        print_document(described(comparison))
    else:
        print_comparison(Output(), comparison)
    limit = options.max_rel
    if limit is not None and not comparison.max_rel <= limit:
        raise FailedError(
            f"the largest relative difference is {comparison.max_rel:.1e}, not at most {limit:g}",
            f"--max-rel {limit:g}",
            "change the rule's settings, or allow more",
        )


def described(comparison: lg.Comparison) -> Any:
    """A comparison as JSON has it."""
    return document(comparison, "max_abs", "max_rel", "cosine")
