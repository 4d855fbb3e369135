"""``localgrad compare``: a rule's gradient against backpropagation's."""

import localgrad as lg
from localgrad.cli.errors import FailedError, UsageError
from localgrad.cli.experiment import make_trainer
from localgrad.cli.options import Compare
from localgrad.cli.report import output, print_comparison
from localgrad.cli.target import call, load
from localgrad.experiments.training import Config


def run(options: Compare) -> None:
    """Compare and print the table.

    Raises:
        UsageError: if the options make no sense, or there is no such function.
        FailedError: if the function, or the comparison of what it returns, fails.
    """
    if options.target is None:
        comparison = _compare_model(options)
    elif options.model is None:
        comparison = _compare_target(options.target, options.rule_fields)
    else:
        raise UsageError(
            "a function of your own and a built-in model cannot go together",
            f"{options.target} --model {options.model}",
            "give one of the two",
        )
    print_comparison(output(), comparison)


def _compare_model(options: Compare) -> lg.Comparison:
    trainer = make_trainer(
        Config(
            model=options.model or Config.model,
            rule=options.rule_fields,
            hidden=options.hidden,
            batch_size=options.batch_size,
            seed=options.seed,
        )
    )
    return trainer.compare(trainer.model.params)


def _compare_target(target: str, rule: lg.Rule) -> lg.Comparison:
    loss, args = call(target, load(target))
    try:
        return lg.compare(loss, rule=rule)(*args)
    except Exception as error:
        raise FailedError(
            f"the comparison failed with {type(error).__name__}: {error}",
            f"the loss function that {target} returned",
            "make sure that jax.grad(loss_fn)(*args) works, then compare again",
        ) from error
