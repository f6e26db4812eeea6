"""Which addresses a webhook may go to (CONTRACT 6, CASES A34).

Owns the rule: HTTPS to public addresses, unless the configuration allows the host. `check_url` is
asked when an endpoint is stored and again before each try; `check_address` is asked by the
connector for the very address that a name resolved to, at connect time, because a name may resolve
to something else later. It must not resolve names itself.
"""

import re
from collections.abc import Collection
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address
from urllib.parse import urlsplit

from gateway.webhooks.errors import TargetRefused

URL_LENGTH_MAX = 2048
PUBLIC_PORTS = (443, 8443)  # ports on which a public host is called

# IPv6 ranges that carry an IPv4 address inside: a public look with a private destination.
_TRANSLATED = (
    IPv6Network("::ffff:0:0/96"),  # IPv4-mapped, RFC 4291
    IPv6Network("::/96"),  # IPv4-compatible, deprecated
    IPv6Network("64:ff9b::/96"),  # NAT64, RFC 6052
    IPv6Network("64:ff9b:1::/48"),  # local-use NAT64, RFC 8215
    IPv6Network("2002::/16"),  # 6to4, RFC 3056
    IPv6Network("2001::/32"),  # Teredo, RFC 4380
)
_LABEL = re.compile(r"[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?", re.ASCII)
_NUMBER = re.compile(r"0x[0-9a-f]*|[0-9]+", re.ASCII)


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """A URL that passed. `is_allowed_host`: the configuration names it, any address is fine."""

    url: str
    host: str
    port: int
    is_allowed_host: bool


def check_url(url: str, *, allow_hosts: Collection[str]) -> Target:
    """The target of `url`. Raises TargetRefused with the reason.

    `allow_hosts` holds `host` or `host:port` (IPv6 in brackets); such a host may use http, any
    port (or that one) and a private address.
    """
    if len(url) > URL_LENGTH_MAX:
        raise TargetRefused(f"the URL is longer than {URL_LENGTH_MAX} characters")
    if not url.isascii() or any(c <= " " or c in "\\\x7f" for c in url):
        raise TargetRefused("the URL holds spaces, control characters, backslashes or non-ASCII")
    try:
        parts = urlsplit(url)
        host, given_port = parts.hostname, parts.port
    except ValueError as error:
        raise TargetRefused("this is not a URL") from error
    if parts.scheme not in ("https", "http"):
        raise TargetRefused("the URL must start with https://")
    if "@" in parts.netloc:
        raise TargetRefused("the URL must not hold a user or password")
    if parts.fragment or "#" in url:
        raise TargetRefused("the URL must not hold a fragment")
    if not host:
        raise TargetRefused("the URL names no host")
    host = host.removesuffix(".")
    port = (443 if parts.scheme == "https" else 80) if given_port is None else given_port
    if is_allowed_host(host, port, allow_hosts=allow_hosts):
        return Target(url=url, host=host, port=port, is_allowed_host=True)
    if parts.scheme != "https":
        raise TargetRefused("the URL must start with https://")
    if port not in PUBLIC_PORTS:
        raise TargetRefused(f"the port must be one of {', '.join(map(str, PUBLIC_PORTS))}")
    _check_host(host)
    return Target(url=url, host=host, port=port, is_allowed_host=False)


def is_allowed_host(host: str, port: int, *, allow_hosts: Collection[str]) -> bool:
    """Whether the configuration names `host`, or `host` with exactly this port."""
    shown = f"[{host}]" if ":" in host else host
    allowed = {entry.lower() for entry in allow_hosts}
    return not allowed.isdisjoint({host, shown, f"{shown}:{port}"})


def check_address(address: str) -> None:
    """Raise TargetRefused unless `address` (a literal IP) is public. For the connector."""
    try:
        ip = ip_address(address)
    except ValueError as error:
        raise TargetRefused("the name did not resolve to an IP address") from error
    if not _is_public(ip):
        raise TargetRefused("the address is not public")


def _is_public(ip: IPv4Address | IPv6Address) -> bool:
    if isinstance(ip, IPv6Address) and any(ip in network for network in _TRANSLATED):
        return False
    return ip.is_global and not (ip.is_multicast or ip.is_reserved or ip.is_unspecified)


def _check_host(host: str) -> None:
    """A public literal in its one canonical form, or a name that no parser takes for a number."""
    if ":" in host:
        if "%" in host:
            raise TargetRefused("the address must not name a zone")
        check_address(host)
        return
    labels = host.lower().split(".")
    if _NUMBER.fullmatch(labels[-1]):
        # WHATWG URL, "ends in a number": 2130706433, 0x7f000001 and 127.1 all mean 127.0.0.1.
        try:
            ip = IPv4Address(host)
        except ValueError as error:
            raise TargetRefused("the host is a number but not a dotted IPv4 address") from error
        check_address(str(ip))
        return
    if len(host) > 253 or not all(_LABEL.fullmatch(label) for label in labels):
        raise TargetRefused("the host is not a DNS name (write international names in punycode)")
    if len(labels) < 2 or labels[-1] in ("localhost", "local", "internal", "localdomain"):
        raise TargetRefused("the host is not a public name")
