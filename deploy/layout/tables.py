"""Mends the tables for unwinding of what llvm-bolt has written: those from before, which nothing uses any more, are
overwritten with zeros, so that the file compresses as well as before; and the new one gets its end.

    tables.py PROGRAM

A table of call frames ends with an entry of no length (Linux Standard Base, .eh_frame). Where llvm-bolt has written
none, the last function's entry becomes it: whoever walks a whole stack in a static binary would read on otherwise.
"""
import struct
import subprocess
import sys

STALE = (".bolt.org.eh_frame", ".bolt.org.eh_frame_hdr", ".bolt.org.gcc_except_table")


def finish(program, offset, size):
    program.seek(offset)
    table = program.read(size)
    at = last = 0
    while at < size:
        (length,) = struct.unpack_from("<I", table, at)
        if length == 0:
            return
        last, at = at, at + 4 + length
    if at != size:
        sys.exit(f"tables.py: an entry at {last} of .eh_frame is longer than the table")
    program.seek(offset + last)
    program.write(bytes(4))


with open(sys.argv[1], "r+b") as program:
    listed = subprocess.run(
        ["readelf", "--sections", "--wide", sys.argv[1]], check=True, capture_output=True, text=True
    ).stdout
    for line in listed.splitlines():
        fields = line.partition("]")[2].split()
        if not fields:
            continue
        if fields[0] in STALE:
            offset, size = (int(field, 16) for field in fields[3:5])
            program.seek(offset)
            program.write(bytes(size))
        elif fields[0] == ".eh_frame":
            finish(program, *(int(field, 16) for field in fields[3:5]))
