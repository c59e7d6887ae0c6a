"""Starts what makes and judges runs: the scripts at the repository's root, and `tagger train`."""

import sys
from collections.abc import Callable
from typing import Any

import hydra
from omegaconf import DictConfig

from tagger.config.composition import (
    CONFIG_DIR,
    compose_config,
    experiment_by_path,
    help_text,
    load_config,
    translate_overrides,
    with_source,
)
from tagger.config.schema import SCHEMAS
from tagger.errors import exit_on_user_error
from tagger.threads import settle_threads


@exit_on_user_error
def run_hydra_script(config_name: str, function: Callable[[Any], object]) -> None:
    """Compose `configs/<config_name>.yaml` with the command line and call `function` with it.

    A plain list of overrides is composed by `compose_config`, which reports every mistake, where
    Hydra would stop at the first. `--help` lists the groups of this config alone. Hydra's own
    options (`--cfg job`, `-m` and its `a=1,2` sweeps, `--config-dir`) are left to Hydra.

    Args:
        config_name: A name in `tagger.config.schema.SCHEMAS`.
        function: Called with the typed config, once a job.
    """
    settle_threads()
    overrides = with_source(sys.argv[1:])
    options = {argument for argument in overrides if argument.startswith("-")}
    if options and options <= {"--help", "-h"}:
        print(help_text(config_name, [one for one in overrides if one not in options]))
        return
    if not options:
        function(load_config(SCHEMAS[config_name], compose_config(config_name, overrides)))
        return

    # Wrapped inside of Hydra too: it would answer a UserError with a traceback of its own.
    @exit_on_user_error
    def job(config: DictConfig) -> None:
        function(load_config(SCHEMAS[config_name], config))

    with experiment_by_path(translate_overrides(overrides)) as sys.argv[1:]:
        hydra.main(version_base="1.3", config_path=str(CONFIG_DIR), config_name=config_name)(job)()


# The types of configs, and what is called with them, would import torch for --help.
def train() -> None:
    """Compose the config and train."""

    def job(config: Any) -> None:
        from tagger.training.train_run import train

        train(config)

    run_hydra_script("train", job)


def evaluate() -> None:
    """Compose the config, evaluate, report, and end with an exit code for what got worse."""

    def job(config: Any) -> None:
        from tagger.evaluation.evaluate_run import evaluate_run
        from tagger.evaluation.guards import REGRESSED, regressions
        from tagger.evaluation.latency import over_budget
        from tagger.reporting.evaluation import report_evaluation

        report = report_evaluation(evaluate_run(config))
        failures = [*regressions(report), *over_budget(report)]
        for line in failures:
            print(line, file=sys.stderr)
        if failures:
            sys.exit(REGRESSED)

    run_hydra_script("evaluate", job)


def optimize() -> None:
    """Compose the config, run the sweep and report it."""

    def job(config: Any) -> None:
        from tagger.reporting.sweep import report_sweep
        from tagger.search.run_sweep import run_sweep

        run_sweep(config, report_sweep)

    run_hydra_script("optimize", job)


SCRIPTS = {"train": train, "evaluate": evaluate, "optimize": optimize}
"""What `tagger` starts with the same overrides as the scripts of these names."""
