"""From neighbours to a likelihood: Gaussian processes by Vecchia and VIF approximations.

`Vecchia` is the model under one kernel and noise: its log-likelihood with gradient, its sparse factor, predictions and
draws, and its fit: kernel and noise by maximum likelihood, with neighbours that follow the kernel. docs/vecchia.md has
the formulas and their sources.

>>> import numpy as np, covertreex as cx
>>> X = np.random.default_rng(0).uniform(size=(500, 2))
>>> tree = cx.cover_tree(X, kernel=cx.Matern32(lengthscale=0.2, variance=2.0), inducing=20)
>>> model = cx.vecchia.Vecchia(tree, k=15, noise=0.1)
>>> y = model.sample(0)[0]
>>> mean, variance = model.predict([[0.5, 0.5]], y, k=15)
>>> mean.shape, bool(variance[0] < 2.0)
((1,), True)
"""

from covertreex.vecchia.model import Fit, Vecchia
from covertreex.vecchia.parameters import free_parameters

__all__ = ["Fit", "Vecchia", "free_parameters"]
