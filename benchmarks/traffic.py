"""Questions as people ask them, in any number and all different, and the requests that carry them."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator

ASKED = "How do I"
ASKED_AGAIN = (
    "How can I",
    "How could I",
    "How would I",
    "How should I",
    "How do you",
    "How can you",
    "Please tell me how I",
    "Tell me how to",
    "Explain how to",
    "Can you tell me how to",
    "What is the best way to",
    "I would like to know how to",
)
"""In other words, which the packaged categories take for the same question."""


def _words(text: str) -> list[str]:
    return text.split()


_VERBS = _words("""
    clean repair paint carry label store fold polish measure sharpen replace decorate insulate
    photograph sterilise ship auction catalogue weigh restore varnish disinfect engrave waterproof hide
    dismantle glue balance lubricate calibrate soften stack rent insure import inspect
""")
_NOUNS = _words("""
    kettle bicycle violin curtain ladder greenhouse saddle lantern carpet aquarium chimney trumpet tent
    microscope hammock fountain accordion mirror fence sculpture typewriter canoe telescope mattress
    orchard teapot umbrella staircase piano sailboat thermometer wardrobe tractor mosaic beehive
    snowboard bathtub projector windmill chandelier parachute sledge oven turntable harp terrarium
    lawnmower printer drone wheelbarrow sauna jukebox pottery-wheel tapestry doorbell compass cradle
    skateboard tiara radiator mailbox hourglass cello dehydrator loom flute helmet rowing-machine
    bookcase stove
""")
_ADJECTIVES = _words("""
    wooden rusty inherited leaking enormous broken plastic antique muddy silver frozen borrowed dusty
    fragile electric Japanese handmade cracked square portable noisy velvet concrete transparent
""")
_PLACES = _words("""
    cellar attic garage balcony museum school workshop hotel hospital farm lighthouse church theatre
    library bakery station caravan monastery harbour laboratory gymnasium prison vineyard cinema
""")


def topics(seed: int) -> Iterator[str]:
    """What questions are about, without end and without two alike."""
    dice = random.Random(seed)
    seen = set()
    while True:
        pick = dice.choice
        first, second = dice.sample(_NOUNS, 2)
        topic = (
            f"{pick(_VERBS)} the {pick(_ADJECTIVES)} {first} that stands beside"
            f" the {pick(_ADJECTIVES)} {second} in our {pick(_PLACES)}"
        )
        if topic not in seen:
            seen.add(topic)
            yield topic


def questions(seed: int) -> Iterator[str]:
    return (f"{ASKED} {topic}?" for topic in topics(seed))


def chat(question: str, caller: str, stream: bool = False, path: str = "/v1/chat/completions") -> bytes:
    """A chat completion as an SDK asks for one, ready to be sent."""
    members = {
        "model": "gpt-4o-mini",
        "messages": [
            {"role": "system", "content": "You are a helpful assistant."},
            {"role": "user", "content": question},
        ],
        **({"stream": True} if stream else {}),
    }
    body = json.dumps(members).encode()
    head = (
        f"POST {path} HTTP/1.1\r\n"
        "Host: 127.0.0.1\r\n"
        "Accept: application/json\r\n"
        "Content-Type: application/json\r\n"
        "User-Agent: OpenAI/Python 1.109.1\r\n"
        f"Authorization: Bearer {caller}\r\n"
        f"Content-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body
