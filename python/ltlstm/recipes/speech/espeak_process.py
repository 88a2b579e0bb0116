# SPDX-License-Identifier: Apache-2.0
"""espeak-ng behind a pipe: a script of its own that speaks one voice's sentences and ends.

espeak-ng is GPL-3, so it is loaded only here, in a process that imports nothing of this project
and nothing but the standard library (synthesis.py starts it by its path). It is also
the reason why output repeats: espeak-ng carries state from one utterance to the next, and only a
fresh process that speaks a fixed list in a fixed order, seeded, makes the same samples again.

standard input   one JSON object: library, data (a folder, or "" for the library's own),
                 and either "list": true, or voice, seed, sentences
standard output  list: one JSON line {version, variants}.  Otherwise for each sentence one JSON
                 line {rate (Hz), samples (count), phones [[position in samples, mnemonic], ...]}
                 and then the samples, 16-bit little-endian.
A failure is one line on standard error and exit status 1.
"""

from __future__ import annotations

import ctypes
import json
import os
import sys
from typing import Any, BinaryIO

SYNCHRONOUS = 2  # espeak_AUDIO_OUTPUT: samples go to the callback, nothing is played
PHONEME_EVENTS = 1  # mnemonics; with bit 2 (IPA) long names fill the 8 bytes and silence has none
DO_NOT_EXIT = 0x8000  # report missing data by a return code, not by ending the process
UTF8 = 1
BY_CHARACTER = 1
LIST_END, PHONEME = 0, 7  # espeak_EVENT_TYPE


class EventId(ctypes.Union):
    _fields_ = [("number", ctypes.c_int), ("name", ctypes.c_void_p), ("string", ctypes.c_char * 8)]


class Event(ctypes.Structure):
    _fields_ = [
        ("type", ctypes.c_int),
        ("unique_identifier", ctypes.c_uint),
        ("text_position", ctypes.c_int),
        ("length", ctypes.c_int),
        ("audio_position", ctypes.c_int),  # ms: too coarse, `sample` is exact
        ("sample", ctypes.c_int),
        ("user_data", ctypes.c_void_p),
        ("id", EventId),
    ]


SynthCallback = ctypes.CFUNCTYPE(
    ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.POINTER(Event)
)


def require(condition: bool, message: str) -> None:
    if not condition:
        sys.exit(f"espeak-ng: {message}")


def start(library: str, data: str) -> tuple[ctypes.CDLL, int]:
    """The loaded library and its sampling rate in Hz."""
    try:
        espeak = ctypes.CDLL(library)
        espeak.espeak_Info.restype = ctypes.c_char_p
        seed_function = espeak.espeak_ng_SetRandSeed
    except (OSError, AttributeError) as error:
        sys.exit(f"espeak-ng: {library} cannot be used: {error}")
    seed_function.argtypes = [ctypes.c_long]
    path = data.encode() if data else None
    rate = espeak.espeak_Initialize(SYNCHRONOUS, 0, path, PHONEME_EVENTS | DO_NOT_EXIT)
    require(rate > 0, f"no usable data in {data or 'its default folder'} (code {rate})")
    return espeak, rate


def list_variants(espeak: ctypes.CDLL) -> dict[str, Any]:
    path = ctypes.c_char_p()
    version = espeak.espeak_Info(ctypes.byref(path))
    folder = os.path.join(os.fsdecode(path.value or b""), "voices", "!v")
    variants = sorted(os.listdir(folder)) if os.path.isdir(folder) else []
    return {"version": version.decode(), "variants": variants}


def speak(espeak: ctypes.CDLL, rate: int, request: dict[str, Any], out: BinaryIO) -> None:
    espeak.espeak_ng_SetRandSeed(request["seed"])
    # A voice that is not there leaves the last one on, silently but for this code; of a variant
    # that is not there not even the code tells.
    variant = request["voice"].partition("+")[2]
    known = not variant or variant in list_variants(espeak)["variants"]
    require(known, f"no voice variant {variant!r}")
    code = espeak.espeak_SetVoiceByName(request["voice"].encode())
    require(code == 0, f"no voice {request['voice']!r} (code {code})")

    samples = bytearray()
    phones: list[tuple[int, str]] = []

    def receive(wave: Any, count: int, events: Any) -> int:
        if wave and count > 0:
            samples.extend(ctypes.string_at(wave, 2 * count))
        index = 0
        while events[index].type != LIST_END:
            if events[index].type == PHONEME:
                mnemonic = events[index].id.string.decode("utf-8", "replace")
                phones.append((events[index].sample, mnemonic))
            index += 1
        return 0

    callback = SynthCallback(receive)  # kept in a name: ctypes does not hold it
    espeak.espeak_SetSynthCallback(callback)
    for sentence in request["sentences"]:
        text = sentence.encode()
        samples.clear()
        phones.clear()
        code = espeak.espeak_Synth(text, len(text) + 1, 0, BY_CHARACTER, 0, UTF8, None, None)
        require(code == 0, f"cannot speak {sentence!r} (code {code})")
        code = espeak.espeak_Synchronize()
        require(code == 0, f"cannot finish {sentence!r} (code {code})")
        header = {"rate": rate, "samples": len(samples) // 2, "phones": phones}
        out.write(json.dumps(header).encode() + b"\n" + bytes(samples))


def main() -> None:
    request = json.loads(sys.stdin.read())
    espeak, rate = start(request["library"], request["data"])
    if request.get("list"):
        sys.stdout.write(json.dumps(list_variants(espeak)) + "\n")
    else:
        speak(espeak, rate, request, sys.stdout.buffer)


if __name__ == "__main__":
    main()
