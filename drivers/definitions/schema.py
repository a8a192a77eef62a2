"""Validation against our RELAX NG schemas, with an explanation that names the guilty element.

libxml2 reports a fault inside an interleave only as "extra element" of the outermost parent.
`Schema` therefore checks the parts of a refused document one by one and reports the first bad one.
"""

from copy import deepcopy
from functools import cache
from pathlib import Path
from typing import NamedTuple

from lxml import etree

from virtbackupd.drivers.errors import Origin, XmlInvalidSchema

_RNG = "{http://relaxng.org/ns/structure/1.0}"


class Part(NamedTuple):
    """A kind of element that is checked on its own when the whole document was refused."""

    path: str
    pattern: str
    rule: str


class Schema:
    """One schema file, loaded at its first use; `rule` says what the root may contain."""

    def __init__(self, filename: str, rule: str, parts: tuple[Part, ...]) -> None:
        self._filename = filename
        self._rule = rule
        self._parts = parts

    def validate(self, root: etree._Element) -> None:
        if not _validator(self._filename, None).validate(root):
            raise XmlInvalidSchema(self._explain(root), origin=Origin.XML)

    def _explain(self, root: etree._Element) -> str:
        for part in self._parts:
            validator = _validator(self._filename, part.pattern)
            for element in root.iterfind(part.path):
                if not validator.validate(element):
                    return _sentence(element, validator, part.rule)
        validator = _validator(self._filename, None)
        validator.validate(root)
        return _sentence(root, validator, self._rule)


def _sentence(element: etree._Element, validator: etree.RelaxNG, rule: str) -> str:
    path = element.getroottree().getpath(element)
    reasons = [entry.message for entry in validator.error_log]
    reason = reasons[-1] if reasons else "not allowed here"
    return f"line {element.sourceline}, {path}: {reason} ({rule})"


@cache
def _validator(filename: str, pattern: str | None) -> etree.RelaxNG:
    grammar = _grammar(filename)
    if pattern is not None:
        grammar = deepcopy(grammar)
        start = grammar.find(f"{_RNG}start")
        if start is not None:
            start[:] = [etree.Element(f"{_RNG}ref", name=pattern)]
    return etree.RelaxNG(grammar)


@cache
def _grammar(filename: str) -> etree._Element:
    return etree.fromstring(Path(__file__).with_name("schemas").joinpath(filename).read_bytes())


_NAME_RULE = "ASCII letters, digits, '_', '-' and '.', the first not a '.'"
_MODE_RULE = "backupmode is 'full' or 'incremental', and 'full' excludes an incremental attribute"

CHECKPOINT_SCHEMA = Schema(
    "domaincheckpoint.rng",
    "name, description, creationTime, parent, disks with at least one disk, and domain may appear"
    " once each",
    (
        Part("name", "name", _NAME_RULE),
        Part("parent/name", "name", _NAME_RULE),
        Part("creationTime", "creationTime", "an unsigned 64-bit number of seconds"),
        Part(
            "disks/disk",
            "disk",
            "name is a disk target or an absolute path; checkpoint is 'no', or 'bitmap' with"
            " optional bitmap and size",
        ),
    ),
)
SNAPSHOT_SCHEMA = Schema(
    "domainsnapshot.rng",
    "name, description, memory with snapshot='no', and disks may appear once each",
    (
        Part("name", "snapshotName", _NAME_RULE),
        Part(
            "disks/disk",
            "disk",
            "snapshot is 'no' or 'external', type 'file' or 'block', driver qcow2, source a path",
        ),
    ),
)
PUSH_SCHEMA = Schema(
    "domainbackup.rng",
    "a push backup has mode 'push' or none, incremental, and disks with at least one disk",
    (
        Part(
            "disks/disk",
            "pushDisk",
            "name is a disk target; only type 'file' or 'block' takes target and driver; "
            + _MODE_RULE,
        ),
    ),
)
PULL_SCHEMA = Schema(
    "domainbackup.rng",
    "a pull backup has mode 'pull', a server, incremental, and disks with at least one disk",
    (
        Part(
            "server",
            "server",
            "transport 'tcp' needs a name, 'unix' an absolute socket path, 'fd' an fdgroup",
        ),
        Part(
            "disks/disk",
            "pullDisk",
            "name is a disk target; backup='yes' needs a type; driver is qcow2 and needs a"
            " scratch; " + _MODE_RULE,
        ),
    ),
)
