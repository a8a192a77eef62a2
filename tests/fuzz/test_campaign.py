"""A short slice of the search of `campaign.py`, the same in each run, and what it once found."""

import logging
import random

import pytest
from fuzz_targets import CORPUS, TARGETS, seeds
from fuzzing import BugFound, Campaign, complaints, mutated

INPUTS = {
    "frames": 8000,
    "sasl": 1500,
    "auth": 3000,
    "admin": 5000,
    "http": 2000,
    "tls": 1000,
    "cutter": 8000,
}
FOUND = {
    "http": [
        # A key that is not UTF-8 was a bug of ours in the eyes of the endpoint.
        (
            b"POST /control/clock HTTP/1.1\r\nHost: localhost\r\n"
            b'Content-Type: application/json\r\nContent-Length: 9\r\n\r\n{"o\xff": 1}'
        ),
        # Python refuses to read numbers of so many digits.
        b"GET /transcript?after=" + b"9" * 5000 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n",
    ],
}


def test_each_target_has_its_slice() -> None:
    assert INPUTS.keys() == TARGETS.keys()


@pytest.mark.parametrize("name", sorted(INPUTS))
async def test_nothing_escapes(name: str) -> None:
    async with TARGETS[name]() as target:
        campaign = Campaign(target, seeds(name), random.Random(1))
        await campaign.run(INPUTS[name])
    assert campaign.tried == INPUTS[name]
    assert len(campaign.seen) > 1


@pytest.mark.parametrize("name", sorted(FOUND))
async def test_what_was_found_is_harmless(name: str) -> None:
    async with TARGETS[name]() as target:
        for data in FOUND[name]:
            await Campaign(target, []).probe(data)


async def test_what_escapes_is_told_with_its_input() -> None:
    async def target(data: bytes) -> None:
        raise KeyError(data)

    with pytest.raises(BugFound, match="KeyError") as told:
        await Campaign(target, [b"seed"]).run(1)
    assert told.value.data == b"seed"


def test_mutations_differ_and_repeat() -> None:
    def made() -> list[bytes]:
        rng = random.Random(3)
        return [mutated(rng, [b"a" * 40, b"b" * 40]) for _ in range(200)]

    assert made() == made()
    assert len(set(made())) > 150


def test_complaints_are_heard() -> None:
    with complaints() as heard:
        logging.getLogger("virtbackupd.server.http").error("a bug of ours")
        logging.getLogger("virtbackupd.server.http").warning("a peer's fault")
    assert heard == ["a bug of ours: None"]


def test_corpus_is_small() -> None:
    assert sum(path.stat().st_size for path in CORPUS.rglob("*.bin")) < 200 * 1024
