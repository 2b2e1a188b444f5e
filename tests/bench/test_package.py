"""Every module of the measuring equipment can be imported, without what is optional, and its examples are true."""

import doctest
import pkgutil
from importlib import import_module

import pytest

import covertreex_bench

MODULES = [found.name for found in pkgutil.walk_packages(covertreex_bench.__path__, "covertreex_bench.")]


def test_all_modules_are_found():
    assert {"covertreex_bench.workloads", "covertreex_bench.speed.suites", "covertreex_bench.commands.gold"} <= set(
        MODULES
    )


@pytest.mark.parametrize("name", MODULES)
def test_examples(name):
    assert doctest.testmod(import_module(name)).failed == 0
