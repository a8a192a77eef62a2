"""The daemon is killed at every step of a call, and started again: everything agrees.

The steps are counted in a first run and then driven over one by one.
"""

import pytest
from crash_cases import CASES, Case, at_every_step
from crash_site import Site, attempt


def kill_at(site: Site, case: Case, number: int) -> None:
    """End the daemon at a step, start it again, and look around."""
    case.prepare(site)
    site.order("daemon", number)
    done = attempt(site, case.act)
    if site.carried_out(number):
        site.again()
    case.finish(site)
    site.check()
    if done or case.always:
        assert case.promise(site)
    site.clear()


@pytest.mark.parametrize("name", CASES)
def test_all_agrees_after_a_restart(site: Site, name: str) -> None:
    assert at_every_step(site, CASES[name], kill_at) > 4
