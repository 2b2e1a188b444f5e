"""Type stubs of the compiled modules say what is there: names, parameters, types, defaults."""

import ast
import importlib
import inspect
import re
from pathlib import Path

import pytest

import covertreex
from covertreex import _core

CORE = Path(_core.__file__).parent
PACKAGE = Path(covertreex.__file__).parent
MODULES = sorted(path.stem for path in CORE.glob("*.pyx"))

#: What a parameter of a .pyx file is in a stub.
DTYPES = {"double": "float64", "float": "float32"} | {
    f"{name}_t": name for name in ("int64", "int32", "int16", "int8", "uint8")
}
DTYPES["whole"] = "signedinteger"  # the fused type of screen.pyx
TYPES = {"double": "float", "float": "float", "bint": "bool", "int": "int", "int64_t": "int", "Py_ssize_t": "int"}


def parts_of(text):
    """Parameters, which are separated by commas outside brackets."""
    parts, depth = [""], 0
    for letter in " ".join(text.split()):
        depth += (letter in "[(") - (letter in "])")
        if letter == "," and depth == 0:
            parts.append("")
        else:
            parts[-1] += letter
    return [part.strip() for part in parts if part.strip()]


def parameter(text):
    """Name of a parameter of a .pyx file, with its stars; what it is in a stub, or None where any is right; default."""
    text, _, default = text.partition("=")
    text = text.replace("const ", "").strip()
    array = re.fullmatch(r"(\w+)\[.*\] (\w+)", text)
    if array:
        kind = f"NDArray[np.{DTYPES.get(array[1], 'floating')}]"
        return array[2], kind, bool(default)
    kind, _, name = text.rpartition(" ")
    return name, TYPES.get(kind, kind) or None, bool(default)


def defined(source):
    """Parameters of what a .pyx file defines for Python, by name: functions, and methods as ``Class.method``."""
    found, inside = {}, ""
    for match in re.finditer(r"^( *)(?:cdef class (\w+)|(?:def|cdef|cpdef|class) *(\w+)?)", source, re.MULTILINE):
        indent, name, function = match.groups()
        if name or not indent:
            inside = f"{name}." if name else ""
        if function and len(indent) <= 4 and match[0].strip().startswith("def"):
            at = stop = source.index("(", match.end()) + 1
            depth = 1
            while depth:
                depth += (source[stop] == "(") - (source[stop] == ")")
                stop += 1
            if not indent or inside:
                found[(inside if indent else "") + function] = [
                    parameter(part) for part in parts_of(source[at : stop - 1])
                ]
    return found


def stubbed(node):
    """The same of a function of a stub."""
    arguments = node.args
    assert arguments.posonlyargs == arguments.kwonlyargs == []
    assert arguments.kwarg is None
    missing = len(arguments.args) - len(arguments.defaults)
    found = [
        (argument.arg, ast.unparse(argument.annotation) if argument.annotation else None, i >= missing)
        for i, argument in enumerate(arguments.args)
    ]
    if arguments.vararg:
        found.append((f"*{arguments.vararg.arg}", None, False))
    return found


def is_property(node):
    return any(ast.unparse(decorator) == "property" for decorator in node.decorator_list)


def lies(stub, source, module):
    """What a stub says that the .pyx file or the compiled module does not, or keeps quiet about; sentences."""
    found, functions = [], defined(source)

    def compare(name, node, there):
        told = stubbed(node)
        if there is None:
            found.append(f"{name} is not there")
            return
        if name in functions:
            if [part[::2] for part in told] != [part[::2] for part in functions[name]]:
                found.append(f"{name} has other parameters")
                return
            for (parameter, claimed, _), (_, kind, default) in zip(told, functions[name], strict=True):
                if kind is not None and claimed not in (kind, f"{kind} | None" if default else kind):
                    found.append(f"{parameter} of {name} is {kind}")
        if not name.endswith("__init__"):
            real = [str(part).split("=")[0] for part in inspect.signature(there).parameters.values()]
            if [part[0] for part in told] != real:
                found.append(f"{name} is compiled with other parameters")

    body = ast.parse(stub).body
    for node in body:
        if isinstance(node, ast.FunctionDef):
            compare(node.name, node, getattr(module, node.name, None))
        elif isinstance(node, ast.AnnAssign) and not hasattr(module, node.target.id):
            found.append(f"{node.target.id} is not there")
        elif isinstance(node, ast.ImportFrom):
            there = importlib.import_module(node.module)
            found += [f"{node.module}.{name.name} is not there" for name in node.names if not hasattr(there, name.name)]
        elif isinstance(node, ast.ClassDef):
            kind = getattr(module, node.name, None)
            if kind is None:
                found.append(f"{node.name} is not there")
                continue
            told = {part.name: part for part in node.body}
            for name, part in told.items():
                if is_property(part):
                    if not inspect.isgetsetdescriptor(vars(kind).get(name)):
                        found.append(f"{node.name}.{name} is no attribute")
                else:
                    compare(f"{node.name}.{name}", part, vars(kind).get(name))
            real = {name for name in vars(kind) if not name.startswith("_")} | {
                name.partition(".")[2] for name in functions if name.startswith(f"{node.name}.")
            }
            found += [f"{node.name}.{name} is missing" for name in real - {"__cinit__", "__dealloc__"} - set(told)]
    told = {getattr(node, "name", None) for node in body}
    found += [f"{name} is missing" for name in functions if "." not in name and name not in told]
    return sorted(found)


def read(name):
    module = importlib.import_module(f"covertreex._core.{name}")
    return (CORE / f"{name}.pyi").read_text(), (CORE / f"{name}.pyx").read_text(), module


@pytest.mark.parametrize("name", MODULES)
def test_a_stub_says_what_is_there(name):
    assert lies(*read(name)) == []


def test_every_module_has_a_stub_and_no_other():
    assert [path.stem for path in sorted(CORE.glob("*.pyi"))] == MODULES
    assert (PACKAGE / "py.typed").exists()


def test_whatever_python_imports_is_in_a_stub():
    for path in [*PACKAGE.rglob("*.py"), *Path(__file__).parent.rglob("*.py")]:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("covertreex._core."):
                stub = ast.parse((CORE / f"{node.module.rpartition('.')[2]}.pyi").read_text())
                told = {getattr(part, "name", None) or getattr(getattr(part, "target", None), "id", None)
                        for part in stub.body}  # fmt: skip
                assert {name.name for name in node.names} <= told, path


@pytest.mark.parametrize(
    ("told", "instead", "said"),
    [
        ("def leaf_starts", "def leaf_begins", ["leaf_begins is not there", "leaf_starts is missing"]),
        ("    room: int,\n", "", ["within has other parameters"]),
        ("    room: int", "    room: float", ["room of within is int"]),
        ("cancel: NDArray[np.int32]", "cancel: NDArray[np.int64]",
         ["cancel of nearest is NDArray[np.int32]", "cancel of within is NDArray[np.int32]"]),
        ("def inner(", "def inmost(", ["BoxTree.inmost is no attribute", "BoxTree.inner is missing"]),
        ("class BoxTree", "class BoxTrees", ["BoxTrees is not there"]),
        ("slack_rel: float,", "slack_rel: float = 0.0,", ["BoxTree.__init__ has other parameters"]),
    ],
)  # fmt: skip
def test_a_stub_that_lies_is_found_out(told, instead, said):
    stub, source, module = read("euclid")
    assert told in stub
    if "slack_rel" in told:
        stub = stub.replace("slack_abs: float", "slack_abs: float = 0.0")
    assert lies(stub.replace(told, instead), source, module) == said
