"""Prints the functions of ORDER anew: those that the daemon of the first PROFILE has run first, then those that the
second one's has run besides, and so on; among themselves they stay as they are.

    order.py ORDER PROFILE...
"""
import sys

order, *profiles = sys.argv[1:]
ranks = {}
for rank, profile in enumerate(profiles):
    with open(profile) as lines:
        for line in lines:
            # A branch: whether its ends are in functions, these, and the places in them; and how often.
            fields = line.split(" ")
            for name in fields[1:2] + fields[4:5]:
                ranks.setdefault(name, rank)
with open(order) as file:
    names = file.read().splitlines()
print(*sorted(names, key=lambda name: ranks.get(name, len(profiles))), sep="\n")
