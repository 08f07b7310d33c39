"""Medians, their intervals, limits and tables, for all measuring scripts.

The interval of a median is that of order statistics, which assumes no distribution. Of n independent rounds, the k-th smallest and the
k-th largest value enclose the true median with probability 1 - 2 * P(Binomial(n, 1/2) < k). k is the largest with 95 % or more, else 1.
Source: Conover, Practical Nonparametric Statistics, section 3.2.
"""

import json
import statistics
import sys
import traceback
from math import comb

from processes import CannotMeasure, tell

CONFIDENCE = 0.95


class Median:
    """The median of values, its interval, and the interval's confidence."""

    def __init__(self, values):
        self.values = sorted(values)
        n, k = len(self.values), 1
        while k + 1 <= n // 2 and coverage(n, k + 1) >= CONFIDENCE:
            k += 1
        self.middle = statistics.median(self.values)
        self.low, self.high, self.confidence = self.values[k - 1], self.values[n - k], coverage(n, k)

    def __str__(self):
        return f"{self.middle:.3f} [{self.low:.3f}, {self.high:.3f}]"

    def plain(self):
        return {"median": self.middle, "low": self.low, "high": self.high, "confidence": self.confidence, "values": self.values}


class Limits:
    """The limits that were exceeded."""

    def __init__(self):
        self.exceeded = []

    def check(self, what, value, limit, unit=""):
        """Compares a value with its limit, if there is one, and prints the result."""
        if limit is None:
            return
        holds = value <= limit
        if not holds:
            self.exceeded.append(what)
        print(f"{'holds   ' if holds else 'EXCEEDED'}  {what}: {value:,.3f}{unit}, limit {limit:,.3f}{unit}")


def coverage(n, k):
    """The probability that the k-th smallest and the k-th largest of n values enclose the median."""
    return max(0.0, 1 - 2 * sum(comb(n, i) for i in range(k)) / 2**n)


def named_limit(text):
    """Parses NAME=X of the command line."""
    name, limit = text.split("=")
    return name, float(limit)


def table(head, rows):
    """Prints an aligned Markdown table."""
    cells = [[str(cell) for cell in row] for row in [head, *rows]]
    widths = [max(map(len, column)) for column in zip(*cells)]
    for place, row in enumerate(cells):
        print("| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths)) + " |")
        if place == 0:
            print("|" + "|".join("-" * (width + 2) for width in widths) + "|")


def mib(size):
    return f"{size / 2**20:.1f}"


def run(measure, given):
    """Runs `measure`, which returns figures and limits. Exits with the code that all scripts share."""
    try:
        result, limits = measure(given)
    except CannotMeasure as reason:
        tell(f"could not measure: {reason}")
        sys.exit(2)
    except KeyboardInterrupt:
        tell("interrupted")
        sys.exit(2)
    except Exception:
        traceback.print_exc()
        sys.exit(2)  # 1 would mean that a limit is exceeded.
    if given.json:
        given.json.write_text(json.dumps(result, indent=1, default=lambda median: median.plain()) + "\n")
    sys.exit(1 if limits.exceeded else 0)
