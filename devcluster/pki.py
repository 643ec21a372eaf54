"""Certificates of one cluster: one CA signs everybody, and a key signs ServiceAccount tokens.

Pure but for the randomness and the clock of `cryptography`: PEM bytes in and out, no files.
"""

from __future__ import annotations

import datetime
import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

VALID = datetime.timedelta(days=365)
# A clock that was set back a little must not make a new certificate "not yet valid".
BACKDATE = datetime.timedelta(hours=1)


@dataclass(frozen=True)
class Pair:
    """A certificate and its private key, both PEM."""

    cert: bytes
    key: bytes


@dataclass(frozen=True)
class Identity:
    """Who a certificate is for: Kubernetes reads `user` as the user name and `groups` as groups."""

    user: str
    groups: tuple[str, ...] = ()
    names: tuple[str, ...] = ()
    """Host names and IP addresses it serves under; none for a mere client."""


def _pem(key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def _subject(identity: Identity) -> x509.Name:
    groups = [x509.NameAttribute(NameOID.ORGANIZATION_NAME, group) for group in identity.groups]
    return x509.Name([*groups, x509.NameAttribute(NameOID.COMMON_NAME, identity.user)])


def _alternative(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


class Authority:
    """The cluster's own CA. Elliptic keys: an RSA one each would cost seconds at every start."""

    def __init__(self, common_name: str) -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])
        self._cert = (
            self._builder(self._name, self._key.public_key())
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(_usage(sign_certs=True), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(self._key.public_key()), critical=False)
            .sign(self._key, hashes.SHA256())
        )

    def _builder(self, subject: x509.Name, public: ec.EllipticCurvePublicKey) -> x509.CertificateBuilder:
        now = datetime.datetime.now(datetime.UTC)
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(public)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - BACKDATE)
            .not_valid_after(now + VALID)
        )

    @property
    def pair(self) -> Pair:
        return Pair(self._cert.public_bytes(serialization.Encoding.PEM), _pem(self._key))

    def issue(self, identity: Identity) -> Pair:
        """A certificate for a client, and for a server as well when the identity has names."""
        key = ec.generate_private_key(ec.SECP256R1())
        purposes = [ExtendedKeyUsageOID.CLIENT_AUTH]
        builder = self._builder(_subject(identity), key.public_key())
        if identity.names:
            purposes.append(ExtendedKeyUsageOID.SERVER_AUTH)
            builder = builder.add_extension(
                x509.SubjectAlternativeName([_alternative(name) for name in identity.names]), critical=False
            )
        cert = (
            builder.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_usage(sign_certs=False), critical=True)
            .add_extension(x509.ExtendedKeyUsage(purposes), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()), critical=False)
            .sign(self._key, hashes.SHA256())
        )
        return Pair(cert.public_bytes(serialization.Encoding.PEM), _pem(key))


def _usage(*, sign_certs: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=True,
        key_cert_sign=sign_certs,
        crl_sign=sign_certs,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def service_account_keys() -> Pair:
    """The key that signs ServiceAccount tokens, and its public half (in `cert`) that checks them.

    RSA: every OIDC library that may check such a token knows RS256.
    """
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    public = key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    return Pair(public, _pem(key))


def identities(node: str, addresses: Sequence[str]) -> dict[str, Identity]:
    """Every certificate a cluster needs, by file name; `addresses` are those the servers listen on."""
    local = ("localhost", "127.0.0.1")
    services = tuple(f"kubernetes{suffix}" for suffix in ("", ".default", ".default.svc", ".default.svc.cluster.local"))
    return {
        "admin": Identity("crewrun-admin", ("system:masters",)),
        "apiserver": Identity("kube-apiserver", names=(*local, *services, *addresses)),
        "apiserver-kubelet": Identity("kube-apiserver", ("system:masters",)),
        "etcd": Identity("etcd", names=local),
        "controller-manager": Identity("system:kube-controller-manager", names=local),
        "scheduler": Identity("system:kube-scheduler", names=local),
        "kube-proxy": Identity("system:kube-proxy"),
        "coredns": Identity("system:coredns"),
        "kubelet": Identity(f"system:node:{node}", ("system:nodes",), names=(node, *addresses)),
    }
