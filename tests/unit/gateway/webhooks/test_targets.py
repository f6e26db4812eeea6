"""Which webhook URLs and addresses are refused (CONTRACT 6, A34)."""

import socket

import pytest

from gateway.webhooks.connector import guarded_socket
from gateway.webhooks.errors import TargetRefused
from gateway.webhooks.targets import check_address, check_url

REFUSED_URLS = [
    "https://127.0.0.1/hook",
    "https://[::1]/hook",
    "https://0.0.0.0/",
    "https://169.254.169.254/latest/meta-data",
    "https://10.0.0.5/",
    "https://172.16.4.1/",
    "https://192.168.1.1/",
    "https://100.64.0.1/",
    "https://[fc00::1]/",
    "https://[fe80::1%25eth0]/",
    "https://[::ffff:127.0.0.1]/",
    "https://[64:ff9b::7f00:1]/",
    "https://[2002:7f00:1::]/",
    "https://2130706433/",
    "https://0x7f000001/",
    "https://0x7f.0.0.1/",
    "https://0177.0.0.1/",
    "https://127.1/",
    "https://localhost/",
    "https://localhost./",
    "https://db.internal/",
    "https://user@example.com/",
    "https://user:pw@example.com/",
    "https://@example.com/",
    "https://example.com\\@127.0.0.1/",
    "https://example.com:22/",
    "https://example.com:0/",
    "https://example.com:99999/",
    "http://example.com/",
    "ftp://example.com/",
    "file:///etc/passwd",
    "javascript:alert(1)",
    "//example.com/",
    "https://",
    "https://exa mple.com/",
    "https://example.com/\r\nX: y",
    "https://example.com/#part",
    "https://exämple.com/",
    "https://\uff11\uff12\uff17.0.0.1/",
    "https://a..b.com/",
    "https://" + "a" * 2050,
]


@pytest.mark.parametrize("url", REFUSED_URLS)
def test_a34_url_that_does_not_name_a_public_https_host_is_refused(url: str) -> None:
    with pytest.raises(TargetRefused):
        check_url(url, allow_hosts=())


@pytest.mark.parametrize(
    "url",
    [
        "https://pam.example.com/hook?x=1",
        "https://pam.example.com:8443/",
        "https://8.8.8.8/",
        "https://[2606:4700:4700::1111]/",
        "https://xn--exmple-cua.com/",
    ],
)
def test_public_https_url_passes(url: str) -> None:
    assert not check_url(url, allow_hosts=()).is_allowed_host


@pytest.mark.parametrize(
    ("url", "allow_hosts"),
    [
        ("http://127.0.0.1:9000/hook", ["127.0.0.1"]),
        ("http://127.0.0.1:9000/hook", ["127.0.0.1:9000"]),
        ("http://localhost:9000/hook", ["LOCALHOST"]),
        ("http://[::1]:9000/hook", ["[::1]:9000"]),
        ("http://[::1]:9000/hook", ["::1"]),
    ],
)
def test_host_that_the_configuration_names_passes(url: str, allow_hosts: list[str]) -> None:
    assert check_url(url, allow_hosts=allow_hosts).is_allowed_host


@pytest.mark.parametrize(
    "url",
    ["http://127.0.0.1:9001/", "http://localhost:9000/", "ftp://127.0.0.1:9000/",
     "http://x@127.0.0.1:9000/"],
)  # fmt: skip
def test_a34_allow_list_opens_no_other_port_name_or_scheme(url: str) -> None:
    with pytest.raises(TargetRefused):
        check_url(url, allow_hosts=["127.0.0.1:9000"])


@pytest.mark.parametrize(
    "address",
    ["127.0.0.1", "::1", "0.0.0.0", "::", "169.254.169.254", "10.1.2.3", "fd00::1", "fe80::1",
     "::ffff:8.8.8.8", "224.0.0.1", "ff02::1", "255.255.255.255", "192.0.2.1", "not-an-ip"],
)  # fmt: skip
def test_a34_address_that_is_not_public_is_refused_at_connect_time(address: str) -> None:
    with pytest.raises(TargetRefused):
        check_address(address)


@pytest.mark.parametrize("address", ["8.8.8.8", "2606:4700:4700::1111"])
def test_public_address_passes(address: str) -> None:
    check_address(address)


@pytest.mark.parametrize(
    ("family", "sockaddr"),
    [(socket.AF_INET, ("10.0.0.1", 443)), (socket.AF_INET6, ("::1", 443, 0, 0))],
)
def test_a34_no_socket_is_made_for_an_address_that_is_not_public(
    family: socket.AddressFamily, sockaddr: tuple[str, int]
) -> None:
    with pytest.raises(PermissionError):
        guarded_socket((family, socket.SOCK_STREAM, 0, "", sockaddr))


def test_socket_for_a_public_address_is_made() -> None:
    address = (socket.AF_INET, socket.SOCK_STREAM, 0, "", ("8.8.8.8", 443))
    with guarded_socket(address) as made:
        assert not made.getblocking()
