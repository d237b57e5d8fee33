"""What the kit's origins serve: one priced page, and free ones."""

import random
from dataclasses import dataclass
from email.utils import formatdate

from core.http1 import Headers
from core.secret import Secret

PRICED = b"/vault/risk-list.php"
"""The name of a script, which some servers run whatever follows it."""
FREE = b"/free/page.txt"
HOST = b"vault.example"
"""The host of the priced page, at origins that tell hosts apart."""
ALSO_PRICED = [b"/vault/other-list.txt", b"/archive/risk-list.txt"]
"""Where payments are attacked: pages of the same price, with the same content."""
UPFRONT = b"/upfront/risk-list.txt"
"""The same, settled before the site is asked."""
OTHER_HOST = b"other.example"
"""A site of its own, as far as routes are concerned, with the same pages."""
LINES = 60


@dataclass(frozen=True)
class Pages:
    """The pages of one run. Everything that belongs to the priced one holds the run's token."""

    token: str
    priced: bytes
    changed: float
    """When the priced page was changed last, in seconds since 1970: a time that nothing else has."""
    free: bytes = b"A page that costs nothing.\n"

    @staticmethod
    def of(source: random.Random) -> "Pages":
        token = source.randbytes(8).hex()
        # So many lines that every range of some length shows the token.
        lines = b"".join(b"%s %04d for sale\n" % (token.encode(), number) for number in range(LINES))
        padding = b"." * source.randrange(1, 997)
        return Pages(token, lines + padding + b"\n", 1.0e9 + source.randrange(10**8))

    def secret(self) -> Secret:
        """What gives the priced page away."""
        etag = b"%x-%x" % (int(self.changed), len(self.priced))  # that of nginx
        return Secret([self.token.encode(), self.last_modified(), etag], [len(self.priced)])

    def last_modified(self) -> bytes:
        return formatdate(self.changed, usegmt=True).encode()

    def headers(self) -> Headers:
        """Headers of the priced page, each of which tells something of it."""
        token = self.token.encode()
        return [
            (b"Content-Type", b"text/plain"),
            (b"ETag", b'"%s"' % token),
            (b"Last-Modified", self.last_modified()),
            (b"Set-Cookie", b"reader=%s; Path=/" % token),
            (b"X-Summary", b"what is said in " + token),
            (b"Accept-Ranges", b"bytes"),
        ]
