"""When the certificate of the front door ends."""

import contextlib
import datetime as dt
import socket
import ssl
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from infra.front_door import root_certificate
from infra.metrics.certificate_source import CertificateSource
from infra.stack_settings import StackSettings
from infra.store_security import VALID_FOR, prepare_security


@pytest.fixture
def certificate(tmp_path: Path) -> tuple[Path, Path]:
    """A certificate that ends after `VALID_FOR`, and its key."""
    prepare_security(tmp_path)
    return tmp_path / "store.crt", tmp_path / "store.key"


def days_left(settings: StackSettings) -> float:
    (metric,) = CertificateSource(settings).read()
    return (metric.samples[0].value - dt.datetime.now(dt.UTC).timestamp()) / 86400


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


def test_it_is_that_which_browsers_get(tmp_path: Path, certificate: tuple[Path, Path]) -> None:
    with served(certificate) as port:
        settings = StackSettings(
            state_dir=tmp_path, public=True, public_host="studio.test", public_port=port, public_tls="acme"
        )
        assert days_left(settings) == pytest.approx(VALID_FOR.days, abs=1)


def test_caddys_own_authority_renews_all_but_its_root(tmp_path: Path, certificate: tuple[Path, Path]) -> None:
    settings = StackSettings(state_dir=tmp_path, public=True, public_host="studio.test")
    with pytest.raises(FileNotFoundError):
        days_left(settings)
    root_certificate(settings).parent.mkdir(parents=True)
    root_certificate(settings).write_bytes(certificate[0].read_bytes())
    assert days_left(settings) == pytest.approx(VALID_FOR.days, abs=1)


def test_a_front_door_that_is_away_says_so(tmp_path: Path) -> None:
    settings = StackSettings(
        state_dir=tmp_path, public=True, public_host="studio.test", public_port=1, public_tls="acme"
    )
    with pytest.raises(ConnectionRefusedError):
        days_left(settings)
