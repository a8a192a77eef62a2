"""Who may ask an endpoint without passwords: programs of this machine, and no web page.

Knows no route.
"""

from ipaddress import ip_address

from virtbackupd.server.http_routes import HttpError, Request


def refuse_pages(request: Request) -> None:
    """A browser says from which page a request comes, and no other client does."""
    fetched = request.headers.get("sec-fetch-site", "none")
    if "origin" in request.headers or fetched != "none":
        raise HttpError(403, "Forbidden", "requests of web pages are not answered")


def refuse_strangers(request: Request) -> None:
    """Also refuse names that somebody else may have made to lead to this machine."""
    refuse_pages(request)
    host = request.headers.get("host", "")
    if not _is_local(host):
        raise HttpError(
            403, "Forbidden", f"the Host header says {host!r}: use localhost or its address"
        )


def _is_local(host: str) -> bool:
    name = host.rpartition(":")[0] if _has_port(host) else host
    name = name.removeprefix("[").removesuffix("]")
    if name == "localhost":
        return True
    try:
        return ip_address(name).is_loopback
    except ValueError:
        return False


def _has_port(host: str) -> bool:
    _, colon, port = host.rpartition(":")
    return bool(colon) and port.isdecimal()
