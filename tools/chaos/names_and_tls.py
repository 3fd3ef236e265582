"""A23 and A24: names that do not resolve, and TLS that must not be believed."""

from __future__ import annotations

import asyncio
import datetime
import ipaddress
import ssl
import tempfile
from collections.abc import Awaitable, Callable
from pathlib import Path

import trustme
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from naru.transport.connect import Resolver
from tools.chaos import checks, inprocess
from tools.chaos.client import Client
from tools.chaos.rows import CONNECT_S, SLACK_S, Check, Look, Prepare, Row, Stage
from tools.chaos.upstreams import HEALTHY_COST, BlackHole, TlsServer, healthy

HOST = "127.0.0.1"
#: Where the other address of a name points: loopback too, so that nothing leaves this machine.
OTHER = "127.0.0.2"


def rows() -> list[Row]:
    return [*names(), *tls()]


# --- DNS --------------------------------------------------------------------------------------------------------------


def names() -> list[Row]:
    own = "(in-process, own resolver)"
    return [
        Row("A23", "before commit", "a name that does not exist", "failover: 200 from the peer, billed once",
            nowhere, over_to_the_peer),
        Row("A23", "exhausted", "a name that does not exist, no peer", "502 upstream_unreachable",
            nowhere_alone, checks.exhausted(502, "upstream_unreachable", within_s=CONNECT_S)),
        Row("A23", "slow", f"DNS that takes 4 s {own}", "failover within connect_s; others are not held up",
            nothing, resolved(slow_names, slow_dns)),
        Row("A23", "one refuses", f"two addresses, the first refuses {own}", "the next one is tried: 200, one attempt",
            nothing, resolved(first_refuses, one_attempt)),
        Row("A23", "one silent", f"two addresses, the first never answers {own}",
            "the next one is tried in time: 200, one attempt", nothing, resolved(first_is_silent, one_attempt)),
    ]  # fmt: skip


async def nothing(stage: Stage) -> None:
    """The row makes its own gateway."""


async def nowhere(stage: Stage) -> None:
    stage.good = await stage.server(healthy())
    stage.model(stage.provider("bad", "http://nowhere.invalid"), stage.provide("good", stage.good))


async def nowhere_alone(stage: Stage) -> None:
    stage.model(stage.provider("bad", "http://nowhere.invalid"))


async def over_to_the_peer(stage: Stage, look: Look) -> None:
    for is_stream in checks.BOTH:
        checks.saw_peer(look, await stage.client.chat(stage.name, is_stream), is_stream, CONNECT_S)
    await checks.saw_entries(stage, look, 2, "completed", HEALTHY_COST, attempts=2)


Names = Callable[[Stage], Awaitable[Resolver]]
Try = Callable[[Stage, Look, Client], Awaitable[None]]


def resolved(prepare: Names, attempt: Try) -> Check:
    """`prepare` writes the stage's configuration and gives the resolver; `attempt` is done to a gateway made of both."""

    async def check(stage: Stage, look: Look) -> None:
        resolver = await prepare(stage)
        with tempfile.TemporaryDirectory(prefix="naru-chaos-") as folder:
            async with inprocess.serving(Path(folder), "\n".join(stage.config) + "\n", resolver) as client:
                await attempt(stage, look, client)

    return check


async def slow_names(stage: Stage) -> Resolver:
    stage.good = await stage.server(healthy())
    slow = stage.provider("bad", "http://slow.test:9")
    stage.model(slow, stage.provide("good", stage.good))
    stage.model(stage.provide("other", await stage.server(healthy())), part="-other")

    async def resolver(host: str, port: int) -> list[str]:
        await asyncio.sleep(4)
        return [HOST]

    return resolver


async def slow_dns(stage: Stage, look: Look, client: Client) -> None:
    waiting = asyncio.create_task(client.chat(stage.name, True))
    await asyncio.sleep(0.2)
    other = await client.chat(f"{stage.name}-other")
    look.saw(
        f"another request {other.status} in {other.took_s * 1000:.0f} ms", other.status == 200 and other.took_s < 0.5
    )
    checks.saw_peer(look, await waiting, True, CONNECT_S)


async def two_addresses(stage: Stage) -> Resolver:
    stage.good = await stage.server(healthy())
    stage.model(stage.provider("bad", f"http://two.test:{stage.good.port}"))

    async def resolver(host: str, port: int) -> list[str]:
        return [OTHER, HOST]

    return resolver


async def first_refuses(stage: Stage) -> Resolver:
    return await two_addresses(stage)  # nobody listens on OTHER


async def first_is_silent(stage: Stage) -> Resolver:
    resolver = await two_addresses(stage)
    hole = BlackHole()
    hole.start(OTHER, stage.good.port)
    stage.stoppers.append(hole.stop)
    return resolver


async def one_attempt(stage: Stage, look: Look, client: Client) -> None:
    checks.saw_peer(look, await client.chat(stage.name, True), True, CONNECT_S, attempts=1)


# --- TLS --------------------------------------------------------------------------------------------------------------


def tls() -> list[Row]:
    faults = (
        ("expired", "a certificate that has expired", expired),
        ("wrong host", "a certificate for another host", wrong_host),
        ("self-signed", "a self-signed certificate", self_signed),
        ("reset", "RST in the handshake", lambda ca: None),
        ("TLS 1.0", "a server that speaks TLS 1.0 alone", old_tls),
    )
    expected = "failover; alone 502 upstream_unreachable; verified as ever, nothing sent"
    return [
        *(Row("A24", case, injected, expected, over_tls(make), never_believed) for case, injected, make in faults),
        Row("A24", "a good one", "a right certificate, to show that the others fail for their fault alone",
            "200", over_tls(right), believed),
    ]  # fmt: skip


Make = Callable[[trustme.CA], ssl.SSLContext | None]


def over_tls(make: Make) -> Prepare:
    async def prepare(stage: Stage) -> None:
        ca = trustme.CA()
        folder = tempfile.TemporaryDirectory(prefix="naru-chaos-")
        stage.stoppers.append(folder.cleanup)
        ca_file = Path(folder.name) / "ca.pem"
        ca.cert_pem.write_to_path(str(ca_file))
        server = stage.kept["server"] = TlsServer(make(ca))
        await server.start()
        stage.stoppers.append(server.stop)
        stage.good = await stage.server(healthy())
        bad = stage.provider("bad", f"https://{HOST}:{server.port}", f'ca_file = "{ca_file}"')
        stage.model(bad, stage.provide("good", stage.good))
        stage.model(bad, part="-alone")

    return prepare


async def never_believed(stage: Stage, look: Look) -> None:
    server = stage.kept["server"]
    checks.saw_peer(look, await stage.client.chat(stage.name), False, SLACK_S)
    alone = await stage.client.chat(f"{stage.name}-alone")
    checks.saw_error(look, alone, 502, "upstream_unreachable", "alone")
    look.saw(f"{server.requests} requests were sent", server.requests == 0)


async def believed(stage: Stage, look: Look) -> None:
    answer = await stage.client.chat(stage.name)
    look.saw(f"{answer.status}, {answer.attempts} attempt", (answer.status, answer.attempts) == (200, 1))
    look.saw(f"{stage.kept['server'].requests} request was sent", stage.kept["server"].requests == 1)


def server_context(cert: trustme.LeafCert) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    cert.configure_cert(context)
    return context


def right(ca: trustme.CA) -> ssl.SSLContext:
    return server_context(ca.issue_cert(HOST))


def expired(ca: trustme.CA) -> ssl.SSLContext:
    now = datetime.datetime.now(datetime.UTC)
    day = datetime.timedelta(days=1)
    return server_context(ca.issue_cert(HOST, not_before=now - 9 * day, not_after=now - day))


def wrong_host(ca: trustme.CA) -> ssl.SSLContext:
    return server_context(ca.issue_cert("other.example"))


def old_tls(ca: trustme.CA) -> ssl.SSLContext:
    context = right(ca)
    context.minimum_version = context.maximum_version = ssl.TLSVersion.TLSv1
    context.set_ciphers("ALL:@SECLEVEL=0")  # OpenSSL 3 allows TLS 1.0 at no higher level
    return context


def self_signed(ca: trustme.CA) -> ssl.SSLContext:
    """For the right host, but by nobody."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, HOST)])
    now = datetime.datetime.now(datetime.UTC)
    host = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address(HOST))])
    made = (
        x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
        .serial_number(x509.random_serial_number()).not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1)).add_extension(host, critical=False).sign(key, hashes.SHA256())
    )  # fmt: skip
    pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    with tempfile.NamedTemporaryFile(suffix=".pem") as file:
        file.write(pem + made.public_bytes(serialization.Encoding.PEM))
        file.flush()
        context.load_cert_chain(file.name)
    return context
