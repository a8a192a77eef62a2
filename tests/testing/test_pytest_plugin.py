"""The pytest plugin as its users meet it: each test runs pytest on a small test file."""

from collections.abc import Iterator

import pytest

from virtbackupd.testing import serve

pytest_plugins = ("pytester",)

SETTINGS = "[pytest]\naddopts = -p no:cacheprovider\n"
HEAD = """\
import libvirt
import pytest

def names(uri):
    connection = libvirt.open(uri)
    found = [domain.name() for domain in connection.listAllDomains()]
    connection.close()
    return found
"""


@pytest.fixture(scope="module", autouse=True)
def loaded() -> Iterator[None]:
    """All that a server imports, because pytester forgets what its own runs import."""
    with serve():
        yield


@pytest.fixture
def project(pytester: pytest.Pytester) -> pytest.Pytester:
    pytester.makeini(SETTINGS)
    return pytester


def run(project: pytest.Pytester, text: str, *arguments: str) -> pytest.RunResult:
    project.makepyfile(HEAD + text)
    return project.runpytest_inprocess(*arguments)


def test_fixture_is_there_without_an_import(project: pytest.Pytester) -> None:
    result = run(project, "def test(virtbackupd): assert names(virtbackupd.uri) == ['test']")
    result.assert_outcomes(passed=1)


def test_each_test_has_a_server_of_its_own(project: pytest.Pytester) -> None:
    text = """
@pytest.mark.parametrize("number", [1, 2])
def test(virtbackupd, number):
    connection = libvirt.open(virtbackupd.uri)
    connection.lookupByName("test").destroy()
    connection.close()
"""
    run(project, text).assert_outcomes(passed=2)


def test_marker_sets_the_world(project: pytest.Pytester) -> None:
    text = """
@pytest.mark.virtbackupd(world={"domains": [{"name": "web"}]})
def test(virtbackupd): assert names(virtbackupd.uri) == ["web"]
"""
    run(project, text).assert_outcomes(passed=1)


def test_nearest_marker_wins(project: pytest.Pytester) -> None:
    text = """
pytestmark = pytest.mark.virtbackupd(world={"domains": [{"name": "far"}]}, profile="9.0")

@pytest.mark.virtbackupd(world={"domains": [{"name": "near"}]})
def test(virtbackupd):
    assert names(virtbackupd.uri) == ["near"]
    assert virtbackupd.control("profile")["name"] == "9.0"
"""
    run(project, text).assert_outcomes(passed=1)


def test_file_in_a_marker_is_beside_the_test(project: pytest.Pytester) -> None:
    folder = project.mkdir("inner")
    (folder / "w.toml").write_text('[[domains]]\nname = "web"\n')
    text = """
@pytest.mark.virtbackupd(world="w.toml")
def test(virtbackupd): assert names(virtbackupd.uri) == ["web"]
"""
    (folder / "test_inner.py").write_text(HEAD + text)
    project.runpytest_inprocess().assert_outcomes(passed=1)


def test_marker_takes_named_options_only(project: pytest.Pytester) -> None:
    text = """
@pytest.mark.virtbackupd("world.toml")
def test(virtbackupd): pass
"""
    result = run(project, text)
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["*the marker virtbackupd takes named options*"])


def test_project_sets_the_world_of_all_servers(project: pytest.Pytester) -> None:
    project.makeini(SETTINGS + "virtbackupd_world = w.toml\nvirtbackupd_profile = 9.0\n")
    (project.path / "w.toml").write_text('[[domains]]\nname = "web"\n')
    text = """
def test_own(virtbackupd): assert names(virtbackupd.uri) == ["web"]
def test_session(virtbackupd_session): assert names(virtbackupd_session.uri) == ["web"]
def test_factory(virtbackupd_factory):
    assert virtbackupd_factory().control("profile")["name"] == "9.0"
"""
    run(project, text).assert_outcomes(passed=3)


def test_factory_starts_several(project: pytest.Pytester) -> None:
    text = """
def test(virtbackupd_factory):
    servers = [virtbackupd_factory(), virtbackupd_factory(world={"domains": [{"name": "web"}]})]
    assert [names(server.uri) for server in servers] == [["test"], ["web"]]
"""
    run(project, text).assert_outcomes(passed=1)


SESSION = """
def test_one(virtbackupd_session):
    connection = libvirt.open(virtbackupd_session.uri)
    connection.lookupByName("test").destroy()
    connection.close()

def test_two(virtbackupd_session):
    connection = libvirt.open(virtbackupd_session.uri)
    active = connection.lookupByName("test").isActive()
    connection.close()
    assert active == EXPECTED
"""


def test_server_of_the_session_keeps_its_state(project: pytest.Pytester) -> None:
    run(project, SESSION.replace("EXPECTED", "0")).assert_outcomes(passed=2)


def test_server_of_the_session_can_be_reset_after_each_test(project: pytest.Pytester) -> None:
    project.makeini(SETTINGS + "virtbackupd_session_reset = true\n")
    run(project, SESSION.replace("EXPECTED", "1")).assert_outcomes(passed=2)


def test_reset_brings_back_time_and_forgets_faults(project: pytest.Pytester) -> None:
    settings = "virtbackupd_session_reset = true\nvirtbackupd_unmatched_faults = ignore\n"
    project.makeini(SETTINGS + settings)
    text = """
import time

def test_one(virtbackupd_session):
    virtbackupd_session.clock.stop()
    virtbackupd_session.clock.set(1000)
    virtbackupd_session.scenario("connection-lost-before-begin")

def test_two(virtbackupd_session):
    assert abs(virtbackupd_session.clock.time() - time.time()) < 60
    assert virtbackupd_session.control("faults-list") == {"rules": []}
"""
    run(project, text).assert_outcomes(passed=2)


def test_failing_test_prints_its_transcript(project: pytest.Pytester) -> None:
    text = """
def test(virtbackupd):
    names(virtbackupd.uri)
    assert False
"""
    result = run(project, text)
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(
        ["*virtbackupd transcript 1: test+unix://*", "*virConnectListAllDomains*items]*"]
    )


def test_passing_test_prints_none(project: pytest.Pytester) -> None:
    result = run(project, "def test(virtbackupd): names(virtbackupd.uri)", "-rA")
    result.stdout.no_fnmatch_line("*virConnectListAllDomains*")


def test_transcript_of_the_session_begins_with_the_test(project: pytest.Pytester) -> None:
    text = """
def test_one(virtbackupd_session): names(virtbackupd_session.uri)
def test_two(virtbackupd_session): assert False
"""
    result = run(project, text)
    result.assert_outcomes(passed=1, failed=1)
    result.stdout.fnmatch_lines(["*virtbackupd transcript 1*", "*nobody called it*"])


def test_failure_of_a_fixture_prints_the_transcript_too(project: pytest.Pytester) -> None:
    text = """
@pytest.fixture
def broken(virtbackupd):
    names(virtbackupd.uri)
    raise KeyError("broken")

def test(broken): pass
"""
    result = run(project, text)
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["*virConnectListAllDomains*"])


UNMATCHED = """
@pytest.mark.virtbackupd(faults=[
    {"match": {"procedure": "virDomainBackupBegin"}, "effect": {"kind": "delay", "seconds": 0}},
])
def test(virtbackupd):
    names(virtbackupd.uri)
"""


def test_fault_that_was_never_met_fails_the_test(project: pytest.Pytester) -> None:
    result = run(project, UNMATCHED)
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["fault rules that never took effect: faults:?: delay, hits: 0"])


def test_fault_that_was_never_met_may_be_ignored(project: pytest.Pytester) -> None:
    project.makeini(SETTINGS + "virtbackupd_unmatched_faults = ignore\n")
    run(project, UNMATCHED).assert_outcomes(passed=1)


def test_fault_that_was_met_is_fine(project: pytest.Pytester) -> None:
    text = UNMATCHED.replace("virDomainBackupBegin", "virConnectListAllDomains")
    run(project, text).assert_outcomes(passed=1)


def test_wrong_fault_in_a_marker_says_where(project: pytest.Pytester) -> None:
    result = run(project, UNMATCHED.replace('"delay"', '"dely"'))
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["*StartError: faults:?: faults*.effect.kind: 'dely' is none of*"])


def test_failing_test_is_not_told_about_faults(project: pytest.Pytester) -> None:
    result = run(project, UNMATCHED + "    assert False\n")
    result.assert_outcomes(failed=1)
    result.stdout.no_fnmatch_line("*fault rules that never took effect*")


def test_wrong_setting_stops_pytest(project: pytest.Pytester) -> None:
    project.makeini(SETTINGS + "virtbackupd_unmatched_faults = perhaps\n")
    result = run(project, "def test(): pass")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["*'perhaps', it can be fail or ignore*"])


def test_parallel_workers_do_not_collide(project: pytest.Pytester) -> None:
    text = """
@pytest.mark.parametrize("number", range(6))
def test(virtbackupd, virtbackupd_session, number):
    assert names(virtbackupd.uri) == names(virtbackupd_session.uri) == ["test"]
"""
    run(project, text, "-n", "2").assert_outcomes(passed=6)


def test_trio_test_uses_the_same_fixture(project: pytest.Pytester) -> None:
    text = """
import trio

@pytest.mark.trio
async def test(virtbackupd):
    assert await trio.to_thread.run_sync(names, virtbackupd.uri) == ["test"]
"""
    run(project, text).assert_outcomes(passed=1)


def test_unused_plugin_imports_nothing_heavy(project: pytest.Pytester) -> None:
    text = """
import sys
def test(): assert not {"trio", "msgspec", "lxml"} & set(sys.modules)
"""
    project.makepyfile(text)
    result = project.runpytest_subprocess("-p", "no:trio", "-p", "no:hypothesispytest")
    result.assert_outcomes(passed=1)
