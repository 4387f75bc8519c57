"""Prints the functions of ORDER anew, so that what is run together lies together: what IDLE runs again and again, then
what all other daemons do, what fewer do, and each of them; what is run ONCE, when a daemon starts with all plugins, and
what none has run. Among themselves they stay as they are, and those that ORDER lacks come after them.

    order.py ORDER ONCE IDLE OTHER...   profiles of BOLT
"""
import sys
from collections import Counter


def counts(profile):
    """How often branches from and to each function were taken."""
    times = Counter()
    with open(profile) as lines:
        for line in lines:
            # A branch: whether its ends are in functions, these, and the places in them; mispredicted and taken.
            fields = line.split(" ")
            ends = {(fields[0], fields[1]), (fields[3], fields[4])}
            for name in {name for kind, name in ends if kind == "1"}:
                times[name] += int(fields[7])
    return times


order, *profiles = sys.argv[1:]
once, idle, *others = map(counts, profiles)


def rank(name):
    again = [profile[name] > 1.5 * once[name] for profile in (idle, *others)]
    if again[0]:
        return 0,
    if any(again):
        return 1, -sum(again), again
    return 2,


with open(order) as file:
    names = file.read().splitlines()
ran = set().union(once, idle, *others)
print(*sorted([*names, *sorted(ran.difference(names))], key=rank), sep="\n")
