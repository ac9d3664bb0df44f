"""Both paths of every kernel."""

from collections.abc import Iterator

import pytest

from latte_cli.core.kernels.selection import force_kernels, kernels_available


@pytest.fixture(params=["compiled", "plain"])
def path(request: pytest.FixtureRequest) -> Iterator[str]:
    """Run the test on the compiled kernels, then on MindSpore's operators."""
    force_kernels(request.param == "compiled")
    assert kernels_available() == (request.param == "compiled"), "no compiler: the kernels could not be built"
    yield request.param
    force_kernels(None)
