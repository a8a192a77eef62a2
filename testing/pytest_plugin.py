"""The pytest plugin: fixtures that give a running server, and what a failing test tells of it.

pytest imports this module at every start, so all that is heavy is imported when a test asks for a
server. What a server can do is not known here.
"""

from collections.abc import Callable, Generator, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple, Protocol

import pytest

if TYPE_CHECKING:
    from virtbackupd.testing.server import Server

MARKER: Final = "virtbackupd"
SESSION_FIXTURE: Final = "virtbackupd_session"
UNMATCHED: Final = ("fail", "ignore")


class Factory(Protocol):
    """What the fixture `virtbackupd_factory` gives: each call starts one more server."""

    def __call__(self, **options: object) -> "Server":
        """The options are those of `virtbackupd.testing.serve`."""


class _Watched(NamedTuple):
    """A server that a test uses, and where the test's part of its transcript begins."""

    server: "Server"
    mark: int


_WATCHED = pytest.StashKey[list[_Watched]]()
_SESSION = pytest.StashKey["Server"]()


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addini(
        "virtbackupd_world", "world file of all servers, relative to the root folder of the tests"
    )
    parser.addini("virtbackupd_profile", "release of libvirt that all servers pretend to be")
    parser.addini(
        "virtbackupd_session_reset",
        "whether the server of the session is put back to its first world after each test",
        type="bool",
        default=False,
    )
    parser.addini(
        "virtbackupd_unmatched_faults",
        "what becomes of a test with a fault rule that never took effect: fail or ignore",
        default=UNMATCHED[0],
    )


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line(
        "markers",
        f"{MARKER}(**options): options of virtbackupd.testing.serve for the server of a test",
    )
    if (found := config.getini("virtbackupd_unmatched_faults")) not in UNMATCHED:
        raise pytest.UsageError(
            f"virtbackupd_unmatched_faults is {found!r}, it can be {' or '.join(UNMATCHED)}"
        )


@pytest.fixture
def virtbackupd(request: pytest.FixtureRequest) -> Iterator["Server"]:
    """A server of the test's own, with the options of its marker `virtbackupd`."""
    with _serving(request.node, _marked(request.node)) as server:
        yield server


@pytest.fixture
def virtbackupd_factory(request: pytest.FixtureRequest) -> Iterator[Factory]:
    """Starts as many servers as the test asks for; they end with it."""
    node = request.node
    with ExitStack() as stack:

        def start(**options: object) -> "Server":
            given = {**_defaults(node.config), **options}
            return stack.enter_context(_serving(node, given))

        yield start


@pytest.fixture(scope="session")
def virtbackupd_session(request: pytest.FixtureRequest) -> Iterator["Server"]:
    """One server for all tests of this process; markers do not concern it."""
    with _served(_defaults(request.config)) as server:
        request.config.stash[_SESSION] = server
        yield server
        del request.config.stash[_SESSION]


@contextmanager
def _serving(node: pytest.Item, options: dict[str, object]) -> Iterator["Server"]:
    with _served(options) as server:
        node.stash.setdefault(_WATCHED, []).append(_Watched(server, 0))
        yield server


@contextmanager
def _served(options: dict[str, object]) -> Iterator["Server"]:
    from virtbackupd.testing.running import serve  # noqa: PLC0415 - not before it is needed

    start: Callable[..., AbstractContextManager[Server]] = serve
    with start(**options) as server:
        yield server


def _defaults(config: pytest.Config) -> dict[str, object]:
    """What the settings of the project say."""
    found: dict[str, object] = {}
    if world := config.getini("virtbackupd_world"):
        found["world"] = config.rootpath / world
    if profile := config.getini("virtbackupd_profile"):
        found["profile"] = profile
    return found


def _marked(node: pytest.Item) -> dict[str, object]:
    """The options of all markers, of which the one nearest to the test wins."""
    found = _defaults(node.config)
    for marker in reversed(list(node.iter_markers(MARKER))):
        if marker.args:
            raise pytest.UsageError(f"the marker {MARKER} takes named options, not {marker.args}")
        found.update(marker.kwargs)
    for name in ("world", "faults"):
        if name in found:
            found[name] = _beside(node.path, found[name])
    return found


def _beside(module: Path, given: object) -> object:
    """The name of a file is meant relative to the test's own."""
    from virtbackupd.testing.options import is_text  # noqa: PLC0415 - not before it is needed

    if isinstance(given, Path) or (isinstance(given, str) and not is_text(given)):
        return module.parent / given
    return given


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> Generator[None, None, None]:
    """What the session's server did before belongs to other tests."""
    server = item.config.stash.get(_SESSION, None)
    mark = server.transcript.mark() if server is not None and _uses_session(item) else 0
    try:
        return (yield)
    finally:
        server = item.config.stash.get(_SESSION, None)
        if server is not None and _uses_session(item):
            item.stash.setdefault(_WATCHED, []).append(_Watched(server, mark))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, object, object]:
    """A test that never met its fault proves nothing."""
    result = yield
    if item.config.getini("virtbackupd_unmatched_faults") == UNMATCHED[0]:
        for server, _ in _watched(item):
            if unmatched := server.faults.unmatched():
                pytest.fail(
                    "fault rules that never took effect: " + ", ".join(unmatched), pytrace=False
                )
    return result


@pytest.hookimpl(wrapper=True)
def pytest_runtest_teardown(item: pytest.Item) -> Generator[None, None, None]:
    try:
        return (yield)
    finally:
        server = item.config.stash.get(_SESSION, None)
        reset = item.config.getini("virtbackupd_session_reset")
        if server is not None and reset and _uses_session(item):
            _put_back(server)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item,
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """The transcript of each server goes with a failure."""
    report = yield
    if report.failed:
        for number, (server, mark) in enumerate(_watched(item), 1):
            text = server.transcript.text(mark) or "(nobody called it)"
            report.sections.append((f"virtbackupd transcript {number}: {server.uri}", text))
    return report


def _put_back(server: "Server") -> None:
    """World, faults and time."""
    server.faults.clear()
    server.reset()
    server.clock.start()
    server.clock.set("now")


def _watched(item: pytest.Item) -> list[_Watched]:
    none: list[_Watched] = []
    return item.stash.get(_WATCHED, none)


def _uses_session(item: pytest.Item) -> bool:
    return SESSION_FIXTURE in getattr(item, "fixturenames", ())
