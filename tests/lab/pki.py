"""Certificates and kubeconfig files of the cluster: one authority, made anew with every cluster."""

from __future__ import annotations

import base64
import datetime
import ipaddress
import json
from collections.abc import Sequence
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

_VALID = datetime.timedelta(days=365)
_CLOCK_SKEW = datetime.timedelta(hours=1)


def _write(path: Path, content: bytes) -> None:
    path.touch(mode=0o600)
    path.write_bytes(content)


def _write_key(path: Path, key: ec.EllipticCurvePrivateKey) -> None:
    unencrypted = serialization.NoEncryption()
    _write(path, key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, unencrypted))


def _alternative_name(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


class Authority:
    """The cluster's certificate authority, kept in one folder that only its owner reads."""

    def __init__(self, folder: Path) -> None:
        """Opens the authority in `folder`, or makes a new one there."""
        self.folder = folder
        self.certificate = folder / "ca.crt"
        folder.mkdir(parents=True, exist_ok=True)
        folder.chmod(0o700)
        if not self.certificate.exists():
            self._make()
        key = serialization.load_pem_private_key((folder / "ca.key").read_bytes(), None)
        assert isinstance(key, ec.EllipticCurvePrivateKey)
        self._key = key
        self._issuer = x509.load_pem_x509_certificate(self.certificate.read_bytes())

    def _make(self) -> None:
        for name in ("ca", "service-account"):
            _write_key(self.folder / f"{name}.key", ec.generate_private_key(ec.SECP256R1()))
        key = serialization.load_pem_private_key((self.folder / "ca.key").read_bytes(), None)
        service_account = serialization.load_pem_private_key((self.folder / "service-account.key").read_bytes(), None)
        assert isinstance(key, ec.EllipticCurvePrivateKey)
        public = service_account.public_key().public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        )
        _write(self.folder / "service-account.pub", public)
        issuer = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "armillary-lab")])
        certificate = (
            self._builder(issuer, issuer, key.public_key())
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
            .sign(key, hashes.SHA256())
        )
        _write(self.certificate, certificate.public_bytes(serialization.Encoding.PEM))

    @staticmethod
    def _builder(
        subject: x509.Name, issuer: x509.Name, public_key: ec.EllipticCurvePublicKey
    ) -> x509.CertificateBuilder:
        now = datetime.datetime.now(datetime.UTC)
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(issuer)
            .public_key(public_key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - _CLOCK_SKEW)
            .not_valid_after(now + _VALID)
        )

    def issue(self, file: str, user: str, groups: Sequence[str] = (), hosts: Sequence[str] = ()) -> tuple[Path, Path]:
        """A certificate for client `user` (of `groups`), or a server's when `hosts` are given.

        Returns:
            The files of certificate and key; those of an earlier call with the same `file` are kept.
        """
        certificate_file, key_file = self.folder / f"{file}.crt", self.folder / f"{file}.key"
        if certificate_file.exists():
            return certificate_file, key_file
        key = ec.generate_private_key(ec.SECP256R1())
        attributes = [x509.NameAttribute(NameOID.ORGANIZATION_NAME, group) for group in groups]
        subject = x509.Name([*attributes, x509.NameAttribute(NameOID.COMMON_NAME, user)])
        usage = ExtendedKeyUsageOID.SERVER_AUTH if hosts else ExtendedKeyUsageOID.CLIENT_AUTH
        builder = self._builder(subject, self._issuer.subject, key.public_key()).add_extension(
            x509.ExtendedKeyUsage([usage]), critical=False
        )
        if hosts:
            names = x509.SubjectAlternativeName([_alternative_name(host) for host in hosts])
            builder = builder.add_extension(names, critical=False)
        _write_key(key_file, key)
        _write(certificate_file, builder.sign(self._key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM))
        return certificate_file, key_file

    def kubeconfig(self, file: str, server: str, user: str, groups: Sequence[str] = ()) -> Path:
        """A kubeconfig file, complete in itself, with which `user` of `groups` talks to `server`."""
        path = self.folder / f"{file}.kubeconfig"
        if path.exists():
            return path
        certificate, key = self.issue(file, user, groups)

        def data(source: Path) -> str:
            return base64.b64encode(source.read_bytes()).decode()

        config = {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [
                {"name": "lab", "cluster": {"server": server, "certificate-authority-data": data(self.certificate)}}
            ],
            "users": [
                {"name": user, "user": {"client-certificate-data": data(certificate), "client-key-data": data(key)}}
            ],
            "contexts": [{"name": "lab", "context": {"cluster": "lab", "user": user}}],
            "current-context": "lab",
        }
        # JSON is YAML, and has no surprises.
        _write(path, json.dumps(config, indent=1).encode())
        return path
