"""How origins read the target of a request: each habit is one that servers in use have.

A habit says which paths an origin may take a target for. An origin serves the priced page when one of them is its path.
"""

import re
import unicodedata
from collections.abc import Callable, Iterable, Iterator

Reading = Callable[[bytes], Iterable[bytes]]
READINGS_MAX = 500
"""Readings of one target that are looked at; the simple ones come first."""


def literal(target: bytes) -> list[bytes]:
    """Takes the path as it stands."""
    return [target.partition(b"?")[0]]


def any_case(target: bytes) -> list[bytes]:
    """Disregards letter case, as Windows, macOS and many routers do, in the ways that their tables differ."""
    path = literal(target)[0]
    readings = []
    for bytes_ in (path, unquoted(path)):
        for coding in ("utf-8", "latin-1"):
            text = bytes_.decode(coding, "replace")
            for fold in (str.casefold, str.lower, _through_upper_case, _without_dots):
                readings.append(fold(text).encode())
    return readings


def decoding(target: bytes) -> list[bytes]:
    """Decodes before it routes, perhaps more than once, some with a decoder of Unicode that is too kind."""
    readings, path = [], literal(target)[0]
    for _ in range(4):
        path = unquoted(path)
        readings += [path, resolved(path), literal(path)[0], _overlong(path), resolved(_overlong(path))]
        readings += [unquoted(_percent_u(path)), path.partition(b"\0")[0], path.partition(b"#")[0]]
        readings += [path.partition(b"\n")[0], path.partition(b"\r")[0]]
    return readings


def slashes(target: bytes) -> list[bytes]:
    """Merges slashes and back-slashes, drops what stands at the end, as file systems do."""
    path = unquoted(literal(target)[0])
    return [_merged(path), _merged(path.replace(b"\\", b"/")), _as_windows(path)]


def parameters(target: bytes) -> list[bytes]:
    """Cuts `;parameters` off every segment, before or after it decodes, as Java servers do."""
    path = literal(target)[0]
    cut, late = _without_parameters(path), _without_parameters(unquoted(path))
    return [reading for each in (cut, unquoted(cut), late) for reading in (each, resolved(each), _merged(resolved(each)))]


def url(target: bytes) -> list[bytes]:
    """Gives the target to a URL parser of the WHATWG kind, with the site as its base, as scripts of Node do."""
    text = re.sub(rb"[\t\r\n]", b"", target.strip(bytes(range(33))))
    text = text.partition(b"#")[0].partition(b"?")[0].replace(b"\\", b"/")
    if re.match(rb"(?i)[a-z][a-z0-9+.-]*:/*", text):
        text = b"//" + re.sub(rb"^[^:]*:/*", b"", text)
    if text.startswith(b"//"):
        text = b"/" + text.lstrip(b"/").partition(b"/")[2]
    elif not text.startswith(b"/"):
        text = b"/" + text
    path = resolved(re.sub(rb"(?i)%2e", b".", text))
    return [path, unquoted(path)]


def unicode(target: bytes) -> list[bytes]:
    """Brings text into a normal form before it routes, as some file systems and frameworks do."""
    text = unquoted(literal(target)[0]).decode("utf-8", "replace")
    readings = []
    for form in ("NFC", "NFKC"):
        normal = unicodedata.normalize(form, text)
        for each in (normal, normal.casefold(), _best_fit(normal)):
            readings += [each.encode(), resolved(each.encode()), unquoted(each.encode())]
    return readings


def scripts(target: bytes) -> list[bytes]:
    """Runs a script for whatever follows its name, as Apache, PHP-FPM and CGI do."""
    path = unquoted(literal(target)[0])
    return [path, *(path[: found.end()] for found in re.finditer(rb"(?i)\.(php|cgi|pl|py|jsp|do|aspx|shtml)(?=/)", path))]


def everything(target: bytes) -> Iterator[bytes]:
    """Has all habits at once, in any order: whatever some chain of servers could take for the page is the page."""
    fresh = [*literal(target), *url(target)]
    seen = set(fresh)
    yield from fresh
    steps = (any_case, decoding, slashes, parameters, scripts, url, unicode, _resolving)
    while fresh and len(seen) < READINGS_MAX:
        path = fresh.pop(0)
        for step in steps:
            for reading in step(path):
                if reading not in seen:
                    seen.add(reading)
                    fresh.append(reading)
                    yield reading


def hosts(name: bytes, value: bytes) -> set[bytes]:
    """The hosts that a header names, to a site that takes them from wherever they are said and cleans them up."""
    if name == b"forwarded":
        found = re.findall(rb"""(?i)host\s*=\s*"?([^;,"]+)""", value)
    elif name in HOST_HEADERS:
        found = [value, *value.split(b","), *value.split()]
    else:
        return set()
    cleaned = set()
    for host in found:
        text = unicodedata.normalize("NFKC", unquoted(host).decode("utf-8", "replace")).lower().strip()
        text = re.sub(r"^[a-z]+://", "", text).rpartition("@")[2]
        text = re.split(r"[/\\?#\0]", text)[0]
        cleaned.add(re.sub(r":[^:]*$", "", text).strip(" .\t").encode())
    return cleaned


HOST_HEADERS = {b"host", b":authority", b"x-forwarded-host", b"x-host", b"x-original-host", b"x-forwarded-server",
                b"x-http-host-override"}  # fmt: skip


def unquoted(path: bytes) -> bytes:
    return re.sub(rb"%([0-9a-fA-F]{2})", lambda escape: bytes([int(escape[1], 16)]), path)


def resolved(path: bytes) -> bytes:
    """With dot segments followed; above the root there is only the root."""
    done: list[bytes] = []
    segments = path.split(b"/")[1:]
    for at, segment in enumerate(segments):
        if segment == b"..":
            del done[-1:]
        elif segment != b".":
            done.append(segment)
            continue
        if at == len(segments) - 1:
            done.append(b"")
    return b"/" + b"/".join(done)


def _resolving(path: bytes) -> list[bytes]:
    return [resolved(path)]


def _merged(path: bytes) -> bytes:
    merged = re.sub(rb"/+", b"/", path)
    return merged.rstrip(b"/") or b"/"


def _as_windows(path: bytes) -> bytes:
    names = [re.sub(rb"::?\$.*$", b"", name).rstrip(b". ") for name in path.replace(b"\\", b"/").split(b"/")]
    return b"/" + b"/".join(name for name in names if name)


def _without_parameters(path: bytes) -> bytes:
    return b"/".join(segment.partition(b";")[0] for segment in path.split(b"/"))


def _overlong(path: bytes) -> bytes:
    """As a decoder that takes two, three or four bytes for an ASCII letter."""
    two = re.sub(rb"[\xc0\xc1]([\x80-\xbf/])", lambda found: _low(found[0]), path)
    three = re.sub(rb"\xe0[\x80\x81]([\x80-\xbf])", lambda found: _low(found[0][1:]), two)
    return re.sub(rb"\xf0\x80[\x80\x81]([\x80-\xbf])", lambda found: _low(found[0][2:]), three)


def _low(pair: bytes) -> bytes:
    return bytes([((pair[0] & 3) << 6 | pair[1] & 63) & 127])


def _percent_u(path: bytes) -> bytes:
    return re.sub(rb"(?i)%u00([0-9a-f]{2})", rb"%\1", path)


def _through_upper_case(text: str) -> str:
    return text.upper().lower()


def _without_dots(text: str) -> str:
    """As tables of Turkish letters, and those that drop the dot above."""
    return text.replace("ı", "i").replace("İ", "i").lower()


def _best_fit(text: str) -> str:
    """As Windows brings text into an 8-bit code, and as databases and systems for blogs compare it: without accents, and
    each letter the plain one it looks like.
    """
    plain = "".join(letter for letter in unicodedata.normalize("NFKD", text) if not unicodedata.combining(letter))
    return plain.translate({0x2215: "/", 0x2044: "/", 0x29F8: "/", 0x2216: "\\", 0x2010: "-", 0x2011: "-", 0x2013: "-"})
