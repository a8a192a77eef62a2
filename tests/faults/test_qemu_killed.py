"""QEMU is killed at every step of a call: the job ends, nothing is left over, and life goes on."""

import libvirt
import pytest
from binding import error_code
from crash_cases import CASES, Case, at_every_step
from crash_site import Site, attempt


def kill_at(site: Site, case: Case, number: int) -> None:
    """End QEMU at a step, look around, and start it again."""
    case.prepare(site)
    site.order("qemu", number)
    done = attempt(site, case.act)
    if not site.carried_out(number):
        assert done
        site.clear()
        return
    site.await_stop()
    site.check_ended()
    for path in site.root.glob("backup-*"):
        path.unlink()
    site.start_machine()
    use_again(site)
    site.clear()


def use_again(site: Site) -> None:
    """No checkpoint can be the base of an increment, and each can be got rid of."""
    for found in site.machine.listAllCheckpoints():
        increment = site.pull_xml(found.getName())
        code = error_code(lambda: site.machine.backupBegin(increment, None))  # noqa: B023
        assert code == libvirt.VIR_ERR_CHECKPOINT_INCONSISTENT
    site.drop_checkpoints()


@pytest.mark.parametrize("name", CASES)
def test_nothing_is_left_over(site: Site, name: str) -> None:
    at_every_step(site, CASES[name], kill_at)
