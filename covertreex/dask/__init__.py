from covertreex.dask.searching import search
