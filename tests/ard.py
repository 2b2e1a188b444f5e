"""Kernels with a lengthscale for each axis."""

import covertreex as cx

#: One lengthscale per axis, d = 5.
ARD = (0.35, 0.8, 1.0, 1.5, 2.5)

#: Every kernel with ARD in five dimensions.
ARD_KERNELS = {
    "rbf": cx.RBF(ARD),
    "matern12": cx.Matern12(ARD, variance=2.5),
    "matern32": cx.Matern32(ARD),
    "matern52": cx.Matern52(ARD, variance=0.3),
    "rq": cx.RationalQuadratic(ARD, variance=1.7, alpha=0.6),
}
