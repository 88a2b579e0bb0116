# SPDX-License-Identifier: Apache-2.0
"""What is said of the wrong form of each case in cases/, and by which watcher.

`always`: whatever the schedule. `sometimes`: under one of the seeds at least. Where ThreadSanitizer
may see the same defect first, both texts count.
"""

from typing import NamedTuple

from emulator.defects import NUMBERS, RACE


class Report(NamedTuple):
    texts: dict[str, tuple[str, ...]]  # by watcher: one of these is said
    always: bool


def rule(*reports: str) -> Report:
    """A rule of the emulator, seen by every watcher whatever the schedule."""
    texts = tuple(f"emulator: {report}" for report in reports)
    return Report({"plain": texts, "memory": texts, "threads": (*texts, RACE)}, always=True)


def deadlock(why: str) -> Report:
    return rule(f"deadlock: {why}")


def results(threads: str = NUMBERS) -> Report:
    """The results are wrong under some seed; `threads` is what ThreadSanitizer makes of it."""
    return Report({"plain": (NUMBERS,), "memory": (NUMBERS,), "threads": (threads,)}, always=False)


def race() -> Report:
    return Report({"threads": (RACE,)}, always=True)


def memory(text: str) -> Report:
    return Report({"memory": (text,)}, always=True)


BLOCK = {
    "a missing barrier": results(RACE),
    "a missing barrier in a loop": results(RACE),
    "barriers at two places": rule("barrier 0: reached at line"),
    "a barrier after an exit": deadlock("all threads of a block wait for each other"),
    "a vote of the block": results(),
    "unwritten shared memory": results(),
    "more shared memory than launched": rule("shared_array: bytes 1920 to 2049"),
    "past a shared array": memory("AddressSanitizer: use-after-poison"),
    "past global memory": memory("AddressSanitizer: heap-buffer-overflow"),
    "a misaligned vector": memory("runtime error: member access within misaligned address"),
    "a shift past the width": memory("runtime error: shift exponent 32 is too large"),
}
WARP = {
    "a missing warp barrier": race(),
    "a shuffle without half the warp": deadlock("all threads of a block wait for each other"),
    "a shuffle from outside the mask": rule("a shuffle: lane"),
    "two instructions": rule("lanes of a warp meet at different instructions"),
    "overlapping masks": rule("lanes of a warp meet with the masks"),
    "values of the warp": results(),
    "a product of bfloat16, fragments swapped": results(),
    "a product of half, fragments swapped": results(),
    "a product, past the array": rule("ldmatrix: 16 bytes at shared array 0 + "),
    "a product, misaligned rows": rule("ldmatrix: the address"),
    "transposed tiles": results(),
}
COPIES = {
    "copies waited for too laxly": results(RACE),
    "copies of others with no barrier": results(RACE),
    "copies never waited for": rule("the thread ends with cp.async copies"),
    "a misaligned copy": rule("cp.async: the address"),
    "a copy into what others read": results(RACE),
    "a copy filled with zeros": results(),
}
GRID = {
    "a grid barrier that releases nothing": race(),
    "a grid barrier that acquires nothing": race(),
    "a grid barrier with no fence before": race(),
    "a grid barrier with no fence after": race(),
    "a grid barrier that adds plainly": race(),
    "a grid barrier for one thread only": results(RACE),
    "a grid barrier that one thread waits at": results(RACE),
    "a grid barrier for too many": deadlock("all threads poll and nothing changes"),
    "one buffer between blocks": results(RACE),
    "data as their own signal, loaded plainly": race(),
    "one word of two blocks": race(),
    "a wait that gives up": rule("the kernel trapped"),
    "a wait for blocks that have not begun": deadlock(
        "all threads poll and nothing changes; the launch is not cooperative"
    ),
}
CLUSTER = {
    "a store before the cluster has begun": rule("store_cluster: shared memory of block"),
    "a store published by a relaxed arrival": results(RACE),
    "a store past the array": rule("store_cluster: 4 bytes at shared array"),
    "a load published by a relaxed arrival": race(),
    "a load from a block that may have ended": rule("load_cluster: block"),
    "two arrivals at the cluster's barrier": rule("cluster_arrive: a second time"),
    "a wait with no arrival": rule("cluster_wait: with no cluster_arrive"),
    "a rank outside the cluster": rule("map_to_rank: rank 4 in a cluster of 4"),
    "a cluster's barrier of some blocks": deadlock("all threads poll and nothing changes"),
}
MBARRIER = {
    "arrivals not waited for": results(RACE),
    "an mbarrier never initialised": rule("mbarrier_arrive_cluster: no mbarrier was initialised"),
    "an mbarrier not fenced": rule("mbarrier_arrive_cluster: no fence_mbarrier_init"),
    "an mbarrier others do not know of": rule("mbarrier_arrive_cluster: no barrier of the cluster"),
    "an mbarrier for one thread too many": deadlock("all threads poll and nothing changes"),
    "a parity not flipped": rule("mbarrier_wait: a second time for phase 0"),
    "an mbarrier initialised twice": rule("mbarrier_init: it is initialised already"),
    "an arrival too many": rule("mbarrier_arrive: all 1 threads have arrived"),
    "an mbarrier written over": rule("mbarrier_"),
    "more bytes than an mbarrier counts": rule("an mbarrier: 1048576 bytes are more"),
    "an mbarrier used after its end": rule("mbarrier_"),
}
ASYNC = {
    "4-byte stores not waited for": rule("block"),
    "8-byte stores, too many bytes expected": deadlock("all threads poll and nothing changes"),
    "16-byte stores, too few bytes expected": rule(
        "store_async of block", "store_async: block", "block"
    ),
    "a store counted in another block": rule("store_async: the data go to rank"),
    "a misaligned asynchronous store": rule("store_async: the address"),
    "stores ahead of their phase": rule("store_async of block"),
    "bulk copies not waited for": rule("block"),
    "a bulk copy with no proxy fence": results(RACE),
    "a bulk copy with no barrier before": results(RACE),
    "a bulk copy whose source is reused": results(RACE),
    "a bulk copy whose source block ends": rule("block"),
    "a bulk copy of an odd size": rule("bulk_copy: 120 bytes, not a multiple of 16"),
}
STREAMS = {
    "a fork that does not wait": results(RACE),
    "a join that does not wait": results(RACE),
    "an event recorded too early": results(RACE),
    "a host that does not wait": results(RACE),
    "work that nobody waits for": rule("the process ends with 1 operations in streams"),
}
RULES = {**BLOCK, **WARP, **COPIES, **GRID, **CLUSTER, **MBARRIER, **ASYNC, **STREAMS}
