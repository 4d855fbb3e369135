"""Cost of inference by local dynamics: `python benchmarks/inference.py`.

1. Milliseconds per inference step of localgrad on marked networks, against a loop written by hand
   for that very network (`networks.py`), and against one `jax.grad`.
2. A convolution and its transpose inside a loop, in four forms.
3. Z-IL by the clock, at the granularity of single equations, against `jax.grad`.

A time per step is the difference of two step counts, so that what happens before and after the loop
does not count. All sides of a row take turns within every round, in random order; times are medians
over the rounds. `control` is a second, separately compiled copy of the hand-written loop over the
first: what the machine itself adds. Compile and trace times are process time, nothing cached; they
must not depend on the number of steps. `float64` is the distance of ours and of the hand-written
loop from the textbook's, in double precision on a small copy: the worst parameter's
`max |difference| / max |gradient|`. `MISS` marks what is above its target. On a busy machine trust
ratios with a control near 1 only.
"""

import argparse
import statistics
import sys
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jax import lax

import localgrad as lg
import models
import networks
from localgrad._jaxpr.convolution import as_canonical, as_product
from zil_vs_backprop import markdown, miss, print_environment, report

RATE = 0.1
RULES: dict[str, Callable[[int], lg.Rule]] = {
    "IL": lambda steps: lg.InferenceLearning(steps=steps, rate=RATE),
    "fixed": lambda steps: lg.FixedPrediction(steps=steps, rate=RATE),
    "AR": lambda steps: lg.ActivationRelaxation(steps=steps, rate=RATE),
}
FEW, MANY = 20, 200
"""Numbers of steps at which compile time is measured."""
TARGET = {"hand": 1.15, "frozen": 0.5, "compile": 3.0, "steps": 1.1}

Program = Any


# --- Measuring ------------------------------------------------------------------------------------


def rounds(programs: dict[str, Program], args: tuple, options: argparse.Namespace) -> dict:
    """Milliseconds of every run, side by side: one run of each program per round."""
    for program in programs.values():
        jax.block_until_ready(program(*args))
    samples: dict[str, list[float]] = {name: [] for name in programs}
    generator = np.random.default_rng(options.seed)
    stop = time.perf_counter() + options.seconds
    for count in range(options.rounds):
        if count >= 7 and time.perf_counter() > stop:
            break
        for name in generator.permutation(list(programs)):
            start = time.perf_counter()
            jax.block_until_ready(programs[name](*args))
            samples[name].append(1e3 * (time.perf_counter() - start))
    return {name: np.array(ms) for name, ms in samples.items()}


def per_step(samples: dict, side: str, few: int, many: int) -> float:
    """The median over the rounds of the difference of two step counts."""
    return float(np.median(samples[f"{side} {many}"] - samples[f"{side} {few}"])) / (many - few)


def compiled(f: Callable, args: tuple) -> Program:
    return jax.jit(f).lower(*args).compile()


def compile_times(sides: dict[str, Callable[[], Callable]], args: tuple, repeats: int) -> dict:
    """Seconds of process time, trace and compilation apart; nothing cached, medians."""
    samples: dict[str, list] = {side: [] for side in sides}
    for _ in range(repeats):
        for side, make in sides.items():
            jax.clear_caches()
            begin = time.process_time()
            lowered = jax.jit(make()).lower(*args)
            middle = time.process_time()
            lowered.compile()
            samples[side].append((middle - begin, time.process_time() - middle))
    return {
        side: tuple(map(statistics.median, zip(*s, strict=True))) for side, s in samples.items()
    }


def worst(ours: Any, reference: Any) -> float:
    """The worst leaf of max |difference| / max |reference|."""
    pairs = zip(jax.tree.leaves(ours), jax.tree.leaves(reference), strict=True)
    return max(float(abs(a - b).max() / abs(b).max()) for a, b in pairs)


def in_float64(args: tuple) -> tuple:
    return jax.tree.map(lambda x: x.astype("float64") if x.dtype == "float32" else x, args)


# --- The textbook, in float64: e = mu - x, scans unrolled -----------------------------------------


def reference(net, is_live, params, inputs, labels, steps, rate) -> Any:
    def unrolled(body, carry, xs):
        for k in range(len(jax.tree.leaves(xs)[0])):
            carry, _ = body(carry, jax.tree.map(lambda x, k=k: x[k], xs))
        return carry, None

    def cut(params, values):
        """Predictions of all vertices, in the order of their marks, and the loss."""
        supply, predictions = iter(values), []

        def mark(x, name):
            predictions.append(x)
            return next(supply, x)

        loss = net(params, inputs, labels, mark, unrolled)
        return predictions, loss

    @jax.jit
    def step(x, e):
        (mu, _), pull = jax.vjp(partial(cut, params), x)
        if is_live:
            e = [m - v for m, v in zip(mu, x, strict=True)]
        (feedback,) = pull((e, jnp.ones(())))
        if is_live:
            return [v + rate * (a - f) for v, a, f in zip(x, e, feedback, strict=True)], e
        return x, [(1 - rate) * a + rate * f for a, f in zip(e, feedback, strict=True)]

    x, _ = cut(params, [])
    e = [jnp.zeros_like(v) for v in x]
    for _ in range(steps):
        x, e = step(x, e)
    (mu, _), pull = jax.vjp(lambda params: cut(params, x), params)
    if is_live:
        e = [m - v for m, v in zip(mu, x, strict=True)]
    return pull((e, jnp.ones(())))[0]


def agreement(case: networks.Case, rule: str, seed: int) -> tuple[float, float]:
    """How far ours and the hand-written loop are from the textbook, on a small copy in float64."""
    is_live, steps = rule == "IL", 12
    with jax.enable_x64(True):
        args = in_float64(case.build(jr.key(seed), True))
        expected = reference(case.net, is_live, *args, steps, RATE)
        ours = jax.jit(lg.grad(loss_of(case), rule=RULES[rule](steps)))(*args)
        by_hand = jax.jit(partial(hand(case, rule), steps=steps, rate=RATE))(*args)
        return worst(ours, expected), worst(by_hand, expected)


# --- 1. Steps of inference on marked networks -----------------------------------------------------


def loss_of(case: networks.Case) -> Callable:
    return lambda params, x, y: case.net(params, x, y, lg.vertex, lax.scan)


def hand(case: networks.Case, rule: str) -> networks.Loop:
    return case.live if rule == "IL" else case.frozen


def inference(options: argparse.Namespace) -> list[list[str]]:
    head = ["network", "values", "rule", "ours, ms per step", "by hand", "ratio", "control"]
    head += ["over IL", "jax.grad, ms", f"compile at {FEW}, s", f"at {MANY}", "of jax.grad"]
    rows = [[*head, "ratio", "trace, s", "of jax.grad", "float64 ours, hand"]]
    for name in options.networks:
        case, live = networks.CASES[name], None
        args = case.build(jr.key(options.seed), False)
        for rule, make in RULES.items():
            report(f"{name}, {rule}")
            cells, ms = inference_cells(case, rule, make, args, options)
            live = ms if rule == "IL" else live
            slow = rule != "IL" and ms > TARGET["frozen"] * live
            cells.insert(4, "" if rule == "IL" else f"{ms / live:.2f}{miss(not slow)}")
            rows.append([name, case.values, rule, *cells])
            report(" | ".join(rows[-1]))
    return rows


def inference_cells(case, rule, make, args, options) -> tuple[list[str], float]:
    loss = loss_of(case)

    def fresh(steps: int) -> Callable:
        return lg.grad(lambda *args: loss(*args), rule=make(steps))

    times = compile_times(
        {
            "few": lambda: fresh(FEW),
            "many": lambda: fresh(MANY),
            "backprop": lambda: jax.grad(lambda *args: loss(*args)),
        },
        args,
        options.compiles,
    )
    few, many = options.steps
    sides = {
        "ours": fresh,
        "hand": lambda steps: partial(hand(case, rule), steps=steps, rate=RATE),
        "control": lambda steps: partial(hand(case, rule), steps=steps, rate=RATE),
    }
    programs = {
        f"{side} {steps}": compiled(make_side(steps), args)
        for side, make_side in sides.items()
        for steps in (few, many)
    }
    programs["backprop"] = compiled(jax.grad(loss), args)
    samples = rounds(programs, args, options)
    ours, by_hand, control = (per_step(samples, side, few, many) for side in sides)
    ratio = times["few"][1] / times["backprop"][1]
    errors = agreement(case, rule, options.seed)
    cells = [
        f"{ours:.3f}",
        f"{by_hand:.3f}",
        f"{ours / by_hand:.2f}{miss(ours <= TARGET['hand'] * by_hand)}",
        f"{control / by_hand:.2f}",
        f"{np.median(samples['backprop']):.2f}",
        f"{times['few'][1]:.2f}",
        f"{times['many'][1]:.2f}{miss(times['many'][1] <= TARGET['steps'] * times['few'][1])}",
        f"{times['backprop'][1]:.2f}",
        f"{ratio:.2f}{miss(ratio <= TARGET['compile'])}",
        f"{times['few'][0]:.2f}",
        f"{times['backprop'][0]:.2f}",
        ", ".join(f"{e:.0e}" for e in errors),
    ]
    return cells, ours


# --- 2. The forms of a convolution inside a loop --------------------------------------------------

CONVOLUTIONS = {  # batch, features, size, result's features, kernel, stride, dtype
    "64x6x28x28 to 16, 5x5": (64, 6, 28, 16, 5, 1, "float32"),
    "64x16x14x14 to 32, 3x3": (64, 16, 14, 32, 3, 1, "float32"),
    "64x32x16x16 to 64, 3x3 by 2": (64, 32, 16, 64, 3, 2, "float32"),
    "64x64x8x8 to 64, 5x5": (64, 64, 8, 64, 5, 1, "float32"),
    "64x3x32x32 to 16, 3x3": (64, 3, 32, 16, 3, 1, "float32"),
    "64x1x28x28 to 6, 5x5": (64, 1, 28, 6, 5, 1, "float32"),
    "64x6x28x28 to 16, 5x5, float64": (64, 6, 28, 16, 5, 1, "float64"),
    "64x16x14x14 to 32, 3x3, float64": (64, 16, 14, 32, 3, 1, "float64"),
}
FORMS = ("in the loop", "unrolled", "canonical", "product")
REPEATS = 5


def convolution_step(form: str, size: tuple) -> tuple[Callable, tuple]:
    """`REPEATS` times forward and back to the image, NCHW, with padding of the same size."""
    batch, features, width, out, kernel, stride, dtype = size

    def plain(x, w):
        pad = (kernel // 2, kernel // 2)
        return lax.conv_general_dilated(x, w, (stride, stride), (pad, pad))

    keys = jr.split(jr.key(0), 3)
    x = jr.normal(keys[0], (batch, features, width, width), dtype)
    w = 0.1 * jr.normal(keys[1], (out, features, kernel, kernel), dtype)
    error = 0.01 * jr.normal(keys[2], jax.eval_shape(plain, x, w).shape, dtype)
    (eqn,) = jax.make_jaxpr(plain)(x, w).eqns
    convolve = {"canonical": as_canonical, "product": as_product}.get(form, lambda _: plain)(eqn)

    def step(_, state):
        x, error = state
        prediction, pull = jax.vjp(lambda x: jnp.tanh(convolve(x, w)), x)
        return x - 0.01 * pull(error)[0], 0.9 * error + 0.01 * prediction

    def loop(x, error):
        return lax.fori_loop(0, REPEATS, step, (x, error), unroll=form == "unrolled")

    return loop, (x, error)


def convolutions(options: argparse.Namespace) -> list[list[str]]:
    rows = [["convolution, ms per step", *FORMS]]
    for name, size in CONVOLUTIONS.items():
        report(f"convolution {name}")
        with jax.enable_x64(size[-1] == "float64"):
            made = {form: convolution_step(form, size) for form in FORMS}
            args = made["unrolled"][1]
            programs = {form: compiled(f, args) for form, (f, _) in made.items()}
            samples = rounds(programs, args, options)
        rows.append([name, *(f"{np.median(samples[form]) / REPEATS:.2f}" for form in FORMS)])
    return rows


# --- 3. Z-IL by the clock, one vertex per equation ------------------------------------------------


def unmarked(case: networks.Case, args: tuple) -> tuple[Callable, tuple]:
    return lambda params, x, y: case.net(params, x, y, lambda v, _: v, lax.scan), args


def small_transformer(key: jax.Array) -> tuple[Callable, tuple]:
    model_key, input_key, label_key = jr.split(key, 3)
    model = models.Encoder(64, 16, 32, 2, 2, model_key)
    return models.classifier(model, jr.randint(input_key, (8, 16), 0, 64), label_key)


def small_gru(key: jax.Array) -> tuple[Callable, tuple]:
    case = networks.CASES["GRU x100"]
    params, inputs, labels = case.build(key, False)
    return unmarked(case, (params, inputs[:8], labels))


CLOCKED: dict[str, Callable[[jax.Array], tuple[Callable, tuple]]] = {
    "MLP": lambda key: unmarked(c := networks.CASES["MLP"], c.build(key, False)),
    "CNN": lambda key: unmarked(c := networks.CASES["CNN NCHW"], c.build(key, False)),
    "ResNet": lambda key: unmarked(c := networks.CASES["ResNet"], c.build(key, False)),
    "GRU x8": small_gru,
    "transformer x2": small_transformer,
}


def clocked(options: argparse.Namespace) -> list[list[str]]:
    head = ["network", "vertices", "depth", "relays", "compile, s", "of jax.grad", "run, ms"]
    rows = [[*head, "of jax.grad", "ratio", "ratio per level", "difference float32", "float64"]]
    for name in options.clocked:
        report(f"{name} by the clock")
        rows.append([name, *clocked_cells(*CLOCKED[name](jr.key(options.seed)), options)])
        report(" | ".join(rows[-1]))
    return rows


def clocked_cells(loss: Callable, args: tuple, options: argparse.Namespace) -> list[str]:
    def clock() -> Callable:
        return lg.grad(lambda *xs: loss(*xs), rule=lg.ZIL(clock=True), vertices="elementary")

    def backprop() -> Callable:
        return jax.grad(lambda *xs: loss(*xs))

    view = lg.graph(loss, vertices="elementary")(*args)
    times = compile_times({"clock": clock, "backprop": backprop}, args, 1)
    programs = {"clock": compiled(clock(), args), "backprop": compiled(backprop(), args)}
    samples = rounds(programs, args, options)
    error = worst(programs["clock"](*args), programs["backprop"](*args))
    with jax.enable_x64(True):
        wide = in_float64(args)
        exact = worst(jax.jit(clock())(*wide), jax.jit(backprop())(*wide))
    ours, theirs = (float(np.median(samples[side])) for side in ("clock", "backprop"))
    return [
        str(sum(len(v.levels) for v in view.vertices)),
        *map(str, (view.depth, view.relays)),
        f"{times['clock'][1]:.2f}",
        f"{times['backprop'][1]:.2f}",
        f"{ours:.1f}",
        f"{theirs:.2f}",
        f"{ours / theirs:.0f}",
        f"{ours / theirs / view.depth:.2f}",
        f"{error:.0e}",
        f"{exact:.0e}",
    ]


# --- The main program -----------------------------------------------------------------------------


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--networks", nargs="*", choices=networks.CASES, default=list(networks.CASES)
    )
    parser.add_argument("--clocked", nargs="*", choices=CLOCKED, default=list(CLOCKED))
    parser.add_argument("--no-convolutions", action="store_true", help="leave table 2 out")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--steps", nargs=2, type=int, default=[20, 60], metavar=("FEW", "MANY"))
    parser.add_argument("--rounds", type=int, default=100, help="most runs of each side")
    parser.add_argument("--seconds", type=float, default=20, help="most seconds of runs per row")
    parser.add_argument("--compiles", type=int, default=3, help="compilations of each side")
    return parser.parse_args()


def main() -> None:
    options = parse()
    jax.config.update("jax_enable_compilation_cache", False)
    if options.networks:
        print("## Inference steps on marked networks\n")
        print(markdown(inference(options)), flush=True)
    if not options.no_convolutions:
        print("\n## A convolution and its transpose inside a loop\n")
        print(markdown(convolutions(options)), flush=True)
    if options.clocked:
        print("\n## Z-IL by the clock, one vertex per equation\n")
        print(markdown(clocked(options)), flush=True)
    print_environment()


if __name__ == "__main__":
    sys.exit(main())
