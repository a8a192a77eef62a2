"""Our own client logging in: SCRAM against scramp's server side, polkit, and auth.conf."""

from pathlib import Path

import pytest
from scramp import ScramMechanism

from virtbackupd.server.remote_dial import CannotConnect
from virtbackupd.server.remote_login import Credentials, find_credentials, log_in
from virtbackupd.server.remote_uri import parse_uri

AUTH = """\
[credentials-ours]
username=fred
password=100%;#'"

[auth-libvirt-localhost]
credentials=ours

[credentials-others]
username=eve
password=x

[auth-libvirt-default]
credentials=others
"""
PASSWORD = "100%;#'\""


@pytest.fixture(autouse=True)
def auth_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "auth.conf"
    path.write_text(AUTH)
    monkeypatch.setenv("LIBVIRT_AUTH_FILE", str(path))
    return path


class Server:
    """Answers the calls of a login; `asked` are their names."""

    def __init__(self, scheme: int, password: str = PASSWORD, mechanisms: str = "") -> None:
        mechanism = ScramMechanism("SCRAM-SHA-256")
        salt, stored, server, count = mechanism.make_auth_info(password, iteration_count=4096)
        self._scram = mechanism.make_server(lambda _user: (salt, stored, server, count))
        self._scheme = scheme
        self._mechanisms = mechanisms or "GSSAPI,SCRAM-SHA-1,SCRAM-SHA-256"
        self.chosen = ""
        self.asked: list[str] = []
        self.iterations: str | None = None
        self.ends_late = False

    async def call(self, name: str, *args: object) -> tuple[object, ...]:
        self.asked.append(name)
        answer = getattr(self, name.lower())(*args)
        assert isinstance(answer, tuple)
        return answer

    def auth_list(self) -> tuple[object, ...]:
        return ([self._scheme],)

    def auth_polkit(self) -> tuple[object, ...]:
        return (1,)

    def auth_sasl_init(self) -> tuple[object, ...]:
        return (self._mechanisms,)

    def auth_sasl_start(self, mechanism: str, _nil: int, data: bytes) -> tuple[object, ...]:
        self.chosen = mechanism
        self._scram.set_client_first(data.decode())
        first = self._scram.get_server_first()
        return 0, 0, (self.iterations or first).encode()

    def auth_sasl_step(self, nil: int, data: bytes) -> tuple[object, ...]:
        if nil:
            return 1, 1, b""
        self._scram.set_client_final(data.decode())
        return int(not self.ends_late), 0, self._scram.get_server_final().encode()


URI = parse_uri("test+unix:///default?socket=/x")


async def test_no_login_where_none_is_asked_for() -> None:
    server = Server(0)
    await log_in(server.call, URI)
    assert server.asked == ["AUTH_LIST"]


async def test_polkit_is_asked() -> None:
    server = Server(2)
    await log_in(server.call, URI)
    assert server.asked == ["AUTH_LIST", "AUTH_POLKIT"]


@pytest.mark.parametrize("ends_late", [False, True])
async def test_the_best_scram_that_is_offered_logs_in(ends_late: bool) -> None:
    server = Server(1)
    server.ends_late = ends_late
    await log_in(server.call, URI)
    assert server.chosen == "SCRAM-SHA-256"
    assert server.asked[-1] == "AUTH_SASL_STEP"


async def test_a_server_that_offers_no_scram_is_told() -> None:
    with pytest.raises(CannotConnect, match="offers DIGEST-MD5; known here are SCRAM"):
        await log_in(Server(1, mechanisms="DIGEST-MD5").call, URI)


async def test_nothing_is_sent_over_plain_tcp() -> None:
    server = Server(1)
    with pytest.raises(CannotConnect, match="use TLS"):
        await log_in(server.call, parse_uri("test+tcp://host/default"))
    assert server.asked == ["AUTH_LIST"]


async def test_a_server_cannot_make_the_client_count_for_hours() -> None:
    server = Server(1)
    server.iterations = "r=abc,s=QUJD,i=2000000000"
    with pytest.raises(CannotConnect, match="iterations"):
        await log_in(server.call, URI)


async def test_a_server_that_answers_nonsense_is_told() -> None:
    server = Server(1)
    server.iterations = "r=somebody else's nonce,s=QUJD,i=4096"
    with pytest.raises(CannotConnect, match="does not prove that it knows fred"):
        await log_in(server.call, URI)


def test_credentials_are_those_of_the_host() -> None:
    assert find_credentials(URI) == Credentials("fred", PASSWORD)
    assert find_credentials(parse_uri("test+tls://far/default")) == Credentials("eve", "x")


def test_a_user_in_the_uri_has_to_be_the_one_in_the_file() -> None:
    assert find_credentials(parse_uri("test+tls://eve@far/default")).user == "eve"
    with pytest.raises(CannotConnect, match="asks for a user and password"):
        find_credentials(parse_uri("test+tls://fred@far/default"))


def test_a_file_that_the_uri_names_wins(tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.write_text(AUTH.replace("fred", "anne"))
    assert find_credentials(parse_uri(f"test:///default?authfile={other}")).user == "anne"


def test_a_file_that_cannot_be_read_is_named_and_not_quoted(auth_file: Path) -> None:
    auth_file.write_text("password=secret")
    with pytest.raises(CannotConnect, match=str(auth_file)) as caught:
        find_credentials(URI)
    assert "secret" not in str(caught.value)


def test_without_a_file_the_remedy_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("LIBVIRT_AUTH_FILE")
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    with pytest.raises(CannotConnect, match=f"into {tmp_path}/libvirt/auth.conf"):
        find_credentials(URI)
