"""Drops lines of some levels, and adds fields to the others."""

import json

from componentize_py_types import Err
from wit_world import exports
from wit_world.exports.lifecycle import Description, Refusal, SnapshotData
from wit_world.exports.logs import OutputLine, Rewrite, Verdict_Rewrite
from wit_world.imports import log

SCHEMA = {
    "type": "object",
    "additionalProperties": False,
    "properties": {
        "drop": {"type": "array", "items": {"type": "string"}},
        "add": {"type": "object"},
    },
}

NO_ROUTE = 0xFFFFFFFF
BODY_OF_BATCH = 1

drop = frozenset()
fields = b""


def level(body):
    """The member `level` of a line that is a JSON object."""
    try:
        record = json.loads(body)
    except ValueError:
        return None
    return record.get("level") if isinstance(record, dict) else None


class Lifecycle(exports.Lifecycle):
    def describe(self):
        return Description("levels-python", "0.1.0", json.dumps(SCHEMA))

    def init(self, config):
        global drop, fields
        config = json.loads(config) or {}
        drop = frozenset(config.get("drop", []))
        if "" in drop:
            raise Err(Refusal("drop", "a level has no empty name; leave it out"))
        fields = json.dumps(config.get("add", {}))[1:-1].encode()
        log.write(log.Level.INFO, "levels", f"drops {len(drop)} levels", '"language":"python"')

    def snapshot(self):
        return None

    def restore(self, snapshot: SnapshotData):
        raise Err(Refusal("", "there is nothing to take over"))


class Logs(exports.Logs):
    def start(self, destinations):
        pass

    def process(self, batch):
        lines = []
        for index, line in enumerate(batch.lines):
            body = batch.bytes[line.offset : line.offset + line.length]
            if level(body) in drop:
                continue
            lines.append(
                OutputLine(
                    time=line.time,
                    line=index,
                    route=NO_ROUTE,
                    body_offset=line.offset,
                    body_length=line.length,
                    fields_offset=0,
                    fields_length=len(fields),
                    flags=BODY_OF_BATCH,
                )
            )
        return Verdict_Rewrite(Rewrite(bytes=fields, lines=lines, routes=[]))
