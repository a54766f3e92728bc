"""Where a model server is, and whether a text may be sent there.

``OLLAMA_HOST`` is read as Ollama itself reads it (``envconfig/config.go`` and its tests): the scheme is optional,
``http://`` means port 80 and ``https://`` 443, a bare host keeps 11434, spaces and quotes around it do not count.
Two things differ, on purpose: an impossible port is an error and not silently the default one, and ``0.0.0.0`` and
``::``, which a server listens on, are this machine to a client.

A text may go to this machine. Anything else has to be allowed, and addresses that only clouds use to hand out
credentials (link-local ones, RFC 3927 and RFC 4291) are never asked.
"""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass

from omnimemory.errors import ConfigError

__all__ = ["OLLAMA_PORT", "Address", "base_address", "ollama_address", "require_allowed"]

OLLAMA_PORT = 11434
_DEFAULT_PORTS = {"http": 80, "https": 443}
_NAME = re.compile(r"(?=.{1,253}$)[a-z0-9_](?:[a-z0-9_.-]*[a-z0-9_])?\.?", re.IGNORECASE)
_ODD_NUMBER = re.compile(r"(?:0x[0-9a-f]+|[0-9]+)(?:\.(?:0x[0-9a-f]+|[0-9]+))*\.?", re.IGNORECASE)
_METADATA = ("fd00:ec2::254", "100.100.100.200")


@dataclass(frozen=True, slots=True)
class Address:
    """A server's address in its parts; ``path`` is empty or begins with a slash and does not end with one."""

    scheme: str
    host: str
    port: int
    path: str = ""

    @property
    def origin(self) -> str:
        """Scheme, host and port: what a key belongs to."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        port = "" if self.port == _DEFAULT_PORTS[self.scheme] else f":{self.port}"
        return f"{self.scheme}://{host}{port}"

    @property
    def url(self) -> str:
        """The whole address, without a slash at its end."""
        return self.origin + self.path

    @property
    def is_loopback(self) -> bool:
        """Whether it is this machine. A name other than ``localhost`` is not, whatever it resolves to."""
        ip = _ip(self.host)
        return ip.is_loopback if ip is not None else self.host.rstrip(".") == "localhost"


def ollama_address(text: str) -> Address:
    """Read an address in any form ``OLLAMA_HOST`` may have; an empty one is Ollama's default.

    Raises :class:`ConfigError` for what is not an address.
    """
    bare = text.strip().strip("\"'").strip()
    if "://" not in bare:
        if bare == "ollama.com":
            return Address("https", bare, 443)
        return _address("http", bare, OLLAMA_PORT, text)
    scheme, _, rest = bare.partition("://")
    return _address(scheme.lower(), rest, _DEFAULT_PORTS.get(scheme.lower(), 0), text)


def base_address(text: str) -> Address:
    """Read the base URL of an OpenAI-compatible server; its path becomes ``/v1`` when it has none.

    ``.../v1``, ``.../v1/`` and ``.../v1/embeddings`` mean the same. Raises :class:`ConfigError`.
    """
    scheme, mark, rest = text.strip().partition("://")
    if not mark:
        raise ConfigError(f"{text!r:.200} is not a URL: begin it with http:// or https://")
    address = _address(scheme.lower(), rest, _DEFAULT_PORTS.get(scheme.lower(), 0), text)
    path = address.path.removesuffix("/embeddings")
    return Address(address.scheme, address.host, address.port, path or "/v1")


def require_allowed(address: Address, *, allow_remote: bool) -> None:
    """Raise :class:`ConfigError` unless a text may be sent there."""
    ip = _ip(address.host)
    if (ip is not None and ip.is_link_local) or address.host in _METADATA:
        raise ConfigError(f"{address.origin} is a link-local address: no model server is asked there.")
    if not address.is_loopback and not allow_remote:
        raise ConfigError(
            f"{address.origin} is not on this machine: your texts would leave it. "
            "If that is what you want, set servers.allow_remote = true."
        )


def _address(scheme: str, rest: str, default_port: int, text: str) -> Address:
    if scheme not in _DEFAULT_PORTS:
        raise ConfigError(f"{text!r:.200} is no address of a server: only http:// and https:// are spoken.")
    hostport, _, path = rest.partition("/")
    if "@" in hostport:  # not repeated in the message: it may be a password
        raise ConfigError("The address of a model server must not hold a name or password. Give the key as a variable.")
    if set(path) & set("?#") or any(char.isspace() or not char.isprintable() for char in rest):
        raise ConfigError(f"{text!r:.200} is no address of a server: a path may follow the host, nothing else.")
    host, port = _split(hostport, default_port, text)
    return Address(scheme, _host(host, text), port, f"/{path}".rstrip("/"))


def _split(hostport: str, default_port: int, text: str) -> tuple[str, int]:
    if hostport.startswith("[") or hostport.count(":") < 2:
        host, colon, number = hostport.rpartition(":")
        if colon and not number.endswith("]"):
            if not (number.isascii() and number.isdigit() and 1 <= int(number) <= 65535):
                raise ConfigError(f"{text!r:.200} names port {number!r:.20}: a port is a number from 1 to 65535.")
            return host.strip("[]"), int(number)
    return hostport.strip("[]"), default_port


def _host(host: str, text: str) -> str:
    if not host:
        return "127.0.0.1"
    ip = _ip(host)
    if ip is not None:
        if ip.is_unspecified:
            return "127.0.0.1" if ip.version == 4 else "::1"
        return str(ip)
    if not _NAME.fullmatch(host) or ".." in host or _ODD_NUMBER.fullmatch(host):
        raise ConfigError(f"{text!r:.200} names the host {host!r:.100}, which is neither a name nor an IP address.")
    return host.lower()


def _ip(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        ip = ipaddress.ip_address(host)
    except ValueError:
        return None
    mapped = ip.ipv4_mapped if ip.version == 6 else None
    return mapped or ip
