# SPDX-License-Identifier: Apache-2.0
"""Defects to plant in a copy of the kernels, each with what the watcher must say of it."""

from pathlib import Path
from typing import NamedTuple

from sanitizers.planting import replace


class Symptom(NamedTuple):
    texts: tuple[str, ...]  # one of these is said, whichever comes first
    watcher: str  # the build that is linked against
    sanitizers: str  # what the changed source needs; a whole memory build of it takes long


DATA_RACE = "ThreadSanitizer: data race"
RACE = Symptom((DATA_RACE,), "threads", "thread")
# Where nobody waits, what is read too early may be wrong before it is reported as a race.
UNMET = Symptom((DATA_RACE, "FAILED: "), "threads", "thread")
# On a busy machine a piece of a gang may be late unasked, and then races with the one that works.
NOT_IDLE = Symptom(("FAILED: a late piece finds something to do", DATA_RACE), "threads", "thread")
# Past the end of a small block may lie one that was freed: then that is what is said.
OVERFLOW = Symptom(("ERROR: AddressSanitizer: heap-",), "memory", "address")
UNALIGNED = Symptom(("runtime error: load of misaligned address",), "memory", "address,alignment")
# Far past the end there may be any memory, or none.
WILD = Symptom(("ERROR: AddressSanitizer: ",), "memory", "address")


class Defect(NamedTuple):
    """The source under csrc/ in which occurrence `nth` of the text `old` becomes `new`."""

    source: str
    old: str
    new: str
    symptom: Symptom
    nth: int = 0
    of: int = 1  # occurrences, so that a new one is noticed
    part: str = "time_lane"  # of the driver, which shows it
    by_driver: bool = False  # it is the driver's own kernels that change, those of pairs

    @property
    def unit(self) -> str:
        """The name of the one source that has to be compiled again."""
        if self.by_driver or self.source == "cpu/gang.h":
            return "driver.cpp"
        return Path(self.source).name if self.source.endswith(".cpp") else "isa_generic.cpp"

    def plant(self, csrc: Path) -> None:
        replace(csrc / self.source, self.old, self.new, self.nth, self.of)


def without_meeting(nth: int) -> Defect:
    return Defect("cpu/time_lstm.h", " meet(part);", ";", UNMET, nth, of=4)


def without_meeting_of_gates(nth: int) -> Defect:
    return Defect("cpu/hidden_gate.h", " meet(part);", ";", UNMET, nth, 6, "hidden_gate")


DEFECTS = {
    "nobody meets": Defect("cpu/gang.cpp", "if (held == pieces_) return;", "return;", RACE),
    "a relaxed signal": Defect(
        "cpu/gang.cpp",
        "value_.store(value);",
        "value_.store(value, std::memory_order_relaxed);",
        RACE,
    ),
    "a meeting without the last piece": Defect(
        "cpu/gang.cpp",
        "for (int piece = 0; piece < pieces_;",
        "for (int piece = 0; piece + 1 < pieces_;",
        UNMET,
    ),
    "a late piece works": Defect(
        "cpu/gang.cpp", ": Share{0, 0};", ": Share{first, last};", NOT_IDLE
    ),
    "a relaxed look at a signal": Defect(
        "cpu/gang.h",
        "value_.load(std::memory_order_acquire)",
        "value_.load(std::memory_order_relaxed)",
        RACE,
        part="progress",
    ),
    "no meeting before the forward projection": without_meeting(0),
    "no meeting after a forward step": without_meeting(1),
    "no meeting before the backward projection": without_meeting(2),
    "no meeting before the backward product": without_meeting(3),
    "no meeting after the first layer of the gates": without_meeting_of_gates(0),
    "no meeting after a later layer": without_meeting_of_gates(1),
    "no meeting of whole gates": without_meeting_of_gates(2),
    "no meeting after a step of gates": without_meeting_of_gates(3),
    "no meeting before the backward of the gates": without_meeting_of_gates(4),
    "no meeting after a layer's backward": without_meeting_of_gates(5),
    "one state for all pieces of gates": Defect(
        "cpu/hidden_gate.h", "part.share.first * 2 * size", "0 * size", RACE, part="hidden_gate"
    ),
    "gates of the step before": Defect(
        "cpu/hidden_gate.h", "scanned % 2 * N", "0 * N", UNMET, part="hidden_gate"
    ),
    "inputs of all gates for each piece": Defect(
        "cpu/hidden_gate.h",
        "GateUnits{0, 1, first_layer.first, first_layer.last});\n  for",
        "GateUnits{0, 1, 0, 4 * K});\n  for",
        RACE,
        part="hidden_gate",
    ),
    "one gathered h for all pieces": Defect(
        "cpu/time_lstm.h", "part.share.first : 0) *", "0 : 0) *", RACE
    ),
    "units past the last": Defect(
        "cpu/time_lstm.h",
        "smaller(columns, r.last_block * T::kBlock)",
        "r.last_block * T::kBlock",
        OVERFLOW,
    ),
    "a step before the first": Defect(
        "cpu/time_lstm.h",
        "s.before >= 0 && n < seq.batch_sizes",
        "n < seq.batch_sizes",
        OVERFLOW,
    ),
    "sparse lines past the last unit": Defect(
        "cpu/sparse.h", "smaller(part.last - unit, kLanes)", "kLanes", OVERFLOW, part="sparse"
    ),
    "columns that no matrix has": Defect(
        "cpu/sparse_compile.cpp",
        "matrix.places[i] <= last;",
        "last < INT32_MAX;",
        WILD,
        part="sparse",
    ),
    "full vectors only": Defect("cpu/product.h", "smaller(left, T::kLanes)", "T::kLanes", OVERFLOW),
    "a dot product past its end": Defect("cpu/dot.h", "k + T::kLanes <= K", "k < K", OVERFLOW),
    "whole vectors of units only": Defect(
        "cpu/cell_rows.h", "j + kCount <= count;", "j < count;", OVERFLOW, part="cell_rows"
    ),
    "a lane past the vector": Defect(
        "cpu/vector.h", "j < count; ++j) to[j] = lanes", "j <= count; ++j) to[j] = lanes", OVERFLOW
    ),
    "a gate past the last of the inputs": Defect(
        "cpu/time_lstm.h", "column < 4 * p.H;", "column <= 4 * p.H;", OVERFLOW, part="inputs"
    ),
    "inputs of all units for each piece": Defect(
        "cpu/time_lstm.h",
        "int64_t column = units.first; column < 4 * p.H;",
        "int64_t column = 0; column < 4 * p.H;",
        RACE,
        part="inputs",
    ),
    "inputs of the next step": Defect(
        "cpu/time_lstm.h",
        "p.x + s.row * p.D",
        "p.x + (s.row + s.active) * p.D",
        OVERFLOW,
        part="inputs",
    ),
    "one rounded h for all pieces": Defect(
        "cpu/time_lstm.h",
        "p.rounded + place_of_rows(p, part) / 2",
        "p.rounded",
        RACE,
        part="pairs",
        by_driver=True,
    ),
    "the bias of all units for each piece": Defect(
        "cpu/pairs.h",
        "for (int64_t j = first; j < last; ++j) to[j] = widened(from[j]) + p.bias",
        "for (int64_t j = 0; j < H; ++j) to[j] = widened(from[j]) + p.bias",
        RACE,
        part="pairs",
        by_driver=True,
    ),
    "a pair past the last": Defect(
        "cpu/pairs.h", "k < pairs;", "k <= pairs;", OVERFLOW, part="pairs", by_driver=True
    ),
    "a pair as a number of four bytes": Defect(
        "cpu/product.h",
        "memcpy(to + k * T::kBlock + j, from + k * k_stride + j * j_stride, sizeof(scalar));",
        "to[k * T::kBlock + j] = from[k * k_stride + j * j_stride];",
        UNALIGNED,
        part="pairs",
    ),
}
