"""Memory sizes: every unit, rounding and limits."""

import pytest

from virtbackupd.drivers.definitions.sizes import kibibytes
from virtbackupd.drivers.errors import XmlError


@pytest.mark.parametrize(
    ("text", "unit", "size"),
    [
        ("1", None, 1),
        ("1", "KiB", 1),
        ("1", "k", 1),
        ("1024", "b", 1),
        ("1025", "bytes", 2),
        ("1", "KB", 1),
        ("1024", "KB", 1000),
        ("1", "MiB", 1024),
        ("1", "m", 1024),
        ("1", "MB", 977),
        ("2", "G", 2 * 1024**2),
        ("1", "tib", 1024**3),
        ("1", "PiB", 1024**4),
        ("1", "EiB", 1024**5),
        (" 3 ", "KiB", 3),
    ],
)
def test_units(text: str, unit: str | None, size: int) -> None:
    assert kibibytes(text, unit, "<memory>") == size


@pytest.mark.parametrize(("text", "unit"), [("1", "XiB"), ("16", "EiB"), ("", None), ("-1", "b")])
def test_refusals_name_the_element(text: str, unit: str | None) -> None:
    with pytest.raises(XmlError, match="<memory>"):
        kibibytes(text, unit, "<memory>")
