// The page polls the API and changes in place what has changed. Everything that comes from a plugin
// becomes text, never markup.

const SPAN = 120_000; // What a chart shows, in milliseconds.
const EVERY = 1_000;
const LONGEST_WAIT = 15_000;
const PATIENCE = 5_000;
const JOURNAL_EVERY = 2_000;
const FINDINGS_EVERY = 5_000;
const FINDINGS = 20; // The latest open ones are listed.
const SEVERITIES = ["critical", "high", "medium", "low", "info"];
const RECENT = 600_000; // A failure that is made good is shown this long.

// ---- Elements ------------------------------------------------------------------------------------

const byId = (id) => document.getElementById(id);

function make(tag, attributes, ...children) {
  const node = tag === "svg" || tag === "use" || tag === "path"
    ? document.createElementNS("http://www.w3.org/2000/svg", tag)
    : document.createElement(tag);
  for (const [name, value] of Object.entries(attributes ?? {})) node.setAttribute(name, value);
  node.append(...children);
  return node;
}

function shape(name) {
  return make("svg", { "aria-hidden": "true" }, make("use", { href: `#shape-${name}` }));
}

// Writing what is there already would cost a layout and a selection.
function text(node, value) {
  if (node.shown !== value) {
    node.shown = value;
    node.textContent = value;
  }
}

function attribute(node, name, value) {
  if (value == null) node.removeAttribute(name);
  else if (node.getAttribute(name) !== value) node.setAttribute(name, value);
}

// As many children as items, each brought up to date.
function list(parent, items, create, update) {
  while (parent.childElementCount > items.length) parent.lastElementChild.remove();
  items.forEach((item, index) => {
    let child = parent.children[index];
    if (!child) parent.append((child = create()));
    update(child, item);
  });
}

// A shape and a word.
function state(node, word, label = word) {
  if (node.dataset.is !== word || node.shown !== label) {
    node.className = "state";
    node.dataset.is = word;
    node.shown = label;
    const shapes = { Healthy: "Running", True: "Running", Retrying: "Degraded", CatchingUp: "Pending", False: "Refused", Unknown: "Pending" };
    node.replaceChildren(shape(shapes[word] ?? word), label);
  }
}

// Names and values; a value that is null is not shown.
class Facts {
  constructor(wrapped) {
    this.node = make("dl", { class: wrapped ? "totals" : "facts" });
    this.wrapped = wrapped;
    this.values = new Map();
  }

  set(name, value, { title, mono } = {}) {
    let entry = this.values.get(name);
    if (!entry) {
      if (value == null) return;
      entry = [make("dt", null, name), make("dd", mono ? { class: "mono" } : null)];
      this.values.set(name, entry);
      if (this.wrapped) this.node.append(make("div", null, ...entry));
      else this.node.append(...entry);
    }
    const hidden = value == null;
    if (this.wrapped) entry[0].parentElement.hidden = hidden;
    for (const node of entry) node.hidden = hidden;
    if (!hidden) {
      text(entry[1], value);
      attribute(entry[1], "title", title);
    }
  }
}

// ---- Numbers and times ---------------------------------------------------------------------------

const whole = new Intl.NumberFormat("en");
const count = (number) => (number == null ? null : whole.format(number));
const counted = (number, what) => `${count(number)} ${what}${number === 1 ? "" : "s"}`;

function rate(number) {
  if (number == null) return "–";
  return number < 9.95 && number > 0 ? number.toFixed(1) : count(Math.round(number));
}

function bytes(number) {
  if (number == null) return null;
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  let unit = 0;
  while (number >= 1024 && unit < units.length - 1) {
    number /= 1024;
    unit += 1;
  }
  return unit === 0 ? `${number} B` : `${number.toFixed(1)} ${units[unit]}`;
}

function duration(seconds) {
  if (seconds == null) return null;
  if (seconds < 0.001) return `${(seconds * 1e6).toFixed(0)} µs`;
  if (seconds < 1) return `${(seconds * 1e3).toPrecision(3)} ms`;
  return `${seconds.toPrecision(3)} s`;
}

function span(seconds) {
  seconds = Math.max(0, Math.floor(seconds));
  if (seconds < 60) return `${seconds} s`;
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min`;
  const [big, small, units] = seconds < 86_400
    ? [seconds / 3600, (seconds % 3600) / 60, ["h", "min"]]
    : [seconds / 86_400, (seconds % 86_400) / 3600, ["d", "h"]];
  return `${Math.floor(big)} ${units[0]} ${Math.floor(small)} ${units[1]}`;
}

// The daemon's clock less the browser's: they may be two machines.
let clockOffset = 0;
const since = (time) => span((Date.now() + clockOffset - Date.parse(time)) / 1000);
const ago = (time) => (time == null ? null : `${since(time)} ago`);
const local = (time) => (time == null ? null : new Date(time).toLocaleString());

// ---- History -------------------------------------------------------------------------------------

// What was read and computed at each poll of the last two minutes.
class History {
  samples = [];

  push(now, read, cpu) {
    const last = this.samples.at(-1);
    // The daemon began anew, or the plugin did: what was before says nothing about now.
    if (last && (read < last.read || cpu < last.cpu)) this.samples = [];
    this.samples.push({ now, read, cpu });
    const first = this.samples.findIndex((sample) => sample.now > now - SPAN);
    if (first > 1) this.samples.splice(0, first - 1);
  }

  // By the second, over the last few polls; null before there are two.
  speed(field) {
    const last = this.samples.at(-1);
    const before = this.samples.at(-6) ?? this.samples[0];
    if (!last || before === last || last[field] == null) return null;
    return ((last[field] - before[field]) * 1000) / (last.now - before.now);
  }

  // The line, the area under it, and the peak, in a box of 120 x 30.
  path() {
    const end = this.samples.at(-1)?.now ?? 0;
    const rates = [];
    let peak = 0;
    for (let index = 1; index < this.samples.length; index += 1) {
      const [a, b] = [this.samples[index - 1], this.samples[index]];
      if (b.read == null) break;
      const value = ((b.read - a.read) * 1000) / (b.now - a.now);
      peak = Math.max(peak, value);
      // Over a gap in the polls there is no line.
      rates.push({ x: 120 - (end - b.now) / 1000, value, gap: b.now - a.now > 4 * EVERY });
    }
    const height = (value) => (29 - (peak > 0 ? (value / peak) * 27 : 0)).toFixed(1);
    let line = "";
    for (const [index, { x, value, gap }] of rates.entries()) {
      line += `${index === 0 || gap ? "M" : "L"}${x.toFixed(1)} ${height(value)}`;
    }
    const area = rates.length > 1 && !rates.some(({ gap }) => gap)
      ? `${line}L120 30L${rates[0].x.toFixed(1)} 30Z`
      : "";
    return { line, area, peak };
  }
}

class Chart {
  constructor(name) {
    this.area = make("path", { class: "area" });
    this.line = make("path");
    const box = { class: `spark ${name}`, viewBox: "0 0 120 30", preserveAspectRatio: "none", "aria-hidden": "true" };
    this.node = make("svg", box, this.area, this.line);
  }

  draw({ line, area }) {
    attribute(this.line, "d", line);
    attribute(this.area, "d", area);
  }
}

// ---- What is wrong -------------------------------------------------------------------------------

// Wherever lines, series and changes of findings go.
function destinations({ logs, metrics, scanning }) {
  return [...(logs?.destinations ?? []), ...(metrics?.remoteWrite ?? []), ...(scanning?.destinations ?? [])];
}

// The problems of now, the worst first.
function problems(plugin) {
  const found = [];
  for (const { type, status, reason, message, lastTransitionTime } of plugin.conditions) {
    if (status !== "False" || reason === "Suspended") continue;
    if (found.some((other) => other.message === message)) continue;
    const bad = plugin.phase === "Refused" || (type === "Ready" && plugin.phase !== "Degraded");
    found.push({ bad, what: reason, message, since: lastTransitionTime });
  }
  const logs = plugin.logs;
  if (logs?.problem) found.push({ bad: false, what: "Logs", message: logs.problem });
  if (plugin.enforcement?.problem) found.push({ bad: false, what: "Enforcement", message: plugin.enforcement.problem });
  const flapping = plugin.enforcement?.flapping.length ?? 0;
  if (flapping > 0) found.push({ bad: false, what: "Flapping", message: `something else keeps undoing ${count(flapping)} of its changes` });
  const failed = plugin.enforcement?.outstanding.find(({ state }) => state === "failed" || state === "refused");
  if (failed) found.push({ bad: false, what: "Change", message: `${failed.subject} ${failed.state}: ${failed.message}` });
  if (plugin.scanning?.problem) found.push({ bad: false, what: "Scanning", message: plugin.scanning.problem });
  if (plugin.metrics?.problem) found.push({ bad: false, what: "Metrics", message: plugin.metrics.problem });
  for (const { name, state, lastError, since, problem } of destinations(plugin)) {
    const message = problem ?? (state !== "Healthy" ? lastError ?? state : null);
    if (message) found.push({ bad: false, what: `Destination ${name}`, message, since });
  }
  return found;
}

// ---- One plugin ----------------------------------------------------------------------------------

class Row {
  history = new History();
  visible = true;

  constructor(id) {
    this.id = id;
    const [namespace, name] = id.split("/");
    this.button = make("button", { class: "name", type: "button", "aria-expanded": "false" },
      shape("open"), make("span", null, make("i", null, `${namespace}/`), name));
    this.phase = make("span");
    this.phaseSince = make("small");
    this.module = make("span");
    this.digest = make("small");
    this.badge = make("span", { class: "badge", hidden: "" });
    this.rate = make("b");
    this.chart = new Chart("small");
    this.lag = make("span");
    this.lagSeconds = make("small");
    this.memory = make("span");
    this.cpu = make("small");
    this.to = make("div", { class: "to" });
    this.problem = make("p");
    const cell = (label, kind, ...children) =>
      make("td", { role: "cell", ...(label && { "data-label": label }), ...(kind && { class: kind }) }, ...children);
    this.summary = make("tr", { class: "row", role: "row" },
      cell(null, null, this.button),
      cell(null, null, this.phase, this.phaseSince),
      cell("Module", null, this.module, this.digest, this.badge),
      cell("Lines/s", null, make("div", { class: "rate" }, this.rate, this.chart.node)),
      cell("Lag", "number", this.lag, this.lagSeconds),
      cell("Memory", "number", this.memory, this.cpu),
      cell("Destinations", null, this.to));
    // Below, over the whole width: what to do about it is at the end of the sentence.
    this.why = make("tr", { class: "why", role: "row", hidden: "" },
      make("td", { colspan: "7", role: "cell" }, this.problem));
    this.body = make("tbody", { class: "plugin", role: "rowgroup", "data-plugin": id }, this.summary, this.why);
    this.body.row = this;
    for (const part of [this.summary, this.why]) {
      part.addEventListener("click", (event) => {
        // Selecting text is not asking for the detail.
        if (event.target.closest("button") || getSelection().isCollapsed) this.toggle();
      });
    }
    sight.observe(this.body);
  }

  get open() {
    return this.detail != null && !this.detail.node.hidden;
  }

  toggle(open = !this.open) {
    if (open && !this.detail) {
      this.detail = new Detail(this.id);
      this.body.append(this.detail.node);
      this.button.setAttribute("aria-controls", this.detail.node.id);
    }
    if (this.detail) this.detail.node.hidden = !open;
    this.body.classList.toggle("open", open);
    this.button.setAttribute("aria-expanded", String(open));
    const target = open ? `#${this.id}` : " ";
    history.replaceState(null, "", target === " " ? location.pathname : target);
    if (open && this.plugin) this.detail.update(this.plugin, this.history);
  }

  // A poll has brought this.
  feed(plugin, now) {
    const before = this.plugin?.phase;
    this.plugin = plugin;
    this.history.push(now, plugin.logs?.lines.read, plugin.cpuSeconds);
    if (before && before !== plugin.phase) news(`${this.id} is now ${plugin.phase}`);
    this.problems = problems(plugin);
    this.words = [this.id, plugin.phase, plugin.active?.name, plugin.active?.digest].join(" ").toLowerCase();
    if (this.visible) this.show();
    if (this.open) this.detail.update(plugin, this.history);
  }

  show() {
    const { plugin } = this;
    if (!plugin) return;
    const { active, logs } = plugin;
    const found = this.problems;
    attribute(this.body, "data-phase", plugin.phase);
    attribute(this.body, "data-trouble", found.length === 0 ? null : found.some(({ bad }) => bad) ? "bad" : "warn");
    state(this.phase, plugin.phase);
    const ready = plugin.conditions.find(({ type }) => type === "Ready");
    text(this.phaseSince, ready && plugin.phase !== "Terminating" ? `for ${since(ready.lastTransitionTime)}` : "");
    const digest = active?.digest ?? plugin.candidate;
    text(this.module, active?.name ?? "–");
    text(this.digest, [active?.version, digest?.slice(0, 12)].filter(Boolean).join(" · "));
    attribute(this.digest, "title", digest);
    const badge = plugin.candidate ? "preparing" : plugin.probation ? "probation" : null;
    this.badge.hidden = badge == null;
    text(this.badge, badge ?? "");
    text(this.rate, rate(this.history.speed("read")));
    attribute(this.chart.node, "visibility", logs ? null : "hidden");
    this.chart.draw(this.history.path());
    text(this.lag, bytes(logs?.lag.bytes) ?? "–");
    text(this.lagSeconds, logs ? `${logs.lag.seconds.toFixed(1)} s` : "");
    text(this.memory, bytes(plugin.memoryBytes));
    const cpu = this.history.speed("cpu");
    text(this.cpu, cpu == null ? "" : `${(cpu * 100).toFixed(1)}% CPU`);
    this.showDestinations(destinations(plugin));
    this.showProblem(found);
  }

  showDestinations(all) {
    const ill = all.filter((one) => one.state !== "Healthy");
    const lines = ill.map((one) => [one.state, `${one.name}: ${one.state}, ${count(one.attempts)}×`]);
    const well = all.length - ill.length;
    if (well > 0) lines.unshift(["Healthy", `${count(well)} healthy`]);
    list(this.to, lines, () => make("span"), (node, [word, label]) => state(node, word, label));
  }

  showProblem(found) {
    const { lastFailure, lastFailureTime } = this.plugin;
    let [what, message] = ["", ""];
    if (found.length > 0) {
      const more = found.length > 1 ? ` (and ${found.length - 1} more)` : "";
      [what, message] = [`${found[0].what}${more}`, found[0].message];
    } else if (lastFailure && Date.now() + clockOffset - Date.parse(lastFailureTime) < RECENT) {
      what = `Failed ${since(lastFailureTime)} ago`;
      message = `${lastFailure.call}: ${lastFailure.message}`;
    }
    this.why.hidden = !what;
    attribute(this.problem, "class", found.length > 0 ? null : "dim");
    if (this.problem.shown !== what + message) {
      this.problem.shown = what + message;
      this.problem.replaceChildren(...(what ? [make("b", null, what), ` ${message}`] : []));
      attribute(this.problem, "title", message);
    }
  }
}

// What only an open row shows.
class Detail {
  asked = 0;

  constructor(id) {
    this.id = id;
    this.conditions = make("ul", { class: "conditions" });
    this.chart = new Chart("chart");
    this.peak = make("h3");
    this.lines = new Facts();
    this.revision = new Facts();
    this.work = new Facts();
    this.failure = new Facts();
    this.frames = make("pre", { "aria-label": "Backtrace", tabindex: "0" });
    this.stderr = make("pre", { "aria-label": "The last of standard error", tabindex: "0" });
    this.failurePart = part("Last failure", true, this.failure.node, this.frames, this.stderr);
    const common = ["Name", "State", "Failed"];
    const ends = ["Waiting", "Queue", "Last success", "Last error"];
    this.destinations = new Destinations("Destinations", [...common, "Lines", "Bytes", "Requests", "Retries", "Dead-lettered", "In flight", ...ends]);
    this.remoteWrite = new Destinations("Remote write", [...common, "Samples", "Bytes", "Requests", "Retries", "Rejected", "Missed pushes", ...ends]);
    this.linesPart = part(null, false, this.peak, this.chart.node, this.lines.node);
    this.series = new Facts();
    this.collectors = make("tbody");
    const columns = ["Collector", "Series", "Bytes", "Took", "Failed"];
    const cost = (index) => (index === 4 ? "text" : index > 0 ? "number" : "");
    this.newCollector = () => make("tr", null, ...columns.map((_, index) => make("td", { class: cost(index) })));
    this.seriesPart = part("Series", false, this.series.node);
    this.collectorsPart = part("Collectors", true,
      make("div", { class: "scroll", tabindex: "0", role: "group", "aria-label": "Collectors" }, make("table", { class: "inner" },
        make("thead", null, make("tr", null, ...columns.map((head, index) => make("th", { scope: "col", class: cost(index) }, head)))),
        this.collectors)));
    this.enforcement = new Enforcement();
    this.scanning = new Scanning(id);
    this.entries = make("div", { class: "journal", tabindex: "0", role: "log", "aria-live": "off", "aria-label": "Journal" });
    this.journalNote = make("p", { class: "dim" });
    this.journal = make("details", { class: "wide" }, make("summary", null, "Journal: what the plugin said lately"), this.journalNote, this.entries);
    this.journal.addEventListener("toggle", () => this.journal.open && this.read());
    const parts = make("div", { class: "parts" },
      part("Conditions", true, this.conditions), this.linesPart, this.seriesPart,
      part("Revision", false, this.revision.node), part("Work", false, this.work.node),
      ...this.enforcement.parts, ...this.scanning.parts, this.destinations.part, this.remoteWrite.part, this.collectorsPart, this.failurePart, this.journal);
    this.node = make("tr", { class: "detail", role: "row", id: `detail-${id}` },
      make("td", { colspan: "7", role: "cell" }, parts));
  }

  update(plugin, past) {
    const { active, latency, logs, lastFailure } = plugin;
    list(this.conditions, plugin.conditions,
      () => make("li", null, make("span"), make("small", { class: "dim" }), make("p")),
      (node, { type, status, reason, message, lastTransitionTime }) => {
        state(node.children[0], status, `${type}: ${reason}`);
        text(node.children[1], ` ${status}, for ${since(lastTransitionTime)}`);
        attribute(node.children[1], "title", local(lastTransitionTime));
        text(node.children[2], message);
      });

    this.revision.set("Module", active ? `${active.name} ${active.version}` : "none at work");
    this.revision.set("Digest", active?.digest, { mono: true });
    this.revision.set("Manifest", active?.manifest, { mono: true });
    this.revision.set("Roles", active?.roles.join(", "));
    this.revision.set("At work for", active && since(active.since), { title: local(active?.since) });
    this.revision.set("Candidate", plugin.candidate ?? "none", { mono: plugin.candidate != null });
    this.revision.set("Probation", plugin.probation ? "yes" : "no");
    const pause = plugin.lastUpdatePauseSeconds;
    this.revision.set("Updates", `${count(plugin.updates)}${pause == null ? "" : `; the latest paused work for ${duration(pause)}`}`);
    this.revision.set("Roll-backs", count(plugin.rollbacks));

    const cpu = past.speed("cpu");
    this.work.set("Memory", bytes(plugin.memoryBytes));
    this.work.set("CPU", `${duration(plugin.cpuSeconds)}${cpu == null ? "" : `, ${(cpu * 100).toFixed(1)}% now`}`);
    this.work.set("Calls", count(plugin.calls));
    this.work.set("Pieces of work", count(latency.count));
    this.work.set("Median", duration(latency.p50Seconds));
    this.work.set("90%", latency.p90Seconds == null ? null : `below ${duration(latency.p90Seconds)}`);
    this.work.set("99%", latency.p99Seconds == null ? null : `below ${duration(latency.p99Seconds)}`);
    this.work.set("Restarts", count(plugin.restarts));

    this.linesPart.hidden = this.destinations.part.hidden = !logs;
    if (logs) this.updateLogs(logs, past);
    this.seriesPart.hidden = this.collectorsPart.hidden = !plugin.metrics;
    this.remoteWrite.part.hidden = !plugin.metrics?.remoteWrite;
    if (plugin.metrics) this.updateMetrics(plugin.metrics);
    this.enforcement.update(plugin.enforcement);
    this.scanning.update(plugin.scanning);

    this.failurePart.hidden = !lastFailure;
    if (lastFailure) {
      this.failure.set("When", ago(plugin.lastFailureTime), { title: local(plugin.lastFailureTime) });
      this.failure.set("Call", `${lastFailure.call} (${lastFailure.cause})`);
      this.failure.set("What", lastFailure.message);
      for (const [node, content] of [[this.frames, lastFailure.backtrace?.join("\n")], [this.stderr, lastFailure.stderr?.trim()]]) {
        node.hidden = !content;
        text(node, content ?? "");
      }
    }
    if (this.journal.open && performance.now() - this.asked > JOURNAL_EVERY) this.read();
  }

  updateLogs(logs, past) {
    const { lines, files } = logs;
    const drawn = past.path();
    this.chart.draw(drawn);
    text(this.peak, `Lines/s: ${rate(past.speed("read"))} now, at most ${rate(drawn.peak)} in two minutes`);
    this.lines.set("Read", `${count(lines.read)} (${bytes(logs.bytes.read)})`);
    this.lines.set("= acknowledged", count(lines.acknowledged));
    this.lines.set("+ filtered", count(lines.filtered));
    this.lines.set("+ dead-lettered", count(lines.deadLettered));
    this.lines.set("+ in flight", count(lines.inFlight));
    const lost = Object.entries(lines.givenUp).filter(([, number]) => number > 0);
    this.lines.set("Given up", lost.map(([why, number]) => `${count(number)} ${why}`).join(", ") || "0");
    this.lines.set("Lag", `${bytes(logs.lag.bytes)}, ${logs.lag.seconds.toFixed(1)} s`);
    this.lines.set("Files", `${count(files.watched)} followed, ${count(files.open)} open (${logs.watch})`);
    this.lines.set("Joined onto others", logs.joinedLines > 0 ? count(logs.joinedLines) : null);
    this.lines.set("Cut", logs.cutLines > 0 ? count(logs.cutLines) : null);
    this.lines.set("Malformed", logs.malformedLines > 0 ? count(logs.malformedLines) : null);
    this.destinations.update(logs.destinations, (one) => ({
      name: `${one.name} (${one.kind})`,
      counts: [one.lines, one.requests, one.retries, one.deadLettered, one.inFlight],
      unit: "lines",
    }));
  }

  updateMetrics(metrics) {
    this.series.set("Series", `${count(metrics.series)} of at most ${count(metrics.maxSeries)}`);
    this.series.set("They take", bytes(metrics.bytes));
    this.series.set("Collecting took", duration(metrics.seconds));
    this.series.set("Collections", count(metrics.collections));
    this.series.set("Of these failed", count(metrics.failedCollections));
    this.series.set("Over the limit", metrics.cutSeries > 0 ? count(metrics.cutSeries) : null);
    this.series.set("Left out as invalid", metrics.invalidSeries > 0 ? count(metrics.invalidSeries) : null);
    this.remoteWrite.update(metrics.remoteWrite ?? [], (one) => ({
      name: one.name,
      counts: [one.samples, one.requests, one.retries, one.rejectedSamples, one.missedPushes],
      unit: "samples",
    }));
    list(this.collectors, metrics.collectors, this.newCollector, (row, one) => {
      const texts = [one.name, count(one.series), bytes(one.bytes), duration(one.seconds), one.message ?? (one.success ? "" : "yes")];
      texts.forEach((content, index) => text(row.children[index], content));
    });
  }

  async read() {
    this.asked = performance.now();
    try {
      const [namespace, name] = this.id.split("/").map(encodeURIComponent);
      const { items, dropped } = await ask(`v1/plugins/${namespace}/${name}/logs`);
      const bottom = this.entries.scrollHeight - this.entries.scrollTop - this.entries.clientHeight < 20;
      list(this.entries, items,
        () => make("p", null, make("span", { class: "dim" }), make("span"), make("span")),
        (node, { time, level, target, message, fields }) => {
          text(node.children[0], new Date(time).toLocaleTimeString(undefined, { hour12: false, fractionalSecondDigits: 3 }));
          text(node.children[1], level);
          attribute(node.children[1], "class", { error: "bad", warn: "warn" }[level] ?? "dim");
          text(node.children[2], `${target}: ${message}${fields ? ` {${fields}}` : ""}`);
        });
      this.entries.hidden = items.length === 0;
      text(this.journalNote, [
        items.length === 0 ? "It said nothing." : "",
        dropped > 0 ? `${count(dropped)} records were dropped because they came too fast.` : "",
      ].join(" ").trim());
      if (bottom) this.entries.scrollTop = this.entries.scrollHeight;
    } catch (error) {
      text(this.journalNote, `The journal could not be read: ${error.message}`);
    }
  }
}

// How the node is, as a plugin with the role enforcement has it.
class Enforcement {
  constructor() {
    this.facts = new Facts();
    this.changes = make("tbody");
    this.rules = make("tbody");
    const table = (name, heads, body) => part(name, true,
      make("div", { class: "scroll", tabindex: "0", role: "group", "aria-label": name }, make("table", { class: "inner" },
        make("thead", null, make("tr", null, ...heads.map((head) => make("th", { scope: "col" }, head)))), body)));
    this.factsPart = part("Enforcement", false, this.facts.node);
    this.changesPart = table("Not changed", ["State", "Kind", "What", "Why it should be", "Why it is not", "Change"], this.changes);
    this.rulesPart = table("Broken rules", ["Verdict", "Severity", "Rule", "What should be so", "What was found"], this.rules);
    this.parts = [this.factsPart, this.changesPart, this.rulesPart];
  }

  update(report) {
    this.factsPart.hidden = !report;
    this.changesPart.hidden = !report || report.outstandingCount === 0;
    this.rulesPart.hidden = !report || report.broken.length === 0;
    if (!report) return;
    const { pass, fail, notApplicable, error } = report.rules;
    const all = pass + fail + error;
    this.facts.set("Mode", report.onlyReporting ? `${report.mode}; only reporting: ${report.onlyReporting}` : report.mode);
    this.facts.set("Rules that hold", all > 0 ? `${count(pass)} of ${count(all)} (${((pass * 100) / all).toFixed(1)}%)` : "none");
    this.facts.set("Broken", count(fail));
    this.facts.set("Not known", error > 0 ? count(error) : null);
    this.facts.set("Not for this node", notApplicable > 0 ? count(notApplicable) : null);
    this.facts.set("Looked at", report.lastCheck ? `${ago(report.lastCheck)}, in ${duration(report.seconds)}` : "not yet", { title: local(report.lastCheck) });
    this.facts.set("Changes made", count(report.made));
    this.facts.set("Failed", report.failed > 0 ? count(report.failed) : null);
    this.facts.set("Put back", report.reverted > 0 ? count(report.reverted) : null);
    this.facts.set("Handlers due", report.waitingHandlers > 0 ? count(report.waitingHandlers) : null);
    this.fill(this.changes, report.outstanding, 6, ({ state, kind, subject, reason, message, id }) => [state, kind, subject, reason, message, id]);
    report.outstanding.forEach(({ diff }, index) => attribute(this.changes.children[index], "title", diff || null));
    this.fill(this.rules, report.broken, 5, ({ verdict, severity, id, title, message }) => [verdict, severity, id, title, message]);
    report.broken.forEach(({ rationale, remediation }, index) => {
      attribute(this.rules.children[index], "title", [rationale, remediation].filter(Boolean).join("\n\n") || null);
    });
  }

  fill(body, items, columns, texts) {
    list(body, items, () => make("tr", null, ...Array.from({ length: columns }, (_, index) => make("td", index > 1 ? { class: "text" } : null))), (row, item) => {
      texts(item).forEach((content, index) => text(row.children[index], content ?? ""));
    });
  }
}

// What is scanned and was found, as a plugin with the role scanning has it.
class Scanning {
  asked = -Infinity;

  constructor(id) {
    this.id = id;
    this.facts = new Facts();
    this.bar = make("progress", { max: "1", "aria-label": "Pass under way", hidden: "" });
    this.findings = make("tbody");
    this.note = make("p", { class: "dim" });
    const heads = ["Severity", "Rule", "What", "What was found", "Found"];
    this.create = () => make("tr", null, ...heads.map((_, index) => make("td", index === 2 || index === 3 ? { class: "text" } : null)));
    this.table = make("div", { class: "scroll", tabindex: "0", role: "group", "aria-label": "Open findings" }, make("table", { class: "inner" },
      make("thead", null, make("tr", null, ...heads.map((head) => make("th", { scope: "col" }, head)))), this.findings));
    this.factsPart = part("Scanning", false, this.bar, this.facts.node);
    this.findingsPart = part("Latest open findings", true, this.note, this.table);
    this.destinations = new Destinations("Findings are sent to", ["Name", "State", "Failed", "Changes", "Bytes", "Requests", "Retries", "Dead-lettered", "Lost", "Waiting", "Queue", "Last success", "Last error"]);
    this.parts = [this.factsPart, this.findingsPart, this.destinations.part];
  }

  update(report) {
    this.factsPart.hidden = this.findingsPart.hidden = !report;
    this.destinations.part.hidden = !report?.destinations;
    if (!report) return;
    const { pass, lastPass, watched } = report;
    const open = SEVERITIES.filter((severity) => report.findings[severity] > 0);
    this.facts.set("Open findings", open.map((severity) => `${count(report.findings[severity])} ${severity}`).join(", ") || "none");
    this.facts.set("Accepted", report.suppressed > 0 ? count(report.suppressed) : null);
    this.bar.hidden = pass?.done == null;
    if (pass?.done != null) this.bar.value = pass.done;
    this.facts.set("Pass under way", pass ? this.passOf(pass) : "none");
    this.facts.set("Left", pass?.remaining == null ? null : `about ${span(pass.remaining)}`);
    this.facts.set("Paused", pass?.paused ? `processes of the node wait for ${pass.paused}` : null);
    const incomplete = lastPass && !lastPass.complete ? "; not complete, the rest comes with the next" : "";
    this.facts.set("Last pass", lastPass ? `${lastPass.kind}, ${ago(lastPass.ended)}, took ${span(lastPass.seconds)}${incomplete}` : "none yet", { title: local(lastPass?.ended) });
    this.facts.set("Judged", `${counted(report.files, "file")} (${bytes(report.bytes)}), ${count(report.events)} of them as they changed`);
    this.facts.set("Not judged", report.unjudged > 0 ? count(report.unjudged) : null, { title: report.unjudgedFiles?.join("\n") });
    const seen = watched && `on ${counted(watched.fileSystems, "file system")} as a whole, in ${counted(watched.folders, "folder")}${watched.polled ? "; the rest every five minutes" : ""}`;
    this.facts.set("Changes are seen", seen ?? null, { title: watched?.fallbacks.join("\n") || null });
    this.facts.set("Missed at once", watched?.rescans > 0 ? `${counted(watched.rescans, "time")}, and scanned again` : null);
    this.facts.set("Node judged", report.lastAssessment ? ago(report.lastAssessment) : null, { title: local(report.lastAssessment) });
    this.facts.set("Not seen", report.troubles > 0 ? `${count(report.troubles)}: ${report.firstTrouble}` : null);
    this.facts.set("Problem", report.problem ?? null);
    this.destinations.update((report.destinations ?? []).map((one) => ({ ...one, waiting: one.waitingChanges })), (one) => ({
      name: `${one.name} (${one.kind})`,
      counts: [one.lines, one.requests, one.retries, one.deadLettered, one.lostChanges],
      unit: "changes",
    }));
    if (performance.now() - this.asked > FINDINGS_EVERY) this.read();
  }

  passOf({ participants, files, expectedFiles, bytes: length, expectedBytes, done }) {
    const mine = participants.find(({ name }) => name === this.id);
    const of = (expected) => (expected == null ? "" : ` of ${expected}`);
    const percent = done == null ? "" : ` (${Math.floor(done * 100)}%)`;
    return `${mine?.full ? "full" : "changed"}, ${count(files)}${of(count(expectedFiles))} files, ${bytes(length)}${of(bytes(expectedBytes))}${percent}`;
  }

  async read() {
    this.asked = performance.now();
    try {
      const [namespace, name] = this.id.split("/").map(encodeURIComponent);
      const { items } = await ask(`v1/findings?namespace=${namespace}&name=${name}&state=open&limit=${FINDINGS}`);
      list(this.findings, items, this.create, (row, { severity, rule, title, subject, message, firstSeen, rationale, remediation }) => {
        const texts = [severity, rule, subject.path ?? subject.name, message, ago(firstSeen)];
        texts.forEach((content, index) => text(row.children[index], content));
        attribute(row.children[0], "class", severity === "critical" || severity === "high" ? "bad" : null);
        attribute(row, "title", [title, rationale, remediation].filter(Boolean).join("\n\n") || null);
      });
      this.table.hidden = items.length === 0;
      text(this.note, items.length === 0 ? "There are none." : "");
      this.note.hidden = items.length > 0;
    } catch (error) {
      this.note.hidden = false;
      text(this.note, `They could not be read: ${error.message}`);
    }
  }
}

// A table of where lines, series or findings go.
class Destinations {
  constructor(title, heads) {
    this.rows = make("tbody");
    this.create = () => make("tr", null, ...heads.map((_, index) => make("td", { class: kind(index) })));
    this.part = part(title, true,
      make("div", { class: "scroll", tabindex: "0", role: "group", "aria-label": title }, make("table", { class: "inner" },
        make("thead", null, make("tr", null, ...heads.map((head, index) => make("th", { scope: "col", class: kind(index) }, head)))),
        this.rows)));
  }

  // `describe` says what one is called and counts, and in what.
  update(all, describe) {
    list(this.rows, all, this.create, (row, one) => {
      const { name, counts: [what, ...counts], unit } = describe(one);
      const cells = row.children;
      text(cells[0], name);
      if (!cells[1].firstChild) cells[1].append(make("span"));
      state(cells[1].firstChild, one.state);
      const behind = one.behindBytes != null ? `${bytes(one.behindBytes)} behind the other destinations` : null;
      attribute(cells[1], "title", behind ?? (one.since && `since ${local(one.since)}`));
      const texts = [count(one.attempts), count(what), bytes(one.bytes), ...counts.map(count), count(one.waiting)];
      texts.forEach((content, index) => text(cells[index + 2], content));
      const queue = queueOf(one.queue, unit);
      text(cells[10], queue.text);
      attribute(cells[10], "title", queue.title);
      attribute(cells[10], "class", queue.bad ? "number bad" : "number");
      text(cells[11], ago(one.lastSuccess) ?? "never");
      attribute(cells[11], "title", local(one.lastSuccess));
      text(cells[12], one.lastError ? `${ago(one.lastErrorTime)}: ${one.lastError}` : "none");
    });
  }
}

// What stands for a destination's queue on the disk, of lines or samples.
function queueOf(queue, unit) {
  if (!queue) return { text: "none", title: null, bad: false };
  const lost = queue.droppedLines + queue.damagedLines;
  const notes = [
    `${bytes(queue.bytes)} of ${bytes(queue.maxBytes)} on the disk`,
    queue.droppedLines > 0 && `${count(queue.droppedLines)} ${unit} dropped to make room`,
    queue.damagedLines > 0 && `${count(queue.damagedLines)} ${unit} lost with damaged records`,
    queue.problem,
  ];
  const state = queue.problem ? ", failing" : queue.full ? ", full" : lost > 0 ? `, ${count(lost)} lost` : "";
  return { text: `${count(queue.lines)}${state}`, title: notes.filter(Boolean).join("; "), bad: state !== "" };
}

// The column of a table of destinations: words, numbers, and the error.
function kind(index) {
  return index === 12 ? "text" : index > 1 ? "number" : "";
}

function part(title, wide, ...children) {
  return make("section", wide ? { class: "wide" } : null, ...(title ? [make("h3", null, title)] : []), ...children);
}

// ---- The node ------------------------------------------------------------------------------------

const rows = new Map();
const totals = new Facts(true);
let started;
let readAt; // When the daemon answered last.
let failures = 0;
let nextPoll = 0;
let polling = false;
let timer;
let problem;

// Only what is in sight is drawn; hundreds of charts are not.
const sight = new IntersectionObserver((entries) => {
  for (const { target, isIntersecting } of entries) {
    target.row.visible = isIntersecting;
    if (isIntersecting) target.row.show();
  }
}, { rootMargin: "300px" });

function news(sentence) {
  byId("news").append(make("span", null, `${sentence}. `));
  while (byId("news").childElementCount > 5) byId("news").firstElementChild.remove();
}

async function ask(path) {
  const answer = await fetch(path, { signal: AbortSignal.timeout(PATIENCE), headers: { accept: "application/json" } });
  if (!answer.ok) throw new Error(`it answers ${answer.status} at /${path}`);
  const date = Date.parse(answer.headers.get("date"));
  // The header has whole seconds; less than two are no offset.
  if (date) clockOffset = Math.abs(date - Date.now()) < 2000 ? 0 : date - Date.now();
  return answer.json();
}

async function poll() {
  if (polling) return;
  polling = true;
  clearTimeout(timer);
  try {
    const [node, { items }] = await Promise.all([ask("v1/node"), ask("v1/plugins")]);
    failures = 0;
    readAt = Date.now();
    problem = null;
    // A daemon that began anew counts from zero.
    if (started !== node.started) for (const row of rows.values()) row.history = new History();
    started = node.started;
    const now = performance.now();
    apply(items, now);
    showNode(node, items);
  } catch (error) {
    failures += 1;
    problem = error.name === "TimeoutError" ? `no answer within ${PATIENCE / 1000} s` : error.message;
  }
  const wait = failures === 0 ? EVERY : Math.min(EVERY * 2 ** (failures - 1), LONGEST_WAIT);
  nextPoll = Date.now() + wait;
  showLink();
  timer = setTimeout(poll, wait);
  polling = false;
}

function apply(items, now) {
  const gone = new Set(rows.keys());
  const table = byId("list");
  let before = table.tHead;
  for (const plugin of items) {
    const id = `${plugin.namespace}/${plugin.name}`;
    gone.delete(id);
    let row = rows.get(id);
    if (!row) rows.set(id, (row = new Row(id)));
    row.feed(plugin, now);
    if (before.nextElementSibling !== row.body) before.after(row.body);
    before = row.body;
  }
  for (const id of gone) {
    const { body } = rows.get(id);
    sight.unobserve(body);
    body.remove();
    rows.delete(id);
    news(`${id} is gone`);
  }
  filter();
}

function showNode(node, items) {
  totals.set("Version", node.version);
  totals.set("Up", since(node.started), { title: `since ${local(node.started)}` });
  totals.set("Ready", node.ready ? "yes" : "no");
  const phases = new Map(["Running", "Degraded", "Refused", "Pending"].map((phase) => [phase, 0]));
  for (const { phase } of items) phases.set(phase, (phases.get(phase) ?? 0) + 1);
  totals.set("Plugins", [...phases].filter(([, number]) => number > 0).map(([phase, number]) => `${count(number)} ${phase}`).join(", ") || "0");
  const speeds = [...rows.values()].map((row) => row.history.speed("read")).filter((speed) => speed != null);
  totals.set("Lines/s", rate(speeds.length > 0 ? speeds.reduce((sum, speed) => sum + speed, 0) : null));
  totals.set("Memory", bytes(items.reduce((sum, { memoryBytes }) => sum + memoryBytes, 0)));
  byId("empty").hidden = items.length > 0;
  byId("list").hidden = items.length === 0;
  text(byId("empty"), "There are no plugins. Put a manifest into the daemon's --manifests folder.");
  const notices = [];
  if (!node.ready) notices.push(["", "Not ready", node.notReady ?? ""]);
  if (node.safeMode.length > 0) {
    notices.push(["bad", "Safe mode", `left out, because they were in a call when the daemon died: ${node.safeMode.join(", ")}`]);
  }
  for (const sentence of node.problems) notices.push(["bad", "Manifest", sentence]);
  list(byId("notices"), notices, () => make("p", null, make("strong"), make("span")), (notice, [kind, title, sentence]) => {
    attribute(notice, "class", `notice ${kind}`);
    text(notice.children[0], title);
    text(notice.children[1], sentence);
  });
  const ill = [...rows.values()].filter((row) => row.problems.length > 0).length;
  document.title = `${ill > 0 ? `(${ill}) ` : ""}Bulkhead · ${location.host}`;
}

// Whether what is shown is of now.
function showLink() {
  const link = byId("link");
  const lost = failures > 0;
  attribute(link, "class", lost ? "lost" : readAt ? "live" : "");
  document.body.classList.toggle("lost-sight", lost);
  byId("lost").hidden = !lost;
  if (!lost) {
    text(link, readAt ? "live" : "connecting…");
    return;
  }
  if (document.title[0] !== "✕") document.title = `✕ Bulkhead · ${location.host}`;
  text(link, "the daemon does not answer");
  const wait = Math.max(0, Math.ceil((nextPoll - Date.now()) / 1000));
  const seen = readAt ? `What you see is from ${span((Date.now() - readAt) / 1000)} ago.` : "";
  // The count-down is for the eye; a screen reader hears the state once.
  text(byId("lost").querySelector("span"), `${problem}. ${seen} Trying again ${wait > 0 ? `in ${wait} s` : "now"}.`);
}

// ---- Filter and keys -----------------------------------------------------------------------------

function filter() {
  const words = byId("filter").value.toLowerCase().split(/\s+/).filter(Boolean);
  let shown = 0;
  for (const row of rows.values()) {
    const hidden = !words.every((word) => row.words.includes(word))
      || (byId("trouble").checked && row.problems.length === 0);
    if (row.body.hidden !== hidden) row.body.hidden = hidden;
    if (!hidden) shown += 1;
  }
  text(byId("shown"), shown === rows.size ? "" : `${count(shown)} of ${count(rows.size)} shown`);
}

function move(step) {
  const buttons = [...rows.values()].filter((row) => !row.body.hidden).map((row) => row.button)
    .sort((a, b) => (a.compareDocumentPosition(b) & Node.DOCUMENT_POSITION_FOLLOWING ? -1 : 1));
  const at = buttons.indexOf(document.activeElement);
  const next = at < 0 ? (step > 0 ? 0 : buttons.length - 1) : at + step;
  buttons[next]?.focus();
}

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  const { target, key } = event;
  const typing = target.matches("input[type=search]");
  const row = target.closest?.(".plugin")?.row;
  if (key === "/" && !typing) {
    byId("filter").focus();
  } else if (key === "Escape" && row?.open) {
    row.toggle(false);
    row.button.focus();
  } else if ((key === "ArrowDown" || key === "ArrowUp") && (target === document.body || target.matches(".name, #filter, #list"))) {
    move(key === "ArrowDown" ? 1 : -1);
  } else {
    return;
  }
  event.preventDefault();
});

byId("filter").addEventListener("input", filter);
byId("trouble").addEventListener("change", filter);
document.addEventListener("visibilitychange", () => document.hidden || poll());
byId("lost").querySelector("button").addEventListener("click", poll);
byId("totals").replaceWith(totals.node);
text(byId("host"), location.host);
setInterval(() => failures > 0 && showLink(), 1000);

const wanted = decodeURIComponent(location.hash.slice(1));
await poll();
rows.get(wanted)?.toggle(true);
rows.get(wanted)?.body.scrollIntoView({ block: "nearest" });
