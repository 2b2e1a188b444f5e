"""Kernels with a lengthscale for each axis: every closed form, and some by tables."""

import covertreex as cx

#: One lengthscale per axis, d = 5.
ARD = (0.35, 0.8, 1.0, 1.5, 2.5)

#: Every closed form, in five dimensions.
ARD_KERNELS = {
    "rbf": cx.RBF(ARD),
    "matern12": cx.Matern12(ARD, variance=2.5),
    "matern32": cx.Matern32(ARD),
    "matern52": cx.Matern52(ARD, variance=0.3),
    "rq": cx.RationalQuadratic(ARD, variance=1.7, alpha=0.6),
}

#: The same, and some by tables.
EVERY_KERNEL = {
    **ARD_KERNELS,
    "tables": cx.Matern(ARD, variance=0.7, nu=0.8),
    "product": cx.Matern(ARD[:4], nu=3.3, active_dims=[0, 1, 2, 3]) * cx.Matern12(ARD[4], 2.0, active_dims=[4]),
    "sum": cx.RBF(ARD) + cx.PoweredExponential(0.6, variance=0.4, power=1.3),
}
