"""The daemon is killed once more, at every step of setting right what its predecessor has left."""

import libvirt
import pytest
from crash_cases import CASES, count_steps
from crash_site import Site, attempt

FIRST = {"create": "move .pending", "pull": "block-export-add"}
"""Where the predecessor was killed."""


def leave(site: Site, name: str, number: int) -> None:
    """Let the first daemon die in the midst of a call."""
    CASES[name].prepare(site)
    site.order("daemon", number)
    attempt(site, CASES[name].act)
    assert site.carried_out(number)
    site.await_death()


@pytest.mark.parametrize("name", FIRST)
def test_all_agrees_after_the_third(site: Site, name: str) -> None:
    number = count_steps(site, CASES[name]).index(FIRST[name]) + 1
    leave(site, name, number)
    steps = site.start_in_vain(1000)
    site.start_daemon()
    site.clear()
    for again in range(1, len(steps) + 1):
        leave(site, name, number)
        site.start_in_vain(again)
        site.start_daemon()
        try:
            site.check()
            site.clear()
        except (AssertionError, libvirt.libvirtError) as error:
            error.add_note(f"killed again at step {again} of {' | '.join(steps)}")
            raise
