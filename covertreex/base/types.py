"""What arrays are called in signatures: by what they hold."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

#: An array of float64, of int64, of truth values, and of anything.
FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]
BoolArray = NDArray[np.bool_]
AnyArray = NDArray[Any]
