"""Keys and certificates on disk: made once, kept, renewed; and TLS with them."""

from __future__ import annotations

import asyncio
import datetime
import ssl
import stat
from pathlib import Path

import pytest
import yaml
from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from minikube_py import pki
from minikube_py.pki import Names, issue

NOW = 1_800_000_000.0
DAY = 86400.0
NAMES = Names(
    "node-1", "host", service_ips=("10.43.0.1",), node_ips=("192.0.2.7",), tls_sans=("api.example.org", "203.0.113.9", "2001:db8::9")
)


def snapshot(directory: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in directory.iterdir()}


def leaf(keys: pki.Pki, name: str) -> x509.Certificate:
    return x509.load_pem_x509_certificate(keys.certificate_pem(name))


def test_first_start_makes_everything_and_the_second_changes_nothing(tmp_path: Path) -> None:
    first = pki.ensure(tmp_path / "tls", NAMES, NOW)
    before = snapshot(tmp_path / "tls")
    second = pki.ensure(tmp_path / "tls", NAMES, NOW + DAY)
    assert snapshot(tmp_path / "tls") == before
    assert first.ca_hash() == second.ca_hash()
    assert len(first.ca_hash()) == 64


def test_private_keys_are_their_owners_alone(tmp_path: Path) -> None:
    pki.ensure(tmp_path / "tls", NAMES, NOW)
    assert stat.S_IMODE((tmp_path / "tls").stat().st_mode) == 0o700
    for path in (tmp_path / "tls").glob("*.key"):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600, path.name


def test_the_api_servers_certificate_names_every_way_to_reach_it(tmp_path: Path) -> None:
    keys = pki.ensure(tmp_path, NAMES, NOW)
    certificate = leaf(keys, pki.API_SERVER)
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    dns = set(names.get_values_for_type(x509.DNSName))
    service = {"kubernetes", "kubernetes.default", "kubernetes.default.svc", "kubernetes.default.svc.cluster.local"}
    assert dns == service | {"localhost", "host", "node-1", "api.example.org"}
    addresses = {str(address) for address in names.get_values_for_type(x509.IPAddress)}
    assert addresses == {"127.0.0.1", "::1", "10.43.0.1", "192.0.2.7", "203.0.113.9", "2001:db8::9"}
    assert certificate.not_valid_before_utc == datetime.datetime.fromtimestamp(NOW - 3600, datetime.UTC)
    assert certificate.not_valid_after_utc - certificate.not_valid_before_utc == datetime.timedelta(days=365, hours=1)


def test_client_certificates_carry_the_identities_of_upstream(tmp_path: Path) -> None:
    keys = pki.ensure(tmp_path, NAMES, NOW)
    expected = {
        pki.ADMIN: ("system:admin", ["system:masters"]),
        pki.KUBELET: ("system:node:node-1", ["system:nodes"]),
        pki.KUBE_PROXY: ("system:kube-proxy", []),
    }
    for name, (user, groups) in expected.items():
        certificate = leaf(keys, name)
        assert [a.value for a in certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)] == [user]
        assert [a.value for a in certificate.subject.get_attributes_for_oid(NameOID.ORGANIZATION_NAME)] == groups
        assert list(certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value) == [ExtendedKeyUsageOID.CLIENT_AUTH]
        certificate.verify_directly_issued_by(keys.authority(pki.CLIENT_CA))


def test_authorities_are_three_and_last_ten_years(tmp_path: Path) -> None:
    keys = pki.ensure(tmp_path, NAMES, NOW)
    authorities = [keys.authority(name) for name in (pki.SERVER_CA, pki.CLIENT_CA, pki.FRONT_PROXY_CA)]
    assert len({a.public_key().public_numbers() for a in authorities}) == 3  # type: ignore[union-attr]
    for authority in authorities:
        assert authority.not_valid_after_utc > datetime.datetime.fromtimestamp(NOW + 3650 * DAY, datetime.UTC)


def test_changed_names_reissue_only_what_says_them(tmp_path: Path) -> None:
    before = pki.ensure(tmp_path, NAMES, NOW)
    serial = {name: leaf(before, name).serial_number for name in (pki.API_SERVER, pki.ADMIN, pki.KUBELET)}
    after = pki.ensure(tmp_path, Names("node-1", "host", service_ips=("10.43.0.1",), node_ips=("192.0.2.8",)), NOW)
    assert leaf(after, pki.API_SERVER).serial_number != serial[pki.API_SERVER]
    assert leaf(after, pki.ADMIN).serial_number == serial[pki.ADMIN]
    assert leaf(after, pki.KUBELET).serial_number == serial[pki.KUBELET]


def test_leaves_are_renewed_when_a_third_of_their_life_is_left(tmp_path: Path) -> None:
    keys = pki.ensure(tmp_path, NAMES, NOW)
    assert keys.renew_due(NOW + 240 * DAY) == ()
    due = keys.renew_due(NOW + 250 * DAY)
    assert set(due) >= {pki.API_SERVER, pki.KUBELET_SERVING, pki.ADMIN}
    assert keys.renew(NOW + 250 * DAY) == due
    assert keys.renew_due(NOW + 250 * DAY) == ()
    assert leaf(keys, pki.API_SERVER).not_valid_after_utc > datetime.datetime.fromtimestamp(NOW + 600 * DAY, datetime.UTC)


@pytest.mark.parametrize("damage", [b"", b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"])
def test_a_damaged_leaf_is_issued_again(tmp_path: Path, damage: bytes) -> None:
    keys = pki.ensure(tmp_path, NAMES, NOW)
    keys.certificate_path(pki.ADMIN).write_bytes(damage)
    again = pki.ensure(tmp_path, NAMES, NOW)
    leaf(again, pki.ADMIN).verify_directly_issued_by(again.authority(pki.CLIENT_CA))


def test_a_leaf_whose_key_does_not_fit_is_issued_again(tmp_path: Path) -> None:
    keys = pki.ensure(tmp_path, NAMES, NOW)
    keys.key_path(pki.ADMIN).write_bytes(issue.private_pem(issue.new_key()))
    before = keys.certificate_pem(pki.ADMIN)
    assert pki.ensure(tmp_path, NAMES, NOW).certificate_pem(pki.ADMIN) != before


@pytest.mark.parametrize("name", ["client-ca.key", "server-ca.crt", "service.key"])
def test_a_damaged_authority_stops_the_start_and_stays_as_it_is(tmp_path: Path, name: str) -> None:
    pki.ensure(tmp_path, NAMES, NOW)
    (tmp_path / name).write_bytes(b"nonsense")
    with pytest.raises(pki.PkiError, match=f"{name}.*restore"):
        pki.ensure(tmp_path, NAMES, NOW)
    assert (tmp_path / name).read_bytes() == b"nonsense"


def test_an_authority_without_its_key_stops_the_start(tmp_path: Path) -> None:
    pki.ensure(tmp_path, NAMES, NOW)
    (tmp_path / "server-ca.key").unlink()
    with pytest.raises(pki.PkiError, match=r"server-ca\.key is missing"):
        pki.ensure(tmp_path, NAMES, NOW)


def test_a_start_cut_short_before_the_authoritys_certificate_goes_on_with_its_key(tmp_path: Path) -> None:
    pki.ensure(tmp_path, NAMES, NOW)
    key = (tmp_path / "server-ca.key").read_bytes()
    (tmp_path / "server-ca.crt").unlink()
    keys = pki.ensure(tmp_path, NAMES, NOW)
    assert (tmp_path / "server-ca.key").read_bytes() == key
    leaf(keys, pki.API_SERVER).verify_directly_issued_by(keys.authority(pki.SERVER_CA))


def test_kubeconfig_holds_everything_and_is_private(tmp_path: Path) -> None:
    keys = pki.ensure(tmp_path / "tls", NAMES, NOW)
    path = tmp_path / "etc" / "kubeconfig"
    keys.write_kubeconfig(path, "https://127.0.0.1:6443")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    config = yaml.safe_load(path.read_text())
    assert config["clusters"][0]["cluster"]["server"] == "https://127.0.0.1:6443"
    assert config["current-context"] == "default"
    assert set(config["users"][0]["user"]) == {"client-certificate-data", "client-key-data"}


async def served_certificate(context: ssl.SSLContext, keys: pki.Pki) -> int:
    """The serial number that a listener with this context shows to a client that trusts the server CA."""
    server = await asyncio.start_server(lambda reader, writer: writer.close(), "127.0.0.1", 0, ssl=context)
    async with server:
        port = server.sockets[0].getsockname()[1]
        _, writer = await asyncio.open_connection("127.0.0.1", port, ssl=keys.client_context(), server_hostname="localhost")
        der = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
        writer.close()
        await writer.wait_closed()
    return x509.load_der_x509_certificate(der).serial_number


async def test_a_renewed_certificate_is_served_without_a_restart(tmp_path: Path) -> None:
    import time

    now = time.time()
    keys = pki.ensure(tmp_path, NAMES, now)
    context = keys.api_server_context()
    before = await served_certificate(context, keys)
    assert before == leaf(keys, pki.API_SERVER).serial_number
    keys.renew(now, [pki.API_SERVER])
    after = await served_certificate(context, keys)
    assert after == leaf(keys, pki.API_SERVER).serial_number != before
