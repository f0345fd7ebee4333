"""Ports of this machine."""

import socket

from infra.stack_settings import HOST


def is_free(port: int) -> bool:
    """Whether no program listens on the port."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
    return True
