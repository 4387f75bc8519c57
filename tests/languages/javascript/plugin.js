// Drops lines of some levels, and adds fields to the others.
import { write } from "bulkhead:plugin/log@0.1.1";

const SCHEMA = {
  type: "object",
  additionalProperties: false,
  properties: {
    drop: { type: "array", items: { type: "string" } },
    add: { type: "object" },
  },
};

const NO_ROUTE = 0xffffffff;
const BODY_OF_BATCH = 1;

const text = new TextDecoder();
let drop = new Set();
let fields = new Uint8Array();

// The member `level` of a line that is a JSON object.
function level(body) {
  try {
    return JSON.parse(text.decode(body))?.level;
  } catch {
    return undefined;
  }
}

export const lifecycle = {
  describe() {
    return { name: "levels-javascript", version: "0.1.0", configSchema: JSON.stringify(SCHEMA) };
  },

  init(config) {
    const { drop: names = [], add = {} } = JSON.parse(config) ?? {};
    if (names.includes("")) {
      throw { field: "drop", message: "a level has no empty name; leave it out" };
    }
    drop = new Set(names);
    fields = new TextEncoder().encode(JSON.stringify(add).slice(1, -1));
    write("info", "levels", `drops ${drop.size} levels`, '"language":"javascript"');
  },

  snapshot() {
    return undefined;
  },

  restore() {
    throw { field: "", message: "there is nothing to take over" };
  },
};

export const logs = {
  start() {},

  process({ bytes, lines }) {
    const kept = [];
    lines.forEach((line, index) => {
      const end = line.offset + line.length;
      if (drop.has(level(bytes.subarray(line.offset, end)))) return;
      kept.push({
        time: line.time,
        line: index,
        route: NO_ROUTE,
        bodyOffset: line.offset,
        bodyLength: line.length,
        fieldsOffset: 0,
        fieldsLength: fields.length,
        flags: BODY_OF_BATCH,
      });
    });
    return { tag: "rewrite", val: { bytes: fields, lines: kept, routes: [] } };
  },
};
