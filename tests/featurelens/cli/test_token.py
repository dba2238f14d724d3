from __future__ import annotations

import json
import re
from hashlib import sha256

from tests.featurelens.conftest import Command


def test_makes_a_token_and_the_hash_that_the_server_knows(command: Command) -> None:
    ended = command("token")
    match = re.fullmatch(r"token   (\S{43})\nsha256  ([0-9a-f]{64})\n", ended.out)

    assert match
    assert sha256(match[1].encode()).hexdigest() == match[2]


def test_every_token_is_new(command: Command) -> None:
    made = [json.loads(command("token", "--output", "json").out) for _ in range(3)]

    assert len({each["token"] for each in made}) == len({each["sha256"] for each in made}) == 3
