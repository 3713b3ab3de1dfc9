"""The way out: connections that are kept, proxies that the environment names."""

import asyncio
import ssl
from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from council.core import errors
from council.tests.protocol import KEY, endpoint, pieces


class TestTheWayOut:
    """`.invalid` is a name that no machine has, so what answers for it is the proxy."""

    @pytest.fixture(autouse=True)
    def none(self, monkeypatch):
        for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY"):
            for each in (name, name.lower()):
                monkeypatch.delenv(each, raising=False)

    @pytest.mark.parametrize("name", ["HTTP_PROXY", "all_proxy"])
    async def test_a_proxy_of_the_environment_is_used(self, fake, monkeypatch, name):
        monkeypatch.setenv(name, fake.url.removesuffix("/v1").replace("://", "://ada:word@"))
        assert await pieces(endpoint("http://provider.invalid/v1"))
        (request,) = fake.requests()
        assert request["path"] == "http://provider.invalid/v1/chat/completions"
        assert request["headers"]["proxy-authorization"] == "Basic YWRhOndvcmQ="

    async def test_what_is_encrypted_goes_through_a_tunnel(self, monkeypatch):
        heard = []

        async def refuse(reader, writer):
            heard.append(await reader.readuntil(b"\r\n\r\n"))
            writer.write(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n")
            writer.close()

        async with await asyncio.start_server(refuse, "127.0.0.1", 0) as server:
            monkeypatch.setenv("HTTPS_PROXY", f"http://ada:word@localhost:{server.sockets[0].getsockname()[1]}")
            with pytest.raises(errors.Unreachable):
                await pieces(endpoint("https://provider.invalid/v1"))
        assert heard[0].startswith(b"CONNECT provider.invalid:443 ")
        assert b"Proxy-Authorization: Basic YWRhOndvcmQ=" in heard[0]
        assert KEY.encode() not in heard[0]

    async def test_no_proxy_and_this_machine_are_asked_directly(self, fake, monkeypatch):
        monkeypatch.setenv("HTTP_PROXY", fake.url.removesuffix("/v1"))
        monkeypatch.setenv("NO_PROXY", "provider.invalid")
        with pytest.raises(errors.Unreachable):
            await pieces(endpoint("http://provider.invalid/v1"))
        assert not fake.requests()
        monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
        assert await pieces(endpoint(fake.url))

    async def test_a_proxy_that_is_none_is_no_way(self, monkeypatch):
        monkeypatch.setenv("HTTP_PROXY", "socks5://127.0.0.1:9")
        with pytest.raises(errors.Unreachable):
            await pieces(endpoint("http://provider.invalid/v1"))


@pytest.fixture
def nobodys_certificate(tmp_path):
    """Of localhost, and signed by nobody whom anybody trusts."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = datetime.now(UTC)
    made = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
    made = (
        made.serial_number(x509.random_serial_number()).not_valid_before(now).not_valid_after(now + timedelta(days=1))
    )
    made = made.add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
    path = tmp_path / "certificate.pem"
    secret = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    certificate = made.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)
    path.write_bytes(key.private_bytes(*secret) + certificate)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(path)
    return context


async def test_who_cannot_show_a_certificate_gets_no_key(nobodys_certificate):
    heard = []

    async def listen(reader, writer):
        heard.append(await reader.read(1000))
        writer.close()

    async with await asyncio.start_server(listen, "127.0.0.1", 0, ssl=nobodys_certificate) as server:
        with pytest.raises(errors.Unreachable):
            await pieces(endpoint(f"https://localhost:{server.sockets[0].getsockname()[1]}/v1"))
    assert not any(heard)
