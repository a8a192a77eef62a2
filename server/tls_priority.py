"""`tls_priority`: a priority string of GnuTLS in OpenSSL's terms, or why it cannot be had.

It narrows down what is offered without it, and never widens it: 1.2 is the oldest version, and
every cipher has forward secrecy. What OpenSSL cannot be told is refused rather than left out, but
for groups and signatures, which go by the level alone. Knows no file and no socket.
"""

import ssl
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Final

_VERSIONS: Final = {"TLS1.2": ssl.TLSVersion.TLSv1_2, "TLS1.3": ssl.TLSVersion.TLSv1_3}
_AES_256: Final = frozenset({"AES-256-GCM", "CHACHA20-POLY1305", "AES-256-CBC"})
_CIPHERS: Final = _AES_256 | {"AES-128-GCM", "AES-128-CBC"}
_MACS: Final = frozenset({"AEAD", "SHA256", "SHA384"})
_EXCHANGES: Final = frozenset({"ECDHE-RSA", "ECDHE-ECDSA"})

_NEWER: Final = {
    "AES-256-GCM": "TLS_AES_256_GCM_SHA384",
    "CHACHA20-POLY1305": "TLS_CHACHA20_POLY1305_SHA256",
    "AES-128-GCM": "TLS_AES_128_GCM_SHA256",
}
"""The suites of TLS 1.3, in the order in which OpenSSL's server takes them."""
_OLDER: Final = {
    "AES256-GCM-SHA384": ("AES-256-GCM", "AEAD"),
    "AES128-GCM-SHA256": ("AES-128-GCM", "AEAD"),
    "CHACHA20-POLY1305": ("CHACHA20-POLY1305", "AEAD"),
    "AES256-SHA384": ("AES-256-CBC", "SHA384"),
    "AES128-SHA256": ("AES-128-CBC", "SHA256"),
}
"""The suites of TLS 1.2 after the name of their key exchange, and what GnuTLS calls their parts."""

_MEDIUM: Final = 2
"""OpenSSL's security level from which keys have 112 bits, RSA's 2048: the least here."""
_HIGH: Final = 3
_PROFILES: Final = {"LOW": _MEDIUM, "LEGACY": _MEDIUM, "MEDIUM": _MEDIUM, "HIGH": _HIGH,
                    "ULTRA": 4, "FUTURE": 5}  # fmt: skip

_NEVER: Final = frozenset({
    "VERS-SSL3.0", "VERS-TLS1.0", "VERS-TLS1.1", "VERS-DTLS0.9", "VERS-DTLS1.0", "VERS-DTLS1.2",
    "VERS-DTLS-ALL", "3DES-CBC", "ARCFOUR-128", "ARCFOUR-40", "DES-CBC", "RC2-40", "NULL",
    "CAMELLIA-128-CBC", "CAMELLIA-192-CBC", "CAMELLIA-256-CBC", "CAMELLIA-128-GCM",
    "CAMELLIA-256-GCM", "AES-192-CBC", "AES-192-GCM", "AES-128-CCM", "AES-256-CCM",
    "AES-128-CCM-8", "AES-256-CCM-8", "MD5", "SHA1", "SHA512", "RSA", "DHE-RSA", "DHE-DSS", "PSK",
    "RSA-PSK", "DHE-PSK", "ECDHE-PSK", "SRP", "SRP-RSA", "SRP-DSS", "ANON-DH", "ANON-ECDH",
    "COMP-DEFLATE", "COMP-LZO", "CTYPE-OPENPGP", "SIGN-RSA-MD5", "SIGN-RSA-SHA1",
    "SIGN-DSA-SHA1", "SIGN-ECDSA-SHA1",
})  # fmt: skip
"""Not offered in any case: they can be taken away, and not be added."""
_ALWAYS: Final = frozenset({
    "COMP-NULL", "COMP-ALL", "CTYPE-X509", "CTYPE-X.509", "CTYPE-ALL", "SIGN-ALL", "GROUP-ALL",
    "CURVE-ALL",
})  # fmt: skip
"""There in any case: they can be added, and not be taken away."""
_GIVEN: Final = frozenset({"SERVER_PRECEDENCE", "SAFE_RENEGOTIATION", "NO_TICKETS"})
"""Options that hold here without being asked for."""


class PriorityError(ValueError):
    """A priority string that cannot be had; the text names the part, the cause and the remedy."""


@dataclass(frozen=True, slots=True)
class Priority:
    """What a priority string leaves."""

    oldest: ssl.TLSVersion
    newest: ssl.TLSVersion
    ciphers: tuple[str, ...]
    """Of TLS 1.2, by OpenSSL's names; empty where that is not spoken."""
    refused: frozenset[str]
    """Of TLS 1.3, where OpenSSL's own are always offered: whoever comes by one has to leave."""
    level: int
    """OpenSSL's security level."""

    def apply(self, context: ssl.SSLContext) -> None:
        """Before certificates are loaded, which the level is about."""
        context.minimum_version, context.maximum_version = self.oldest, self.newest
        # Without a name the list would be wrong; with TLS 1.3 alone it has no meaning.
        names = self.ciphers or ("DEFAULT",)
        # What the machine asks of all programs may be more.
        level = max(self.level, context.security_level)
        context.set_ciphers(":".join([*names, f"@SECLEVEL={level}"]))


@dataclass(slots=True)
class _Left:
    """What is left after the words so far; begins as `NONE`."""

    versions: set[str] = field(default_factory=set)
    ciphers: set[str] = field(default_factory=set)
    macs: set[str] = field(default_factory=set)
    exchanges: set[str] = field(default_factory=set)
    level: int = 0

    def parts(self, word: str) -> Iterator[tuple[set[str], set[str]]]:
        """Which set a word is about, and what of it; nothing for a word that is not known."""
        for of, every, prefix, all_words in (
            (self.versions, frozenset(_VERSIONS), "VERS-", ("VERS-ALL", "VERS-TLS-ALL")),
            (self.ciphers, _CIPHERS, "", ("CIPHER-ALL",)),
            (self.macs, _MACS, "", ("MAC-ALL",)),
            (self.exchanges, _EXCHANGES, "", ("KX-ALL",)),
        ):
            if word in all_words:
                yield of, set(every)
            elif word.startswith(prefix) and word.removeprefix(prefix) in every:
                yield of, {word.removeprefix(prefix)}


def parse_priority(text: str) -> Priority | None:
    """None for no text at all. PriorityError."""
    if not text.strip():
        return None
    left = _Left()
    for number, word in enumerate(text.upper().split(":")):
        _take(left, word.strip(), first=number == 0)
    return _result(left)


def _take(left: _Left, word: str, *, first: bool) -> None:
    sign, name = word[:1], word[1:]
    if first and word in _LEVELS:
        _LEVELS[word](left)
    elif sign in _SIGNS and name:
        _SIGNS[sign](left, name)
    else:
        raise PriorityError(f"{word!r} is not known here")


def _all(left: _Left) -> None:
    left.versions |= set(_VERSIONS)
    left.ciphers |= _CIPHERS
    left.macs |= _MACS
    left.exchanges |= _EXCHANGES
    left.level = _MEDIUM


def _strong(left: _Left) -> None:
    left.versions |= set(_VERSIONS)
    left.ciphers |= _AES_256
    left.macs.add("AEAD")
    left.exchanges |= _EXCHANGES
    # A weaker level counts, whichever comes first: so does GnuTLS.
    left.level = min(left.level or _HIGH, _HIGH)


def _none(_left: _Left) -> None:
    return


_LEVELS: Final[dict[str, Callable[[_Left], None]]] = {
    "NONE": _none,
    **dict.fromkeys(("NORMAL", "PERFORMANCE", "LEGACY", "PFS", "SECURE128"), _all),
    **dict.fromkeys(("SECURE192", "SECURE256"), _strong),
}


def _add(left: _Left, name: str) -> None:
    if name in _LEVELS:
        _LEVELS[name](left)
        return
    if name in _NEVER:
        raise PriorityError(f"{name} is not among what is offered here; leave it out")
    for of, what in _known(left, name, _ALWAYS):
        of.update(what)


def _remove(left: _Left, name: str) -> None:
    if name in _ALWAYS:
        raise PriorityError(f"{name} cannot be taken away here; leave that out")
    for of, what in _known(left, name, _NEVER):
        of.difference_update(what)


def _known(left: _Left, name: str, harmless: frozenset[str]) -> list[tuple[set[str], set[str]]]:
    found = list(left.parts(name))
    if not found and name not in harmless:
        raise PriorityError(f"{name!r} is not known here")
    return found


def _option(left: _Left, name: str) -> None:
    profile = name.removeprefix("PROFILE_")
    if name.startswith("PROFILE_") and profile in _PROFILES:
        left.level = _PROFILES[profile]
    elif name not in _GIVEN:
        raise PriorityError(f"%{name} cannot be had with OpenSSL; leave it out")


_SIGNS: Final[dict[str, Callable[[_Left, str], None]]] = {
    "+": _add,
    "-": _remove,
    "!": _remove,
    "%": _option,
}


def _result(left: _Left) -> Priority:
    older, newer = _older(left), _newer(left)
    spoken = [
        version
        for version, suites in zip(_VERSIONS.values(), (older, newer), strict=True)
        if suites
    ]
    if not spoken:
        raise PriorityError("no version of TLS with a cipher is left")
    unwanted = frozenset(_NEWER.values()) - set(newer) if newer else frozenset[str]()
    return Priority(min(spoken), max(spoken), older, unwanted, max(left.level, _MEDIUM))


def _older(left: _Left) -> tuple[str, ...]:
    if "TLS1.2" not in left.versions:
        return ()
    return tuple(
        f"{exchange}-{name}"
        for name, (cipher, mac) in _OLDER.items()
        for exchange in sorted(left.exchanges)
        if cipher in left.ciphers and mac in left.macs
    )


def _newer(left: _Left) -> tuple[str, ...]:
    """OpenSSL's server takes the first that its client knows, so only the last can be left out."""
    if "TLS1.3" not in left.versions or "AEAD" not in left.macs:
        return ()
    kept = [cipher for cipher in _NEWER if cipher in left.ciphers]
    if kept != list(_NEWER)[: len(kept)]:
        raise PriorityError(
            f"with TLS 1.3, {' and '.join(kept)} cannot be had without what OpenSSL prefers to it"
            f" ({', '.join(_NEWER)}); add -VERS-TLS1.3"
        )
    return tuple(_NEWER[cipher] for cipher in kept)
