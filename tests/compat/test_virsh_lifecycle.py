"""virsh: a domain from its definition to its end, with the states and refusals between."""

import re

import pytest
from virsh_guest import Guest, run_virsh, until

DRIVERS = ("memory", "qemu")


def _state(guest: Guest) -> str:
    return guest.virsh("domstate", "--reason")


def _document(guest: Guest) -> Guest:
    """Lets a command take the guest's document in the place of its name."""
    return Guest(guest.uri, guest.file(guest.domain_xml, "again.xml"), guest.folder)


def test_defined_domain_is_shut_off(spare: Guest) -> None:
    assert _state(spare) == "shut off (unknown)"


def test_define_with_validation(spare: Guest) -> None:
    document = spare.file(spare.virsh("dumpxml"), "dumped.xml")
    assert "defined from" in run_virsh(spare.uri, "define", document, "--validate")


def test_define_refuses_a_name_in_use_by_another_uuid(spare: Guest) -> None:
    answer = _document(spare).virsh("define", status=1)
    assert "error: operation failed: " in answer
    assert spare.virsh("domuuid") in answer


@pytest.mark.parametrize(
    ("text", "prefix"),
    [("<domain", "(domain document):1: "), ("<volume/>", "XML error: ")],
)
def test_define_refuses_bad_documents(spare: Guest, text: str, prefix: str) -> None:
    assert f"error: {prefix}" in run_virsh(spare.uri, "define", spare.file(text), status=1)


def test_define_changes_only_the_next_start(guest: Guest) -> None:
    guest.define(guest.virsh("dumpxml", "--inactive").replace("65536", "32768"))
    assert "65536" in guest.virsh("dumpxml", "--xpath", "/domain/memory")
    assert "32768" in guest.virsh("dumpxml", "--inactive", "--xpath", "/domain/memory")


def test_start(spare: Guest) -> None:
    assert "started" in spare.virsh("start")
    assert _state(spare) == "running (booted)"


def test_start_paused(spare: Guest) -> None:
    spare.virsh("start", "--paused")
    assert spare.virsh("domstate") == "paused"


@pytest.mark.parametrize("option", ["--force-boot", "--bypass-cache"])
def test_start_option(spare: Guest, option: str) -> None:
    spare.virsh("start", option)
    assert spare.virsh("domstate") == "running"


def test_start_twice_is_refused(guest: Guest) -> None:
    assert "already active" in guest.virsh("start", status=1)


def test_autodestroy_ends_with_the_connection(spare: Guest) -> None:
    spare.virsh("start", "--autodestroy")
    until(lambda: spare.virsh("domstate") == "shut off", "autodestroy")


def test_autodestroy_lives_as_long_as_the_connection(spare: Guest) -> None:
    script = f"start {spare.name} --autodestroy; domstate {spare.name}"
    assert "running" in run_virsh(spare.uri, script)


def test_suspend_and_resume(guest: Guest) -> None:
    guest.virsh("suspend")
    assert _state(guest) == "paused (user)"
    guest.virsh("resume")
    assert _state(guest) == "running (unpaused)"


@pytest.mark.parametrize("option", [[], ["--mode", "acpi"]])
def test_shutdown(guest: Guest, option: list[str]) -> None:
    guest.virsh("shutdown", *option)
    until(lambda: _state(guest) == "shut off (shutdown)", "shutdown")


@pytest.mark.only("memory")
def test_shutdown_by_the_agent(guest: Guest) -> None:
    guest.virsh("shutdown", "--mode", "agent")
    until(lambda: _state(guest) == "shut off (shutdown)", "shutdown")


def test_reboot_keeps_the_domain(guest: Guest) -> None:
    number = guest.virsh("domid")
    assert "rebooted" in guest.virsh("reboot")
    assert (guest.virsh("domid"), guest.virsh("domstate")) == (number, "running")


def test_reset(guest: Guest) -> None:
    assert "reset" in guest.virsh("reset")
    assert guest.virsh("domstate") == "running"


@pytest.mark.parametrize("option", [[], ["--graceful"]])
def test_destroy(guest: Guest, option: list[str]) -> None:
    guest.virsh("destroy", *option)
    assert _state(guest) == "shut off (destroyed)"


def test_next_start_has_a_new_id(guest: Guest) -> None:
    first = int(guest.virsh("domid"))
    guest.virsh("destroy")
    guest.virsh("start")
    assert int(guest.virsh("domid")) > first


INACTIVE_REFUSALS = [
    "suspend",
    "resume",
    "shutdown",
    "reboot",
    "reset",
    "destroy",
    "managedsave",
    "domjobinfo",
    "domjobabort",
    "domblkstat vda",
    "blockjob vda",
    "blockresize vda 2G",
    "domfsfreeze",
    "domfsthaw",
    "guestinfo",
    "domtime",
    "qemu-monitor-command query-status",
    "qemu-agent-command guest-ping",
]


@pytest.mark.parametrize("command", INACTIVE_REFUSALS)
def test_inactive_domain_refuses(spare: Guest, command: str) -> None:
    answer = spare.virsh(*command.split(), status=1)
    assert "error: Requested operation is not valid: " in answer


def test_undefine(spare: Guest) -> None:
    assert "undefined" in spare.virsh("undefine")
    assert "failed to get domain" in spare.virsh("domstate", status=1)


@pytest.mark.parametrize(
    "option", ["--managed-save", "--snapshots-metadata", "--nvram", "--keep-nvram", "--tpm"]
)
def test_undefine_option(spare: Guest, option: str) -> None:
    spare.virsh("undefine", option)


def test_undefine_of_a_running_domain_makes_it_transient(guest: Guest) -> None:
    guest.virsh("undefine")
    assert re.search(r"Persistent: +no", guest.virsh("dominfo"))
    guest.virsh("destroy")
    assert "failed to get domain" in guest.virsh("domstate", status=1)


def test_undefined_running_domain_can_be_defined_again(guest: Guest) -> None:
    document = guest.virsh("dumpxml", "--inactive")
    guest.virsh("undefine")
    guest.define(document)
    guest.virsh("destroy")
    assert guest.virsh("domstate") == "shut off"


def test_undefine_refuses_checkpoints_and_counts_them(guest: Guest) -> None:
    guest.checkpoint("c1", "c2")
    guest.virsh("destroy")
    answer = guest.virsh("undefine", status=1)
    assert "Requested operation is not valid: " in answer
    assert re.search(r"\b2 checkpoints", answer)


def test_undefine_with_checkpoints_metadata(guest: Guest) -> None:
    guest.checkpoint("c1")
    guest.virsh("destroy")
    guest.virsh("undefine", "--checkpoints-metadata")
    assert "failed to get domain" in guest.virsh("domstate", status=1)


@pytest.mark.parametrize("option", ["--nvram", "--keep-nvram", "--managed-save", "--tpm"])
def test_undefine_options_do_not_hide_checkpoints(guest: Guest, option: str) -> None:
    guest.checkpoint("c1")
    guest.virsh("destroy")
    assert "checkpoint" in guest.virsh("undefine", option, status=1)


def test_create_is_transient(spare: Guest) -> None:
    spare.virsh("undefine")
    assert "created from" in _document(spare).virsh("create")
    assert re.search(r"Persistent: +no", spare.virsh("dominfo"))


def test_create_paused(spare: Guest) -> None:
    spare.virsh("undefine")
    _document(spare).virsh("create", "--paused")
    assert spare.virsh("domstate") == "paused"


def test_create_with_autodestroy(spare: Guest) -> None:
    spare.virsh("undefine")
    _document(spare).virsh("create", "--autodestroy")
    until(lambda: spare.name not in run_virsh(spare.uri, "list", "--all"), "autodestroy")


def test_transient_domain_cannot_be_undefined(spare: Guest) -> None:
    spare.virsh("undefine")
    _document(spare).virsh("create")
    assert "Requested operation is not valid: " in spare.virsh("undefine", status=1)


def test_transient_domain_is_gone_after_its_end(spare: Guest) -> None:
    spare.virsh("undefine")
    _document(spare).virsh("create")
    spare.virsh("destroy")
    assert "failed to get domain" in spare.virsh("domstate", status=1)


def test_rename(spare: Guest) -> None:
    uuid = spare.virsh("domuuid")
    spare.virsh("domrename", f"{spare.name}-new")
    assert run_virsh(spare.uri, "domuuid", f"{spare.name}-new") == uuid


def test_rename_of_a_running_domain_is_refused(guest: Guest) -> None:
    answer = guest.virsh("domrename", f"{guest.name}-new", status=1)
    assert "Requested operation is not valid: " in answer


def test_rename_to_a_name_in_use_is_refused(spare: Guest) -> None:
    assert "Requested operation is not valid: " in spare.virsh("domrename", "test", status=1)


def test_rename_keeps_checkpoints(guest: Guest) -> None:
    guest.checkpoint("c1")
    guest.virsh("destroy")
    guest.virsh("domrename", f"{guest.name}-new")
    renamed = Guest(guest.uri, f"{guest.name}-new", guest.folder)
    assert renamed.checkpoints() == ["c1"]


def test_managed_save(guest: Guest) -> None:
    guest.virsh("managedsave")
    assert _state(guest) == "shut off (saved)"
    assert re.search(r"Managed save: +yes", guest.virsh("dominfo"))


@pytest.mark.parametrize(
    ("option", "state"),
    [("--running", "running"), ("--paused", "paused"), ("--verbose", "running")],
)
def test_managed_save_decides_the_next_state(guest: Guest, option: str, state: str) -> None:
    guest.virsh("managedsave", option)
    guest.virsh("start")
    assert guest.virsh("domstate") == state


def test_start_restores_a_managed_save(guest: Guest) -> None:
    guest.virsh("managedsave")
    guest.virsh("start")
    assert _state(guest) == "running (restored)"
    assert re.search(r"Managed save: +no", guest.virsh("dominfo"))


def test_force_boot_ignores_a_managed_save(guest: Guest) -> None:
    guest.virsh("managedsave")
    guest.virsh("start", "--force-boot")
    assert _state(guest) == "running (booted)"


def test_managed_save_can_be_removed(guest: Guest) -> None:
    guest.virsh("managedsave")
    assert "Removed" in guest.virsh("managedsave-remove")
    assert re.search(r"Managed save: +no", guest.virsh("dominfo"))


def test_removing_a_missing_managed_save_is_no_error(spare: Guest) -> None:
    assert "skipped" in spare.virsh("managedsave-remove")


def test_undefine_refuses_a_managed_save(guest: Guest) -> None:
    guest.virsh("managedsave")
    assert "managed save" in guest.virsh("undefine", status=1)


def test_checkpoints_survive_stop_and_start(guest: Guest) -> None:
    guest.checkpoint("c1")
    guest.virsh("destroy")
    guest.virsh("start")
    assert guest.checkpoints() == ["c1"]


def test_written_data_survives_stop_and_start(guest: Guest) -> None:
    guest.monitor('qemu-io vda "write -P 0xab 64k 64k"')
    guest.virsh("destroy")
    guest.virsh("start")
    assert "Pattern verification failed" not in guest.monitor('qemu-io vda "read -P 0xab 64k 64k"')
