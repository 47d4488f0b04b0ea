"""Functions over bytes that are compiled to machine code, and what they are given."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Final, TypeVar, cast

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.core import cgutils
from numba.extending import intrinsic
from numpy.typing import NDArray

F = TypeVar("F", bound=Callable[..., Any])
Bytes = NDArray[np.uint8]
Ints = NDArray[np.int64]
Small = NDArray[np.int32]
Address = Any
"""Of items of an array, within compiled functions."""

int64 = cast(Callable[[Any], int], np.int64)
"""Makes any number one of 64 bits, in compiled functions."""

AHEAD: Final = 32
"""Bytes that are looked at, at most, behind where a row ends."""


def bytes_of(parts: Iterable[bytes | memoryview]) -> Bytes:
    """Return byte strings one behind the other, and `AHEAD` bytes behind them."""
    return np.frombuffer(bytearray().join([*parts, bytes(AHEAD)]), np.uint8)


U1, U1X2 = types.Array(types.uint8, 1, "C"), types.Array(types.uint8, 2, "C")
I4 = types.Array(types.int32, 1, "C")
I8, I8X2 = types.Array(types.int64, 1, "C"), types.Array(types.int64, 2, "C")


def _instruction(function: Callable[..., Any]) -> Callable[..., Any]:
    """Make what writes LLVM's instructions a function that compiled functions can call."""
    made: Callable[..., Any] = intrinsic(function)
    return made


@_instruction
def address(typing: Any, array: Any) -> Any:
    """Return where an array's items are: handing that on costs less than handing on the array.

    It lives no longer than the array. ``address(array)[i]`` is the item i, row by row.
    """

    def make(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return context.make_array(signature.args[0])(context, builder, args[0]).data

    of: Any = types.CPointer
    return of(array.dtype)(array), make


@_instruction
def beyond(typing: Any, data: Any, at: Any) -> Any:
    """Return the address of an item of an address."""

    def make(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.gep(args[0], [args[1]])

    return data(data, types.int64), make


@_instruction
def word(typing: Any, data: Any, at: Any) -> Any:
    """Return the 8 bytes that begin at one of an address, little-endian."""

    def make(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        place = builder.bitcast(builder.gep(args[0], [args[1]]), ir.IntType(64).as_pointer())
        return builder.load(place, align=1)

    return types.uint64(data, types.int64), make


@_instruction
def put_word(typing: Any, data: Any, at: Any, value: Any) -> Any:
    """Write 8 bytes from one of an address on, little-endian."""

    def make(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        place = builder.bitcast(builder.gep(args[0], [args[1]]), ir.IntType(64).as_pointer())
        builder.store(args[2], place, align=1)
        return context.get_dummy_value()

    return types.void(data, types.int64, types.uint64), make


@_instruction
def fetch(typing: Any, data: Any, at: Any) -> Any:
    """Have the bytes at one of an address brought into the caches, and do not wait for them."""

    def make(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        place, flag = builder.gep(args[0], [args[1]]), ir.IntType(32)
        takes = ir.FunctionType(ir.VoidType(), [place.type, flag, flag, flag])
        prefetch = builder.module.declare_intrinsic("llvm.prefetch", [place.type], takes)
        read, keep, of_data = flag(0), flag(3), flag(1)
        builder.call(prefetch, [place, read, keep, of_data])
        return context.get_dummy_value()

    return types.void(data, types.int64), make


@_instruction
def swapped(typing: Any, value: Any) -> Any:
    """Return the 8 bytes of a word in the other order."""

    def make(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.bswap(args[0])

    return types.uint64(types.uint64), make


@_instruction
def move(typing: Any, to: Any, at: Any, source: Any, start: Any, size: Any) -> Any:
    """Copy so many bytes from one address to another."""

    def make(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        into, out_of = builder.gep(args[0], [args[1]]), builder.gep(args[2], [args[3]])
        copy: Any = cgutils.raw_memcpy
        copy(builder, into, out_of, args[4], 1, align=1)
        return context.get_dummy_value()

    number = types.int64
    return types.void(to, number, source, number, number), make


def compiled(returns: Any, *takes: Any) -> Callable[[F], F]:
    """Compile a function for these types when its module is imported, or take what is kept.

    What was compiled is kept beside the module, else in the user's cache (``NUMBA_CACHE_DIR`` names
    another place), until the module's file changes; where nothing can be written, every process
    compiles for some seconds. So all that a compiled function calls must be in its own file.
    """

    def compile_(function: F) -> F:
        try:
            made = njit(returns(*takes), cache=True, nogil=True)(function)
        except RuntimeError:  # nowhere to keep it
            made = njit(returns(*takes), nogil=True)(function)
        return cast(F, made)

    return compile_


def part(function: F) -> F:
    """Make a function a part of the compiled ones of its file that call it."""
    return cast(F, njit(nogil=True)(function))
