import numpy as np
from numpy.typing import NDArray

def matern(nu: float, t: NDArray[np.float64]) -> NDArray[np.float64]: ...
