"""The keys of libvirtd.conf, each with its type, its default here and what it does here.

Names and meanings are those of the file that libvirt 6.0 to 11.10 install. Nothing is read here.
"""

from typing import Annotated

import msgspec

from virtbackupd.server.keys import (
    About,
    AccessDrivers,
    AuditLevel,
    Count,
    Flag,
    HostUuid,
    Interval,
    Level,
    LogFilters,
    LogOutputs,
    MaybeTexts,
    Mode,
    NetworkAuth,
    PathText,
    Port,
    Positive,
    Priority,
    Text,
    UnixAuth,
    UuidSource,
)

_NET = "Network"
_UNIX = "Unix sockets"
_AUTH = "Who may come in"
_TLS = "Certificates"
_LIMITS = "Limits"
_ADMIN = "Administration socket"
_LOG = "Logging"
_AUDIT = "Auditing"
_HOST = "Host"
_ALIVE = "Keepalive"

_NO_WORKERS = "calls are not answered by a pool of threads: none has to wait for a free one"
_OLD = "libvirt itself gave the key up"
_ONE_BY_ONE = "calls of one administrator are answered one after the other"
_LOCAL = "only programs of this machine connect, and the kernel tells when they are gone"
_ANY_USER = "texts may hold `*` and `?`; an empty list lets nobody in"


class LibvirtdKeys(msgspec.Struct, frozen=True, kw_only=True):
    """An empty text stands for the default that `About` tells."""

    # Network
    listen_tls: Annotated[
        Flag, About(_NET, "Listen for TLS on `tls_port`, when `listen` or `--listen` is given.")
    ] = True
    listen_tcp: Annotated[
        Flag,
        About(
            _NET,
            "Listen on `tcp_port` without encryption, when `listen` or `--listen` is given.",
        ),
    ] = False
    tls_port: Annotated[Port, About(_NET, "Where TLS clients connect.")] = "16514"
    tcp_port: Annotated[Port, About(_NET, "Where clients without encryption connect.")] = "16509"
    listen_addr: Annotated[
        Text, About(_NET, "The address of both ports.", default="every address of the machine")
    ] = ""
    mdns_adv: Annotated[Flag, About(_NET, "Advertise the daemon by mDNS.", no_effect=_OLD)] = False
    mdns_name: Annotated[Text, About(_NET, "The name to advertise.", no_effect=_OLD)] = ""

    # Unix sockets
    unix_sock_dir: Annotated[
        PathText,
        About(_UNIX, "Folder of the sockets; `socket_dir` wins over it.", default="`socket_dir`"),
    ] = ""
    unix_sock_group: Annotated[
        Text, About(_UNIX, "The group that the sockets belong to.", default="that of the daemon")
    ] = ""
    unix_sock_rw_perms: Annotated[Mode, About(_UNIX, "Permissions of the read-write socket.")] = (
        "0600"
    )
    unix_sock_ro_perms: Annotated[Mode, About(_UNIX, "Permissions of the read-only socket.")] = (
        "0600"
    )
    unix_sock_admin_perms: Annotated[
        Mode, About(_UNIX, "Permissions of the administration socket.")
    ] = "0600"

    # Who may come in
    auth_unix_rw: Annotated[
        UnixAuth, About(_AUTH, "How clients of the read-write socket log in.")
    ] = "none"
    auth_unix_ro: Annotated[
        UnixAuth, About(_AUTH, "How clients of the read-only socket log in.")
    ] = "none"
    auth_tcp: Annotated[
        NetworkAuth,
        About(
            _AUTH,
            "How clients without encryption log in; `sasl` is refused there, for nobody else may"
            " hear it.",
        ),
    ] = "none"
    auth_tls: Annotated[
        NetworkAuth, About(_AUTH, "How TLS clients log in, after their certificate was taken.")
    ] = "none"
    tcp_min_ssf: Annotated[
        Positive,
        About(
            _AUTH,
            "The least strength of encryption by SASL.",
            no_effect="no offered mechanism encrypts; where nothing else does, SASL is refused",
        ),
    ] = 112
    sasl_allowed_username_list: Annotated[
        MaybeTexts, About(_AUTH, f"Who may log in by SASL; {_ANY_USER}.", default="everybody")
    ] = None
    access_drivers: Annotated[
        AccessDrivers, About(_AUTH, "What is asked whether a client may make a call.")
    ] = msgspec.field(default_factory=list)

    # Certificates
    ca_file: Annotated[
        PathText,
        About(_TLS, "Certificate of the authority.", default="`/etc/pki/CA/cacert.pem`"),
    ] = ""
    cert_file: Annotated[
        PathText,
        About(_TLS, "Certificate of this machine.", default="`/etc/pki/libvirt/servercert.pem`"),
    ] = ""
    key_file: Annotated[
        PathText,
        About(_TLS, "Private key to it.", default="`/etc/pki/libvirt/private/serverkey.pem`"),
    ] = ""
    crl_file: Annotated[
        PathText,
        About(_TLS, "Certificates that no longer count.", default="`/etc/pki/CA/cacrl.pem` if any"),
    ] = ""
    tls_no_sanity_certificate: Annotated[
        Flag, About(_TLS, "Start also with certificates of one's own that no client will take.")
    ] = False
    tls_no_verify_certificate: Annotated[
        Flag, About(_TLS, "Let clients in without a certificate of the authority.")
    ] = False
    tls_allowed_dn_list: Annotated[
        MaybeTexts,
        About(_TLS, f"Names of certificates that may come in; {_ANY_USER}.", default="all"),
    ] = None
    tls_priority: Annotated[
        Priority,
        About(
            _TLS,
            "Which versions and ciphers are used, as GnuTLS writes it: it narrows down what is"
            " offered without it.",
            default="TLS 1.2 and 1.3 with forward secrecy",
        ),
    ] = ""

    # Limits
    max_clients: Annotated[
        Positive, About(_LIMITS, "Connections at once; beyond that, accepting pauses.")
    ] = 5000
    max_queued_clients: Annotated[
        Positive, About(_LIMITS, "Connections that the kernel keeps until they are accepted.")
    ] = 1000
    max_anonymous_clients: Annotated[
        Count,
        About(
            _LIMITS,
            "Connections that have not logged in yet; beyond that, accepting pauses. 0 is no"
            " limit.",
        ),
    ] = 20
    max_client_requests: Annotated[
        Positive,
        About(
            _LIMITS,
            "Calls of one connection that are worked on at once; keepalive does not count.",
        ),
    ] = 5
    min_workers: Annotated[Count, About(_LIMITS, "Threads at least.", no_effect=_NO_WORKERS)] = 5
    max_workers: Annotated[Positive, About(_LIMITS, "Threads at most.", no_effect=_NO_WORKERS)] = 20
    prio_workers: Annotated[
        Count, About(_LIMITS, "Threads for calls that never wait.", no_effect=_NO_WORKERS)
    ] = 5

    # Administration socket
    admin_max_clients: Annotated[Positive, About(_ADMIN, "As `max_clients`.")] = 5
    admin_max_queued_clients: Annotated[Positive, About(_ADMIN, "As `max_queued_clients`.")] = 5
    admin_max_client_requests: Annotated[
        Positive, About(_ADMIN, "As `max_client_requests`.", no_effect=_ONE_BY_ONE)
    ] = 5
    admin_min_workers: Annotated[
        Count, About(_ADMIN, "Threads at least.", no_effect=_NO_WORKERS)
    ] = 1
    admin_max_workers: Annotated[
        Positive, About(_ADMIN, "Threads at most.", no_effect=_NO_WORKERS)
    ] = 5
    admin_keepalive_interval: Annotated[
        Interval, About(_ADMIN, "As `keepalive_interval`.", no_effect=_LOCAL)
    ] = 5
    admin_keepalive_count: Annotated[
        Count, About(_ADMIN, "As `keepalive_count`.", no_effect=_LOCAL)
    ] = 5
    admin_keepalive_required: Annotated[
        Flag, About(_ADMIN, "Refuse clients without keepalive.", no_effect=_OLD)
    ] = False

    # Logging
    log_level: Annotated[
        Level,
        About(
            _LOG,
            "The least severe messages to log: 1 debug, 2 info, 3 warning, 4 error.",
            option="--log-level",
        ),
    ] = "info"
    log_filters: Annotated[
        LogFilters,
        About(
            _LOG,
            "Other levels for messages whose category holds MATCH; the first that matches counts."
            " Categories are names of modules, such as `virtbackupd.drivers.qemu.process`.",
            default="none",
        ),
    ] = ""
    log_outputs: Annotated[
        LogOutputs, About(_LOG, "Where messages of that level and above go.", default="`1:stderr`")
    ] = ""
    log_buffer_size: Annotated[
        Count, About(_LOG, "KiB of messages kept for a crash.", no_effect=_OLD)
    ] = 64

    # Auditing
    audit_level: Annotated[
        AuditLevel,
        About(
            _AUDIT,
            "0: no audit lines. 1: audit lines. 2: do not start when `audit_logging` is 0.",
        ),
    ] = 1
    audit_logging: Annotated[
        Flag,
        About(
            _AUDIT,
            "Whether audit lines go into the log, under the category `virtbackupd.audit`. Nothing"
            " is sent to the kernel's audit, so this is on where libvirtd has it off.",
        ),
    ] = True

    # Host
    host_uuid: Annotated[
        HostUuid, About(_HOST, "The UUID of this machine.", default="as `host_uuid_source` says")
    ] = ""
    host_uuid_source: Annotated[
        UuidSource, About(_HOST, "Where the UUID of this machine is found.")
    ] = "smbios"
    ovs_timeout: Annotated[
        Positive,
        About(
            _HOST,
            "Seconds that calls of Open vSwitch may take.",
            no_effect="no call here needs Open vSwitch",
        ),
    ] = 5

    # Keepalive
    keepalive_interval: Annotated[
        Interval,
        About(
            _ALIVE,
            "Seconds of silence before a ping, for clients that know keepalive; -1 is never.",
        ),
    ] = 5
    keepalive_count: Annotated[
        Count, About(_ALIVE, "Unanswered pings before the connection is closed.")
    ] = 5
    keepalive_required: Annotated[
        Flag, About(_ALIVE, "Refuse clients without keepalive.", no_effect=_OLD)
    ] = False
