"""A server with the rules of the module."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from access_site import Site, serving

from virtbackupd.server.access.rules_file import rules_in


@pytest.fixture
async def site(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Site]:
    """With the rules that the module has as RULES."""
    async with serving(tmp_path, rules_in("rules.toml", request.module.RULES)) as made:
        yield made
