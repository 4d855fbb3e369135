"""What the updates of all rules read, as a table that is drawn."""

from collections.abc import Callable, Iterable
from typing import NamedTuple

import jax.random as jr
import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle
from pictures import WIDTH, Picture, Tell
from problems import Sources, batch, perceptron_loss, weights

import localgrad as lg

PLAUSIBLE, NEUTRAL, IMPLAUSIBLE = "#BFE3D5", "#EDEDED", "#F7CDB0"


class Question(NamedTuple):
    """A column: what is asked, and which answer a biologist would like to hear."""

    text: str
    answer: Callable[[lg.RuleAudit], bool]
    wanted: bool

    def is_wanted(self, found: lg.RuleAudit) -> bool:
        """Whether this rule's answer is the wanted one."""
        return self.answer(found) == self.wanted


QUESTIONS = (
    Question("every update\nis local", lambda a: a.is_local, True),
    Question("errors travel\non forward\nweights", lambda a: a.needs_symmetric_weights, False),
    Question("messages\nneed f'", lambda a: a.messages_bend, False),
    Question("updates of\nsynapses\nneed f'", lambda a: a.plasticity_bends, False),
    Question("a vertex is\ntold time\nor level", lambda a: bool(a.clocks), False),
    Question("forward pass\nis stored", lambda a: a.uses_stored, False),
)


def audit(sources: Sources, tell: Tell) -> Picture:
    """The audit of all rules, and of activation relaxation with two of its relaxations."""
    params, x, y = weights(jr.key(0), (64, 32, 32, 10)), *batch(sources.digits)
    tell("all rules")
    rules = {type(a.rule).__name__: a for a in lg.audit(perceptron_loss)(params, x, y).rules}
    tell("activation relaxation, relaxed")
    rule = lg.ActivationRelaxation(derivatives="nowhere")
    synapses = lg.Synapses.random(jr.key(1), params)
    relaxed = lg.audit(perceptron_loss, rule=rule)(synapses, x, y).rules[0]
    figure, ax = plt.subplots(figsize=(WIDTH, 4.2), layout="constrained")
    _draw(ax, rules | {"ActivationRelaxation without f',\nrandom feedback weights": relaxed})
    usual = rules["ActivationRelaxation"]
    left = [q.text.replace("\n", " ") for q in QUESTIONS if not q.is_wanted(relaxed)]
    free = [n for n, a in rules.items() if not (a.needs_symmetric_weights or a.messages_bend)]
    return Picture(
        figure,
        "The audit of all rules",
        "A perceptron 64-32-32-10 with tanh units under the mean cross-entropy of 32 digits; "
        "vertices are the outputs of the units. `lg.audit` of every rule with its defaults, and of "
        "`lg.ActivationRelaxation(derivatives='nowhere')` on `lg.Synapses.random`. Green are the "
        "answers that the literature on plausible learning wishes for; the docstring of `lg.audit` "
        "defines the columns.",
        f"Of {len(rules)} rules not local: {_few(n for n, a in rules.items() if not a.is_local)}; "
        f"told the time or the level: {_few(n for n, a in rules.items() if a.clocks)}; without a "
        f"stored forward pass: {_few(n for n, a in rules.items() if not a.uses_stored)}; with "
        f"errors that need neither the weights of the predictions nor f': {_few(free)}. Random "
        "feedback weights and no derivatives bring activation relaxation from "
        f"{_green(usual)} to {_green(relaxed)} green answers of {len(QUESTIONS)}; what remains: "
        f"{_few(left)}.",
    )


def _few(names: Iterable[str]) -> str:
    return ", ".join(names) or "none"


def _green(found: lg.RuleAudit) -> int:
    return sum(question.is_wanted(found) for question in QUESTIONS)


def _draw(ax: Axes, audited: dict[str, lg.RuleAudit]) -> None:
    for row, (name, found) in enumerate(audited.items()):
        ax.text(-0.1, row + 0.5, name, ha="right", va="center")
        for column, question in enumerate(QUESTIONS):
            colour = PLAUSIBLE if question.is_wanted(found) else IMPLAUSIBLE
            _cell(ax, column, row, "yes" if question.answer(found) else "no", colour)
        _cell(ax, len(QUESTIONS), row, str(len(found.phases)), NEUTRAL)
    for column, text in enumerate([*(q.text for q in QUESTIONS), "phases"]):
        ax.text(column + 0.5, -0.12, text, ha="center", va="bottom", fontsize="small")
    ax.set(xlim=(-2.7, len(QUESTIONS) + 1), ylim=(len(audited), -0.8))
    ax.set_axis_off()


def _cell(ax: Axes, column: int, row: int, text: str, colour: str) -> None:
    ax.add_patch(Rectangle((column + 0.02, row + 0.04), 0.96, 0.92, color=colour, linewidth=0))
    ax.text(column + 0.5, row + 0.5, text, ha="center", va="center")
