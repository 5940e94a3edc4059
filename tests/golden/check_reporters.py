#!/usr/bin/env python3
"""Reads a run's event files with TensorBoard's own reader and compares them with log.jsonl and log.csv.

    python3 check_reporters.py FOLDER     (needs tensorboard)

FOLDER holds log.jsonl, log.csv and events/ as the last case of tests/trainer/test_reporters.cpp writes
them: a run to step 90 that was resumed at step 60 and went on to 150.
"""
import csv
import json
import math
import sys
from pathlib import Path

from tensorboard.backend.event_processing.event_accumulator import EventAccumulator


def grouped(key):
    for prefix in ("eval", "test"):
        if key.startswith(prefix + "_"):
            return prefix + "/" + key[len(prefix) + 1:]
    return "train/" + key


def expected_scalars(rows):
    """tag -> [(step, value)] of all numbers in log.jsonl."""
    scalars = {}
    for row in rows:
        for key, value in row.items():
            if key != "step":
                scalars.setdefault(grouped(key), []).append((row["step"], value))
    return scalars


def compare(accumulator, scalars):
    tags = set(accumulator.Tags()["scalars"])
    if tags != set(scalars):
        sys.exit(f"tags differ: TensorBoard has {sorted(tags)}, log.jsonl {sorted(scalars)}")
    worst, count = 0.0, 0
    for tag, points in scalars.items():
        events = accumulator.Scalars(tag)
        if [event.step for event in events] != [step for step, _ in points]:
            sys.exit(f"the steps of {tag} differ: {[event.step for event in events]}")
        for event, (_, value) in zip(events, points):
            worst = max(worst, abs(event.value - value) / max(abs(value), 1e-3))
            count += 1
    return worst, count


def main():
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    folder = Path(sys.argv[1])
    rows = [json.loads(line) for line in (folder / "log.jsonl").open()]
    accumulator = EventAccumulator(str(folder / "events"), size_guidance={"scalars": 0, "tensors": 0})
    accumulator.Reload()
    worst, count = compare(accumulator, expected_scalars(rows))
    print(f"{count} scalars of {len(rows)} rows differ by {worst:.1e} relative")

    text = accumulator.Tensors("args/text_summary")[0].tensor_proto.string_val[0]
    print(f"args/text_summary: JSON of {len(json.loads(text))} arguments")

    with (folder / "log.csv").open(newline="") as file:
        table = [{key: float(value) for key, value in row.items() if value} for row in csv.DictReader(file)]
    if table != rows:
        sys.exit("log.csv and log.jsonl differ")
    print(f"log.csv: the same {len(table)} rows")
    if not math.isfinite(worst) or worst > 1e-7:
        sys.exit("that is too much: rounding to f32 is at most 6e-8")


if __name__ == "__main__":
    main()
