"""Program that multiplies two matrices with MindSpore: `python -m latte_cli.core.doctor.compute DEVICE`."""

import sys

from latte_cli.core.errors import LatteError


def main(device: str) -> None:
    """Print `computed DEVICE VERSION`; errors are one line on stderr, exit code 1."""
    try:
        import numpy as np

        from latte_cli.core.machine.device import use_device

        found = use_device(device)
        import mindspore as ms

        rows = np.random.default_rng(0).standard_normal((2, 64, 64)).astype(np.float32)
        product = ms.ops.matmul(*map(ms.Tensor, rows)).asnumpy()
        error = float(np.abs(product - rows[0].astype(np.float64) @ rows[1]).max())
        if not error < 0.1:  # of values up to 30; an accelerator may multiply in 16 bits
            sys.exit(f"a product of two matrices is off by {error:g}")
    except Exception as error:  # noqa: BLE001 (an installation may fail in any way)
        lines = str(error).strip().splitlines() or [""]
        sys.exit(lines[0] if isinstance(error, LatteError) else f"{type(error).__name__}: {lines[0]}")
    print("computed", found, ms.__version__)


if __name__ == "__main__":
    main(sys.argv[1])
