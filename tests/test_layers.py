"""Enforces who may do what: each file's kind, who imports whom, and what must not run under a locked heap.

Every rule is a function from modules to findings ("path:line: sentence"). It is run over the repository,
where it must find nothing, and over planted violations, which it must find.
"""

import ast
import re
from collections.abc import Callable, Iterable, Iterator
from copy import deepcopy
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FIRMWARE_SHELLS = {"boot.py", "main.py", "board.py", "flash.py", "pins.py", "wired.py"}

PURE = {"protocol", "policy"}
# What a protocol or a policy may import beside ours. Package data may be read (schemas, profiles): it is part
# of the code. Of rich what measures and lays out, not what writes.
# fmt: off
PURE_IMPORTS = {
    "__future__", "array", "bisect", "binascii", "collections", "csv", "dataclasses", "datetime", "decimal", "difflib",
    "enum", "fractions", "functools", "gettext", "hashlib", "heapq", "html", "importlib.resources", "ipaddress",
    "itertools", "json", "math", "operator", "re", "statistics", "string", "struct", "tomllib", "types", "typing",
    "unicodedata", "urllib.parse", "zlib", "zoneinfo", "rich.cells", "rich.text",
}
# fmt: on
BOARD_IMPORTS = {"array", "binascii", "struct"}
IMPURE_CALLS = {"open", "print", "input", "now", "utcnow", "today"}
# Who may import which of our packages; firmware's own files are flat.
MAY_IMPORT = {
    "protocols": {"protocols"},
    "firmware": {"firmware", "protocols"},
    "edge": {"edge", "protocols"},
    "hil_tests": {"hil_tests", "protocols"},
}
POLICIES = re.compile(
    r"firmware/(poller|recorder)|edge/(timebase|pipeline|forward|alarms/\w+)|hil_tests/bench/(units|plant|line|faults)"
)


@dataclass(frozen=True)
class Module:
    path: str  # from the repository's root
    tree: ast.Module
    on_board: bool = False  # a B module: it runs under the locked heap of a board

    @property
    def package(self) -> str:
        return self.path.split("/")[0]

    @property
    def name(self) -> str:
        """As others import it: firmware's files without their folder."""
        dotted = self.path.removesuffix(".py").removesuffix("/__init__").replace("/", ".")
        return dotted.removeprefix("firmware.")

    @property
    def kinds(self) -> list[str]:
        first_line = (ast.get_docstring(self.tree) or "").partition("\n")[0]
        return re.findall(r"\b(protocol|policy|shell)\b", first_line.lower())

    @cached_property
    def on_micropython(self) -> ast.Module:
        """The tree without the branches that only CPython takes."""

        class Pruned(ast.NodeTransformer):
            def visit_If(self, node: ast.If) -> ast.If:
                self.generic_visit(node)
                if ast.unparse(node.test) == "MICROPYTHON":
                    node.orelse = []
                return node

        return Pruned().visit(deepcopy(self.tree))

    @property
    def is_pure(self) -> bool:
        return bool(PURE.intersection(self.kinds))


def repository() -> list[Module]:
    manifest = (ROOT / "firmware" / "manifest.py").read_text(encoding="utf-8")
    board = set(re.findall(r'module\("([^"]+)"', manifest)) - FIRMWARE_SHELLS
    modules = []
    for path in sorted(path for package in MAY_IMPORT for path in (ROOT / package).rglob("*.py")):
        where = path.relative_to(ROOT).as_posix()
        text = path.read_text(encoding="utf-8")
        if text and not re.match(r"(test_.*|conftest)\.py", path.name):
            modules.append(Module(where, ast.parse(text), where.removeprefix("firmware/") in board))
    return modules


def at(module: Module, node: ast.AST, sentence: str) -> str:
    return f"{module.path}:{getattr(node, 'lineno', 1)}: {sentence}"


def imports(module: Module) -> Iterator[tuple[ast.stmt, str]]:
    """Every name imported, dotted, without what only the type checker reads."""
    unread = {
        id(inner)
        for node in ast.walk(module.tree)
        if isinstance(node, ast.If) and ast.unparse(node.test) in {"TYPE_CHECKING", "typing.TYPE_CHECKING"}
        for statement in node.body
        for inner in ast.walk(statement)
    }
    for node in ast.walk(module.tree):
        if id(node) in unread:
            continue
        if isinstance(node, ast.Import):
            yield from ((node, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from ((node, f"{node.module}.{alias.name}") for alias in node.names)


def begins(name: str, prefixes: Iterable[str]) -> bool:
    """Whether a dotted name is one of these or lies in one."""
    return any(name == prefix or name.startswith(f"{prefix}.") for prefix in prefixes)


# --- the kind of a file, and who imports whom ---------------------------------------------------------------


def kind_is_named(modules: list[Module]) -> Iterator[str]:
    for module in modules:
        if len(module.kinds) != 1:
            yield at(
                module, module.tree, "the first docstring line must name one kind: protocol, policy or shell"
            )
        elif module.package == "protocols" and module.kinds != ["protocol"]:
            yield at(module, module.tree, f"{module.kinds[0]} in protocols/")
        elif POLICIES.match(module.path) and not module.is_pure:
            yield at(module, module.tree, "must be a policy")


def packages_keep_apart(modules: list[Module]) -> Iterator[str]:
    siblings = {module.name for module in modules if module.package == "firmware"}
    for module in modules:
        for node, name in imports(module):
            package = "firmware" if begins(name, siblings) else name.split(".")[0]
            if package in {*MAY_IMPORT, "tests"} - MAY_IMPORT[module.package]:
                yield at(module, node, f"{module.package} must not import {name}")


def board_imports_only_board(modules: list[Module]) -> Iterator[str]:
    on_board = {module.name for module in modules if module.on_board}
    for module in modules:
        allowed = on_board | BOARD_IMPORTS if module.on_board else on_board
        for node, name in imports(module):
            ours = name.split(".")[0] == "protocols"
            if (module.on_board or module.package == "firmware" and ours) and not begins(name, allowed):
                yield at(module, node, f"{name} is not for the board: it has {', '.join(sorted(allowed))}")


def machine_is_one_files(modules: list[Module]) -> Iterator[str]:
    for module in modules:
        for node, name in imports(module):
            if begins(name, ["machine"]) and module.path != "firmware/board.py":
                yield at(module, node, "only firmware/board.py imports machine")


def pure_stays_pure(modules: list[Module]) -> Iterator[str]:
    shells = {module.name for module in modules if not module.is_pure}
    for module in (module for module in modules if module.is_pure):
        for node, name in imports(module):
            if begins(name, shells - set(MAY_IMPORT)):
                yield at(module, node, f"a {module.kinds[0]} must not import the shell {name}")
            elif not begins(name, PURE_IMPORTS | set(MAY_IMPORT) | {other.name for other in modules}):
                yield at(module, node, f"a {module.kinds[0]} must not import {name}")
        for node in ast.walk(module.tree):
            if isinstance(node, ast.AsyncFunctionDef | ast.Await | ast.AsyncFor | ast.AsyncWith):
                yield at(module, node, f"async in a {module.kinds[0]}")
            elif isinstance(node, ast.Call) and called(node) in IMPURE_CALLS:
                yield at(module, node, f"{called(node)}() in a {module.kinds[0]}")


def exceptions_are_named(modules: list[Module]) -> Iterator[str]:
    for module in modules:
        broad = [
            node
            for node in ast.walk(module.tree)
            if isinstance(node, ast.ExceptHandler)
            and (
                node.type is None
                or {"Exception", "BaseException"} & set(re.findall(r"\w+", ast.unparse(node.type)))
            )
        ]
        mains = [node for node in module.tree.body if is_main(node)]
        for node in broad:
            if len(broad) > 1 or not any(node in ast.walk(main) for main in mains):
                yield at(module, node, "name the exception; only the top of a main may catch every one, once")


def is_main(node: ast.stmt) -> bool:
    if isinstance(node, ast.If):
        return ast.unparse(node.test) == "__name__ == '__main__'"
    return isinstance(node, ast.FunctionDef) and node.name == "main"


# --- under the locked heap ----------------------------------------------------------------------------------

Function = ast.FunctionDef | ast.AsyncFunctionDef

GROWS = {"append", "extend", "insert", "add", "update", "setdefault", "appendleft", "join"}
# fmt: off
ALLOCATES = {
    "list", "dict", "set", "tuple", "bytes", "bytearray", "memoryview", "array", "str", "repr", "print",
    "float", "enumerate", "zip", "map", "filter", "sorted", "reversed", "iter", "divmod", "format",
}
# fmt: on
MADE_ON_THE_SPOT = {
    ast.List: "a list",
    ast.Dict: "a dict",
    ast.Set: "a set",
    ast.ListComp: "a comprehension",
    ast.SetComp: "a comprehension",
    ast.DictComp: "a comprehension",
    ast.GeneratorExp: "a generator",
    ast.Yield: "a generator",
    ast.YieldFrom: "a generator",
    ast.Await: "async",
    ast.Lambda: "a closure",
    ast.JoinedStr: "string formatting",
    ast.Slice: "a slice",
    ast.Raise: "raise",
    ast.Assert: "assert raises",
    ast.Starred: "a * call",
}


def called(call: ast.Call) -> str:
    """The last name of what is called."""
    return call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")


def functions(tree: ast.AST, marked: bool = False) -> Iterator[tuple[Function, bool]]:
    """Functions and methods, and whether they, or their class, are marked as not for the loop."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, Function | ast.ClassDef):
            mark = marked or bool(re.search(r"\b(Set-up|Edge only)\.", ast.get_docstring(node) or ""))
            if isinstance(node, ast.ClassDef):
                yield from functions(node, mark)
            else:
                yield node, mark or node.name == "__init__"
        elif isinstance(node, ast.If | ast.Try):
            yield from functions(node, marked)


def loop_code(modules: list[Module]) -> list[tuple[Module, Function]]:
    """Every unmarked function of the B modules, and what `loop` of firmware/main.py reaches in the shells."""
    unmarked = [
        (module, function)
        for module in modules
        if module.on_board or module.package == "firmware"
        for function, mark in functions(module.on_micropython)
        if not mark
    ]
    found = [(module, function) for module, function in unmarked if module.on_board]
    in_shells = [(module, function) for module, function in unmarked if not module.on_board]
    wanted = ["loop"]
    while wanted:
        name = wanted.pop()
        for pair in [pair for pair in in_shells if pair[1].name == name]:
            in_shells.remove(pair)
            found.append(pair)
            wanted += [called(node) for node in ast.walk(pair[1]) if isinstance(node, ast.Call)]
    return found


def loop_allocates_nothing(modules: list[Module]) -> Iterator[str]:
    trees = [module.on_micropython for module in modules if module.on_board or module.package == "firmware"]
    marks: dict[str, set[bool]] = {}
    for function, mark in (pair for tree in trees for pair in functions(tree)):
        marks.setdefault(function.name, set()).add(mark)
    classes = {node.name for tree in trees for node in ast.walk(tree) if isinstance(node, ast.ClassDef)}
    methods = {
        function.name
        for tree in trees
        for node in ast.walk(tree)
        if isinstance(node, ast.ClassDef)
        for function, _ in functions(node)
    }
    data = {
        node.attr
        for tree in trees
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store)
    }
    set_up = {name for name, found in marks.items() if found == {True}} - {"__init__"}
    for module, function in loop_code(modules):
        for node, sentence in allocations(function, classes, methods - data):
            yield at(module, node, f"{sentence} in {function.name}, which runs under the locked heap")
        for node in ast.walk(function):
            if isinstance(node, ast.Call) and called(node) in set_up:
                yield at(
                    module, node, f"{function.name} runs in the loop and calls {called(node)}, which does not"
                )


def allocations(function: Function, classes: set[str], methods: set[str]) -> Iterator[tuple[ast.AST, str]]:
    """What in a function would need the heap."""
    body = [node for statement in function.body for node in ast.walk(statement)]
    free_ranges = {id(node.iter) for node in body if isinstance(node, ast.For)}
    callees = {id(node.func) for node in body if isinstance(node, ast.Call)}
    for node in body:
        if type(node) in MADE_ON_THE_SPOT and isinstance(getattr(node, "ctx", ast.Load()), ast.Load):
            yield node, MADE_ON_THE_SPOT[type(node)]
        elif isinstance(node, Function | ast.ClassDef):
            yield node, "a closure"
        elif isinstance(node, ast.Tuple) and isinstance(node.ctx, ast.Load):
            if not all(isinstance(element, ast.Constant) for element in node.elts):
                yield node, "a tuple"
        elif isinstance(node, ast.Constant) and isinstance(node.value, float | complex):
            yield node, "a float"
        elif isinstance(node, ast.Constant) and isinstance(node.value, int) and node.value > 2**29:
            yield node, "an integer over 2^29"
        elif isinstance(node, ast.BinOp | ast.AugAssign) and isinstance(node.op, ast.Div):
            yield node, "/ makes a float"
        elif (
            isinstance(node, ast.BinOp)
            and isinstance(node.op, ast.Mod)
            and isinstance(node.left, ast.Constant)
        ):
            yield node, "string formatting"
        elif isinstance(node, ast.Attribute) and id(node) not in callees and node.attr in methods:
            yield node, f"binding the method {node.attr}"
        elif isinstance(node, ast.Call):
            name = called(node)
            if any(keyword.arg is None for keyword in node.keywords):
                yield node, "a ** call"
            if name in GROWS and isinstance(node.func, ast.Attribute):
                yield node, f".{name}() grows what it is called on"
            elif name.startswith("unpack") or name == "pack":
                yield node, f"struct.{name}"
            elif name in ALLOCATES or name in classes or name == "range" and id(node) not in free_ranges:
                yield node, f"{name}() makes an object"


# --- the tests ----------------------------------------------------------------------------------------------

RULES: list[Callable[[list[Module]], Iterator[str]]] = [
    kind_is_named,
    packages_keep_apart,
    board_imports_only_board,
    machine_is_one_files,
    pure_stays_pure,
    exceptions_are_named,
    loop_allocates_nothing,
]


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_the_repository_keeps(rule):
    findings = sorted(set(rule(repository())))
    assert not findings, "\n".join(findings)


def test_the_loop_is_found():
    names = {function.name for _, function in loop_code(repository())}
    assert {"loop", "step", "sample", "feed", "crc16", "now_ms", "wait"} <= names
    assert not {"__init__", "main", "obey", "encode"} & names


def module(path: str, text: str, kind: str = "Policy", on_board: bool = False) -> Module:
    return Module(path, ast.parse(f'"""A planted file. {kind}."""\n{text}\n'), on_board)


PLANTED = [
    (kind_is_named, module("edge/a.py", "", kind="Helper")),
    (kind_is_named, module("edge/a.py", "", kind="Policy and shell")),
    (kind_is_named, module("protocols/a.py", "", kind="Shell")),
    (kind_is_named, module("edge/alarms/conditions.py", "", kind="Shell")),
    (packages_keep_apart, module("edge/a.py", "import hil_tests.bench")),
    (packages_keep_apart, module("hil_tests/a.py", "from edge import daemon")),
    (packages_keep_apart, module("hil_tests/a.py", "def f():\n    import poller")),
    (packages_keep_apart, module("protocols/a.py", "from edge.config import Site")),
    (packages_keep_apart, module("firmware/a.py", "import edge")),
    (board_imports_only_board, module("protocols/a.py", "import json", on_board=True)),
    (board_imports_only_board, module("protocols/a.py", "from protocols import model", on_board=True)),
    (board_imports_only_board, module("firmware/main.py", "from protocols.profile import load")),
    (machine_is_one_files, module("firmware/main.py", "from machine import UART")),
    (pure_stays_pure, module("edge/a.py", "import time")),
    (pure_stays_pure, module("edge/a.py", "import asyncio", kind="Protocol")),
    (pure_stays_pure, module("edge/a.py", "from random import Random")),
    (pure_stays_pure, module("edge/a.py", "import logging")),
    (pure_stays_pure, module("edge/a.py", "from os import path")),
    (pure_stays_pure, module("edge/a.py", "from edge.shell import port")),
    (pure_stays_pure, module("edge/a.py", "async def f(): pass")),
    (pure_stays_pure, module("edge/a.py", "from datetime import datetime\ndatetime.now()")),
    (pure_stays_pure, module("edge/a.py", "open('x')")),
    (exceptions_are_named, module("edge/a.py", "try: pass\nexcept: pass")),
    (
        exceptions_are_named,
        module("edge/a.py", "def f():\n    try: pass\n    except (OSError, Exception): pass"),
    ),
    (
        exceptions_are_named,
        module("edge/a.py", "def main():\n" + 2 * "    try: pass\n    except Exception: pass\n"),
    ),
    *(
        (
            loop_allocates_nothing,
            module("firmware/a.py", f"class A:\n    def f(self, x):\n        {line}", on_board=True),
        )
        for line in [
            "return x, 1",
            "return x[1:2]",
            "return f(*x)",
            "return f(**x)",
            "return sum(i for i in x)",
            "return [i for i in x]",
            "return {1: x}",
            "yield x",
            "return lambda: x",
            "def g(): pass",
            "self.g = self.f",
            "return '%d' % 1",
            "return f'{x}'",
            "return '{}'.format(x)",
            "return x * 0.5",
            "return x / 2",
            "return struct.unpack_from('<H', x, 0)",
            "self.rows.append(x)",
            "return A()",
            "return bytes(x)",
            "raise ValueError",
            "assert x",
            "return x & 0x7FFFFFFF",
            "i = range(3)",
        ]
    ),
    (
        loop_allocates_nothing,
        module(
            "firmware/a.py",
            "def f():\n    return g()\ndef g():\n    'Edge only.'\n    return [1]",
            on_board=True,
        ),
    ),
    (
        loop_allocates_nothing,
        module(
            "firmware/main.py",
            "def loop(p):\n    p.read()\nclass Port:\n    def read(self):\n        return []",
        ),
    ),
]


@pytest.mark.parametrize(("rule", "planted"), PLANTED, ids=lambda part: getattr(part, "__name__", "in"))
def test_a_violation_is_found(rule, planted):
    others = [module("edge/shell.py", "", kind="Shell"), module("firmware/poller.py", "", on_board=True)]
    findings = list(rule([planted, *others]))
    assert findings
    assert all(finding.startswith(f"{planted.path}:") for finding in findings)


INNOCENT = '''
import struct
from protocols.link import put_u16
class A:
    def __init__(self):
        self.rows = [1, 2]
        self.next = 0
    def f(self, x):
        """One line."""
        for i in range(3):
            self.rows[i] = x // 2 if x in (1, 2) else self.next
        return self.g(x)
    def g(self, x):
        return x
    def next(self):
        return struct.pack_into("<H", self.rows, 0, 1)
def h(x):
    """Set-up. Makes what it likes."""
    return [i / 2 for i in x], x[1:]
def main():
    try:
        pass
    except Exception:
        pass
'''


def test_innocent_code_passes():
    planted = [
        module("firmware/poller.py", INNOCENT, on_board=True),
        module("protocols/link.py", "", kind="Protocol", on_board=True),
    ]
    assert [finding for rule in RULES for finding in rule(planted)] == []
