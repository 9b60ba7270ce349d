"""Attacks: reach anything over a network or a socket."""

import os
import socket

from tests.escape.inside import HOST

SECONDS = 1.0


def reached(family: int, kind: int, address: object) -> bool:
    with socket.socket(family, kind) as one:
        one.settimeout(SECONDS)
        one.connect(address)  # type: ignore[arg-type]  # of whichever family
        if kind == socket.SOCK_DGRAM:
            one.send(b"here\r\n\r\n")
    return True


def reached_any(family: int, kind: int, addresses: list[object]) -> list[object]:
    found = []
    for address in addresses:
        try:
            if reached(family, kind, address):
                found.append(address)
        except OSError:
            continue
    return found


def reach_the_server() -> object:
    port = HOST["server_port"]
    hosts = ("127.0.0.1", "0.0.0.0", "127.1.2.3", "localhost", *HOST["own_addresses"])
    return reached_any(socket.AF_INET, socket.SOCK_STREAM, [(host, port) for host in hosts])


def reach_the_server_over_ipv6() -> object:
    port = HOST["server_port"]
    places: list[object] = [(host, port) for host in ("::1", "::", "::ffff:127.0.0.1")]
    return reached_any(socket.AF_INET6, socket.SOCK_STREAM, places)


def reach_a_listener() -> object:
    return reached(socket.AF_INET, socket.SOCK_STREAM, ("127.0.0.1", HOST["listener_port"]))


def send_a_datagram() -> object:
    """Not a breach in a network of its own: the test looks whether it has come."""
    reached(socket.AF_INET, socket.SOCK_DGRAM, ("127.0.0.1", HOST["datagram_port"]))
    return None


def reach_an_abstract_socket() -> object:
    return reached(socket.AF_UNIX, socket.SOCK_STREAM, "\0" + HOST["abstract_name"])


def reach_a_socket_by_its_path() -> object:
    places: list[object] = list(HOST["socket_paths"])
    known: list[object] = [
        "/var/run/docker.sock",
        "/run/dbus/system_bus_socket",
        "/run/systemd/private",
        "/run/snapd.socket",
    ]
    return reached_any(socket.AF_UNIX, socket.SOCK_STREAM, places + known)


def reach_the_sockets_of_another_session() -> object:
    found = []
    for folder, _, names in os.walk("/run"):
        found += [
            os.path.join(folder, name) for name in names if not folder.startswith("/run/kernel")
        ]
    return found


def go_outside() -> object:
    return reached(socket.AF_INET, socket.SOCK_DGRAM, ("192.0.2.1", 9))  # an address of nobody's


def ask_for_a_name() -> object:
    return [found[4] for found in socket.getaddrinfo("example.invalid", 80)]


def listen_by_an_abstract_name() -> object:
    """Not a breach within its own room: the test tries to reach it from outside."""
    if os.fork() == 0:
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as one:
                one.bind("\0" + HOST["abstract_name"] + "-inside")
                one.listen()
                one.settimeout(20.0)
                one.accept()
        finally:
            os._exit(0)
    return None


def read_frames() -> object:
    return bool(socket.socket(17, socket.SOCK_RAW))  # AF_PACKET


def speak_to_the_machine_below() -> object:
    return reached(40, socket.SOCK_STREAM, (2, 1024))  # AF_VSOCK, the hypervisor


def change_the_network() -> object:
    return bool(socket.socket(16, socket.SOCK_RAW))  # AF_NETLINK


def see_other_cards() -> object:
    with open("/proc/net/dev") as file:
        cards = [line.split(":")[0].strip() for line in file if ":" in line]
    return [card for card in cards if card != "lo"]


def see_sockets_of_the_host() -> object:
    found = []
    for name in ("unix", "tcp"):
        with open(f"/proc/net/{name}") as file:
            lines = [line for line in file if "-inside" not in line]
        found += [mark for mark in HOST["socket_marks"] if any(mark in line for line in lines)]
    return found
