"""Types of NumPy arrays."""

from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

Array: TypeAlias = NDArray[np.float32]
Doubles: TypeAlias = NDArray[np.float64]
