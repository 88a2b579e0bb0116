# SPDX-License-Identifier: Apache-2.0
"""Sentences to be spoken: a small English grammar over our own word list.

Reproducible on every Python: only `random.Random.random`, whose sequence the standard library
promises to keep, decides. No two sentences of one call are alike, so a list cut into parts gives
parts with no sentence in common.
"""

from __future__ import annotations

import random
import re

WORDS = {
    "NAME": """Anna Peter Judith Thomas Sarah George Michelle Victor Zoe Charlotte Hugh Yusuf
        Kathy Oliver Beth Walter Ingrid Joyce Raymond Chandra Louise Theo Fiona Quentin""",
    "PERSON": """teacher farmer doctor pilot neighbour captain painter child uncle judge singer
        stranger baker lawyer nurse soldier cousin driver student actor boy girl gardener
        engineer friend thief mother father shepherd watchmaker""",
    "ANIMAL": """dog horse fox blackbird mouse goat whale tiger rabbit donkey spider bear chicken
        owl lizard frog sheep wolf monkey pigeon""",
    "THING": """book jacket kettle window bridge letter engine chair table orange basket hammer
        violin candle ladder map bottle coin treasure vase wheel blanket telephone boat mirror
        cheese pillow brush sword bucket towel lantern oven umbrella notebook picture box shovel
        rope bell cup thread feather lamp puzzle badge machine curtain ship toy zipper yacht""",
    "PLACE": """harbour market village forest station river valley castle library museum beach
        office mountain tower field theatre airport island cellar desert school lake orchard
        factory railway garden kitchen church garage fountain""",
    "QUALITY": """quick old blue heavy strange gentle wooden empty bright silent yellow huge thin
        rough careful broken golden narrow cheap lazy shy purple noisy happy dangerous smooth
        curious fresh peculiar young royal loud thick major pure vague usual""",
    "DID": """bought carried opened watched followed measured painted repaired borrowed pushed
        found dropped noticed washed described chose caught forgot moved sold hid drew judged
        thanked visited searched joined refused enjoyed brought examined shook used""",
    "DO": """buy carry open watch follow measure paint repair borrow push find drop notice wash
        describe choose catch forget move sell hide draw judge visit search join refuse enjoy
        bring examine shake use""",
    "WENT": """walked ran jumped laughed waited slept shouted arrived vanished fell stood sang
        danced worked travelled turned""",
    "HOW": """slowly quietly yesterday again quickly together badly very_well at_noon by_chance
        with_pleasure early_this_morning last_Thursday without_a_word as_usual before_breakfast
        in_July after_the_storm""",
    "NEAR": "near behind above beside through under toward across inside beyond around past",
    "NUMBER": """two three four five six seven eight nine ten eleven twelve thirteen fifteen
        twenty thirty forty_five sixty""",
    "AND": "and but while because so",
    "WHO": "NAME the_PERSON the_QUALITY_PERSON my_ANIMAL the_ANIMAL our_QUALITY_ANIMAL",
    "WHAT": "the_THING the_QUALITY_THING NUMBER_QUALITY_THINGs this_THING NAME's_THING a_THING",
    "WHERE": "NEAR_the_PLACE NEAR_the_QUALITY_PLACE",
    "SENTENCE": """WHO_DID_WHAT_WHERE. WHO_WENT_HOW_WHERE. WHO_DID_WHAT,_AND_WHO_WENT_HOW.
        Did_WHO_DO_WHAT_WHERE? Please_DO_WHAT_HOW. WHERE,_WHO_DID_WHAT. Why_does_WHO_DO_WHAT?
        NUMBER_ANIMALs_WENT_WHERE. WHO_DID_WHAT_and_DID_WHAT. There_were_NUMBER_THINGs_WHERE.""",
}
CHOICES = {symbol: tuple(words.split()) for symbol, words in WORDS.items()}
SYMBOL = re.compile("|".join(sorted(CHOICES, key=len, reverse=True)))


def make_sentences(count: int, seed: int) -> list[str]:
    """`count` different sentences, the same for the same seed."""
    generator = random.Random(seed)
    made: dict[str, None] = {}  # a dict keeps the order, a set would not
    while len(made) < count:
        made[_expand("SENTENCE", generator)] = None
    return list(made)


def _expand(text: str, generator: random.Random) -> str:
    def pick(match: re.Match[str]) -> str:
        words = CHOICES[match.group()]
        return words[int(generator.random() * len(words))]

    while SYMBOL.search(text):
        text = SYMBOL.sub(pick, text)
    text = text.replace("_", " ")
    return text[0].upper() + text[1:]
