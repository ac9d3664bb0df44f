"""Load weights into a transformer."""

from collections.abc import Mapping
from typing import Any

import mindspore as ms
import numpy as np
from mindspore import Parameter, Tensor, ops
from numpy.typing import NDArray

from latte_cli.core.errors import LatteError
from latte_cli.core.models.architecture import Transformer

DTYPES = {"float32": ms.float32, "float16": ms.float16, "bfloat16": ms.bfloat16}


def zeros(*shape: int, dtype: ms.Type = ms.float32) -> Parameter:
    """A parameter to load weights into, which takes no memory until then."""
    numbers = np.zeros(shape, np.float16 if dtype == ms.float16 else np.float32)
    return Parameter(Tensor(numbers, dtype) if dtype == ms.bfloat16 else Tensor.from_numpy(numbers))


def load_weights(model: Transformer, weights: Mapping[str, NDArray[Any]], *, source: str) -> None:
    """Set every parameter from `weights`, which must have exactly the model's names and shapes.

    Raises LatteError with `source` and the first names that are missing, unexpected, misshapen or not finite.
    """
    parameters = {parameter.name: parameter for parameter in model.get_parameters()}
    faults = [f"{name} is missing" for name in parameters if name not in weights]
    faults += [f"{name} is unexpected" for name in weights if name not in parameters]
    for name, parameter in parameters.items():
        if name not in weights:
            continue
        values = weights[name]  # once each: they may be read from a file
        if tuple(values.shape) != tuple(parameter.shape):
            faults.append(f"{name} is {tuple(values.shape)}, expected {tuple(parameter.shape)}")
        elif not np.isfinite(values).all():
            faults.append(f"{name} contains numbers that are not finite")
        elif not faults:
            set_parameter(parameter, values)
    if faults:
        more = f" and {len(faults) - 3} more" if len(faults) > 3 else ""
        raise LatteError(f"{source}: does not fit the model: {'; '.join(faults[:3])}{more}")


def set_parameter(parameter: Parameter, values: NDArray[Any]) -> None:
    """Assign new values of the same shape to a parameter, in its type."""
    # Parameter.set_data does not affect functions that are already compiled.
    tensor = Tensor(np.ascontiguousarray(values, dtype=np.float32), parameter.dtype)
    if parameter.dtype == ms.bfloat16:  # a CPU cannot assign it
        parameter.set_data(tensor)
    else:
        ops.assign(parameter, tensor)
