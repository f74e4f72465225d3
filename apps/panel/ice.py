"""The ports that ICE opens: at the address that was asked, and with bounds on what comes there."""

from __future__ import annotations

import contextlib
import ipaddress
import socket
from collections.abc import Sequence
from typing import Any, Final

from mien.apps.panel.offers import MAX_CANDIDATES

MAX_PACKETS: Final = 1024  # that came and were not looked at yet
LOOPBACK: Final = "127.0.0.1"


def plain_address(address: str) -> str:
    """The address WebRTC uses for one of HTTP.

    An IPv4 address in IPv6's clothes is itself. On this machine it is IPv4's loopback, also where
    the page came by way of ::1: that is where browsers open their ports.
    """
    ip = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(ip, ipaddress.IPv6Address) and ip.ipv4_mapped is not None:
        ip = ip.ipv4_mapped
    return LOOPBACK if ip.is_loopback else str(ip)


def own_address(hosts: Sequence[str]) -> str | None:
    """The first of some addresses that is this machine's, None where none is."""
    for host in hosts:
        with (
            socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe,
            contextlib.suppress(OSError),
        ):
            probe.bind((host, 0))
            return host
    return None


def keep_to(connection: Any, address: str, own: str | None = None) -> None:
    """Have ICE open one port, of this address, and bound what may pile up there.

    own: another address of this machine, to open a port at for this machine alone. What comes from
    elsewhere with that address as its sender is thrown away by the system.

    By itself it opens one at each address of the machine but the loopback's. aioice has no setting
    for that; `get_component_candidates` is where it takes the addresses from.
    """
    gather, receive, check = (
        connection.get_component_candidates,
        connection.data_received,
        connection.check_incoming,
    )

    async def gather_there(component: int, addresses: list[str]) -> Any:  # noqa: ARG001
        wanted = [address] if own is None else [address, own]
        found = await gather(component=component, addresses=wanted)
        for protocol in connection._protocols:
            if protocol.local_candidate.host == own:
                _hear_only(protocol, own)
        return found

    def receive_some(data: bytes, component: int) -> None:
        if connection._queue.qsize() < MAX_PACKETS:
            receive(data, component)

    def check_some(message: Any, sender: tuple[str, int], protocol: Any) -> None:
        known = [(other._network_host, other.port) for other in connection._remote_candidates]
        if sender in known or len(known) < 2 * MAX_CANDIDATES:
            check(message, sender, protocol)

    connection.get_component_candidates = gather_there
    connection.data_received = receive_some
    connection.check_incoming = check_some


def _hear_only(protocol: Any, address: str | None) -> None:
    """Have a port of ICE pass over what other addresses send."""
    receive = protocol.datagram_received

    def receive_from_there(data: bytes, sender: tuple[str, int]) -> None:
        if sender[0] == address:
            receive(data, sender)

    protocol.datagram_received = receive_from_there
