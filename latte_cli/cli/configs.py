"""`latte configs`."""

from typing import Annotated

import typer

from latte_cli.cli.options import experiment_names

EXAMPLES = (
    ("List the experiments that come with latte", "latte configs"),
    ("Start from one", "latte configs sky > latte.yaml"),
)

Name = Annotated[
    str | None,
    typer.Argument(autocompletion=experiment_names, help="Experiment to print. Default: list all of them."),
]


def configs(name: Name = None) -> None:
    """List the shipped experiments, or print one."""
    from latte_cli.cli.progress import show
    from latte_cli.core.settings.shipped import copy_of, shipped

    if name is not None:
        show(copy_of(name))
        return
    known = shipped()
    width = max(len(experiment.name) for experiment in known) + 2
    show("".join(f"{experiment.name:<{width}}{experiment.summary}\n" for experiment in known))
