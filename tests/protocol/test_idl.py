"""The interface language: each construct to its description, each mistake to a line.

Only small texts of its own; the real interface is looked at in `test_schema`.
"""

import pytest

from virtbackupd.protocol.idl import (
    Declaration,
    EnumMember,
    EnumType,
    IdlError,
    Shape,
    Struct,
    Typedef,
    Union,
    parse,
)


def field(text: str) -> Declaration:
    """The declaration as it stands in a struct."""
    struct = parse(f"const LIMIT = 16; struct s {{ {text}; }};").types["s"]
    assert isinstance(struct, Struct)
    return struct.fields[0]


@pytest.mark.parametrize(
    ("text", "declaration"),
    [
        ("int x", Declaration("x", "int")),
        ("unsigned int x", Declaration("x", "unsigned int")),
        ("unsigned hyper x", Declaration("x", "unsigned hyper")),
        ("unsigned x", Declaration("x", "unsigned int")),
        ("thing *x", Declaration("x", "thing", Shape.OPTIONAL)),
        ("thing x<>", Declaration("x", "thing", Shape.VARIABLE_ARRAY)),
        ("thing x<5>", Declaration("x", "thing", Shape.VARIABLE_ARRAY, 5)),
        ("opaque x[LIMIT]", Declaration("x", "opaque", Shape.FIXED_ARRAY, 16)),
        ("string x<LIMIT>", Declaration("x", "string", Shape.VARIABLE_ARRAY, 16)),
    ],
)
def test_declaration(text: str, declaration: Declaration) -> None:
    assert field(text) == declaration


@pytest.mark.parametrize(("name", "expected"), [("from", "from_"), ("type", "type"), ("in", "in_")])
def test_keyword_gets_an_underscore(name: str, expected: str) -> None:
    assert field(f"int {name}").name == expected


@pytest.mark.parametrize(("text", "value"), [("10", 10), ("0x10", 16), ("-3", -3)])
def test_constant(text: str, value: int) -> None:
    assert parse(f"const A = {text};").constants == {"A": value}


def test_constant_refers_to_an_earlier_one() -> None:
    assert parse("const A = 7; const B = A;").constants["B"] == 7


def test_enum_members_are_constants_too() -> None:
    specification = parse("enum e { A = 1, B = A };")
    assert specification.types["e"] == EnumType(
        "e", (EnumMember("A", 1, {}), EnumMember("B", 1, {}))
    )
    assert specification.constants == {"A": 1, "B": 1}


def test_annotations_belong_to_the_member_behind_them() -> None:
    members = parse("enum e { A = 1,\n /** @priority: high  @event */\n B = 2, C = 3 };").types["e"]
    assert isinstance(members, EnumType)
    assert [member.annotations for member in members.members] == [
        {},
        {"priority": "high", "event": ""},
        {},
    ]


def test_annotations_may_take_several_lines() -> None:
    members = parse("enum e { /** @acl: a:b\n    @stream: both */ A = 1 };").types["e"]
    assert isinstance(members, EnumType)
    assert members.members[0].annotations == {"acl": "a:b", "stream": "both"}


def test_annotation_that_occurs_twice_is_a_list() -> None:
    members = parse("enum e { /** @acl: a:b\n    @acl: c:d */ A = 1 };").types["e"]
    assert isinstance(members, EnumType)
    assert members.members[0].annotations == {"acl": "a:b;c:d"}


def test_plain_comments_mean_nothing() -> None:
    assert parse("/* @priority: high */ const A = /* one */ 1;").constants == {"A": 1}


def test_union() -> None:
    union = parse("union u switch (int kind) { case 1: int i; case 2: void; };").types["u"]
    assert union == Union("u", Declaration("kind", "int"), {1: Declaration("i", "int"), 2: None})


def test_typedef() -> None:
    declared = Declaration("text", "string", Shape.VARIABLE_ARRAY, 9)
    assert parse("typedef string text<9>;").types == {"text": Typedef("text", declared)}


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("nonsense x;", "line 1: a definition cannot start with 'nonsense'"),
        ("\nconst A = B;", "line 2: 'B' is neither a number nor a constant"),
        ("const A = 1 const", "line 1: expected ';', found 'const'"),
        ("\n\nconst A = 1; $", "line 3: unexpected '\\$'"),
        ("const A = 1; const A = 2;", "A is defined twice"),
        ("struct s { int a; }; struct s { int b; };", "s is defined twice"),
        ("const 5 = 5;", "'5' is not a name"),
        ("struct s { int a;", "ends in the middle"),
        ("struct s { int a<X>; };", "'X' is neither"),
    ],
)
def test_mistake_is_named_with_its_line(text: str, complaint: str) -> None:
    with pytest.raises(IdlError, match=complaint):
        parse(text)
