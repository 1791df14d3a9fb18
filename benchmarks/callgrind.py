"""Requests of a process to the Valgrind that runs it: which instructions are counted, and under which name."""

import ctypes
from collections.abc import Callable
from typing import Any, Final

import llvmlite.binding
import numba
import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

__all__ = ["CallgrindCounter", "Counter"]

# Numbers of requests in valgrind.h and callgrind.h.
_RUNNING_ON_VALGRIND: Final = 0x1001
_CALLGRIND: Final = (ord("C") << 24) | (ord("T") << 16)
_ZERO_STATS: Final = _CALLGRIND + 1
_DUMP_STATS_AT: Final = _CALLGRIND + 3
_START_INSTRUMENTATION: Final = _CALLGRIND + 4
_STOP_INSTRUMENTATION: Final = _CALLGRIND + 5

_SEQUENCE: Final = "rolq $$3, %rdi\nrolq $$13, %rdi\nrolq $$61, %rdi\nrolq $$51, %rdi\nxchgq %rbx, %rbx"
"""What valgrind.h has for x86-64: instructions that change nothing, and that Valgrind takes for a request."""


@intrinsic  # type: ignore[untyped-decorator]
def _send(_context: Any, _address: Any) -> Any:
    """Send the request of six words at an address; 0 if no Valgrind runs the process."""

    def codegen(_context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        word = ir.IntType(64)
        called = ir.FunctionType(word, [word, word])
        constraint = "={rdx},{rdx},{rax},~{memory},~{cc}"
        return builder.asm(called, _SEQUENCE, constraint, [ir.Constant(word, 0), arguments[0]], side_effect=True)

    return types.int64(types.uint64), codegen


def _sent(address: int) -> int:
    return int(_send(address))


class Counter:
    """Counts nothing."""

    def begin(self) -> None:
        """Count from here."""

    def end(self, name: str) -> None:
        """Report what was counted since `begin` under a name, and count no further."""


class CallgrindCounter(Counter):
    """Counts instructions in a process of Callgrind with `--instr-atstart=no`, which writes a file for each name."""

    def __init__(self) -> None:
        """Prepare the requests.

        Raises:
            RuntimeError: no Valgrind runs the process.
        """
        llvmlite.binding.initialize_native_asmparser()
        self._words = np.zeros(6, dtype=np.uint64)
        self._address = self._words.ctypes.data
        self._send: Callable[[int], int] = numba.njit(types.int64(types.uint64))(_sent)
        if not self._request(_RUNNING_ON_VALGRIND):
            raise RuntimeError("no Valgrind runs this process; run `make instructions`")

    def begin(self) -> None:
        """Count from here; what was counted before and not reported is dropped."""
        self._request(_START_INSTRUMENTATION)
        self._request(_ZERO_STATS)

    def end(self, name: str) -> None:
        """Report what was counted since `begin` under a name, and count no further."""
        text = ctypes.create_string_buffer(name.encode())
        self._request(_DUMP_STATS_AT, ctypes.addressof(text))
        self._request(_STOP_INSTRUMENTATION)

    def _request(self, code: int, argument: int = 0) -> int:
        self._words[:2] = code, argument
        return self._send(self._address)
