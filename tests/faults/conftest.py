"""A daemon and a domain of each test module's own."""

import tempfile
from collections.abc import Iterator
from pathlib import Path

import crash_site
import pytest
from crash_site import Site


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    """Short, because sockets below it have short addresses."""
    with tempfile.TemporaryDirectory(prefix="vbf", dir="/tmp") as name:
        yield Path(name)


@pytest.fixture(scope="module")
def shared_site(folder: Path) -> Iterator[Site]:
    with crash_site.site(folder) as made:
        yield made


@pytest.fixture
def site(shared_site: Site) -> Iterator[Site]:
    """As each test finds it: the domain runs, without checkpoints and backups."""
    yield shared_site
    shared_site.recover()
