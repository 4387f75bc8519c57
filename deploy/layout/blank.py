"""Overwrites what llvm-bolt has left behind and nothing uses, the tables for unwinding as they were before, with
zeros: the file is as long, and its compressed form is not.

    blank.py PROGRAM
"""
import subprocess
import sys

STALE = (".bolt.org.eh_frame", ".bolt.org.eh_frame_hdr", ".bolt.org.gcc_except_table")
table = subprocess.run(["readelf", "--sections", "--wide", sys.argv[1]], check=True, capture_output=True, text=True)
with open(sys.argv[1], "r+b") as program:
    for line in table.stdout.splitlines():
        fields = line.partition("]")[2].split()
        if fields and fields[0] in STALE:
            offset, size = (int(field, 16) for field in fields[3:5])
            program.seek(offset)
            program.write(bytes(size))
