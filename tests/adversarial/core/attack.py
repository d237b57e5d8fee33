"""What an attack is: a module of `attacks/` with an `ATTACK`, listed in `attacks/__init__.py`.

    '''What is tried and why it could work: a paragraph.'''

    from core.attack import Attack, Try
    from core.scene import Scene

    def tries(scene: Scene):
        yield scene.unpaid("a name that tells this try from others", Way.HTTP11, b"/path")

    ATTACK = Attack("name-of-the-row", group=5, about="one line for the table", tries=tries)

`tries` is a generator and does nothing but name tries; they are run later, several at a time unless `alone`. A try is a
coroutine function without arguments that returns an `Outcome`: `held()`, `leak(why, exchanges)`,
`refused_though_paid(why, exchanges)` or `inapplicable(why)`. What it needs of the target is named in `needs`; where that
is missing the try counts as inapplicable, with the reason, and is not run. All random choices are drawn from
`scene.random` while the generator runs, never inside a try, so that a seed repeats them.
"""

from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING

from core.wire import Exchange

if TYPE_CHECKING:
    from core.scene import Scene


class Kind(Enum):
    """How a try ended."""

    HELD = "held"
    LEAK = "leak"
    REFUSED = "refused-though-paid"
    INAPPLICABLE = "inapplicable"


@dataclass
class Outcome:
    kind: Kind
    why: str = ""
    exchanges: list[Exchange] = field(default_factory=list)
    headers_only: bool = False
    """Of a leak: whether only headers of the content came out, such as its cookies."""
    unpaid_work: int = 0
    """Times the site worked and nobody paid for it, where that can be seen. Nothing came out, so it is no leak."""


class Need(Enum):
    """What a try may need of its target, with the words for when it is not there."""

    PAYMENT = "the suite cannot pay this server: give it a key with funds (--key-file)"
    ORIGIN = "needs an origin whose log the suite can read"
    FACILITATOR = "needs a facilitator whose ledger the suite can read"
    INSIDE = "needs a server whose log, metrics and books the suite can read"
    SECRET = "nothing is known that stands in the priced content alone (--marker, or a payment that works)"
    FREE = "no free page is known (--free-url)"
    HTTP2 = "the server does not speak HTTP/2 over TLS at any address given"
    H2C = "the server does not speak HTTP/2 without TLS at any address given"
    PLAIN = "no address without TLS was given"
    TLS = "no address with TLS was given"
    REPLICAS = "no address of another replica is known (--url, once more)"
    RESTART = "needs a server that the suite can end and start again"
    RELOAD = "needs a server that reads its configuration again while it runs, and that the suite can tell to"
    OTHER_PAGE = "no other page of the same price is known (--other-url)"
    UPFRONT = "no page is known that is settled before the site is asked"


@dataclass(frozen=True)
class Try:
    name: str
    run: Callable[[], Awaitable[Outcome]]
    needs: tuple[Need, ...] = ()


@dataclass(frozen=True)
class Attack:
    name: str
    group: int
    """Number of the group in the list of attacks: 1 finality … 10 injection."""
    about: str
    tries: Callable[["Scene"], Iterator[Try]]
    origins: frozenset[str] = frozenset({"plain"})
    """What of the kit it is run against: its origins (`kit.origin.KINDS`: `plain`, `path`, `host`, `framing`, `overrides`),
    the places for payments (`kit.market`: `market`, `chain`), and the stages (`kit.stages`: `leaks`, `cache`, `crowd`, `log`).
    Any other server counts as all.
    """
    alone: bool = False
    """Whether its tries run one after the other, with nothing else at the server."""


def held(exchanges: list[Exchange] | None = None) -> Outcome:
    return Outcome(Kind.HELD, exchanges=exchanges or [])


def leak(why: str, exchanges: list[Exchange]) -> Outcome:
    return Outcome(Kind.LEAK, why, exchanges)


def refused_though_paid(why: str, exchanges: list[Exchange]) -> Outcome:
    return Outcome(Kind.REFUSED, why, exchanges)


def inapplicable(why: str) -> Outcome:
    return Outcome(Kind.INAPPLICABLE, why)
