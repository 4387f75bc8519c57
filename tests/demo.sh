#!/usr/bin/env bash
# Ships this machine's /var/log and a generator of container logs to a file and to a local HTTP sink,
# changes the plugin while lines flow, and shows what happened. Touches nothing outside its folder.
set -euo pipefail
bulkhead=${1:?usage: demo.sh BULKHEAD}
folder=$(mktemp -d "${TMPDIR:-/tmp}/bulkhead-demo.XXXXXX")
status=127.0.0.1:${BULKHEAD_DEMO_PORT:-9720}
sink_port=${BULKHEAD_DEMO_SINK_PORT:-9721}
pids=()
trap 'kill "${pids[@]}" 2>/dev/null || true; wait 2>/dev/null || true' EXIT
say() { printf '\n\033[1m%s\033[0m\n' "$*"; }

pod="$folder/log/pods/shop_cart-7d4b9_0d1e2f3a-0000-4000-8000-000000000001/cart"
mkdir -p "$folder/manifests" "$pod"

# A sink that counts lines: enough HTTP for a POST with a length.
cat > "$folder/sink.py" <<'PY'
import http.server, sys
class Sink(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        with open(sys.argv[2], "ab") as out:
            out.write(body)
        self.send_response(204)
        self.send_header("Content-Length", "0")
        self.end_headers()
    def log_message(self, *_):
        pass
http.server.ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Sink).serve_forever()
PY

manifest() { # $1: lines of config
  cat > "$folder/.app.yaml" <<YAML
apiVersion: v1
kind: ConfigMap
metadata:
  name: app-logs
  labels: {bulkhead.dev/plugin: "true"}
data:
  plugin.yaml: |
    apiVersion: bulkhead.dev/v1alpha1
    kind: Plugin
    module:
      bundled: log-shipper
    config:
$1
    logs:
      startAt: beginning
      sources:
      - containers: {root: $folder/log}
      - files: {include: ["/var/log/*.log", "/var/log/**/*.log"], exclude: ["/var/log/pods/**", "/var/log/containers/**"]}
      destinations:
      - name: file
        file: {path: $folder/shipped.jsonl}
$HTTP
YAML
  mv "$folder/.app.yaml" "$folder/manifests/app.yaml"
}
HTTP=""
if command -v python3 >/dev/null; then
  python3 "$folder/sink.py" "$sink_port" "$folder/received.jsonl" & pids+=($!)
  HTTP="      - name: http
        http: {url: \"http://127.0.0.1:$sink_port/logs\"}"
else
  echo "no python3: the demo goes without its HTTP sink"
fi

# A container that writes 500 lines a second, one in five at level debug.
(
  n=0
  while :; do
    for _ in 1 2 3 4 5 6 7 8 9 10; do
      n=$((n + 1)); level=info; [ $((n % 5)) -ne 0 ] || level=debug
      printf '%s stdout F {"level":"%s","n":%d,"user":"ann@example.com"}\n' \
        "$(printf '%(%Y-%m-%dT%H:%M:%S)T' -1).000000000Z" "$level" "$n"
    done >> "$pod/0.log"
    sleep 0.02
  done
) & generator=$!; pids+=("$generator")

say "1. The daemon starts; its plugin ships everything"
manifest '      parse: auto'
"$bulkhead" run --manifests "$folder/manifests" --state "$folder/state" --status "$status" \
  --log-format pretty 2> "$folder/daemon.log" & daemon=$!; pids+=("$daemon")
for _ in $(seq 100); do "$bulkhead" status --status "$status" 2>/dev/null | grep -q Running && break; sleep 0.1; done
sleep 3
"$bulkhead" status --status "$status"

say "2. The manifest changes while lines flow: drop debug, redact addresses"
manifest '      filters:
      - drop: {field: level, equals: debug}
      redact:
      - pattern: "[a-z]+@example[.]com"
        replace: "<address>"'
sleep 3
"$bulkhead" status app-logs --status "$status"

say "3. A bad change is refused, and the plugin goes on"
manifest '      filtres: []'
sleep 1.5
"$bulkhead" status app-logs --status "$status" | grep -E '^(Phase|UpToDate)'

say "4. The generator stops, and SIGTERM drains"
kill "$generator"; sleep 1
kill -TERM "$daemon"; wait "$daemon" || true
echo "the last line shipped: $(grep cart "$folder/shipped.jsonl" | tail -n 1)"
echo "container lines written: $(wc -l < "$pod/0.log")"
echo "lines in the file: $(wc -l < "$folder/shipped.jsonl")"
[ -z "$HTTP" ] || echo "lines at the HTTP sink: $(wc -l < "$folder/received.jsonl")"
echo "everything is in $folder (the daemon's log: daemon.log)"
