"""From neighbours to a likelihood: Gaussian processes by Vecchia and VIF approximations.

`Vecchia` is the model under one kernel and noise: its log-likelihood, its sparse factor, predictions and draws. `fit`
finds kernel and noise by maximum likelihood, with neighbours that follow the kernel. Formulas and sources:
docs/vecchia.md.

>>> import numpy as np, covertreex as cx
>>> X = np.random.default_rng(0).uniform(size=(500, 2))
>>> tree = cx.cover_tree(X, kernel=cx.Matern32(lengthscale=0.2, variance=2.0), inducing=20)
>>> model = cx.vecchia.Vecchia(tree, k=15, noise=0.1)
>>> y = model.sample(0)[0]
>>> mean, variance = model.predict([[0.5, 0.5]], y, k=15)
>>> mean.shape, bool(variance[0] < 2.0)
((1,), True)
"""

from covertreex.vecchia.fitting import Fit, fit
from covertreex.vecchia.model import Vecchia

__all__ = ["Fit", "Vecchia", "fit"]
