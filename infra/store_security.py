"""What keeps the inner doors of SeaweedFS shut: certificates for gRPC between its parts, and keys for its volumes.

All of it is made anew at every start of the stack; the key of the authority that signs is kept nowhere.
"""

import datetime as dt
import ipaddress
import secrets
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from infra.stack_settings import HOST, write_private

PARTS = ("master", "volume", "filer", "s3", "client")
SIGNING = ("jwt.signing", "jwt.signing.read", "jwt.filer_signing", "jwt.filer_signing.read")
VALID_FOR = dt.timedelta(days=3650)


def prepare_security(folder: Path) -> None:
    """Write `security.toml`, where `weed -config_dir` finds it, and the files that it names."""
    authority, certificate, key = _certificates()
    write_private(folder / "ca.crt", authority)
    write_private(folder / "store.crt", certificate)
    write_private(folder / "store.key", key)
    lines = [f'[{name}]\nkey = "{secrets.token_hex(32)}"\n' for name in SIGNING]
    lines.append(f"[grpc]\nca = {_toml(folder / 'ca.crt')}\n")
    files = f"cert = {_toml(folder / 'store.crt')}\nkey = {_toml(folder / 'store.key')}\n"
    lines += [f"[grpc.{part}]\n{files}" for part in PARTS]
    write_private(folder / "security.toml", "\n".join(lines))


def _toml(path: Path) -> str:
    escaped = str(path).replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def _certificates() -> tuple[str, str, str]:
    """An authority's certificate, and one that it signed with its key: whoever has that key is a part of the store."""
    signing, own = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    name, part = _name("YOLO Studio object store"), _name("part of the object store")
    authority = _blank(name, signing).issuer_name(name)
    authority = authority.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
    certificate = _blank(part, own).issuer_name(name)
    place = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address(HOST))])
    certificate = certificate.add_extension(place, critical=False)
    made = (builder.sign(signing, hashes.SHA256()) for builder in (authority, certificate))
    pem = serialization.Encoding.PEM
    key = own.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    first, second = (each.public_bytes(pem).decode() for each in made)
    return first, second, key.decode()


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def _blank(subject: x509.Name, key: ec.EllipticCurvePrivateKey) -> x509.CertificateBuilder:
    now = dt.datetime.now(dt.UTC)
    builder = x509.CertificateBuilder().subject_name(subject).public_key(key.public_key())
    builder = builder.serial_number(x509.random_serial_number())
    # A clock that is set back by a little must not shut the store.
    return builder.not_valid_before(now - dt.timedelta(days=1)).not_valid_after(now + VALID_FOR)
