"""What keeps the inner doors of SeaweedFS shut: a certificate for gRPC between its parts, and keys for its volumes.

All of it is made anew at every start of the stack.
"""

import datetime as dt
import ipaddress
import json
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
    """Write `security.toml` into the folder of `weed -config_dir`, and the files that it names."""
    certificate, key = _certificate()
    write_private(folder / "store.crt", certificate)
    write_private(folder / "store.key", key)
    names = {name: json.dumps(str(folder / f"store.{name}"), ensure_ascii=False) for name in ("crt", "key")}
    lines = [f'[{name}]\nkey = "{secrets.token_hex(32)}"\n' for name in SIGNING]
    lines.append(f"[grpc]\nca = {names['crt']}\n")
    lines += [f"[grpc.{part}]\ncert = {names['crt']}\nkey = {names['key']}\n" for part in PARTS]
    write_private(folder / "security.toml", "\n".join(lines))


def _certificate() -> tuple[str, str]:
    """A certificate that signs itself, and its key: a part of the store is who has that key, and trusts nobody else."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "YOLO Studio object store")])
    now = dt.datetime.now(dt.UTC)
    builder = x509.CertificateBuilder(
        issuer_name=name,
        subject_name=name,
        public_key=key.public_key(),
        serial_number=x509.random_serial_number(),
        not_valid_before=now - dt.timedelta(days=1),  # a clock that is set back by a little must not shut the store
        not_valid_after=now + VALID_FOR,
    )
    address = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address(HOST))])
    builder = builder.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
    certificate = builder.add_extension(address, critical=False).sign(key, hashes.SHA256())
    pem = serialization.Encoding.PEM
    private = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    return certificate.public_bytes(pem).decode(), private.decode()
