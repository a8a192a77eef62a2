"""Python values as TOML text, for worlds and fault rules that a test writes down as dictionaries.

Only what such files contain: tables, lists, texts, numbers and truth values.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import PurePath


def to_toml(document: Mapping[str, object]) -> str:
    """One line for each key, and for each table of a list of tables. TypeError for other values."""
    return "".join(f"{_key(key)} = {_top(value)}\n" for key, value in document.items())


def _top(value: object) -> str:
    if isinstance(value, Sequence) and not isinstance(value, str | bytes):
        rows = "".join(f"    {_inline(item)},\n" for item in value)
        return f"[\n{rows}]"
    return _inline(value)


def _inline(value: object) -> str:
    if isinstance(value, Mapping):
        pairs = ", ".join(f"{_key(key)} = {_inline(item)}" for key, item in value.items())
        return f"{{ {pairs} }}"
    if isinstance(value, str | PurePath):
        return _text(str(value))
    if isinstance(value, bool | int | float):
        return json.dumps(value)
    if isinstance(value, Sequence) and not isinstance(value, bytes):
        return f"[{', '.join(map(_inline, value))}]"
    raise TypeError(f"{value!r} cannot be written into a TOML file: give text, numbers or tables")


def _key(name: object) -> str:
    return _text(str(name))


def _text(text: str) -> str:
    """JSON's strings are TOML's, but for DEL, which JSON leaves as it is."""
    return json.dumps(text).replace("\x7f", "\\u007f")
