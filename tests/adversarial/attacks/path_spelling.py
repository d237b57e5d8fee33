"""Other spellings of a priced path.

The server decides by the path what a request costs, and the site decides by the path what it answers. Where the two read
the same bytes differently, the page comes back unpaid: `/vault/%72isk`, `//vault/risk`, `/vault;x/risk`, and hundreds more,
against sites of different habits, over every version of HTTP.
"""

from collections.abc import Iterator

from core.attack import Attack, Try
from core.scene import Scene
from core.spellings import spellings
from core.target import WAYS, Way

EACH_WAY = 320
"""Spellings that are tried over each version of HTTP; over HTTP/1.1 all are."""


def tries(scene: Scene) -> Iterator[Try]:
    every = spellings(scene.target.path)
    for way in WAYS:
        for path in scene.sampled(every, len(every) if way is Way.HTTP11 else EACH_WAY):
            yield scene.unpaid(f"{way.value} {path!r}", way, path)


ATTACK = Attack("path-spelling", 5, "a priced path spelled otherwise", tries, origins=frozenset({"plain", "path"}))
