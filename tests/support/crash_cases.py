"""The calls in the midst of which a process is killed, each with what it needs and promises.

Which process is killed, and what must agree afterwards, is up to the tests.
"""

from collections.abc import Callable
from dataclasses import dataclass

import libvirt
from crash_look import DISKS
from crash_site import Site, attempt, checkpoint


def _nothing(site: Site) -> None:
    del site


@dataclass(frozen=True)
class Case:
    """A call, what must be there before it, and what its success promises."""

    act: Callable[[Site], object]
    promise: Callable[[Site], bool]
    prepare: Callable[[Site], object] = _nothing
    finish: Callable[[Site], object] = _nothing
    """What the client does once the daemon is there again."""
    always: bool = False
    """Whether the promise holds although the client has got no answer."""


def make_checkpoints(site: Site) -> None:
    for name in ("c1", "c2", "c3"):
        site.machine.checkpointCreateXML(checkpoint(name))


def create(site: Site) -> None:
    site.machine.checkpointCreateXML(checkpoint("c1"))


def delete(site: Site) -> None:
    site.machine.checkpointLookupByName("c2").delete(0)


def delete_children(site: Site) -> None:
    site.machine.checkpointLookupByName("c1").delete(1)


def prepare_increment(site: Site) -> None:
    site.machine.checkpointCreateXML(checkpoint("c1"))
    site.write()


def begin_pull(site: Site) -> None:
    site.machine.backupBegin(site.pull_xml("c1"), checkpoint("c2"))


def begin_full_pull(site: Site) -> None:
    site.machine.backupBegin(site.pull_xml(), checkpoint("c1"))


def push(site: Site) -> None:
    site.machine.backupBegin(site.push_xml("c1"), checkpoint("c2"))
    site.await_end()


def create_second(site: Site) -> None:
    site.machine.checkpointCreateXML(checkpoint("c2"))


def begin_pull_of_two(site: Site) -> None:
    site.machine.checkpointCreateXML(checkpoint("c1"))
    site.machine.backupBegin(site.pull_xml(), checkpoint("c2"))


def begin_slow_push(site: Site) -> None:
    for disk in DISKS:
        site.write(disk, "0 16M")
    with site.slow_jobs():
        site.machine.backupBegin(site.push_xml(), checkpoint("c1"))


def abort(site: Site) -> None:
    site.machine.abortJob()
    site.await_end()


def insist(site: Site) -> None:
    """Abort again, unless the backup has ended."""
    attempt(site, abort)
    site.await_end()


def pushed(site: Site) -> bool:
    """Either nothing has begun, or all of it is there."""
    done = site.result() == libvirt.VIR_DOMAIN_JOB_COMPLETED
    files = {f"backup-{disk}" for disk in DISKS} if done else set()
    return site.written() == files and site.checkpoints() == ({"c1", "c2"} if done else {"c1"})


def ended_well(site: Site) -> bool:
    return site.result() == libvirt.VIR_DOMAIN_JOB_COMPLETED and not site.written()


def cancelled(site: Site) -> bool:
    return site.result() == libvirt.VIR_DOMAIN_JOB_CANCELLED and not site.written()


CASES = {
    "create": Case(create, lambda site: site.checkpoints() == {"c1"}),
    "delete": Case(delete, lambda site: site.checkpoints() == {"c1", "c3"}, make_checkpoints),
    "delete-children": Case(delete_children, lambda site: not site.checkpoints(), make_checkpoints),
    "pull": Case(
        begin_pull, lambda site: site.busy and "c2" in site.checkpoints(), prepare_increment
    ),
    "create-during-pull": Case(
        create_second, lambda site: site.busy and len(site.checkpoints()) > 1, begin_full_pull
    ),
    "delete-during-pull": Case(
        delete, lambda site: site.busy and site.checkpoints() == {"c1"}, begin_pull_of_two
    ),
    "push": Case(push, pushed, prepare_increment, Site.await_end, always=True),
    "abort-pull": Case(abort, ended_well, begin_full_pull, insist, always=True),
    "abort-push": Case(abort, cancelled, begin_slow_push, insist, always=True),
}


def count_steps(site: Site, case: Case) -> list[str]:
    """The steps of a case when nobody interferes."""
    case.prepare(site)
    site.order("nobody", 0)
    case.act(site)
    steps = site.all_steps()
    site.call_off()
    assert case.promise(site)
    site.clear()
    return steps


def at_every_step(site: Site, case: Case, kill_at: Callable[[Site, Case, int], None]) -> int:
    """Kill at one step after the other; how many there are."""
    steps = count_steps(site, case)
    for number in range(1, len(steps) + 1):
        try:
            kill_at(site, case, number)
        except (AssertionError, libvirt.libvirtError) as error:
            trace = " | ".join(site.steps())
            error.add_note(f"killed at step {number}, after: {trace}")
            raise
    return len(steps)
