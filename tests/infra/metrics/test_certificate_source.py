"""From when to when the certificate of the front door is good."""

import contextlib
import datetime as dt
import socket
import ssl
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from infra.metrics.certificate_source import CertificateSource
from infra.stack_settings import StackSettings
from infra.store_security import VALID_FOR, prepare_security


@pytest.fixture
def certificate(tmp_path: Path) -> tuple[Path, Path]:
    """A certificate that ends after `VALID_FOR`, and its key."""
    prepare_security(tmp_path)
    return tmp_path / "store.crt", tmp_path / "store.key"


def lives_for(settings: StackSettings) -> tuple[float, float]:
    """Since how many days the certificate of the front door is good, and for how many more."""
    start, end = (metric.samples[0].value for metric in CertificateSource(settings).read())
    now = dt.datetime.now(dt.UTC).timestamp()
    return (now - start) / 86400, (end - now) / 86400


@contextlib.contextmanager
def served(certificate: tuple[Path, Path]) -> Iterator[int]:
    """The port of a server that shows it."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*certificate)
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def shake_hands() -> None:
            with listener.accept()[0] as client, contextlib.suppress(OSError), context.wrap_socket(client, True):
                pass

        thread = threading.Thread(target=shake_hands)
        thread.start()
        yield listener.getsockname()[1]
        thread.join()


@pytest.mark.parametrize("tls", ["internal", "acme"])
def test_it_is_that_which_browsers_get(tmp_path: Path, certificate: tuple[Path, Path], tls: str) -> None:
    with served(certificate) as port:
        settings = StackSettings(
            state_dir=tmp_path, public=True, public_host="studio.test", public_port=port, public_tls=tls
        )
        since, left = lives_for(settings)
    assert since == pytest.approx(1, abs=0.1)
    assert left == pytest.approx(VALID_FOR.days, abs=1)


def test_a_page_in_a_container_asks_that_of_the_front_door(
    tmp_path: Path, certificate: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whose folder it does not see. The name, which an engine gives to the container, is given here in its place."""
    look_up = socket.getaddrinfo
    by_name = {"front-door": "127.0.0.1"}
    monkeypatch.setattr(socket, "getaddrinfo", lambda host, *further: look_up(by_name[host], *further))
    with served(certificate) as port:
        settings = StackSettings(
            state_dir=tmp_path, secrets_dir=tmp_path, public=True, public_host="studio.test", public_port=port
        )
        assert lives_for(settings)[1] == pytest.approx(VALID_FOR.days, abs=1)


def test_a_front_door_that_is_away_says_so(tmp_path: Path) -> None:
    settings = StackSettings(state_dir=tmp_path, public=True, public_host="studio.test", public_port=1)
    with pytest.raises(ConnectionRefusedError):
        lives_for(settings)
