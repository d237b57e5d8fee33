"""Builds the copy of tollgate in which every mutation can be switched on."""

import os
import re
import subprocess
from pathlib import Path

from mutations.mutation import VARIABLE, Mutation, Stale, applied

ROOT = Path(__file__).resolve().parents[3]
BINARY = "tollgate-mutant"
SWITCH = f'''
/// Whether a defence is switched off, by name.
#[must_use]
pub fn switched_off(name: &str) -> bool {{
    static OFF: std::sync::OnceLock<Vec<String>> = std::sync::OnceLock::new();
    let read = || std::env::var("{VARIABLE}").unwrap_or_default().split(',').map(str::to_owned).collect();
    OFF.get_or_init(read).iter().any(|off| off == name)
}}
'''


def build(mutations: list[Mutation]) -> Path:
    """Copies the tree, makes all edits, and returns the binary; raises `Stale` where the list does not fit."""
    target = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")).resolve()
    copy = target / "mutants" / "source"
    _copy(copy, mutations)
    # The empty example has dev-dependencies take part, so that what `cargo test` has built is not built again.
    command = ["cargo", "build", "--locked", "--quiet", "--bin", BINARY, "--example", "nothing"]
    env = {**os.environ, "CARGO_TARGET_DIR": str(target)}
    done = subprocess.run(command, cwd=copy, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False)
    if done.returncode != 0:
        raise Stale(f"the copy in {copy} cannot be built:\n{done.stdout.decode(errors='replace')[-8000:]}")
    own = target / "debug" / "tollgate"
    if own.is_file() and VARIABLE.encode() in own.read_bytes():
        raise Stale(f"{own} is one with switches: cargo has taken the copy for the tree")
    return target / "debug" / BINARY


def _copy(copy: Path, mutations: list[Mutation]) -> None:
    """Writes what has changed since the last copy, and nothing else, so that cargo sees what it must build."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, stdout=subprocess.PIPE, check=True).stdout
    wanted = {name for name in listed.decode().split("\0") if name and (ROOT / name).is_file()}
    edited = {f"src/{edit.file}" for mutation in mutations for edit in mutation.edits}
    if missing := edited - wanted:
        raise Stale(f"no such source: {', '.join(sorted(missing))}")
    for name in wanted:
        data = (ROOT / name).read_bytes()
        if name in edited:
            data = applied(data.decode(), name.removeprefix("src/"), mutations).encode()
        if name == "src/lib.rs":
            data += SWITCH.encode()
        if name in ("Cargo.toml", "Cargo.lock"):
            data = _as_another(data.decode()).encode()
        _write(copy / name, data)
    _write(copy / "examples" / "nothing.rs", b"//! Nothing.\n\nfn main() {}\n")
    for old in copy.glob("src/**/*.rs"):
        if str(old.relative_to(copy)) not in wanted:
            old.unlink()


def _as_another(manifest: str) -> str:
    """The manifest, or the lock file, of another package: cargo tells packages of one folder for what it builds by name and
    version, and would take the copy for the tree. The binary has another name, so that each stays where it is.
    """
    changed, count = re.subn(r'(name = "tollgate"\nversion = ")([^"]+)"', r'\1\2-mutant"', manifest)
    if count != 1:
        raise Stale("Cargo.toml or Cargo.lock does not name the package and its version as expected")
    return re.sub(r'(\[\[bin\]\]\nname = )"tollgate"', rf'\1"{BINARY}"', changed)


def _write(path: Path, data: bytes) -> None:
    if path.is_file() and path.read_bytes() == data:
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
