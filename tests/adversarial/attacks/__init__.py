"""The attacks, in the order of the table. `core/attack.py` tells how one is written; a new one is a module and a line."""

from attacks import (
    connections,
    hosts,
    malformed,
    methods,
    overrides,
    path_spelling,
    smuggling,
    smuggling_h2,
    spoofing,
    targets,
    upgrades,
    wrong_fields,
)

ALL = [
    path_spelling.ATTACK,
    targets.ATTACK,
    hosts.ATTACK,
    methods.ATTACK,
    overrides.ATTACK,
    smuggling.ATTACK,
    smuggling_h2.ATTACK,
    connections.ATTACK,
    spoofing.ATTACK,
    wrong_fields.ATTACK,
    malformed.ATTACK,
    upgrades.ATTACK,
]
