"""Writes cases.json: gradients of twelve degenerate kinds, 25 each, and the exact directions of three rules.

    python make.py

Rows are written as f64 and read back as fractions: every figure is exact until the last one, which is rounded to 12 digits. A
rule's programme is solved by trying every set of free coordinates and checking the conditions of Karush, Kuhn and Tucker; the
direction, unlike the weights, is unique where rows depend on each other.
"""
import itertools
import json
import pathlib
import random
from fractions import Fraction

KINDS = ["random", "conflicting", "nearly parallel", "opposite", "nearly opposite", "scales 1e±3", "scales 1e-8…1e6",
         "all tiny", "all huge", "duplicates", "zero rows", "rank-deficient"]


def rows_of(rng, kind, case):
    k, n = 2 + case % 4, 5
    draw = lambda n=n: [rng.gauss(0, 1) for _ in range(n)]
    rows = [draw() for _ in range(k)]
    shared = draw()
    plus = lambda a, b, s=1.0: [x + s * y for x, y in zip(a, b)]
    times = lambda a, s: [s * x for x in a]
    if kind == "conflicting":
        rows = [plus(times(r, 0.5), shared, 1.0 if i % 2 else -1.0) for i, r in enumerate(rows)]
    if kind in ("nearly parallel", "nearly opposite"):
        apart = 10.0 ** -rng.uniform(2, 6)
        turned = kind == "nearly opposite"
        rows = [plus(times(shared, -1.0 if turned and i % 2 else 1.0), r, apart) for i, r in enumerate(rows)]
    if kind == "opposite":
        rows[-1] = times(rows[0], -1.0)
    if kind == "scales 1e±3":
        rows = [times(r, 10.0 ** rng.uniform(-3, 3)) for r in rows]
    if kind == "scales 1e-8…1e6":
        ends = [1e-8, 1e6] + [10.0 ** rng.uniform(-8, 6) for _ in rows]
        rows = [times(r, s) for r, s in zip(rows, ends)]
    if kind == "all tiny":
        rows = [times(r, 1e-30) for r in rows]
    if kind == "all huge":
        rows = [times(r, 1e30) for r in rows]
    if kind == "duplicates":
        rows = [list(rows[i // 2]) for i in range(k)]
        rows[-1] = times(rows[-1], rng.choice([1.0, 3.0]))
    # Few digits, so that rows that are the same but for their sign stay that.
    rows = [[float(f"{v:.10g}" if "nearly" in kind else f"{v:.6g}") for v in r] for r in rows]
    if kind == "rank-deficient":
        # Written as whole numbers, so that the dependence is exact.
        whole = [[rng.randint(-9, 9) for _ in range(n)] for _ in range(max(1, k - 2))]
        mixes = [[rng.choice([-3, -2, -1, 1, 2, 3]) for _ in whole] for _ in range(k)]
        rows = [[float(sum(c * b[j] for c, b in zip(mix, whole))) for j in range(n)] for mix in mixes]
    if kind == "zero rows":
        rows[rng.randrange(k)] = [0.0] * n
    return rows


def solve(a, b):
    """The solution of a square system of fractions, or None."""
    n = len(b)
    m = [list(row) + [v] for row, v in zip(a, b)]
    for c in range(n):
        pivot = next((r for r in range(c, n) if m[r][c] != 0), None)
        if pivot is None:
            return None
        m[c], m[pivot] = m[pivot], m[c]
        for r in range(n):
            if r != c and m[r][c] != 0:
                f = m[r][c] / m[c][c]
                m[r] = [x - f * y for x, y in zip(m[r], m[c])]
    return [m[i][n] / m[i][i] for i in range(n)]


def sets(k):
    return itertools.chain.from_iterable(itertools.combinations(range(k), size) for size in range(k + 1))


def projected(g, start):
    """Weights v ≥ start that minimise vᵀGv."""
    k = len(g)
    for free in sets(k):
        right = [-sum(g[i][j] * start[j] for j in range(k)) for i in free]
        added = solve([[g[i][j] for j in free] for i in free], right)
        if added is None or any(a < 0 for a in added):
            continue
        v = list(start)
        for i, a in zip(free, added):
            v[i] += a
        if all(sum(g[i][j] * v[j] for j in range(k)) >= 0 for i in range(k)):
            return v
    raise ValueError("no minimum")


def shortest(g):
    k = len(g)
    for free in sets(k):
        n = len(free)
        if n == 0:
            continue
        bordered = [[g[i][j] for j in free] + [Fraction(1)] for i in free] + [[Fraction(1)] * n + [Fraction(0)]]
        x = solve(bordered, [Fraction(0)] * n + [Fraction(1)])
        if x is None or any(a < 0 for a in x[:n]):
            continue
        v = [Fraction(0)] * k
        for i, a in zip(free, x):
            v[i] = a
        slopes = [sum(g[i][j] * v[j] for j in range(k)) for i in range(k)]
        if min(slopes) >= sum(s * a for s, a in zip(slopes, v)):
            return v
    raise ValueError("no minimum")


def main():
    cases = []
    for kind in KINDS:
        for case in range(25):
            rows = rows_of(random.Random(f"{kind} {case}"), kind, case)
            exact = [[Fraction(v) for v in r] for r in rows]
            k = len(rows)
            g = [[sum(x * y for x, y in zip(a, b)) for b in exact] for a in exact]
            unit = lambda i: [Fraction(int(i == j), k) for j in range(k)]
            mean = [Fraction(1, k)] * k
            upgrad = [sum(column) for column in zip(*(projected(g, unit(i)) for i in range(k)))]
            weights = {"upgrad": upgrad, "dualproj": projected(g, mean), "mgda": shortest(g)}
            direction = lambda w: [sum(a * r[j] for a, r in zip(w, exact)) for j in range(len(exact[0]))]
            directions = {name: [float(f"{float(v):.12g}") for v in direction(w)] for name, w in weights.items()}
            cases.append({"kind": kind, "g": rows, "directions": directions})
    lines = ",\n".join(json.dumps(c, separators=(",", ":"), ensure_ascii=False) for c in cases)
    pathlib.Path(__file__).with_name("cases.json").write_text("[\n" + lines + "\n]\n")


if __name__ == "__main__":
    main()
