"""The same neighbours beyond one machine: searches of points in chunks, on the workers that Dask has.

>>> import dask.array as da, covertreex as cx, covertreex.dask as cxd
>>> X = da.random.default_rng(0).normal(size=(1000, 3), chunks=(300, 3))
>>> result = cxd.search(X, k=10, kernel=cx.Matern32(lengthscale=0.5), inducing=50, predecessor_mode=True)
>>> result.indices.shape, result.indices.chunks[0]
((1000, 10), (300, 300, 300, 100))

Needs the extra ``dask``: in the source folder, ``python -m pip install ".[dask]"``. See docs/dask.md.
"""

try:
    import dask.array
    import dask.dataframe  # noqa: F401
    import distributed  # noqa: F401
except ImportError as error:
    raise ImportError(
        f"covertreex.dask needs Dask with arrays, data frames and distributed, which cannot be imported ({error}): "
        "python -m pip install '.[dask]' in the source folder."
    ) from error

from covertreex.dask.results import DaskPlan, DaskResult
from covertreex.dask.searching import knn, search
from covertreex.dask.within import radius

__all__ = ["DaskPlan", "DaskResult", "knn", "radius", "search"]
