"""Whether a service of this container answers: `python -I -S health.py URL [FILE]`, with the standard library alone.

It is asked every few seconds, so it must not take the second in which the libraries of the service are imported. FILE
has the password of user `studio`, where one is asked for. An https address is asked of this machine, whatever its host.
"""

import base64
import socket
import ssl
import sys
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from pathlib import Path
from urllib.parse import urlsplit

HERE = "127.0.0.1"
ANSWERS_WITHIN_S = 5


class _ByName(HTTPSConnection):
    """To this machine, by the name that its certificate has; that is not looked at, as nothing secret is said."""

    def connect(self) -> None:
        context = ssl.create_default_context()
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        plain = socket.create_connection((HERE, self.port), self.timeout)
        self.sock = context.wrap_socket(plain, server_hostname=self.host)


def main() -> None:
    """Exit with 0 if the address answers 2xx, else with a message."""
    url, *files = sys.argv[1:]
    address = urlsplit(url)
    connect = _ByName if address.scheme == "https" else HTTPConnection
    try:
        headers = {"Authorization": _credentials(Path(files[0]))} if files else {}
        connection = connect(address.hostname or HERE, address.port, timeout=ANSWERS_WITHIN_S)
        connection.request("GET", address.path, headers=headers)
        status = connection.getresponse().status
    except (OSError, HTTPException) as error:
        sys.exit(f"expected {url} to answer, found {error!r}")
    if status // 100 != 2:
        sys.exit(f"expected {url} to answer 2xx, found {status}")


def _credentials(file: Path) -> str:
    return "Basic " + base64.b64encode(f"studio:{file.read_text().strip()}".encode()).decode()


if __name__ == "__main__":
    main()
