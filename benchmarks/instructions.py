"""Instructions per message of each stage, compared with `benchmarks/instructions.json`: `make instructions`.

Callgrind counts them: load and clock of the machine have no influence. If what runs has other versions than those that
the file was made with, the commit that changed the file last is counted here as well, and compared instead.
"""

import argparse
import io
import os
import platform
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import version
from pathlib import Path
from typing import Final

import msgspec

from benchmarks.counted_market import INPUTS, POLL
from benchmarks.instruction_counts import FILE, PAGE, Counts, failures, other_versions, read, table, with_counts, write

__all__ = ["PINNED", "ROOT", "count", "counted_in", "main"]

ROOT: Final = Path(__file__).resolve().parent.parent
LIBRARIES: Final = (
    "bytewax",
    "confluent-kafka",
    "llvmlite",
    "msgspec",
    "numba",
    "numpy",
    "pyarrow",
    "pyiceberg",
    "pydantic-core",
    "pyiceberg-core",
    "sqlalchemy",
)
CPU: Final = "x86-64-v3"
"""What the rules are compiled for, and what Valgrind shows to libraries that choose their code by the CPU."""
CPU_FLAGS: Final = frozenset({"avx2", "bmi1", "bmi2", "fma", "movbe", "abm", "f16c"})
PINNED: Final = {
    "PYTHONHASHSEED": "0",
    "NUMBA_CPU_NAME": CPU,
    "NUMBA_CPU_FEATURES": "",
    "NUMBA_NUM_THREADS": "1",
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    # The others give memory back at times of their own.
    "ARROW_DEFAULT_MEMORY_POOL": "system",
}
JOIN_NOTHING: Final = {"GLIBC_TUNABLES": "glibc.malloc.tcache_count=65535"}
"""Which freed blocks libc joins depends on how the threads of librdkafka alternate; a larger cache joins none."""
_DUMP: Final = re.compile(r"^desc: Trigger: Client Request: ([^\n]+)$.*?^totals: (\d+)", re.MULTILINE | re.DOTALL)


def main() -> None:
    """Count, and compare or update the file."""
    parser = argparse.ArgumentParser(prog="make instructions", description=__doc__)
    parser.add_argument("--update", action="store_true", help="make these counts the ones to compare with")
    parser.add_argument("--counts", action="store_true", help="print the counts as JSON, and compare nothing")
    arguments = parser.parse_args()
    lacking = _lacking()
    if lacking:
        print(f"instructions are not counted here: {lacking}")
        raise SystemExit(int(os.environ.get("CI") == "true"))
    if arguments.counts:
        print(msgspec.json.encode(count(ROOT)).decode())
    elif arguments.update:
        _update()
    else:
        _compare()


def _lacking() -> str | None:
    """Return what this machine lacks to count."""
    if shutil.which("valgrind") is None:
        return "no valgrind; install it (on Debian and Ubuntu: apt install valgrind)"
    if platform.machine() != "x86_64":
        return f"the machine is {platform.machine()}, and the requests to Valgrind are made for x86_64; run them there"
    flags = Path("/proc/cpuinfo").read_text(encoding="utf-8").split()
    if not CPU_FLAGS.issubset(flags):
        return f"the CPU lacks {', '.join(sorted(CPU_FLAGS.difference(flags)))}; use one of {CPU}"
    return None


def _versions() -> dict[str, str]:
    """Return the versions of all that runs or counts."""
    command = [shutil.which("valgrind") or "valgrind", "--version"]
    valgrind = subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    libraries = {name: version(name) for name in LIBRARIES}
    return {"python": sys.version, "libc": " ".join(platform.libc_ver()), "valgrind": valgrind, **libraries}


def count(root: Path) -> Counts:
    """Count all stages of the sources in a folder, with the libraries of this process."""
    with tempfile.TemporaryDirectory() as folder:
        # The rules are compiled outside of Valgrind, which takes fifty times as long.
        for module in ("counted_stages", "counted_poll"):
            _run(root, [sys.executable, "-m", f"benchmarks.{module}", folder])
        with ThreadPoolExecutor() as pool:
            stages = pool.submit(_run_counted, root, "counted_stages", Path(folder), PINNED)
            _run_counted(root, "counted_poll", Path(folder), PINNED | JOIN_NOTHING, "--separate-threads=yes")
            stages.result()
        counted = [*counted_in(Path(folder), "counted_poll"), *counted_in(Path(folder), "counted_stages")]
        return Counts(_versions(), {stage: _per_message(stage, instructions) for stage, instructions in counted})


def _run_counted(root: Path, module: str, folder: Path, environment: dict[str, str], *options: str) -> None:
    out = f"--callgrind-out-file={folder / module}"
    valgrind = ["valgrind", "--quiet", "--tool=callgrind", "--instr-atstart=no", out, *options]
    _run(root, [*valgrind, sys.executable, "-m", f"benchmarks.{module}", str(folder), "--count"], environment)


def _run(root: Path, command: list[str], environment: dict[str, str] = PINNED) -> None:
    """Run a process that finds the sources of a folder first."""
    own = {name: value for name, value in os.environ.items() if not name.startswith(("K2_", "NUMBA_", "PYTHON"))}
    cache = str(root / ".cache" / "instructions")
    done = subprocess.run(
        command,
        cwd=root,
        env=own | environment | {"NUMBA_CACHE_DIR": cache},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise SystemExit(f"{' '.join(command)} ended with {done.returncode}: {(done.stderr or done.stdout)[-2000:]}")


def counted_in(folder: Path, name: str) -> Iterator[tuple[str, int]]:
    """Yield what a process counted, in its order: name and instructions, from the files `NAME.1` and so on."""
    for path in sorted(folder.glob(f"{name}.*"), key=lambda path: int(path.suffix[1:].partition("-")[0])):
        found = _DUMP.search(path.read_text(encoding="utf-8", errors="replace"))
        if found is not None:
            yield found[1], int(found[2])


def _per_message(stage: str, instructions: int) -> float:
    counted = INPUTS[stage.partition(":")[0]]
    return round(instructions / (counted.poll_messages if stage == POLL else counted.messages), 1)


def _update() -> None:
    counted, reference = count(ROOT), read() if FILE.exists() else Counts({}, {})
    for difference in other_versions(reference, counted.versions):
        print(difference)
    write(counted)
    PAGE.write_text(with_counts(PAGE.read_text(encoding="utf-8"), counted.per_message), encoding="utf-8")
    print(table(reference.per_message, counted.per_message))
    print(f"{FILE.name} and the table of {PAGE.name} have these counts; commit both with the change")


def _compare() -> None:
    reference, origin = read(), str(FILE.relative_to(ROOT))
    differences = other_versions(reference, _versions())
    if not differences:
        counted = count(ROOT)
    else:
        commit = _last_commit()
        other = f"{origin} was counted with other versions ({'; '.join(differences)})"
        if not _git("diff", "--name-only", commit, "--"):
            print(f"{other}, and the sources are those of its commit {commit}: there is nothing to compare")
            return
        print(f"{other}, so its commit {commit} is counted here as well")
        origin = f"commit {commit}"
        # Side by side: each of them uses one core most of the time.
        with ThreadPoolExecutor() as pool:
            base = pool.submit(_count_commit, commit)
            counted = count(ROOT)
            reference = base.result()
    print(table(reference.per_message, counted.per_message))
    found = list(failures(reference.per_message, counted.per_message, origin))
    for complaint in found:
        print(complaint)
    if found:
        raise SystemExit(1)


def _last_commit() -> str:
    """Return the last commit that changed the file: its sources have the counts of the file."""
    if _git("rev-parse", "--is-shallow-repository").strip() == b"true":
        raise SystemExit(
            f"{FILE.relative_to(ROOT)} was counted with other versions, and this clone lacks the history that its "
            "commit is in; fetch it with `git fetch --unshallow`"
        )
    return _git("log", "-1", "--format=%h", "--", str(FILE)).decode().strip()


def _count_commit(commit: str) -> Counts:
    with tempfile.TemporaryDirectory() as folder:
        with tarfile.open(fileobj=io.BytesIO(_git("archive", commit))) as archive:
            archive.extractall(folder, filter="data")
        return count(Path(folder))


def _git(*arguments: str) -> bytes:
    # Owned by another user in a container, which git refuses without this.
    command = ["git", "-c", f"safe.directory={ROOT}", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, check=True).stdout


if __name__ == "__main__":
    main()
