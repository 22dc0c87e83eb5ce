"""A SELECT as DuckDB's own parser sees it: its ``catalog_call`` expressions and what it reads.

DuckDB gives a parsed SELECT as JSON and takes JSON back (json_serialize_sql, json_deserialize_sql). What is changed between
the two: each ``catalog_call('name', …)`` becomes a call of a function that is registered for that name, each
``inference_store('group', …)`` a table of that name, and each file that few threads could read at once a stream that all can
take rows from (docs/decisions/0014-sql.md).
"""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from sluice.errors import SluiceError

CALL = "catalog_call"
STORE = "inference_store"
Node = dict[str, Any]


class QueryError(SluiceError, ValueError):
    """A query that cannot run; the message says where and why."""


@dataclass(frozen=True)
class Source:
    """A file or a table function of constants that the query reads."""

    name: str
    """What it is registered as."""
    node: Node
    """As it was in the query."""


@dataclass(frozen=True)
class Argument:
    """A SELECT of one value, named x, and the params that it takes."""

    text: str
    parameters: frozenset[str]


@dataclass(frozen=True)
class StoreCall:
    """An ``inference_store(…)`` that the query reads."""

    arguments: tuple[Argument, ...]
    place: str
    """" (line 3)", or nothing."""
    node: Node


class ParsedQuery:
    """One SELECT. ``connection`` is only asked to parse."""

    def __init__(self, connection: Any, text: str):
        self._connection = connection
        self._text = text.encode()
        self._root = self._parse(text)
        self._ctes = {str(entry["key"]).lower() for node in _nodes(self._root) for entry in _cte_entries(node)}
        self._functions: dict[str, str] = {}

    def _parse(self, text: str) -> Node:
        root: Node = json.loads(value_of(self._connection, "SELECT json_serialize_sql(?)", text))
        if root["error"]:
            raise QueryError(self._parse_failure(root))
        if len(root["statements"]) != 1:
            raise QueryError(f"there are {len(root['statements'])} statements; give one SELECT")
        return root

    def _parse_failure(self, root: Node) -> str:
        message = root["error_message"]
        if root["error_type"] == "not implemented":
            return f"a query is one SELECT statement, with params of one kind: {message}"
        return f"{message}{self._place(int(root.get('position', 0)))}"

    def _place(self, position: int) -> str:
        """ " (line 3)" in a query of several lines."""
        return f" (line {self._text[:position].count(10) + 1})" if self._text.strip().count(b"\n") else ""

    def rewrite_calls(self, check: Callable[[str, int], None]) -> dict[str, str]:
        """Renames every call. ``check`` gets each call's function and count of arguments, and raises what is wrong.

        Returns: registered name → function.
        """
        self._name_columns()
        for node in list(_nodes(self._root)):
            if str(node.get("function_name", "")).lower() == CALL:
                self._rewrite_call(node, check)
        return {registered: function for function, registered in self._functions.items()}

    def _rewrite_call(self, node: Node, check: Callable[[str, int], None]) -> None:
        where = self._place(int(node.get("query_location", 0)))
        if node.get("class") != "FUNCTION" or node.get("distinct") or node.get("filter") or node["order_bys"]["orders"]:
            raise QueryError(f"{CALL} is called for each row: it takes no OVER, FILTER, DISTINCT or ORDER BY{where}")
        arguments = node["arguments"]
        if node.get("schema") or not arguments or _text_of(_expression(arguments[0])) is None:
            raise QueryError(f"{CALL} takes the function's name first, as a text in quotes: {CALL}('model.price', …){where}")
        named = next((one["name"] for one in arguments if one.get("name")), None)
        if named is not None:
            raise QueryError(
                f"{CALL} takes its arguments in the order of the function's inputs, without names such as {named}{where}"
            )
        function = str(_text_of(_expression(arguments[0])))
        try:
            check(function, len(arguments) - 1)
        except ValueError as error:
            raise QueryError(f"{error}{where}") from None
        registered = self._functions.setdefault(function, f"__sluice_call_{len(self._functions)}")
        node["function_name"] = registered
        if "qualified_name" in node:
            node["qualified_name"]["path"] = [registered]
        node["arguments"] = arguments[1:]

    def _name_columns(self) -> None:
        """Columns without a name are named after their text, which must stay the caller's."""
        for select in _nodes(self._root):
            for item in select.get("select_list") or []:
                if not item.get("alias") and item.get("class") != "STAR" and _has_call(item):
                    begin = int(item["query_location"])
                    item["alias"] = self._text[begin : begin + int(item["query_location_length"])].decode()

    def stores(self) -> list[StoreCall]:
        return [self._store(node) for node in list(_nodes(self._root)) if _is_store(node)]

    def _store(self, node: Node) -> StoreCall:
        where = self._place(int(node.get("query_location", 0)))
        arguments = node["function"]["arguments"]
        is_plain = node.get("with_ordinality") != "WITH_ORDINALITY" and all(not one.get("name") for one in arguments)
        if not is_plain or not 1 <= len(arguments) <= 3 or _has_call(node):
            raise QueryError(f"{STORE} takes a scaling group and two times: {STORE}('demand' [, from [, until]]){where}")
        return StoreCall(tuple(self._argument(_expression(one)) for one in arguments), where, node)

    def _argument(self, expression: Node) -> Argument:
        root = self._parse("SELECT 1")
        root["statements"][0]["node"]["select_list"] = [{**copy.deepcopy(expression), "alias": "x"}]
        return Argument(self._deparse(root), frozenset(_parameters(expression)))

    def parameters(self) -> set[str]:
        """The params that the query takes, as it is now."""
        return set(_parameters(self._root))

    def read_from(self, node: Node, name: str) -> None:
        """Lets a source be the table ``name``, under the alias that it has."""
        plain = self._parse(f"SELECT * FROM {name}")["statements"][0]["node"]["from_table"]
        plain["alias"] = node.get("alias") or _default_alias(node)
        plain["column_name_alias"] = node.get("column_name_alias", [])
        plain["sample"] = node.get("sample")
        node.clear()
        node.update(plain)

    def take_sources(self, tables: set[str], is_wanted: Callable[[Node], bool]) -> list[Source]:
        """Replaces the sources that are wanted by tables of the names that are answered. ``tables``: names that are none."""
        known = self._ctes | {name.lower() for name in tables}
        sources: list[Source] = []
        for node in list(_nodes(self._root)):
            if not _is_source(node, known) or not is_wanted(node):
                continue
            source = Source(f"__sluice_source_{len(sources)}", copy.deepcopy(node))
            sources.append(source)
            self.read_from(node, source.name)
        return sources

    def source_text(self, node: Node) -> str:
        """``SELECT * FROM`` the source as it was written."""
        root = self._parse("SELECT * FROM t")
        bare = {**copy.deepcopy(node), "alias": "", "column_name_alias": []}
        root["statements"][0]["node"]["from_table"] = bare
        return self._deparse(root)

    def used_columns(self) -> set[str] | None:
        """Lower-case names that may be columns anywhere in the query; None: every column of every table is used."""
        used: set[str] = set()
        relations = {str(node.get("alias", "")).lower() for node in _nodes(self._root) if "column_name_alias" in node}
        for node in _nodes(self._root):
            if node.get("class") == "STAR" or node.get("ref_type") == "NATURAL" or node.get("type") in ("PIVOT", "SHOW_REF"):
                return None
            used |= {str(name).lower() for name in [*(node.get("column_names") or []), *(node.get("using_columns") or [])]}
        # A table's name by itself is a struct of all of its columns.
        return None if used & relations - {""} else used

    def text(self) -> str:
        return self._deparse(self._root)

    def _deparse(self, root: Node) -> str:
        return str(value_of(self._connection, "SELECT json_deserialize_sql(?::JSON)", json.dumps(root)))


def value_of(connection: Any, query: str, parameter: str) -> Any:
    """The one value of a query, read to its end."""
    return connection.execute(query, [parameter]).fetchall()[0][0]


def _nodes(value: Any) -> Iterator[Node]:
    """Every object of the tree, outermost first."""
    waiting = [value]
    while waiting:
        one = waiting.pop()
        if isinstance(one, dict):
            yield one
            waiting.extend(reversed(one.values()))
        elif isinstance(one, list):
            waiting.extend(reversed(one))


def _cte_entries(node: Node) -> list[Node]:
    ctes = node.get("cte_map")
    return ctes["map"] if isinstance(ctes, dict) else []


def _expression(argument: Node) -> Node:
    """An argument is an expression, or from DuckDB 2 on a name with one."""
    inner: Node = argument.get("expression", argument)
    return inner


def _text_of(node: Node) -> str | None:
    if node.get("class") != "CONSTANT":
        return None
    literal = node.get("literal")
    if isinstance(literal, dict):
        return str(literal["text"]) if literal.get("kind") == "STRING" else None
    value = node.get("value", {})
    return value.get("value") if value.get("type", {}).get("id") == "VARCHAR" else None


def _is_store(node: Node) -> bool:
    return node.get("type") == "TABLE_FUNCTION" and str(node["function"].get("function_name", "")).lower() == STORE


def _parameters(tree: Node) -> Iterator[str]:
    return (str(node["identifier"]) for node in _nodes(tree) if node.get("class") == "PARAMETER")


def string_of(text: str) -> str:
    """A text as SQL has it."""
    return "'" + text.replace("'", "''") + "'"


def _has_call(item: Node) -> bool:
    return any(str(node.get("function_name", "")).lower() == CALL for node in _nodes(item))


OPEN = {"COLUMN_REF", "SUBQUERY", "PARAMETER", "LAMBDA", "LAMBDA_REF"}
"""Expressions whose value depends on where they stand."""


def _is_source(node: Node, known: set[str]) -> bool:
    if node.get("sample") is not None or node.get("at_clause") is not None:
        return False
    if node.get("type") == "BASE_TABLE":
        is_bare = not node.get("schema_name") and not node.get("catalog_name")
        return is_bare and str(node["table_name"]).lower() not in known
    if node.get("type") != "TABLE_FUNCTION" or node.get("with_ordinality") == "WITH_ORDINALITY":
        return False
    return all(inner.get("class") not in OPEN for inner in _nodes(node["function"])) and not _has_call(node)


def _default_alias(node: Node) -> str:
    """What DuckDB calls it: the function's name, or the file's up to its first dot."""
    if node["type"] == "TABLE_FUNCTION":
        return str(node["function"]["function_name"])
    return str(node["table_name"]).replace("\\", "/").rsplit("/", 1)[-1].split(".", 1)[0]


def parquet_file(node: Node) -> str | None:
    """The one Parquet file (or pattern) that a source reads; None: it is something else."""
    if node["type"] == "BASE_TABLE":
        name = str(node["table_name"])
        return name if name.lower().endswith(".parquet") else None
    function = node["function"]
    if function["function_name"] not in ("read_parquet", "parquet_scan") or not function["arguments"]:
        return None
    return _text_of(_expression(function["arguments"][0]))
