"""What a mutation is: a defence of tollgate, how it is switched off, and the rows of the suite that must notice."""

import re
from dataclasses import dataclass

VARIABLE = "TOLLGATE_SWITCHED_OFF"
"""Environment variable by which the copy is told what is off: names, with commas between."""
OFF = re.compile(r"\bOFF\b")


class Stale(Exception):
    """The list does not fit the source any more."""


@dataclass(frozen=True)
class Edit:
    """A place in the source, and what stands there instead.

    The replacement does what the original does, unless `OFF`, which becomes a call that says whether the mutation is
    switched on. All edits of all mutations are made in one copy.
    """

    file: str
    """Below `src`."""
    find: str
    """Stands exactly once in the file."""
    replace: str

    def written(self, name: str) -> str:
        """What is put there, for a mutation of a name."""
        return OFF.sub(f'crate::switched_off("{name}")', self.replace)


@dataclass(frozen=True)
class Mutation:
    """A defence, switched off."""

    name: str
    defence: str
    """What is off, in plain words."""
    edits: tuple[Edit, ...]
    rows: tuple[str, ...] = ()
    """Each of these must leak; none: something that other mutations have switched on beside themselves."""
    origins: tuple[str, ...] = ("plain",)
    """Where the rows are tried (`--origin`)."""
    beside: tuple[str, ...] = ()
    """What else is off: other layers that would hold, too. What leaks with these alone does not count."""
    shows: str = ""
    """A leak counts when this is found in its try's name."""
    matching: str = ""
    """Only such tries are made: for rows that take long (`--matching`)."""
    tries: float = 0.1
    alone: bool = False
    """Whether nothing else may run meanwhile, because time is measured."""

    @property
    def switches(self) -> tuple[str, ...]:
        return (self.name, *self.beside)


def check(mutations: list[Mutation], rows: set[str]) -> None:
    """Raises `Stale` for a list that cannot be right, whatever the source says."""
    names = [mutation.name for mutation in mutations]
    if double := {name for name in names if names.count(name) > 1}:
        raise Stale(f"mutations with the same name: {', '.join(sorted(double))}")
    for mutation in mutations:
        if unknown := set(mutation.beside) - set(names):
            raise Stale(f"{mutation.name}: no such mutations: {', '.join(sorted(unknown))}")
        if unknown := set(mutation.rows) - rows:
            raise Stale(f"{mutation.name}: the suite has no such rows: {', '.join(sorted(unknown))}")
    if unseen := rows - {row for mutation in mutations for row in mutation.rows}:
        raise Stale(f"rows that no mutation makes leak: {', '.join(sorted(unseen))}")


def check_page(mutations: list[Mutation], page: str) -> None:
    """Raises `Stale` unless the threat model has each mutation under the rows that must notice it, and under no others."""
    told = {(part.partition("`")[0], name) for part in page.split("\n**`")[1:]
            for list_ in re.findall(r"\n- mutations:(.*?)(?:\n- |\n\n|\Z)", part, re.DOTALL)
            for name in re.findall(r"`([^`]+)`", list_)}  # fmt: skip
    true = {(row, mutation.name) for mutation in mutations for row in mutation.rows}
    helpers = {mutation.name for mutation in mutations if not mutation.rows}
    wrong = (true - told) | {(row, name) for row, name in told - true if name not in helpers}
    if wrong:
        pairs = ", ".join(f"{name} under {row}" for row, name in sorted(wrong))
        raise Stale(f"THREATS.md and the list of mutations differ: {pairs}")


def applied(text: str, file: str, mutations: list[Mutation]) -> str:
    """The text of a file with all edits of it made."""
    found: list[tuple[int, Edit, str]] = []
    for mutation in mutations:
        for edit in mutation.edits:
            if edit.file != file:
                continue
            if (count := text.count(edit.find)) != 1:
                raise Stale(f"{mutation.name}: {edit.find!r} stands {count} times in src/{file}: this mutation is stale")
            found.append((text.index(edit.find), edit, mutation.name))
    found.sort(key=lambda each: each[0])
    written, end = "", 0
    for at, edit, name in found:
        if at < end:
            raise Stale(f"{name}: {edit.find!r} overlaps with another mutation in src/{file}")
        written += text[end:at] + edit.written(name)
        end = at + len(edit.find)
    return written + text[end:]
