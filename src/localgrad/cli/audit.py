"""``localgrad audit``: what the updates of rules read."""

from dataclasses import dataclass, field
from typing import Annotated, Any

import localgrad as lg
from localgrad.cli.document import document, print_document
from localgrad.cli.options import (
    NoFields,
    Problem,
    ProblemOptions,
    Reporting,
    ReportingOptions,
    RuleFields,
    rule_name,
)
from localgrad.cli.problem import blamed, pose
from localgrad.cli.progress import doing
from localgrad.cli.report import Output, print_text

VERDICTS = ("is_local", "needs_symmetric_weights", "messages_bend", "plasticity_bends")


@dataclass(frozen=True)
class Options:
    """Tell what the updates of rules read, from the program of one of their steps: the scorecard
    of all rules, or of one rule what each vertex and parameter reads.

    Example: localgrad audit --model gru --rule il
    """

    problem: ProblemOptions = field(default_factory=Problem)
    rule: Annotated[str | None, rule_name("all of them")] = None
    """The rule to audit."""
    rule_fields: RuleFields = field(default_factory=NoFields)
    """The rule's own settings."""
    output: ReportingOptions = field(default_factory=Reporting)


def run(options: Options) -> None:
    """Audit and print the verdicts.

    Raises:
        UsageError: if the options make no sense, or there is no such function.
        FailedError: if the function, or the audit, fails.
    """
    problem = pose(options.problem)
    rule = None if options.rule is None else options.rule_fields
    auditing = lg.audit(problem.loss, rule=rule, vertices=options.problem.vertices)
    with doing(f"auditing {options.rule or 'all rules'}"), blamed("the audit", problem.name):
        audit = auditing(*problem.args)
    if options.output.json:
        print_document({"rules": [_described(audited) for audited in audit.rules]})
    else:
        print_text(Output(), str(audit if rule is None else audit.rules[0]))


def _described(audited: lg.RuleAudit) -> Any:
    """One rule's audit as JSON has it."""
    shown = document(audited, *VERDICTS, without=("vertices", "parameters"))
    for kind in ("vertices", "parameters"):
        entries = getattr(audited, kind)
        shown[kind] = {name: document(reads, "is_local") for name, reads in entries.items()}
    return shown
