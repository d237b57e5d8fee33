"""The attacks, in the order of the table. `core/attack.py` tells how one is written; a new one is a module and a line."""

from attacks import path_spelling

ALL = [
    path_spelling.ATTACK,
]
