"""A Vecchia log-likelihood as a PyTorch function, and as a module in the manner of GPyTorch.

`VecchiaLogLikelihood` is a `torch.autograd.Function` of lengthscales, variance and noise: forwards it is
`Vecchia.log_likelihood(y, grad=True)`, backwards the gradient that came with it, which is analytic. So these parameters
may be anything that PyTorch computes, and the likelihood a part of any loss. `VecchiaGP` is a module with
`raw_lengthscale`, `raw_variance` and `raw_noise`, which softplus makes positive, as in GPyTorch; its neighbours follow
the kernel where `find_neighbors` is called, every few steps.

    python examples/torch_likelihood.py              # 2,000 points, two lengthscales

Needs PyTorch, on a CPU: numbers go to NumPy and back. What was run, with torch 2.15 on Python 3.11:
`torch.autograd.gradcheck` (in tests/test_examples.py, where torch is installed), and this with ``--n 1000``: it found
lengthscales 0.109 and 0.444 (truth 0.1 and 0.4), variance 1.42 (1.5) and noise 0.257 (0.25) in 150 steps.
"""

import argparse
import time

import numpy as np
import torch

import covertreex as cx


class VecchiaLogLikelihood(torch.autograd.Function):
    """The log-likelihood of y under a model's neighbours, at other parameters of its kernel."""

    @staticmethod
    def forward(ctx, lengthscale, variance, noise, model, y):
        """Compute the value and, with it, the gradient.

        Parameters
        ----------
        lengthscale : Tensor, shape () or (d,)
        variance, noise : Tensor, shape ()
        model : covertreex.vecchia.Vecchia
            Has the neighbours, the points, and the kind of kernel.
        y : ndarray, shape (n,)

        Returns
        -------
        Tensor, shape ()
        """
        value, gradient = log_likelihood(model, y, lengthscale.tolist(), variance.item(), noise.item())
        ctx.gradient = [
            torch.tensor(gradient[name], dtype=given.dtype)
            for name, given in zip(("lengthscale", "variance", "noise"), (lengthscale, variance, noise), strict=True)
        ]
        return lengthscale.new_tensor(value)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, upstream):
        """Multiply the gradient by what comes from above."""
        return (*(upstream * part for part in ctx.gradient), None, None)


def log_likelihood(model, y, lengthscale, variance, noise):
    """Log-likelihood and gradient of a model with its neighbours as they are, at other parameters: numbers, no tensors.

    Parameters
    ----------
    model : covertreex.vecchia.Vecchia
    y : ndarray, shape (n,)
    lengthscale : float or list of float
    variance, noise : float

    Returns
    -------
    value : float
    gradient : dict of str to float or tuple of float
    """
    lengthscale = tuple(lengthscale) if isinstance(lengthscale, list) else lengthscale
    kernel = model.kernel.set_params(lengthscale=lengthscale, variance=variance)
    moved = cx.vecchia.Vecchia(
        model.tree.with_metric(kernel), noise=noise, neighbors=model.neighbors, order=model.order
    )
    return moved.log_likelihood(y, grad=True)


class VecchiaGP(torch.nn.Module):
    """A Gaussian process with trainable lengthscales, variance and noise.

    Parameters
    ----------
    X : array_like, shape (n, d)
        In random order, or give `order`.
    k : int
        Neighbours of each point.
    inducing : int, optional
    lengthscale, variance, noise : float
        To begin with.
    order : array_like of int, shape (n,), optional
    """

    def __init__(self, X, k=20, inducing=None, lengthscale=1.0, variance=1.0, noise=0.1, order=None):
        super().__init__()
        X = np.asarray(X, dtype=np.float64)
        start = {"lengthscale": [lengthscale] * X.shape[1], "variance": variance, "noise": noise}
        for name, value in start.items():
            raw = torch.log(torch.expm1(torch.tensor(value, dtype=torch.float64)))
            self.register_parameter(f"raw_{name}", torch.nn.Parameter(raw))
        self.k, self.order = k, order
        kernel = cx.Matern32(tuple(start["lengthscale"]), variance=variance)
        self.tree = cx.cover_tree(X, kernel=kernel, inducing=inducing)
        self.find_neighbors()

    @property
    def lengthscale(self):
        """Tensor, shape (d,)."""
        return torch.nn.functional.softplus(self.raw_lengthscale)

    @property
    def variance(self):
        """Tensor, shape ()."""
        return torch.nn.functional.softplus(self.raw_variance)

    @property
    def noise(self):
        """Tensor, shape (): the variance of the noise."""
        return torch.nn.functional.softplus(self.raw_noise)

    def find_neighbors(self):
        """Search neighbours under the kernel of now; the sets stay until this is called again."""
        kernel = cx.Matern32(tuple(self.lengthscale.tolist()), variance=self.variance.item())
        self.model = cx.vecchia.Vecchia(
            self.tree.with_metric(kernel), self.k, self.noise.item(), order=self.order, settings="fast"
        )

    def forward(self, y):
        """The log-likelihood of y, shape ()."""
        return VecchiaLogLikelihood.apply(self.lengthscale, self.variance, self.noise, self.model, np.asarray(y))

    def predict(self, X_new, y, k=None):
        """Mean and variance of the process at other points, as `covertreex.vecchia.Vecchia.predict`."""
        self.find_neighbors()
        return self.model.predict(X_new, np.asarray(y), k or self.k)


def train(gp, y, steps=150, search_every=10, rate=0.1):
    """Adam on minus the log-likelihood per observation; neighbours are found anew every `search_every` steps.

    Returns
    -------
    list of float
        The log-likelihood at each step.
    """
    optimizer = torch.optim.Adam(gp.parameters(), lr=rate)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    history = []
    for step in range(steps):
        if step % search_every == 0:
            gp.find_neighbors()
        optimizer.zero_grad()
        value = gp(y)
        (-value / len(y)).backward()
        optimizer.step()
        schedule.step()
        history.append(value.item())
    return history


def main():
    """Draw data from a model with two lengthscales, and find them again."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--n", type=int, default=2_000, help="points (2,000)")
    parser.add_argument("--steps", type=int, default=150, help="of Adam (150)")
    arguments = parser.parse_args()
    X = np.random.default_rng(0).uniform(size=(arguments.n, 2))
    tree = cx.cover_tree(X, kernel=cx.Matern32((0.1, 0.4), variance=1.5), inducing=50)
    y = cx.vecchia.Vecchia(tree, 40, noise=0.25).sample(1)[0]
    began = time.perf_counter()
    gp = VecchiaGP(X, k=15, inducing=50, lengthscale=0.5, variance=1.0, noise=0.5)
    history = train(gp, y, arguments.steps)
    print(f"{arguments.n:,} points, {arguments.steps} steps, {time.perf_counter() - began:.1f} s")
    print(f"log-likelihood {history[0]:,.2f}, at the end {history[-1]:,.2f}")
    print(f"lengthscales {gp.lengthscale.tolist()} (truth 0.1, 0.4), variance {gp.variance.item():.4f} (1.5), ", end="")
    print(f"noise {gp.noise.item():.4f} (0.25)")


if __name__ == "__main__":
    main()
