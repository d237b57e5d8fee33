"""Power cuts for the ledger in a file.

Reads what a workload did to its files (the output of strace), imagines that the power fails at many
places in it, builds for each what a disk may then hold, and has the ledger opened on that.

What a disk may hold: everything an fsync that had returned was called for; of what was written since,
any part, in any order, torn at sectors of 512 bytes; of names created or removed since the folder was
last synced, those up to any point. The file that only the running system shares (-shm) may hold
anything.
"""

import argparse
import os
import random
import re
import shutil
import subprocess
import sys

SECTOR = 512
LINE = re.compile(r"^(\d+) +(.*)$", re.S)
CALL = re.compile(r"^(\w+)\((.*)\) += (-?\d+|\?)(?:<(.*)>)?(?: .*)?$", re.S)
DESCRIPTOR = re.compile(r"^(\d+)<(.*?)>(?:\(deleted\))?$", re.S)
HEX = re.compile(r'"((?:\\x[0-9a-f]{2})*)"(\.\.\.)?')


def text_of(quoted):
    """The bytes of a string as strace -xx writes it."""
    match = HEX.fullmatch(quoted)
    if not match or match.group(2):
        sys.exit(f"strace shortened or wrote differently: {quoted[:80]}")
    return bytes.fromhex(match.group(1).replace("\\x", ""))


class Inode:
    """A file: what was done to it, in order, and up to where it was synced when."""

    def __init__(self):
        self.changes = []  # (event, "write", offset, bytes) or (event, "size", size)


class Trace:
    """What happened to the files of one folder."""

    def __init__(self, path, folder):
        self.folder = folder
        self.events = 0
        self.names = {}  # what the running system sees
        self.name_changes = []  # (event, name, inode or None)
        self.inodes = []
        self.syncs = []  # (returned, called, inode or None for the folder)
        self.lines = []  # (event, number of lines said so far)
        self.said = b""
        self.files = {}  # descriptors
        self.kinds = {}
        unfinished = {}
        with open(path, encoding="latin-1") as lines:
            for line in lines:
                process, rest = LINE.match(line.rstrip("\n")).groups()
                self.events += 1
                if rest.startswith(("---", "+++")):
                    continue
                if rest.endswith("<unfinished ...>"):
                    unfinished[process] = (self.events, rest[: -len("<unfinished ...>")].rstrip())
                    continue
                began = self.events
                if rest.startswith("<..."):
                    began, start = unfinished.pop(process)
                    rest = start + re.sub(r"^<\.\.\. \w+ resumed>", "", rest)
                self.call(rest, began)

    def call(self, text, began):
        match = CALL.match(text)
        if not match:
            sys.exit(f"not understood: {text[:200]}")
        name, arguments, result = match.group(1, 2, 3)
        self.kinds[name] = self.kinds.get(name, 0) + 1
        if result == "?" or int(result) < 0:
            return
        handler = getattr(self, "on_" + name, None)
        if handler is None:
            sys.exit(f"a call that is not known here: {text[:200]}")
        handler(arguments, int(result), began)

    def file(self, argument):
        """The inode a descriptor stands for, or None for what is of no interest."""
        match = DESCRIPTOR.match(argument)
        return self.files.get(int(match.group(1))) if match else None

    def inside(self, quoted):
        path = text_of(quoted).decode()
        return os.path.basename(path) if os.path.dirname(path) == self.folder else None

    def on_openat(self, arguments, result, _):
        parts = arguments.split(", ")
        path, flags = parts[1], parts[2]
        self.files.pop(result, None)
        if text_of(path).decode() == self.folder:
            self.files[result] = "folder"
            return
        name = self.inside(path)
        if name is None or name.endswith((".lock", "-shm")):
            return
        if name not in self.names:
            if "O_CREAT" not in flags:
                sys.exit(f"{name} was opened and never created")
            self.names[name] = Inode()
            self.inodes.append(self.names[name])
            self.name_changes.append((self.events, name, self.names[name]))
        self.files[result] = self.names[name]
        if "O_TRUNC" in flags:
            self.files[result].changes.append((self.events, "size", 0))

    def on_close(self, arguments, *_):
        self.files.pop(int(DESCRIPTOR.match(arguments).group(1)), None)

    def on_pwrite64(self, arguments, result, _):
        descriptor, quoted, length, offset = arguments.split(", ")
        inode = self.file(descriptor)
        if isinstance(inode, Inode):
            data = text_of(quoted)
            if not len(data) == int(length) == result:
                sys.exit("a write was cut short")
            inode.changes.append((self.events, "write", int(offset), data))

    def on_write(self, arguments, result, _):
        descriptor, quoted, _length = arguments.split(", ")
        if descriptor.startswith("1<"):
            self.said += text_of(quoted)[:result]
            self.lines.append((self.events, self.said.count(b"\n")))
        elif isinstance(self.file(descriptor), Inode):
            sys.exit("a write without an offset")

    def on_ftruncate(self, arguments, *_):
        descriptor, size = arguments.split(", ")
        inode = self.file(descriptor)
        if isinstance(inode, Inode):
            inode.changes.append((self.events, "size", int(size)))

    def on_fsync(self, arguments, _result, began):
        inode = self.file(arguments)
        if inode == "folder":
            self.syncs.append((self.events, began, None))
        elif inode is not None:
            self.syncs.append((self.events, began, inode))

    on_fdatasync = on_fsync

    def on_unlink(self, arguments, *_):
        name = self.inside(arguments)
        if name is not None and self.names.pop(name, None):
            self.name_changes.append((self.events, name, None))


def apply(content, change, random_state=None):
    """Makes a change to the content of a file; torn, where a source of randomness is given."""
    if change[1] == "size":
        size = change[2]
        del content[size:]
        content.extend(bytes(size - len(content)))
        return
    _, _, offset, data = change
    position = offset
    while position < offset + len(data):
        end = min((position // SECTOR + 1) * SECTOR, offset + len(data))
        if random_state is None or random_state.random() < 0.5:
            if len(content) < end:
                content.extend(bytes(end - len(content)))
            content[position:end] = data[position - offset : end - offset]
        position = end


class Disk:
    """What is certain to be on the disk, as the cut moves on through the trace."""

    def __init__(self, trace, believes_fsync=True):
        self.trace = trace
        self.believes_fsync = believes_fsync
        self.content = {inode: bytearray() for inode in trace.inodes}
        self.applied = {inode: 0 for inode in trace.inodes}
        self.names = {}
        self.named = 0
        self.synced = 0

    def advance(self, cut):
        trace = self.trace
        while self.synced < len(trace.syncs) and trace.syncs[self.synced][0] <= cut:
            _, called, inode = trace.syncs[self.synced]
            self.synced += 1
            if inode is None:
                while self.named < len(trace.name_changes) and trace.name_changes[self.named][0] < called:
                    self.rename(self.names, trace.name_changes[self.named])
                    self.named += 1
            elif self.believes_fsync:
                changes = inode.changes
                while self.applied[inode] < len(changes) and changes[self.applied[inode]][0] < called:
                    apply(self.content[inode], changes[self.applied[inode]])
                    self.applied[inode] += 1

    @staticmethod
    def rename(names, change):
        _, name, inode = change
        if inode is None:
            names.pop(name, None)
        else:
            names[name] = inode

    def build(self, cut, folder, source):
        """Writes what the disk may hold if the power fails right after event number `cut`."""
        shutil.rmtree(folder, ignore_errors=True)
        os.mkdir(folder)
        names = dict(self.names)
        pending = [change for change in self.trace.name_changes[self.named :] if change[0] <= cut]
        for change in pending[: source.randint(0, len(pending))]:
            self.rename(names, change)
        share = source.choice([0, 0.1, 0.5, 0.9, 1])
        in_order = source.random() < 0.3
        for name, inode in names.items():
            content = bytearray(self.content[inode])
            pending = [change for change in inode.changes[self.applied[inode] :] if change[0] <= cut]
            if in_order:
                whole = source.randint(0, len(pending))
                for change in pending[:whole]:
                    apply(content, change)
                for change in pending[whole : whole + 1]:
                    apply(content, change, source)
            else:
                for change in pending:
                    if share == 1:
                        apply(content, change)
                    elif source.random() < share:
                        apply(content, change, source if source.random() < 0.5 else None)
            with open(os.path.join(folder, name), "wb") as file:
                file.write(content)
        if source.random() < 0.3:
            with open(os.path.join(folder, "tollgate.db-shm"), "wb") as file:
                file.write(source.randbytes(32768))


def lines_before(trace, cut):
    count = 0
    for event, lines in trace.lines:
        if event > cut:
            break
        count = lines
    return count


def choose_cuts(trace, count, source):
    """Half anywhere, half right after something was promised."""
    promised = [event for event, _ in trace.lines]
    anywhere = [source.randint(1, trace.events) for _ in range(count // 2)]
    return sorted(anywhere + source.sample(promised, min(len(promised), count - len(anywhere))))


def cut_power(trace, cuts, arguments, source, believes_fsync=True):
    """Cuts the power at each place; returns what was lost where."""
    log = os.path.join(arguments.folder, "said.log")
    with open(log, "wb") as file:
        file.write(trace.said)
    command = [arguments.program, "check", log, str(arguments.seed)]
    checker = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    disk = Disk(trace, believes_fsync)
    lost = []
    for number, cut in enumerate(cuts):
        disk.advance(cut)
        folder = os.path.join(arguments.folder, f"cut-{number}")
        disk.build(cut, folder, source)
        # A ledger that is not there yet promises nothing; it must open all the same.
        checker.stdin.write(f"{folder} {lines_before(trace, cut)}\n")
        checker.stdin.flush()
        answer = checker.stdout.readline().strip()
        if answer != "kept":
            lost.append((cut, answer or "the checker ended"))
            if not answer:
                break
        shutil.rmtree(folder)
    checker.stdin.close()
    checker.wait()
    return lost


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("program")
    parser.add_argument("trace")
    parser.add_argument("traced_folder")
    parser.add_argument("folder")
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--cuts", type=int, default=300)
    arguments = parser.parse_args()
    source = random.Random(arguments.seed)
    trace = Trace(arguments.trace, arguments.traced_folder)
    log_syncs = sum(1 for _, _, inode in trace.syncs if inode is not None)
    print(f"{trace.events} calls, {log_syncs} fsyncs, {trace.said.count(b'done')} steps answered")
    restarts = sum(1 for inode in trace.inodes for change in inode.changes if change[1:3] == ("write", 0))
    print(f"first pages and log headers written {restarts} times")
    cuts = choose_cuts(trace, arguments.cuts, source)
    lost = cut_power(trace, cuts, arguments, source)
    for cut, what in lost[:10]:
        print(f"power cut after call {cut}: {what}")
    if lost:
        sys.exit(f"{len(lost)} of {len(cuts)} power cuts broke a promise (seed {arguments.seed})")
    print(f"{len(cuts)} power cuts, every promise kept")
    # The test itself is tested: on a disk that only pretends to sync, promises must break.
    few = [cut for cut in cuts if lines_before(trace, cut) > 20][:20]
    if not cut_power(trace, few, arguments, source, believes_fsync=False):
        sys.exit("a disk that ignores fsync went unnoticed: this test proves nothing")
    print("a disk that ignores fsync is noticed")


main()
