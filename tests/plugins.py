"""Distributions that offer a backend, for tests.

They are real: a module beside a ``.dist-info`` directory with METADATA, RECORD and entry_points.txt, in a directory on
the path, is all that an installer leaves behind, and all that `importlib.metadata` looks at. Writing the files takes
milliseconds where pip takes seconds.
"""

import textwrap

#: A backend that works, by lending itself another's verbs.
GOOD = """
    from covertreex.protocols import Capabilities
    from covertreex_cython import CythonBackend

    class Backend(CythonBackend):
        name = "{name}"
        capabilities = Capabilities(summary="lent")

    backend = Backend()
"""


def install(site, distribution, module, source, *, name=None, version="1.0", target=None):
    """Put a distribution that offers a backend where Python finds it."""
    name = name or module
    (site / f"{module}.py").write_text(textwrap.dedent(source).replace("{name}", name))
    info = site / f"{distribution.replace('-', '_')}-{version}.dist-info"
    info.mkdir()
    files = {
        "METADATA": f"Metadata-Version: 2.1\nName: {distribution}\nVersion: {version}\n",
        "entry_points.txt": f"[covertreex.backends]\n{name} = {target or module + ':backend'}\n",
        "INSTALLER": "pip\n",
        "RECORD": f"{module}.py,,\n" + "".join(f"{info.name}/{file},,\n" for file in ("METADATA", "entry_points.txt")),
    }
    for file, text in files.items():
        (info / file).write_text(text)
