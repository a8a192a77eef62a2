"""What could stand at a place of a user's file, from the types of its entries.

For complaints alone, so it is loaded when there is one. Knows no file and no format.
"""

from typing import TYPE_CHECKING

from msgspec import inspect

if TYPE_CHECKING:
    from virtbackupd.drivers.toml_file import KeyPath


def expected_at(kind: object, where: "KeyPath") -> list[str]:
    """The keys of the table, or the words of which one has to be there; none when others can be."""
    found = [inspect.type_info(kind)]
    for step in where:
        found = [inner for each in found for inner in _within(each, step)]
    return [word for each in found for word in _words(each)]


def _within(kind: inspect.Type, step: str | int) -> list[inspect.Type]:
    match kind:
        case inspect.StructType():
            return [field.type for field in kind.fields if field.encode_name == step]
        case inspect.UnionType():
            return [inner for each in kind.types for inner in _within(each, step)]
        case inspect.ListType() | inspect.VarTupleType():
            return [kind.item_type]
        case inspect.DictType():
            return [kind.value_type]
        case _:
            return []


def _words(kind: inspect.Type) -> list[str]:
    match kind:
        case inspect.StructType():
            return [field.encode_name for field in kind.fields]
        case inspect.UnionType():
            return [word for each in kind.types for word in _words(each)]
        case inspect.DictType():
            # A path of msgspec does not name the keys of a mapping.
            return _words(kind.value_type)
        case inspect.LiteralType():
            return [str(value) for value in kind.values]
        case inspect.EnumType():
            return [str(member.value) for member in kind.cls]
        case _:
            return []
