"""One error for everything that fails a schema: which field, which rule, what came, what to do."""

from __future__ import annotations

import re
from typing import Any, NoReturn

_MAX_SHOWN = 80
_PATH = re.compile(r"^(?P<rule>.*?)(?: - at `(?P<path>.*)`)?$", re.DOTALL)
_EXPECTED = re.compile(
    r"^Expected `(?P<want>.*?)`(?P<bound> [^,]*)?(?:, got `(?P<got>.*)`)?$", re.DOTALL
)
_MISSING = re.compile(r"^Object missing required field `(?P<field>.*)`$")
_UNKNOWN = re.compile(r"^Object contains unknown field `(?P<field>.*)`$")
_INVALID = re.compile(r"^Invalid (?:enum )?value (?P<got>.*)$")
_STEP = re.compile(r"\.([^.\[\]]+)|\[(\d+|\.\.\.)\]")


class SchemaError(ValueError):
    """Input that breaks a schema; its text is ``<path> must be <rule>; got <value>``.

    Attributes:
        path: where the value stands, from ``$``, the document's root.
        rule: what the value must be.
        got: the value that came, shortened.
    """

    def __init__(self, path: str, rule: str, got: str, remedy: str = "") -> None:
        """Keep the three parts and join them into the message."""
        text = f"{path} must be {rule}; got {got}"
        super().__init__(f"{text} ({remedy})" if remedy else text)
        self.path = path
        self.rule = rule
        self.got = got


def refuse(path: str, rule: str, got: str, remedy: str = "") -> NoReturn:
    """Raise the `SchemaError` of these parts."""
    raise SchemaError(path, rule, got, remedy)


def shown(value: object) -> str:
    """Return a value as a message shows it: its repr, cut to 80 characters."""
    text = repr(value)
    return text if len(text) <= _MAX_SHOWN else f"{text[:_MAX_SHOWN]}..."


def _look_up(document: Any, path: str) -> Any:
    """Return what stands at a msgspec path of a decoded document, ``KeyError`` when unclear."""
    value = document
    for name, index in _STEP.findall(path):
        if index == "...":
            raise KeyError(path)
        value = value[int(index)] if index else value[name]
    return value


def from_msgspec(error: Exception, document: Any = None) -> SchemaError:
    """Translate a msgspec error into a `SchemaError`.

    Args:
        error: what ``decode`` or ``convert`` raised.
        document: the document as plain dicts and lists, to show the value that broke the rule.
    """
    match = _PATH.match(str(error))
    rule = match["rule"] if match else str(error)
    path = (match["path"] if match else None) or "$"
    if missing := _MISSING.match(rule):
        return SchemaError(f"{path}.{missing['field']}", "present", "nothing")
    if unknown := _UNKNOWN.match(rule):
        return SchemaError(
            f"{path}.{unknown['field']}", "a known field", "an unknown one", "check the spelling"
        )
    expected = _EXPECTED.match(rule)
    got = (expected["got"] if expected else None) or ""
    try:
        got = shown(_look_up(document, path)) if document is not None else got
    except (KeyError, IndexError, TypeError):
        pass  # the path crosses a dict key that msgspec does not name: the type is all we know
    if expected:
        rule = f"{expected['want']}{expected['bound'] or ''}"
        return SchemaError(path, rule, got or "another value")
    if invalid := _INVALID.match(rule):
        return SchemaError(path, "one of the known values", got or invalid["got"])
    return SchemaError(path, "well formed", got or rule)
