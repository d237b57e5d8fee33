"""Text that becomes something else where it is shown: markup, script, headers.

The answers of the server itself repeat what a client wrote. A page for browsers must have the same elements, attributes and
scripts whatever was asked for; anything else must be of a type that no browser takes for a page; and no header may come
that the server did not mean to send.
"""

import asyncio
import json
from collections.abc import Iterator
from functools import partial
from html.parser import HTMLParser

from core.attack import Attack, Outcome, Try, held, leak
from core.http1 import Headers, Message
from core.scene import Scene
from core.target import Way
from core.wire import Exchange

BROWSER: Headers = [(b"Accept", b"text/html,application/xhtml+xml"), (b"User-Agent", b"Mozilla/5.0 (X11; Linux x86_64)")]
SIGN = b"injected"
PIECES = [
    b"<script>injected()</script>",
    b"</script><script>injected()</script>",
    b"</ScRiPt ><img src=x onerror=injected()>",
    b"<!--<script>injected",
    b"-->injected<b>",
    b'"><svg onload=injected()>',
    b"'><svg onload=injected()>",
    b'" onload="injected()',
    b"' onload='injected()",
    b"` onload=`injected()",
    b"</style><injected>",
    b"</title><injected>",
    b"</textarea><injected>",
    b"]]><injected>",
    b"{{injected}}",
    b"{{payment_required}}{{nonce}}injected",
    b"${injected}",
    b"<%= injected %>",
    b"{%injected%}",
    b"javascript:injected()",
    b"\\u003cscript>injected",
    b"\\x3cscript>injected",
    b'\\"};injected();//',
    b'"};injected();//',
    b'","injected":"',
    b'"},{"injected":{"x":"',
    b"\\",
    b'\\\\"injected',
    b"&lt;injected&gt;",
    b"&#60;injected&#62;",
    "\u2028injected\u2029".encode(),
    "\ufeff<injected>".encode(),
    b"\xff<injected>",
    b"\xc0\xbcinjected",
    b"+ADw-injected+AD4-",
    b"\x1b]0;injected\x07",
    b"%3Cscript%3Einjected%3C/script%3E",
    b"%22injected%22",
    b"%0d%0aX-Injected: 1",
    b"%0aX-Injected:1",
    b"%E5%98%8A%E5%98%8DX-Injected:1",
    b"%c4%8d%c4%8aX-Injected: 1",
    b"\rX-Injected: 1",
    b"\nX-Injected: 1",
    b"\r\nX-Injected: 1",
    b"\r\n\r\n<injected>",
    b"\0<injected>",
    b"%00<injected>",
]
PLACES = ["path", "query", "host", "referer", "user-agent", "origin", "method", "payment", "preflight"]
BODY = ["path", "query"]
"""What programs are answered repeats these alone."""
PARSED = ["text/html", "application/xhtml+xml", "image/svg+xml", "text/xml", "application/xml"]


def tries(scene: Scene) -> Iterator[Try]:
    usual: dict[tuple[Way, str, bool], asyncio.Task[Exchange]] = {}
    for way in (Way.HTTP11, Way.H2, Way.H2C):
        for place in PLACES:
            for piece in PIECES:
                for browser in (True, False) if place in BODY else (True,):
                    run = partial(_ask, scene, usual, way, place, piece, browser)
                    who = "a browser" if browser else "a program"
                    yield Try(f"{way.value}: {piece!r} in {place}, by {who}", run, scene.target.needs(way))


async def _ask(
    scene: Scene, asked: dict[tuple[Way, str, bool], asyncio.Task[Exchange]], way: Way, place: str, piece: bytes, browser: bool
) -> Outcome:
    if (way, place, browser) not in asked:
        asked[way, place, browser] = asyncio.create_task(_request(scene, way, place, SIGN, browser))
    plain = await asked[way, place, browser]
    hostile = await _request(scene, way, place, piece, browser)
    exchanges = [plain, hostile]
    usual = {answer.status: _shape(answer) for answer in plain.answers() if _is_page(answer)}
    for answer in hostile.answers():
        if why := _judged(answer, usual):
            return leak(why, exchanges)
    return held(exchanges)


async def _request(scene: Scene, way: Way, place: str, piece: bytes, browser: bool) -> Exchange:
    path, headers, method, host = scene.target.path, list(BROWSER if browser else []), b"GET", None
    match place:
        case "path":
            path = path.partition(b"?")[0] + b"/" + piece
        case "query":
            path += (b"&" if b"?" in path else b"?") + b"q=" + piece
        case "host":
            host = scene.target.host + piece
        case "method":
            method = piece
        case "payment":
            headers.append((b"PAYMENT-SIGNATURE", piece))
        case "preflight":
            method = b"OPTIONS"
            headers += [
                (b"Origin", b"https://x" + piece),
                (b"Access-Control-Request-Method", piece),
                (b"Access-Control-Request-Headers", piece),
            ]
        case _:
            headers = [field for field in headers if field[0].lower() != place.encode()] + [(place.encode(), piece)]
    return await scene.ask(way, path, method=method, headers=headers, host=host)


def _judged(answer: Message, usual: dict[int, str]) -> str | None:
    for name, _ in answer.headers + answer.trailers:
        if SIGN in name.lower():
            return f"the answer {answer.status} has a header that the client wrote"
    if _is_page(answer):
        return _judged_page(answer, usual)
    kind = (answer.header("content-type") or b"").partition(b";")[0].strip().lower().decode("latin-1")
    echoes = SIGN in answer.body and b"<" in answer.body
    if echoes and not kind:
        return f"the answer {answer.status} repeats markup, and says no type"
    if echoes and (answer.header("x-content-type-options") or b"").lower() != b"nosniff":
        return f"the answer {answer.status} repeats markup, and lets browsers guess its type"
    if kind == "application/json" and answer.body:
        return _judged_json(answer)
    return None


def _judged_json(answer: Message) -> str | None:
    try:
        decoded = json.loads(answer.body)
    except ValueError:
        return f"the answer {answer.status} is no JSON: {answer.body[:100]!r}"
    if SIGN.decode() in _names(decoded):
        return f"the answer {answer.status} has a member that the client wrote"
    return None


def _names(value: object) -> set[str]:
    if isinstance(value, dict):
        return set(value) | {name for each in value.values() for name in _names(each)}
    return {name for each in value for name in _names(each)} if isinstance(value, list) else set()


def _judged_page(answer: Message, usual: dict[int, str]) -> str | None:
    shape = _shape(answer)
    if answer.status in usual and shape != usual[answer.status]:
        return f"the page of the answer {answer.status} has other elements than usual"
    if answer.status not in usual and SIGN in shape.encode():
        return f"the page of the answer {answer.status} has an element that the client wrote"
    policy = (answer.header("content-security-policy") or b"").decode("latin-1")
    scripts = next((part for part in policy.split(";") if part.strip().startswith("script-src")), policy)
    if SIGN in answer.body and ("unsafe-inline" in scripts or not policy):
        return f"the page of the answer {answer.status} repeats what was asked for, and no policy holds scripts off"
    return None


def _is_page(answer: Message) -> bool:
    kind = (answer.header("content-type") or b"").lower().decode("latin-1")
    return any(parsed in kind for parsed in PARSED)


class _Shape(HTMLParser):
    """Elements, and the names of their attributes; what stands in scripts without strings that may differ."""

    def __init__(self) -> None:
        super().__init__()
        self.parts: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.parts.append(f"<{tag} {sorted(name for name, _ in attrs)}>")

    def handle_endtag(self, tag: str) -> None:
        self.parts.append(f"</{tag}>")

    def handle_comment(self, _data: str) -> None:
        self.parts.append("<!--")


def _shape(answer: Message) -> str:
    shape = _Shape()
    shape.feed(answer.body.decode("utf-8", "replace"))
    shape.close()
    return "".join(shape.parts)


ATTACK = Attack("injection", 10, "markup, script and headers in the server's own answers", tries, origins=frozenset({"plain"}))
