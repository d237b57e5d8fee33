#!/usr/bin/env python3
"""Replaces corpora by inputs from them, and from what target/fuzz has, that reach the same places in the
fewest bytes: tests/fuzz/minimise.py [TARGET…]. Those that reach most for their size come first, and a
corpus takes no more than its share of the repository. Needs the programs that tests/fuzz/run.sh builds."""

import hashlib
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile

BYTES_MAX = 32_000

HERE = pathlib.Path(__file__).resolve().parent
TARGET = pathlib.Path(os.environ.get("CARGO_TARGET_DIR") or HERE.parent.parent / "target")


def reached(target, folders):
    """What each input reaches, by path, as libFuzzer tells it when it merges."""
    with tempfile.TemporaryDirectory() as scratch:
        control = pathlib.Path(scratch) / "control"
        empty = pathlib.Path(scratch) / "empty"
        empty.mkdir()
        command = [TARGET / "debug" / target, "-set_cover_merge=1", f"-merge_control_file={control}", "-use_counters=0",
                   "-max_len=4096", "-detect_leaks=0", empty, *folders]
        subprocess.run(command, check=True, stdin=subprocess.DEVNULL, capture_output=True)
        lines = control.read_text().splitlines()
    count = int(lines[0])
    paths, places = lines[2:2 + count], {}
    for line in lines[2 + count:]:
        kind, number, *found = line.split()
        if kind == "FT":
            places[paths[int(number)]] = {int(place) for place in found}
    return places


def least(places):
    left, chosen, size = set().union(*places.values()), [], 0
    sizes = {path: max(1, os.path.getsize(path)) for path in places}
    while left:
        best = max(sorted(places), key=lambda path: (len(places[path] & left) / sizes[path], -sizes[path]))
        gained = places.pop(best) & left
        if not gained:
            break
        if size + sizes[best] <= BYTES_MAX:
            chosen.append(best)
            size += sizes[best]
            left -= gained
    return chosen, size, len(left)


for target in sys.argv[1:] or sorted(path.stem for path in (HERE / "targets").glob("*.rs")):
    corpus, found = HERE / "corpus" / target, TARGET / "fuzz" / "corpus" / target
    for folder in (corpus, found):
        folder.mkdir(parents=True, exist_ok=True)
    chosen, size, missing = least(reached(target, [corpus, found]))
    inputs = [pathlib.Path(path).read_bytes() for path in chosen]
    shutil.rmtree(corpus)
    corpus.mkdir()
    for data in inputs:
        (corpus / hashlib.sha1(data).hexdigest()).write_bytes(data)
    print(f"{target:<10}  {len(inputs)} inputs, {size} bytes, {missing} places left out")
