"""Writes docs/evaluation.md and its pictures from labelled questions.

    make eval                                       all of it; under six minutes once the vectors are there
    python -m benchmarks.evaluation --only pairs    a part, on standard output

The questions are read from NEARHIT_DATA, else ../shared/data. Vectors are kept in data/vectors.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from benchmarks.evaluation.report import PARTS, opened, write

ROOT = Path(__file__).parents[2]
FILES = ("pairs_dev", "hard_negatives_dev", "categories_dev", "stream_dev")


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.evaluation", description=(__doc__ or "").split("\n")[0]
    )
    default = os.environ.get("NEARHIT_DATA") or ROOT.parent / "shared" / "data"
    parser.add_argument("--data", type=Path, default=Path(default), help="folder with the labelled questions")
    parser.add_argument("--docs", type=Path, default=ROOT / "docs", help="folder to write to")
    parser.add_argument("--only", action="append", choices=list(PARTS), help="print this part instead")
    options = parser.parse_args(arguments)
    if missing := [name for name in FILES if not (options.data / f"{name}.jsonl.gz").exists()]:
        print(
            f"evaluation: {options.data} has no {', '.join(f'{name}.jsonl.gz' for name in missing)}; "
            "name the folder of the labelled questions in NEARHIT_DATA or with --data",
            file=sys.stderr,
        )
        return 2
    bench = opened(options.data)
    if options.only:
        print("\n".join(PARTS[name](bench).text for name in options.only))
    else:
        write(bench, options.docs)
    return 0


if __name__ == "__main__":
    sys.exit(main())
