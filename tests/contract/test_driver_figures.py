"""What a driver shows to whoever watches the daemon."""

from contract import Subject

from virtbackupd.drivers.figures import RunningBackup


async def test_a_backup_is_shown_as_long_as_it_runs(subject: Subject) -> None:
    await subject.pull("<disk name='vda'/>")
    during = subject.driver.figures()
    await subject.finish()
    after = subject.driver.figures()
    assert (during.active, during.inactive) == (1, 0)
    assert [(each.mode, each.state) for each in during.backups] == [("pull", "running")]
    assert all(isinstance(each, RunningBackup) and each.total for each in during.backups)
    assert after.backups == []
