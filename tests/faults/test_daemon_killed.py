"""The daemon is killed at every step of a call, and started again: everything agrees.

The steps are counted in a first run and then driven over one by one.
"""

import libvirt
import pytest
from crash_cases import CASES, Case, count_steps
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
    steps = count_steps(site, CASES[name])
    assert len(steps) > 4
    for number in range(1, len(steps) + 1):
        try:
            kill_at(site, CASES[name], number)
        except (AssertionError, libvirt.libvirtError) as error:
            trace = " | ".join(site.steps())
            error.add_note(f"killed at step {number}, after: {trace}")
            raise
