"""Errors that travel back on other weights than the forward ones: random, learned, decayed."""

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

import localgrad as lg
from localgrad import plot
from localgrad.experiments.reproduce.accuracies import final, mean, spread
from localgrad.experiments.reproduce.feedback_cells import feedback_cell
from localgrad.experiments.reproduce.study import (
    Cell,
    Claim,
    Picture,
    Results,
    Scale,
    Setup,
    Study,
    Table,
    Verdict,
    verdict,
)
from localgrad.experiments.training import Config

BATCH, RATE = 32, 0.1

RULES: dict[str, lg.Rule] = {
    "Z-IL": lg.ZIL(),
    "IL": lg.InferenceLearning(steps=50, rate=0.1, nudge=float(BATCH)),
    "fixed prediction": lg.FixedPrediction(steps=20, rate=0.5),
    "AR": lg.ActivationRelaxation(steps=20, rate=0.5, start="activity"),
}
EXACT = ("Z-IL", "fixed prediction", "AR")
"""Those whose gradient is backpropagation's, or tends to it, on symmetric weights."""

FEEDBACK = {
    "exact": ("symmetric", False),
    "random": ("random", False),
    "learned": ("learned", False),
    "learned, decay": ("decayed", True),
    "exact, decay": ("symmetric", True),
}
"""By name: one of the trainer's feedbacks, and whether the weights decay."""

PUBLISHED = {"random": "worse", "learned": "comparable"}
DECAYED = "learned, decay"
LILLICRAP, MILLIDGE = "Lillicrap et al. 2016", "Millidge et al. 2020a"
KOLEN = "Kolen, Pollack 1994; Akrout et al. 2019"


def cells(setup: Setup) -> Sequence[Cell]:
    """One cell per rule and feedback."""
    return [
        feedback_cell(_key(rule, feedback), _config(setup, rule, feedback), _decay(setup))
        for rule in RULES
        for feedback in FEEDBACK
    ]


def _decay(setup: Setup) -> float:
    """Per unit of learning rate: such that psi has become W long before the end."""
    return {Scale.QUICK: 0.02, Scale.DEFAULT: 0.0075, Scale.FULL: 0.001}[setup.scale]


def _config(setup: Setup, rule: str, feedback: str) -> Config:
    """A perceptron with its output clamped, gradient descent."""
    weights, is_decayed = FEEDBACK[feedback]
    epochs, seeds = {Scale.QUICK: (40, 2), Scale.DEFAULT: (3, 3), Scale.FULL: (20, 5)}[setup.scale]
    hidden = {Scale.QUICK: (64, 64), Scale.DEFAULT: (128, 64), Scale.FULL: (300, 300, 100)}
    return Config(
        data="digits" if setup.scale is Scale.QUICK else "mnist",
        folder=setup.folder,
        model="mlp",
        hidden=hidden[setup.scale],
        rule=RULES[rule],
        feedback=weights,
        loss="squared",
        epochs=epochs,
        batch_size=BATCH,
        optimiser="sgd",
        learning_rate=RATE,
        schedule="constant",
        # Of all parameters. Weights that have twins decay within their gradient instead.
        weight_decay=_decay(setup) if is_decayed and weights == "symmetric" else 0.0,
        seed=setup.seed,
        seeds=setup.seeds or seeds,
    )


def _key(rule: str, feedback: str) -> str:
    return f"{rule} {feedback}".lower().replace(",", "").replace(" ", "-")


def _course(results: Results, rule: str, feedback: str, what: str) -> dict[str, np.ndarray]:
    """A measure of each weight over the measurements, mean over seeds."""
    measured = results[_key(rule, feedback)][what]
    return {weight: np.array(values).mean(axis=1) for weight, values in measured.items()}


def _hidden(results: Results, rule: str, feedback: str) -> dict[str, np.ndarray]:
    """Cosines of the gradients of the weights that errors travel back to."""
    return dict(list(_course(results, rule, feedback, "gradients").items())[:-1])


def _shrunk(setup: Setup, results: Results, rule: str) -> np.ndarray:
    """What theory says is left of `W - psi`, at each measurement."""
    steps = np.array(results[_key(rule, DECAYED)]["steps"])
    return np.asarray((1 - RATE * _decay(setup)) ** steps)


def tables(setup: Setup, results: Results) -> Sequence[Table]:
    """Accuracies; alignment at the start and at the end; what becomes of `W - psi`."""
    accuracy = [
        [rule, *(spread(final(results[_key(rule, f)])) for f in FEEDBACK)] for rule in RULES
    ]
    accuracy.append(["published", *(PUBLISHED.get(f, "") for f in FEEDBACK)])
    alignment = [_alignment(results, rule, f) for rule in RULES for f in FEEDBACK]
    gaps = [
        [
            rule,
            feedback,
            {"learned": 1.0, DECAYED: float(_shrunk(setup, results, rule)[-1])}.get(feedback),
            *(float(f([c[-1] for c in courses])) for f in (np.min, np.max)),
        ]
        for rule in RULES
        for feedback in ("random", "learned", DECAYED)
        for courses in [_course(results, rule, feedback, "gap").values()]
    ]
    layers = len(_course(results, "Z-IL", "random", "gradients"))
    ends = [f"layer {k}" for k in range(layers - 1)]
    twins = [f"W and psi, layer {k}" for k in range(1, layers)]
    return [
        Table(
            "accuracy",
            "Test accuracy in percent, mean and standard deviation over seeds, by feedback weights",
            ["", *FEEDBACK],
            accuracy,
        ),
        Table(
            "alignment",
            "Cosines to backpropagation's gradient of the same network, of the hidden layers: the "
            "least at the start, all at the end; then those of weights W and their feedback "
            "weights psi at the end; means over seeds",
            ["", "feedback", "at the start", *ends, *twins],
            alignment,
        ),
        Table(
            "gap",
            "|W - psi| at the end over that at the start, mean over seeds",
            ["", "feedback", "theory", "least of any weight", "largest"],
            gaps,
        ),
    ]


def _alignment(results: Results, rule: str, feedback: str) -> list[str | float | None]:
    hidden = list(_hidden(results, rule, feedback).values())
    twins = list(_course(results, rule, feedback, "weights").values())
    start = float(min(course[0] for course in hidden))
    ends = [float(course[-1]) for course in hidden + twins]
    return [rule, feedback, start, *ends, *[None] * (2 * len(hidden) - len(ends))]


def pictures(setup: Setup, results: Results) -> Sequence[Picture]:
    """Learning curves; alignment over steps."""

    def curves(figure: Figure) -> None:
        axes = figure.subplots(1, 2, sharey=True)
        for rule, ax in zip(("Z-IL", "IL"), axes, strict=True):
            found = {f: np.array(results[_key(rule, f)]["accuracy"]) for f in FEEDBACK}
            values = {f: 100 * a.T for f, a in found.items() if len(a)}
            epochs = range(1, 1 + max(map(len, found.values())))
            whole = {f: v for f, v in values.items() if v.shape[1] == len(epochs)}
            plot.learning_curves(whole, epochs, "test accuracy (%)", xlabel="epoch", ax=ax)
            ax.set_title(rule)
            ax.xaxis.set_major_locator(MaxNLocator(integer=True))

    def alignment(figure: Figure) -> None:
        gradients, weights, gap = figure.subplots(1, 3)
        for feedback in ("random", "learned", DECAYED):
            at = results[_key("Z-IL", feedback)]["steps"]
            courses = (
                (gradients, _hidden(results, "Z-IL", feedback)),
                (weights, _course(results, "Z-IL", feedback, "weights")),
                (gap, _course(results, "Z-IL", feedback, "gap")),
            )
            for ax, course in courses:
                mean = np.mean(list(course.values()), axis=0)
                ax.plot(at, mean, "o-", markersize=3, label=feedback)
        gap.plot(at, _shrunk(setup, results, "Z-IL"), "k:", label="theory")
        gap.set_yscale("log")
        gradients.set(title="Updates of hidden weights", ylabel="cosine to backpropagation's")
        weights.set(title="Weights and feedback weights", ylabel="cosine of W and psi")
        gap.set(title="Their distance", ylabel="|W - psi| over that at the start")
        for ax in (gradients, weights, gap):
            ax.set_xlabel("training step")
        gap.legend()

    return [
        Picture("curves", "Accuracy by feedback weights.", curves, (10.0, 4.0)),
        Picture(
            "alignment",
            "Z-IL, mean over weights and seeds. On random feedback weights the network turns to "
            "them; learned ones keep their distance; with decay they become the forward weights.",
            alignment,
            (13.0, 4.0),
        ),
    ]


def claims(setup: Setup, results: Results) -> Sequence[Claim]:
    """On random, on learned, on decayed feedback weights."""
    return [*_on_random(results), *_on_learned(results), *_on_decayed(setup, results)]


def _on_random(results: Results) -> list[Claim]:
    turned = _hidden(results, "Z-IL", "random")
    met = _course(results, "Z-IL", "random", "weights")
    lost = {rule: _loses(results, rule, "random", "exact") for rule in RULES}
    return [
        Claim(
            "On fixed random feedback weights the updates turn towards backpropagation's",
            LILLICRAP,
            verdict(all(course[-1] > course[0] + 0.2 for course in turned.values())),
            _said(turned, "cosines of the hidden weights' updates, Z-IL"),
        ),
        Claim(
            "... for the forward weights come to align with the feedback weights",
            LILLICRAP,
            verdict(all(course[-1] > course[0] + 0.05 for course in met.values())),
            _said(met, "cosines of W and psi, Z-IL"),
        ),
        Claim(
            "Random feedback weights are worse than exact ones, for every rule",
            MILLIDGE,
            verdict(all(points > 0 for points in lost.values())),
            _points(lost),
        ),
    ]


def _on_learned(results: Results) -> list[Claim]:
    # NumPy's extremes, for those of Python may pass over what is not a number.
    drift = np.max(
        [c[-1] for rule in RULES for c in _course(results, rule, "learned", "drift").values()]
    )
    lost = {rule: _loses(results, rule, "learned", "exact") for rule in RULES}
    alike, with_il = (
        np.ptp([[mean(results[_key(rule, f)]) for rule in rules] for f in FEEDBACK], axis=1).max()
        for rules in (EXACT, RULES)
    )
    return [
        Claim(
            "Feedback weights that learn what the forward weights learn are comparable to exact "
            "ones, for every rule (3 points)",
            MILLIDGE,
            verdict(all(points < 3 for points in lost.values())),
            _points(lost),
        ),
        Claim(
            "... though without decay W - psi stays what it was",
            "localgrad.Synapses",
            verdict(bool(drift < 1e-4)),
            f"moved by {drift:.0e} of its length at most",
        ),
        Claim(
            "Rules that are backpropagation on exact weights, or tend to it, learn alike on each "
            "other kind: Z-IL, fixed prediction and AR (1 point)",
            "docs/rules.md",
            verdict(bool(alike < 1)),
            f"at most {alike:.2f} points apart; inference learning with them {with_il:.2f}",
        ),
    ]


def _on_decayed(setup: Setup, results: Results) -> list[Claim]:
    weights = [
        course[-1]
        for rule in RULES
        for course in _course(results, rule, DECAYED, "weights").values()
    ]
    gradients = [c[-1] for rule in EXACT for c in _hidden(results, rule, DECAYED).values()]
    off = [
        float(np.abs(course / _shrunk(setup, results, rule) - 1).max())
        for rule in RULES
        for course in _course(results, rule, DECAYED, "gap").values()
    ]
    lost = {rule: _loses(results, rule, DECAYED, "exact, decay") for rule in RULES}
    gained = {rule: -_loses(results, rule, DECAYED, "random") for rule in RULES}
    return [
        Claim(
            "With decay of both the feedback weights become the forward weights",
            KOLEN,
            verdict(all(cosine > 0.99 for cosine in weights)),
            f"cosine of W and psi at the end {np.min(weights):.4f} at least",
        ),
        Claim(
            "... at the rate (1 - learning rate decay)^steps, whatever the rule (5 %)",
            KOLEN,
            verdict(bool(np.max(off) < 0.05)),
            f"|W - psi| differs by a factor of 1 + {np.max(off):.1g} at most, at any time",
        ),
        Claim(
            "... and the updates of Z-IL, fixed prediction and AR backpropagation's",
            KOLEN,
            verdict(all(cosine > 0.99 for cosine in gradients)),
            f"cosine at the end {np.min(gradients):.4f} at least, hidden weights",
        ),
        Claim(
            "... and the accuracy that of exact weights with the same decay (1 point)",
            KOLEN,
            verdict(all(points < 1 for points in lost.values())),
            _points(lost),
        ),
        Claim(
            "... and it is above that of fixed random weights without decay",
            "Akrout et al. 2019",
            verdict(all(points > 0 for points in gained.values())),
            f"{_points(gained, 'gained')}; but such a decay takes from exact weights, too: "
            + ", ".join(f"{r} {_loses(results, r, 'exact, decay', 'exact'):+.1f}" for r in RULES),
        ),
        Claim(
            "On ImageNet learned feedback weights with decay train where random ones fail",
            "Akrout et al. 2019",
            Verdict.NOT_TESTABLE,
            "needs ImageNet, and networks of its size",
        ),
    ]


def _loses(results: Results, rule: str, feedback: str, against: str) -> float:
    """Points of accuracy."""
    return mean(results[_key(rule, against)]) - mean(results[_key(rule, feedback)])


def _points(points: dict[str, float], what: str = "lost") -> str:
    return f"points {what}: " + ", ".join(f"{rule} {n:+.1f}" for rule, n in points.items())


def _said(courses: dict[str, np.ndarray], what: str) -> str:
    ends = ", ".join(f"{course[0]:.2f} to {course[-1]:.2f}" for course in courses.values())
    return f"{what}: {ends}"


STUDY = Study(
    name="weight-transport",
    title="Learning without weight transport",
    source="Lillicrap, Cownden, Tweed, Akerman 2016, Random synaptic feedback weights support "
    "error backpropagation for deep learning; Kolen, Pollack 1994, Backpropagation without weight "
    "transport; Akrout et al. 2019, Deep learning without weight transport; Millidge, Tschantz, "
    "Seth, Buckley 2020a, Relaxing the constraints on predictive coding models.",
    about="A ReLU perceptron with a clamped output, gradient descent at "
    f"{RATE:g} on batches of {BATCH}, with Z-IL, inference learning, fixed prediction and "
    "activation relaxation. Errors travel back on the forward weights themselves, on fixed random "
    "ones, on random ones that learn what the forward weights learn, and on these with decay of "
    "both; decay costs accuracy of its own, so exact weights are trained with it, too. (At twice "
    "this learning rate trainings on fixed random ones diverged on MNIST.) Below the "
    "full scale the network is smaller, there are fewer epochs, and the decay is stronger, "
    "so that its effect is seen within them. The papers say of accuracies here that they are "
    "worse or comparable; their tables were not available to us.",
    cells=cells,
    tables=tables,
    pictures=pictures,
    claims=claims,
)
