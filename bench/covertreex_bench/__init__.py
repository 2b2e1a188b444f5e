"""Measuring equipment for covertreex: workloads, comparisons of backends, and speeds with their recall beside them.

It uses the library; the library knows nothing of it, and finds its commands through entry points.
"""
