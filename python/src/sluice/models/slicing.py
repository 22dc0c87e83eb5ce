"""The source of classes and functions of a script that runs, or of a notebook, with what they use, as a module of its own.

A replica cannot import ``__main__``: that would run the training again. So the definitions are cut out, and with them every
global name that they use: imports as they were written, other definitions of the script, constants, and assignments that
call nothing but the standard library. Anything else is an object that was computed, and is refused with the way out.
"""

from __future__ import annotations

import ast
import builtins
import inspect
import linecache
import symtable
import sys
from collections.abc import Iterator
from pathlib import Path
from types import CodeType, ModuleType
from typing import Any

from sluice.errors import DeclarationError

_NOT_FOUND = "its source cannot be found; write it into a file and import it"
_CONSTANTS = (str, bytes, int, float, complex, bool, type(None))
_CONSTANT_DEPTH_MAX = 20
_CONSTANT_CHARACTERS_MAX = 100_000


def sliced(roots: list[Any]) -> str:
    """A module's text that defines the classes ``roots`` of ``__main__``. Raises DeclarationError for what cannot be cut out."""
    slicer = _Slicer(vars(sys.modules["__main__"]))
    for root in roots:
        slicer.define(root, root.__qualname__)
    return slicer.text()


def script_directory() -> Path:
    """Where the script's own modules lie: beside it, or where a notebook runs."""
    main = sys.modules["__main__"]
    file = getattr(main, "__file__", None)
    if file is None:
        return Path.cwd()
    directory = Path(file).absolute().parent
    package = getattr(main, "__package__", None) or ""
    for _ in filter(None, package.split(".")):  # python -m package.module
        directory = directory.parent
    return directory


class _Slicer:
    def __init__(self, names: dict[str, Any]):
        self._names = names
        self._imports: dict[str, None] = {}
        self._body: list[str] = []
        self._done: set[str] = set()
        self._trees: dict[str, ast.Module] = {}
        self._future = False

    def text(self) -> str:
        future = ["from __future__ import annotations"] if self._future else []
        return "\n".join([*future, *self._imports, "", "", "\n\n\n".join(self._body), ""])

    def define(self, value: Any, name: str) -> None:
        """The definition of a class or function of the script, after what it uses."""
        if name in self._done:
            return
        self._done.add(name)
        if "<locals>" in getattr(value, "__qualname__", ""):
            raise DeclarationError(
                f"{value.__qualname__} is defined inside of a function, where a replica cannot reach it; move it to the top level"
            )
        text = self._definition(value, name)
        if text is None:
            raise DeclarationError(f"{name} of __main__ cannot be sent to a replica: {_NOT_FOUND}")
        for used in _globals_of(text):
            if used != name:
                self._need(used, name)
        self._body.append(text)

    def _definition(self, value: Any, name: str) -> str | None:
        """The text of a class or function; None: no statement of the script defines it."""
        code = _code_of(value)
        if code is not None and "annotations" in _futures(code):
            self._future = True
        node = None if code is None else _find(self._tree(code.co_filename).body, name)
        lines = [] if code is None else linecache.getlines(code.co_filename)
        if node is None:  # a class without methods of its own does not know its file
            lines, node = next(((text, found) for text, tree in self._sources() if (found := _find(tree.body, name))), ([], None))
        if node is None:
            return None
        first = min([node.lineno, *(decorator.lineno for decorator in node.decorator_list)])
        return "".join(lines[first - 1 : node.end_lineno]).rstrip()

    def _tree(self, file: str) -> ast.Module:
        if file not in self._trees:
            self._trees[file] = _parsed("".join(linecache.getlines(file)))
        return self._trees[file]

    def _need(self, name: str, user: str) -> None:
        if name in self._done or name == "__name__":
            return
        if name not in self._names:
            return  # a builtin; or the class fails where it uses it, at home as well
        value = self._names[name]
        imported = self._import_of(name, value)
        if imported is not None:
            self._done.add(name)
            self._imports[imported] = None
        elif self._is_defined(value):
            own = value.__qualname__
            self.define(value, own)
            if own != name and name not in self._done:
                self._done.add(name)
                self._body.append(f"{name} = {own}")
        else:
            self._constant(name, value, user)

    def _is_defined(self, value: Any) -> bool:
        """By a statement of the script: not a lambda, nor what namedtuple() and its like have made."""
        own = getattr(value, "__qualname__", None)
        if getattr(value, "__module__", None) != "__main__" or own is None:
            return False
        return "<locals>" in own or self._definition(value, own) is not None

    def _constant(self, name: str, value: Any, user: str) -> None:
        self._done.add(name)
        text = repr(value) if _is_constant(value) else None
        if text is not None and len(text) <= _CONSTANT_CHARACTERS_MAX:
            self._body.append(f"{name} = {text}")
            return
        for statement in self._assignments(name):
            used = list(_globals_of(ast.unparse(statement)))
            if isinstance(statement.value, ast.Lambda) or all(self._is_harmless(one) for one in used):
                for one in used:
                    self._need(one, name)
                self._body.append(ast.unparse(statement))
                return
        raise DeclarationError(
            f"{user} uses {name}, a {type(value).__module__}.{type(value).__qualname__} that the script computes; a replica gets "
            "the class, not the script: hand it over with model= or files=, or move the class and what it uses into a file"
        )

    def _is_harmless(self, name: str) -> bool:
        """Whether an assignment may use it when it runs again in the replica."""
        return name == "__name__" or _is_standard(self._names.get(name)) or (name not in self._names and hasattr(builtins, name))

    def _import_of(self, name: str, value: Any) -> str | None:
        """The import statement that gives the name: as it was written, else made from the value."""
        for statement in self._top_level():
            if isinstance(statement, (ast.Import, ast.ImportFrom)) and not getattr(statement, "level", 0):
                for alias in statement.names:
                    bound = alias.asname or (
                        alias.name if isinstance(statement, ast.ImportFrom) else alias.name.partition(".")[0]
                    )
                    if bound == name and getattr(statement, "module", "") not in ("__main__", "__future__"):
                        single = type(statement)(**{**{f: getattr(statement, f) for f in statement._fields}, "names": [alias]})
                        return ast.unparse(single)
        return _made_import(name, value)

    def _assignments(self, name: str) -> Iterator[ast.Assign | ast.AnnAssign]:
        for statement in self._top_level():
            targets = statement.targets if isinstance(statement, ast.Assign) else [getattr(statement, "target", None)]
            if isinstance(statement, (ast.Assign, ast.AnnAssign)) and any(
                isinstance(t, ast.Name) and t.id == name for t in targets
            ):
                yield statement

    def _top_level(self) -> Iterator[ast.stmt]:
        """The script's statements, or those of all cells, the last first."""
        for _, tree in self._sources():
            yield from _statements(tree.body)

    def _sources(self) -> Iterator[tuple[list[str], ast.Module]]:
        """Lines and tree of the script, or of each cell, the last first."""
        file = self._names.get("__file__")
        if file:
            yield linecache.getlines(file), self._tree(file)
        cells = self._names.get("In")
        for cell in reversed(cells if isinstance(cells, list) else []):
            if isinstance(cell, str):
                lines = _plain_lines(cell)
                yield lines, _parsed("".join(lines))


def _plain_lines(cell: str) -> list[str]:
    """A cell's lines, of which those that only IPython understands are empty."""
    return ["\n" if line.lstrip().startswith(("%", "!", "?")) else line for line in cell.splitlines(True)]


def _parsed(text: str) -> ast.Module:
    try:
        return ast.parse(text)
    except SyntaxError:  # an error that the notebook keeps, or more of IPython's own
        return ast.Module([], [])


def _statements(body: list[ast.stmt]) -> Iterator[ast.stmt]:
    """The last first, also of `if`, `try` and `with` at the top level."""
    for statement in reversed(body):
        for inner in ("body", "orelse", "handlers", "finalbody"):
            if isinstance(statement, (ast.If, ast.Try, ast.With, ast.ExceptHandler)):
                yield from _statements(getattr(statement, inner, []))
        yield statement


def _find(body: list[ast.stmt], name: str) -> Any:
    kinds = (ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    return next((one for one in _statements(body) if isinstance(one, kinds) and one.name == name), None)


def _code_of(value: Any) -> CodeType | None:
    """Of a function its own code, of a class that of one of its own methods: they know the file, also of a notebook's cell."""
    if isinstance(value, type):
        for member in vars(value).values():
            member = getattr(member, "__func__", getattr(member, "fget", member))
            code = getattr(inspect.unwrap(member) if callable(member) else None, "__code__", None)
            is_own = getattr(member, "__qualname__", "").startswith(f"{value.__qualname__}.")
            if code is not None and is_own and linecache.getlines(code.co_filename):  # what dataclass() makes has no lines
                return code
        file = getattr(sys.modules["__main__"], "__file__", None)
        return compile("", file, "exec") if file else None
    return getattr(inspect.unwrap(value), "__code__", None)


def _futures(code: CodeType) -> list[str]:
    import __future__

    return [name for name in __future__.all_feature_names if code.co_flags & getattr(__future__, name).compiler_flag]


def _globals_of(text: str) -> list[str]:
    """Global names that the code uses, in the order of their scopes."""
    names: dict[str, None] = {}

    def visit(table: symtable.SymbolTable) -> None:
        is_top = table.get_type() == "module"
        for symbol in table.get_symbols():
            is_global = symbol.is_global() or (is_top and not symbol.is_assigned())
            if symbol.is_referenced() and is_global:
                names[symbol.get_name()] = None
        for child in table.get_children():
            visit(child)

    visit(symtable.symtable(text, "<slice>", "exec"))
    return list(names)


def _made_import(name: str, value: Any) -> str | None:
    if isinstance(value, ModuleType):
        return f"import {value.__name__} as {name}" if value.__name__ != name else f"import {name}"
    module, qualname = getattr(value, "__module__", None), getattr(value, "__qualname__", None)
    if not isinstance(module, str) or not isinstance(qualname, str) or module == "__main__" or "." in qualname:
        return None
    for home in (module.partition(".")[0], module):
        if getattr(sys.modules.get(home), qualname, None) is value:
            return f"from {home} import {qualname} as {name}" if qualname != name else f"from {home} import {name}"
    return None


def _is_standard(value: Any) -> bool:
    """A module of the standard library, or what one defines."""
    module = value.__name__ if isinstance(value, ModuleType) else getattr(value, "__module__", None)
    return isinstance(module, str) and module.partition(".")[0] in sys.stdlib_module_names and module != "__main__"


def _is_constant(value: Any, depth: int = 0) -> bool:
    if depth > _CONSTANT_DEPTH_MAX:
        return False
    if type(value) in (list, tuple, set, frozenset):
        # An empty set is written as a call, which is no literal.
        return all(_is_constant(one, depth + 1) for one in value)
    if type(value) is dict:
        return all(_is_constant(one, depth + 1) for pair in value.items() for one in pair)
    return type(value) in _CONSTANTS and value == value and value not in (float("inf"), float("-inf"))
