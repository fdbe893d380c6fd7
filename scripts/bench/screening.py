"""Measure how many texts the screening reads a second, and how many public texts it drops.

python scripts/bench/screening.py FILE ...
"""

from __future__ import annotations

import argparse
import time
from itertools import islice

from pretext.config.settings import Screening
from pretext.screening.screen import Screen
from pretext.tables import Source, read_columns


def main() -> None:
    """Print a line for every file and every set of rules."""
    rules = {
        "lengths": Screening(identifiers=False),
        "and identifiers": Screening(),
        "and English": Screening(languages=("en",)),
    }
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("files", nargs="+", help="files of public texts with a column `text`")
    for location in parser.parse_args().files:
        rows = (text for batch in read_columns(Source(location), ["text"]) for text in batch["text"])
        texts = list(islice(rows, 20_000))
        for name, rule in rules.items():
            screen = Screen(rule)
            start = time.process_time()
            for text in texts:
                screen.keep(text)
            rate = len(texts) / (time.process_time() - start)
            print(f"{location}  {len(texts):,} texts  {name:<16} {rate:>9,.0f} texts/s  {dict(screen.dropped)}")


if __name__ == "__main__":
    main()
