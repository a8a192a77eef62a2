"""Worlds and rules that are written down as dictionaries come back from TOML as they were."""

import tomllib
from pathlib import Path

import pytest

from virtbackupd.testing.toml_text import to_toml


@pytest.mark.parametrize(
    "document",
    [
        {},
        {"seed": 7, "rate": 0.5, "on": True},
        {"name": 'quoted "name" with \\ and \n and ü and \x7f'},
        {"domains": [{"name": "a", "disks": [{"target": "vda"}, {"target": "vdb"}]}]},
        {"backup": {"rate": "20 MiB"}, "odd key": []},
    ],
)
def test_toml_says_what_the_dictionary_said(document: dict[str, object]) -> None:
    assert tomllib.loads(to_toml(document)) == document


def test_path_becomes_text() -> None:
    assert tomllib.loads(to_toml({"path": Path("/images/a.qcow2")})) == {"path": "/images/a.qcow2"}


def test_each_table_of_a_list_has_its_own_line() -> None:
    """So that complaints about a world name the line of the domain."""
    assert to_toml({"domains": [{"name": "a"}, {"name": "b"}]}).count("\n") == 4


@pytest.mark.parametrize("value", [None, b"bytes", object()])
def test_what_toml_cannot_say_is_refused(value: object) -> None:
    with pytest.raises(TypeError, match="cannot be written into a TOML file"):
        to_toml({"key": value})
