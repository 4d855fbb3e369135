"""Cost of Z-IL relative to backpropagation, in one process: `python benchmarks/zil_vs_backprop.py`.

Per model: `jax.jit(lg.value_and_grad(loss, rule=lg.ZIL()))` against
`jax.jit(jax.value_and_grad(loss))`. The two sides alternate in every measurement that reads a
clock; a second, separately compiled copy of backpropagation runs along as the control: the ratio
between the two copies is the noise of the machine. README.md says how to read the table.
"""

import argparse
import datetime as dt
import importlib.metadata
import itertools
import json
import math
import os
import platform
import shlex
import signal
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from typing import Any

import jax
import jaxlib
import numpy as np

import localgrad as lg
import models

PAPER_RUN_RATIO = {
    "MLP": 1.024,
    "AlexNet": 1.029,
    "RNN": 1.005,
    "ResNet-18": 1.008,
    "Transformer": 1.005,
}
TARGET = {"run": 1.02, "compile": 1.2, "flops": 1.01, "bytes": 1.05, "temp": 1.1, "error": 5e-6}
TRACE_TARGET = "<= 2; up to 200 equations < 60 ms; scan <= 1"
SCAN_MODELS = ("RNN",)

Result = dict[str, Any]


# --- The two sides --------------------------------------------------------------------------------


def zil(loss: models.Loss) -> Callable:
    return lg.value_and_grad(loss, rule=lg.ZIL())


SIDES: dict[str, Callable[[models.Loss], Callable]] = {
    "zil": zil,
    "backprop": jax.value_and_grad,
    "control": jax.value_and_grad,
}


def fresh(side: str, loss: models.Loss) -> Any:
    """A new jitted function object, so that no cache keyed on the function answers for it."""
    return jax.jit(SIDES[side](lambda *args: loss(*args)))


def alternate(sides: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
    """Every order of the sides in turn: each takes each position equally often."""
    return itertools.cycle(itertools.permutations(sides))


# --- Measurements ---------------------------------------------------------------------------------


def cold_trace(name: str, side: str, size: str, seed: int) -> dict[str, float]:
    """First trace; runs in a process that has traced nothing before but the model's own set-up."""
    loss, args = models.build(name, size, seed)
    return trace_time(side, loss, args)


def trace_time(side: str, loss: models.Loss, args: tuple) -> dict[str, float]:
    function = fresh(side, loss)
    wall, thread = time.perf_counter(), time.thread_time()
    function.trace(*args)
    return {
        "thread_ms": 1e3 * (time.thread_time() - thread),
        "wall_ms": 1e3 * (time.perf_counter() - wall),
    }


def measure_cold_traces(name: str, options: argparse.Namespace) -> Result:
    samples: dict[str, list] = {"zil": [], "backprop": []}
    with ProcessPoolExecutor(
        1,
        get_context("spawn"),
        initializer=signal.signal,
        initargs=(signal.SIGINT, signal.SIG_IGN),
        max_tasks_per_child=1,
    ) as processes:
        orders = alternate(("zil", "backprop"))
        for side in itertools.chain(*itertools.islice(orders, options.cold_traces)):
            task = processes.submit(cold_trace, name, side, options.size, options.seed)
            samples[side].append(task.result())
    return {side: medians(of_side) for side, of_side in samples.items()}


def measure_warm_traces(loss: models.Loss, args: tuple, repeats: int) -> Result:
    samples: dict[str, list] = {"zil": [], "backprop": []}
    orders = alternate(("zil", "backprop"))
    for side in itertools.chain(*itertools.islice(orders, repeats + 1)):
        samples[side].append(trace_time(side, loss, args))
    return {side: medians(of_side[1:]) for side, of_side in samples.items()}


def measure_compile(loss: models.Loss, args: tuple, repeats: int) -> Result:
    """Compilation alone, nothing cached, after one round that is not counted."""
    samples: dict[str, list] = {side: [] for side in SIDES}
    for side in itertools.chain(*itertools.islice(alternate(tuple(SIDES)), repeats + 1)):
        jax.clear_caches()
        lowered = fresh(side, loss).lower(*args)
        wall, process = time.perf_counter(), time.process_time()
        lowered.compile()
        samples[side].append(
            {
                "process_s": time.process_time() - process,
                "wall_s": time.perf_counter() - wall,
            }
        )
    return {side: medians(of_side[1:]) for side, of_side in samples.items()}


def measure_program(compiled: Any) -> dict[str, float]:
    """What the compiler itself says of the optimised program."""
    cost, memory = compiled.cost_analysis(), compiled.memory_analysis()
    return {
        "flops": cost["flops"],
        "bytes_accessed": cost["bytes accessed"],
        "temp_bytes": memory.temp_size_in_bytes,
        "argument_bytes": memory.argument_size_in_bytes,
        "output_bytes": memory.output_size_in_bytes,
    }


def measure_gradients(programs: dict[str, Any], args: tuple) -> Result:
    """Per parameter leaf max|zil - backprop| / max|backprop|; loss and gradients for `bitwise`."""
    ours, reference = programs["zil"](*args), programs["backprop"](*args)
    pairs = list(zip(jax.tree.leaves(ours), jax.tree.leaves(reference), strict=True))
    return {
        "leaves": len(pairs) - 1,
        "relative_difference": [
            float(abs(a - b).max() / max(abs(b).max(), np.finfo(b.dtype).tiny))
            for a, b in pairs[1:]
        ],
        "bitwise": all(np.array_equal(a, b) for a, b in pairs),
    }


def measure_run(programs: dict[str, Any], args: tuple, pairs: int, seconds: float) -> Result:
    """Wall time of one update, all sides in every round; at least 10 rounds however slow."""
    samples: dict[str, list[float]] = {side: [] for side in programs}
    for program in programs.values():
        jax.block_until_ready(program(*args))
    stop = time.perf_counter() + seconds
    for count, order in enumerate(itertools.islice(alternate(tuple(programs)), pairs)):
        if count >= 10 and time.perf_counter() > stop:
            break
        for side in order:
            start = time.perf_counter()
            jax.block_until_ready(programs[side](*args))
            samples[side].append(1e3 * (time.perf_counter() - start))
    times = {side: np.array(of_side) for side, of_side in samples.items()}
    return {
        "pairs": len(times["zil"]),
        "median": {side: {"wall_ms": float(np.median(ms))} for side, ms in times.items()},
        "ratio": quartiles(times["zil"] / times["backprop"]),
        "control": quartiles(times["control"] / times["backprop"]),
    }


def quartiles(samples: np.ndarray) -> list[float]:
    return np.quantile(samples, (0.25, 0.5, 0.75)).tolist()


def medians(samples: list[dict[str, float]]) -> dict[str, float]:
    return {key: statistics.median(sample[key] for sample in samples) for key in samples[0]}


def count_equations(jaxpr: Any) -> int:
    """Leaf equations, those of nested jaxprs (jit, scan, ...) included, each body once."""
    total = 0
    for equation in jaxpr.eqns:
        nested = [
            getattr(leaf, "jaxpr", leaf)
            for leaf in jax.tree.leaves(list(equation.params.values()))
            if hasattr(getattr(leaf, "jaxpr", leaf), "eqns")
        ]
        total += sum(map(count_equations, nested)) if nested else 1
    return total


def measure(name: str, options: argparse.Namespace, result: Result) -> None:
    """Everything but the cold traces, into `result`, one stage after the other."""
    loss, args = models.build(name, options.size, options.seed)
    result["equations"] = count_equations(jax.make_jaxpr(loss)(*args).jaxpr)
    report(f"{name}: warm traces")
    result["warm_trace"] = measure_warm_traces(loss, args, options.warm_traces)
    report(f"{name}: compilation")
    result["compile"] = measure_compile(loss, args, options.compiles)
    programs = {side: fresh(side, loss).lower(*args).compile() for side in SIDES}
    result["program"] = {side: measure_program(programs[side]) for side in ("zil", "backprop")}
    result["gradients"] = measure_gradients(programs, args)
    report(f"{name}: runs")
    result["run"] = measure_run(programs, args, options.pairs, options.seconds)


# --- The table ------------------------------------------------------------------------------------


def table(results: dict[str, Result]) -> str:
    """Markdown, one column per model; cells of measurements that were not reached are empty."""
    names = [name for name in results if results[name]]
    rows = [["Z-IL / backprop", "target", *names]]

    def row(title: str, target: str, cell: Callable[[str, Result], str]) -> None:
        cells = []
        for name in names:
            try:
                cells.append(cell(name, results[name]))
            except KeyError:
                cells.append("")
        rows.append([title, target, *cells])

    def most(title: str, stage: str, key: str, target: str, scale: float = 1) -> None:
        """A row of ratios with an upper limit."""
        limit = TARGET[target]
        row(title, f"<= {limit}", lambda _, r: versus(r[stage], key, scale, limit))

    row("equations, forward", "", lambda _, r: str(r["equations"]))
    most("flops (M)", "program", "flops", "flops", 1e-6)
    most("bytes accessed (MB)", "program", "bytes_accessed", "bytes", 1e-6)
    most("temporary memory (MB)", "program", "temp_bytes", "temp", 1e-6)
    row("arguments (MB)", "1", lambda _, r: versus(r["program"], "argument_bytes", 1e-6, 1))
    row("outputs (MB)", "1", lambda _, r: versus(r["program"], "output_bytes", 1e-6, 1))
    most("compile, process time (s)", "compile", "process_s", "compile")
    row("compile, wall time (s)", "", lambda _, r: versus(r["compile"], "wall_s"))
    row("compile, process time, control", "1", lambda _, r: control(r["compile"], "process_s"))
    for stage in ("cold", "warm"):
        row(
            f"trace {stage}, thread time (ms)",
            TRACE_TARGET,
            lambda name, r, key=f"{stage}_trace": trace_cell(name, r["equations"], r[key]),
        )
        row(
            f"trace {stage}, wall time (ms)",
            "",
            lambda _, r, key=f"{stage}_trace": versus(r[key], "wall_ms"),
        )
    row("run, pairs", "", lambda _, r: str(r["run"]["pairs"]))
    row("run, median time (ms)", "", lambda _, r: versus(r["run"]["median"], "wall_ms"))
    row("run, median of ratios", f"<= {TARGET['run']}", lambda _, r: run_cell(r["run"]["ratio"]))
    row("run, quartiles of ratios", "", lambda _, r: spread(r["run"]["ratio"]))
    row("run, control, median of ratios", "1", lambda _, r: f"{r['run']['control'][1]:.3f}")
    row("run, control, quartiles", "", lambda _, r: spread(r["run"]["control"]))
    row("run, ratio in the paper", "", lambda name, _: str(PAPER_RUN_RATIO.get(name, "none")))
    row("gradient, worst relative difference", f"<= {TARGET['error']}", error_cell)
    row("bitwise equal", "", lambda _, r: "yes" if r["gradients"]["bitwise"] else "no")

    return markdown(rows)


def markdown(rows: list[list[str]]) -> str:
    """A Markdown table; the first row is the header."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ["| " + " | ".join(map(str.ljust, cells, widths)) + " |" for cells in rows]
    return "\n".join([lines[0], "| " + " | ".join("-" * w for w in widths) + " |", *lines[1:]])


def versus(sides: Result, key: str, scale: float = 1, limit: float = math.inf) -> str:
    """Ratio (Z-IL / backpropagation), judged at the precision shown."""
    ours, theirs = scale * sides["zil"][key], scale * sides["backprop"][key]
    ratio = round(ours / theirs, 3) if theirs else math.nan
    return f"{ratio:.3f} ({ours:.4g} / {theirs:.4g}){miss(ratio <= limit)}"


def control(sides: Result, key: str) -> str:
    return f"{sides['control'][key] / sides['backprop'][key]:.3f}"


def trace_cell(name: str, equations: int, sides: Result) -> str:
    ours, theirs = sides["zil"]["thread_ms"], sides["backprop"]["thread_ms"]
    reached = ours <= 2 * theirs if equations > 200 else ours < 60
    if name in SCAN_MODELS:
        reached = reached and ours <= theirs
    return versus(sides, "thread_ms") + miss(reached)


def run_cell(ratio: list[float]) -> str:
    return f"{ratio[1]:.3f}{miss(round(ratio[1], 3) <= TARGET['run'])}"


def error_cell(_: str, result: Result) -> str:
    worst = max(result["gradients"]["relative_difference"])
    return f"{worst:.1e}{miss(worst <= TARGET['error'])}"


def spread(ratio: list[float]) -> str:
    return f"{ratio[0]:.3f} to {ratio[2]:.3f}"


def miss(reached: bool) -> str:
    return "" if reached else " MISS"


# --- The machine, the command, the main program ---------------------------------------------------


def environment() -> dict[str, str]:
    cpu = first_in("/proc/cpuinfo", "model name") or platform.processor() or platform.machine()
    memory = first_in("/proc/meminfo", "MemTotal")
    device = jax.devices()[0]
    return {
        "machine": f"{cpu}, {os.cpu_count()} cores, memory {memory or 'unknown'}",
        "device": f"{jax.device_count()} x {device.device_kind} ({device.platform})",
        "load average at the end": ", ".join(f"{load:.1f}" for load in os.getloadavg()),
        "versions": f"python {platform.python_version()}, jax {jax.__version__}, "
        f"jaxlib {jaxlib.__version__}, localgrad {version('localgrad')}, "
        f"equinox {version('equinox')}",
        "date": dt.datetime.now(dt.UTC).isoformat(" ", "minutes"),
        "command": shlex.join(["python", *sys.argv]),
    }


def print_environment() -> None:
    print()
    for key, value in environment().items():
        print(f"* {key}: {value}")


def first_in(path: str, key: str) -> str | None:
    """The value of the first `key: value` line of a file of /proc, None where there is none."""
    try:
        with open(path) as lines:
            found = (line.split(":", 1)[1].strip() for line in lines if line.startswith(key))
            return next(found, None)
    except OSError:
        return None


def version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "not installed (source tree)"


def report(message: str) -> None:
    print(f"{time.strftime('%H:%M:%S')} {message}", file=sys.stderr, flush=True)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", nargs="+", choices=models.MODELS, default=list(models.MODELS))
    parser.add_argument("--size", choices=models.SIZES, default="small")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--pairs", type=int, default=400, help="most runs of each side")
    parser.add_argument("--seconds", type=float, default=60, help="most seconds of runs per model")
    parser.add_argument("--compiles", type=int, default=6, help="compilations of each side")
    parser.add_argument("--warm-traces", type=int, default=20, help="later traces of each side")
    parser.add_argument("--cold-traces", type=int, default=4, help="fresh processes per side")
    parser.add_argument("--json", metavar="FILE", help="also write the raw numbers to FILE")
    return parser.parse_args()


def main() -> None:
    options = parse()
    jax.config.update("jax_enable_compilation_cache", False)
    results: dict[str, Result] = {name: {} for name in options.models}
    try:
        for name, result in results.items():  # before this process takes an accelerator's memory
            report(f"{name}: cold traces in fresh processes")
            result["cold_trace"] = measure_cold_traces(name, options)
        for name, result in results.items():
            measure(name, options, result)
    except KeyboardInterrupt:
        report("interrupted: the table has what was finished")
    print(f"## Z-IL over backpropagation, size {options.size}\n")
    print(table(results))
    print_environment()
    if options.json:
        with open(options.json, "w") as file:
            json.dump({"environment": environment(), "models": results}, file, indent=2)


if __name__ == "__main__":
    main()
