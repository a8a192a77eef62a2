"""Search for bytes that a peer without name can do harm with: one target for so many seconds.

`python tests/fuzz/campaign.py --target frames --seconds 60`. Prints inputs and ways of behaving;
`--keep` puts inputs that showed a new way into the corpus, as long as it is small.
"""

import argparse
import hashlib
import random
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "support"))

import trio
from fuzz_targets import CORPUS, TARGETS, seeds
from fuzzing import BugFound, Campaign

LARGEST = 20 * 1024
"""Bytes of corpus of one target."""
LONGEST = 700
"""Bytes of an input that is kept."""
MOST = 40
"""Inputs of one target."""


async def search(name: str, seed: int, inputs: int, seconds: float) -> Campaign:
    """BugFound when there is one."""
    async with TARGETS[name]() as target:
        campaign = Campaign(target, seeds(name), random.Random(seed))
        await campaign.run(inputs, seconds)
    return campaign


def keep(name: str, found: list[bytes]) -> None:
    folder = CORPUS / name
    folder.mkdir(parents=True, exist_ok=True)
    kept = [path.stat().st_size for path in folder.iterdir()]
    size, number = sum(kept), len(kept)
    short = [data for data in found if len(data) <= LONGEST]
    for data in short[:: max(1, len(short) // MOST)]:
        size, number = size + len(data), number + 1
        if size > LARGEST or number > MOST:
            return
        (folder / f"{hashlib.sha256(data).hexdigest()[:16]}.bin").write_bytes(data)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--target", choices=sorted(TARGETS), required=True)
    parser.add_argument("--seconds", type=float, default=1e9)
    parser.add_argument("--inputs", type=int, default=10**9)
    parser.add_argument("--seed", type=int, default=time.time_ns() & 0xFFFF)
    parser.add_argument("--keep", action="store_true")
    options = parser.parse_args()
    started = time.monotonic()
    try:
        campaign = trio.run(search, options.target, options.seed, options.inputs, options.seconds)
    except BugFound as error:
        print(f"{options.target} seed {options.seed}: {error}")
        return 1
    taken = time.monotonic() - started
    print(
        f"{options.target} seed {options.seed}: {campaign.tried} inputs in {taken:.0f} s,"
        f" {len(campaign.seen)} ways of behaving",
        flush=True,
    )
    if options.keep:
        keep(options.target, campaign.found)
    return 0


if __name__ == "__main__":
    sys.exit(main())
