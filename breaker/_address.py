"""Where Redis is: what a URL says of it."""

from __future__ import annotations

import re
import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any
from urllib.parse import parse_qsl, unquote

from breaker._errors import ConfigError


class Kind(Enum):
    """Who answers at an address."""

    SERVER = ""
    SENTINEL = "+sentinel"
    CLUSTER = "+cluster"


_URL = re.compile(r"(unix|rediss?(\+sentinel|\+cluster)?)://([^/?#]*)([^?#]*)(?:\?([^#]*))?")
_HOST = re.compile(r"(?:\[([^\[\]]+)\]|([^\[\]:]+))(?::([0-9]{1,5}))?")
# They come along with a line that was read or copied, and no host, user or path that is meant has them as they are.
_UNSEEN = re.compile(r"[\s\x00-\x1f\x7f-\x9f]")
_PORTS = {Kind.SERVER: 6379, Kind.SENTINEL: 26379, Kind.CLUSTER: 6379}
_BOOLEANS = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}
_CREDENTIALS = {"username", "password"}
_SENTINEL_CREDENTIALS = {"sentinel_username", "sentinel_password"}
_TLS = {"ssl_ca_certs", "ssl_certfile", "ssl_keyfile", "ssl_cert_reqs", "ssl_check_hostname"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Address:
    """What a URL says.

    Attributes:
        kind: Who answers there.
        hosts: Names and ports; none for a Unix socket.
        service: The name by which the Sentinels know the primary.
        options: How to connect to Redis, in the words that the driver's clients share.
        sentinel_options: How to connect to the Sentinels.
    """

    kind: Kind
    hosts: tuple[tuple[str, int], ...]
    service: str = ""
    # No password shows in a traceback or a log.
    options: Mapping[str, Any] = field(repr=False)
    sentinel_options: Mapping[str, Any] = field(repr=False)


def parse(url: str) -> Address:
    """Read a URL.

    Raises:
        ConfigError: It says nothing that can work. The message repeats none of it but names of parameters and files.
    """
    if _UNSEEN.search(url):
        raise ConfigError(
            "a Redis URL has no white space and control characters in it, or spells them %20 and the like"
        )
    parts = _URL.fullmatch(url)
    if parts is None:
        raise ConfigError(
            "a Redis URL begins with redis://, rediss://, unix://, redis+sentinel://, rediss+sentinel://, "
            "redis+cluster:// or rediss+cluster://, and # is spelled %23 in it"
        )
    scheme, suffix, authority, path, query = parts.groups(default="")
    kind = Kind(suffix)
    parameters = _parameters(query, kind, tls=scheme.startswith("rediss"))
    given, _, hosts = authority.rpartition("@")
    username, _, password = given.partition(":")
    options: dict[str, Any] = {
        name: unquote(value) for name, value in (("username", username), ("password", password)) if value
    }
    options |= {name: parameters[name] for name in _CREDENTIALS | {"client_name", "db"} if name in parameters}
    tls: dict[str, Any] = {name: value for name, value in parameters.items() if name in _TLS}
    if scheme.startswith("rediss"):
        _check_files(tls)
        tls = {"ssl": True, "ssl_cert_reqs": "required", "ssl_check_hostname": True} | tls
    service, database = _service_and_database(kind, path) if scheme != "unix" else ("", None)
    if database is not None:
        options["db"] = database
    if kind is Kind.CLUSTER and options.pop("db", 0):
        raise ConfigError("a Redis Cluster has database 0 only: leave the number out of the URL")
    if scheme == "unix":
        if hosts or not path:
            raise ConfigError("a URL of a Unix socket is unix:///PATH, or unix://USER:PASSWORD@/PATH")
        options["unix_socket_path"] = unquote(path)
    return Address(
        kind=kind,
        hosts=_hosts(kind, hosts) if scheme != "unix" else (),
        service=service,
        options=options | tls,
        sentinel_options={
            name.removeprefix("sentinel_"): parameters[name] for name in _SENTINEL_CREDENTIALS if name in parameters
        }
        | tls,
    )


def _parameters(query: str, kind: Kind, *, tls: bool) -> dict[str, Any]:
    known = _CREDENTIALS | {"db", "client_name"}
    known |= (_TLS if tls else set()) | (_SENTINEL_CREDENTIALS if kind is Kind.SENTINEL else set())
    parameters: dict[str, Any] = dict(parse_qsl(query, keep_blank_values=True))
    for name, value in parameters.items():
        if name in _TLS - known:
            raise ConfigError(f"{name} in a Redis URL needs TLS: begin it with rediss")
        if name not in known:
            raise ConfigError(f"a Redis URL of this kind has no parameter {name}; it has {', '.join(sorted(known))}")
        if name == "db":
            parameters[name] = _database(value)
        elif name == "ssl_check_hostname":
            if value.lower() not in _BOOLEANS:
                raise ConfigError(f"{name} in the Redis URL must be true or false")
            parameters[name] = _BOOLEANS[value.lower()]
        elif name == "ssl_cert_reqs" and value not in {"required", "optional", "none"}:
            raise ConfigError(f"{name} in the Redis URL must be required, optional or none")
    return parameters


def _check_files(tls: Mapping[str, Any]) -> None:
    """Refuse files that cannot be read at the door; later they would look like an absent Redis."""
    certificate, key = tls.get("ssl_certfile"), tls.get("ssl_keyfile")
    if key and not certificate:
        raise ConfigError("ssl_keyfile in the Redis URL needs ssl_certfile beside it")
    try:
        context = ssl.create_default_context(cafile=tls.get("ssl_ca_certs"))
        if certificate:
            context.load_cert_chain(certificate, key)
    except OSError as error:  # ssl.SSLError is one too
        raise ConfigError(f"a TLS file that the Redis URL names cannot be used: {error}") from error


def _service_and_database(kind: Kind, path: str) -> tuple[str, int | None]:
    *before, last = path.removeprefix("/").removesuffix("/").split("/")
    if kind is not Kind.SENTINEL:
        if before:
            raise ConfigError("the path of a Redis URL is the number of a database, and / is spelled %2F elsewhere")
        return "", _database(last) if last else None
    service, database = (before[0], last) if before else (last, "")
    if not service or len(before) > 1:
        raise ConfigError("a URL of Sentinels names the service that they watch: redis+sentinel://HOST:PORT,…/SERVICE")
    return unquote(service), _database(database) if database else None


def _database(text: str) -> int:
    if not re.fullmatch("[0-9]{1,9}", text):
        raise ConfigError("the database in a Redis URL is a number, and / is spelled %2F elsewhere")
    return int(text)


def _hosts(kind: Kind, text: str) -> tuple[tuple[str, int], ...]:
    if not text and kind is Kind.SERVER:
        return (("localhost", _PORTS[kind]),)
    hosts = tuple(_host(host, _PORTS[kind]) for host in text.split(","))
    if len(hosts) > 1 and kind is Kind.SERVER:
        raise ConfigError(
            "several hosts are Sentinels or a Cluster: begin the URL with redis+sentinel or redis+cluster"
        )
    return hosts


def _host(text: str, default_port: int) -> tuple[str, int]:
    parts = _HOST.fullmatch(text)
    if parts is None or int(parts[3] or default_port) not in range(1, 65536):
        raise ConfigError(
            "a host in a Redis URL is HOST, HOST:PORT or [IPV6]:PORT, and / ? # @ : are percent-encoded in a password"
        )
    return parts[1] or parts[2], int(parts[3] or default_port)
