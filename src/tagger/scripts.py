"""Starts the experiment scripts at the repository's root."""

import sys
from collections.abc import Callable
from typing import Any

import hydra
from omegaconf import DictConfig

from tagger.config.composition import (
    CONFIG_DIR,
    compose_config,
    experiment_by_path,
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
    Hydra would stop at the first. Hydra's own options (`--help`, `--cfg job`, `-m` and its `a=1,2`
    sweeps) are left to Hydra.

    Args:
        config_name: A name in `tagger.config.schema.SCHEMAS`.
        function: Called with the typed config, once a job.
    """
    settle_threads()
    overrides = with_source(sys.argv[1:])
    if not any(argument.startswith("-") for argument in overrides):
        function(load_config(SCHEMAS[config_name], compose_config(config_name, overrides)))
        return

    # Wrapped inside of Hydra too: it would answer a UserError with a traceback of its own.
    @exit_on_user_error
    def job(config: DictConfig) -> None:
        function(load_config(SCHEMAS[config_name], config))

    with experiment_by_path(translate_overrides(overrides)) as sys.argv[1:]:
        hydra.main(version_base="1.3", config_path=str(CONFIG_DIR), config_name=config_name)(job)()
