"""libvirt's URIs as our own tools read them: the way to a server, and what is opened there."""

from pathlib import Path

import pytest

from virtbackupd.server.remote_dial import pki_files
from virtbackupd.server.remote_uri import UriError, default_uri, parse_uri


def test_a_socket_that_is_named_is_the_only_one() -> None:
    uri = parse_uri("qemu+unix:///system?socket=/x/sock")
    assert uri.transport == "unix"
    assert uri.sockets(read_only=False) == [Path("/x/sock")]
    assert uri.opened == "qemu:///system"


def test_without_a_socket_this_daemons_own_comes_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("virtbackupd.server.remote_uri.default_socket_dir", lambda: Path("/own"))
    assert [str(path) for path in parse_uri("qemu:///system").sockets(read_only=False)] == [
        "/own/libvirt-sock",
        "/var/run/libvirt/libvirt-sock",
        "/var/run/libvirt/virtqemud-sock",
    ]


def test_read_only_connections_have_sockets_of_their_own() -> None:
    paths = parse_uri("qemu:///system").sockets(read_only=True)
    assert all(path.name.endswith("-ro") for path in paths)


def test_a_session_has_its_socket_in_the_users_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", "/run/user/7")
    monkeypatch.setattr("virtbackupd.server.remote_uri.default_socket_dir", lambda: Path("/own"))
    assert parse_uri("qemu:///session").sockets(read_only=False) == [
        Path("/own/libvirt-sock"),
        Path("/run/user/7/libvirt/libvirt-sock"),
    ]


@pytest.mark.parametrize(
    ("text", "transport", "port"),
    [
        ("qemu+tcp://host/system", "tcp", 16509),
        ("qemu+tls://host/system", "tls", 16514),
        ("qemu://host/system", "tls", 16514),
        ("qemu+tcp://host:7/system", "tcp", 7),
    ],
)
def test_hosts_have_libvirts_ports(text: str, transport: str, port: int) -> None:
    uri = parse_uri(text)
    assert (uri.transport, uri.host, uri.port) == (transport, "host", port)


def test_brackets_of_an_ipv6_address_are_no_part_of_it() -> None:
    assert parse_uri("qemu+tcp://[::1]:7/system").host == "::1"


def test_parameters_for_the_client_do_not_reach_the_server() -> None:
    uri = parse_uri("qemu+tls://h/system?no_verify=1&foo=bar&pkipath=/p")
    assert uri.opened == "qemu:///system?foo=bar"
    assert not uri.verifies
    assert uri.options["pkipath"] == "/p"


def test_certificates_are_verified_unless_told_otherwise() -> None:
    assert parse_uri("qemu+tls://h/system").verifies


def test_name_replaces_what_is_opened() -> None:
    assert parse_uri("qemu+unix:///system?name=test:///default").opened == "test:///default"


def test_remote_leaves_the_choice_to_the_server() -> None:
    assert parse_uri("remote+unix:///?socket=/x").opened == ""


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("nonsense", "qemu:///system"),
        ("qemu+ssh://host/system", "unix, tcp or tls"),
        ("qemu+tcp:///system", "names no host"),
        ("qemu+tcp://host:99999/system", "is not a URI"),
        ("", "is not a URI"),
    ],
)
def test_what_cannot_be_reached_is_refused_with_a_remedy(text: str, told: str) -> None:
    with pytest.raises(UriError, match=told):
        parse_uri(text)


def test_the_default_is_that_of_stock_clients(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LIBVIRT_DEFAULT_URI", "qemu:///system")
    assert default_uri() == "qemu:///system"
    monkeypatch.delenv("LIBVIRT_DEFAULT_URI")
    assert default_uri() == "test:///default"


def test_certificates_of_one_folder() -> None:
    assert pki_files("/p") == (
        Path("/p/cacert.pem"),
        Path("/p/clientcert.pem"),
        Path("/p/clientkey.pem"),
    )


def test_users_have_certificates_of_their_own_or_those_of_the_system(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("os.getuid", lambda: 1000)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert pki_files().ca == Path("/etc/pki/CA/cacert.pem")
    folder = tmp_path / ".pki" / "libvirt"
    folder.mkdir(parents=True)
    for name in ("cacert.pem", "clientcert.pem", "clientkey.pem"):
        (folder / name).touch()
    assert pki_files().ca == folder / "cacert.pem"


def test_root_has_the_systems_certificates(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.getuid", lambda: 0)
    assert pki_files().key == Path("/etc/pki/libvirt/private/clientkey.pem")
