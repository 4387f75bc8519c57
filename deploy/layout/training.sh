# What the daemon does on a node, in small: all of it should be here that a node does again and again, since what is
# not is taken for cold. Sourced by ../layout.sh, which has `folder`, `source`, `get`, `until_true`, `running` and
# `fail`.

# The kinds of plugins, a daemon each.
kinds=(logs metrics enforcement scanning)

# prepare KIND...: logs to read, trees to enforce and to scan, and the manifests of these kinds of plugins.
prepare() {
	rm -rf "${folder:?}"/{manifests,log,enforced,scanned} "$folder"/{shipped,findings}.jsonl*
	mkdir -p "$folder"/{none,manifests,log/pods,enforced,scanned}
	if [ ! -e "$folder/port" ]; then
		openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=127.0.0.1 \
			-config <(printf '[req]\ndistinguished_name=dn\n[dn]\n[ext]\nsubjectAltName=IP:127.0.0.1\n') -extensions ext \
			-keyout "$folder/tls.key" -out "$folder/tls.crt" 2>/dev/null
		python3 "$source/layout/peers.py" "$folder" "$source/examples/node-metrics.yaml" &
		peers=$!
		until_true 60 "the peers" test -e "$folder/port"
	fi
	local kind
	for kind in "$@"; do
		"${kind}_manifests"
	done
}

logs_manifests() { shipper "parse: auto"; }
metrics_manifests() { example node-metrics; }
enforcement_manifests() {
	# It is run as root on the machine that builds.
	grep -q '^ *mode: audit' "$source/examples/config-enforcer.yaml" || fail "config-enforcer.yaml would change this machine"
	example config-enforcer
	enforcer
}
scanning_manifests() {
	local number
	for number in {1..200}; do
		seq "$number" $((number + 200)) >"$folder/scanned/$number.txt"
	done
	seq 600000 >"$folder/scanned/large.txt"
	gzip --keep "$folder"/scanned/1?.txt
	tar --create --file="$folder/scanned/archive.tar" --directory="$folder/scanned" 1.txt 2.txt 3.txt
	ln -s 1.txt "$folder/scanned/link"
	scanner
}

# example NAME: a manifest that operators begin with.
example() { sed '/^  namespace: /d' "$source/examples/$1.yaml" >"$folder/manifests/$1.yaml"; }

# manifest NAME: of standard input, the lines of a spec.
manifest() {
	{
		cat <<-YAML
			apiVersion: v1
			kind: ConfigMap
			metadata: {name: $1, labels: {bulkhead.dev/plugin: "true"}}
			data:
			  plugin.yaml: |
			    apiVersion: bulkhead.dev/v1alpha1
			    kind: Plugin
		YAML
		sed 's/^/    /'
	} >"$folder/manifests/.$1.new"
	mv "$folder/manifests/.$1.new" "$folder/manifests/$1.yaml"
}

# shipper LINES: with these lines of configuration.
shipper() {
	manifest log-shipper <<-YAML
		module: {bundled: log-shipper}
		update: {probation: 1s}
		config:
		$(sed 's/^/  /' <<<"$1")
		logs:
		  startAt: beginning
		  sources:
		  - containers: {root: $folder/log}
		    multiline: {preset: [java, python, go]}
		  - files: {include: ["$folder/log/*.log"]}
		  destinations:
		  - {name: file, file: {path: $folder/shipped.jsonl, maxSize: 1Mi}}
		  - {name: http, http: {url: "http://127.0.0.1:$(cat "$folder/port")/", compression: gzip}}
	YAML
}

# A hundred files, half of them by templates, and settings in files of four formats.
enforcer() {
	local number kind
	printf 'key_%s = old\n' {1..20} >"$folder/enforced/settings.conf"
	printf '[Journal]\nStorage=auto\n' >"$folder/enforced/journald.conf"
	printf 'PermitRootLogin yes\n' >"$folder/enforced/sshd_config"
	printf 'kind: Kubelet\nauthentication:\n  anonymous:\n    enabled: true\n' >"$folder/enforced/kubelet.yaml"
	{
		cat <<-YAML
			module: {bundled: config-enforcer}
			update: {probation: 1s}
			grants: {nodeFacts: true, nodeFiles: [/etc/passwd], changes: {files: ["$folder/enforced"]}}
			enforcement: {mode: enforce, interval: 2s}
			config:
			  vars: {contact: ops@example.org}
			  resources:
			  - {id: line, line: {path: $folder/enforced/settings.conf, line: "# kept", match: "^# kept"}}
			  - {id: ini, setting: {path: $folder/enforced/journald.conf, format: ini, section: Journal, set: {Storage: persistent}}}
			  - {id: sshd, setting: {path: $folder/enforced/sshd_config, format: sshd, set: {PermitRootLogin: "no"}}}
			  - {id: yaml, setting: {path: $folder/enforced/kubelet.yaml, format: yaml, set: {authentication.anonymous.enabled: false}}}
			  - {id: modes, permissions: {path: "$folder/enforced/*.conf", maxMode: "0644"}}
			  - {id: folder, directory: {path: $folder/enforced/folder, mode: "0750"}}
			  - {id: link, symlink: {path: $folder/enforced/link, target: 1.conf}}
			  - {id: gone, absent: {path: "$folder/enforced/*.old"}}
			  - {id: looks, check: {path: /etc/passwd, someLine: "^root:"}}
		YAML
		for number in {1..20}; do
			echo "  - {id: s$number, setting: {path: $folder/enforced/settings.conf, format: keyValue, set: {key_$number: $number}}}"
		done
		for number in {1..100}; do
			kind=content
			[ $((number % 2)) = 0 ] || kind=template
			echo "  - {id: f$number, when: 'os.id != \"none\"', file: {path: $folder/enforced/$number.conf, mode: \"0644\", $kind: \"$(printf 'option_%s = value\\n' {1..20}) {{ vars.contact }}\\n\"}}"
		done
	} | manifest enforcer
}

# Two hundred rules, of which some match; hashes, a baseline, and the node's posture.
scanner() {
	local number
	{
		cat <<-YAML
			module: {bundled: security-scanner}
			update: {probation: 1s}
			limits: {memory: 256Mi}
			grants:
			  state: {quota: 8Mi}
			  nodeFacts: true
			  nodeFiles: [/etc/ssh, /var/lib/dpkg/status, /lib/apk/db/installed]
			  scan: {files: ["$folder/scanned"], sockets: true, users: true, kernelModules: true, sysctls: [kernel.kptr_restrict]}
			scanning:
			  schedule: {changed: 1m, full: 2m, assess: 10s}
			  destinations: [{name: out, file: {path: $folder/findings.jsonl}}]
			config:
			  integrity: {baseline: first, paths: ["$folder/scanned"]}
			  permissions: {setId: {}, worldWritable: {}}
			  posture: {ports: {allow: ["22"]}, accounts: {}, ssh: {}, kernelModules: {}, sysctls: {expect: {kernel.kptr_restrict: "1"}}}
			  packages:
			    advisories:
			    - {name: own, text: "[]"}
			  signatures:
			    hashes:
			    - {name: known, text: "275a021bbfb6489e54d471899f7db9d1663fc695ec2fe2a2c4538aabf651fd0f Eicar"}
			    yara:
			    - name: own
			      text: |
		YAML
		for number in {1..200}; do
			echo "        rule r$number { meta: severity = \"low\" strings: \$a = \"virus-$number-\" \$b = /worm[0-9]+-$number-/ condition: any of them }"
		done
	} | manifest scanner
}

# Lines of two containers and of a file, and a stack trace.
logs() { # FROM TO
	local number container pod
	for container in cart till; do
		pod="$folder/log/pods/shop_$container-7d4b9_0d1e2f3a-0000-4000-8000-000000000001/$container"
		mkdir -p "$pod"
		for number in $(seq "$1" "$2"); do
			echo "2026-01-01T00:00:00.000000000Z stdout F {\"level\":\"$([ $((number % 5)) = 0 ] && echo debug || echo info)\",\"n\":$number,\"user\":\"ann@example.org\"}"
		done >>"$pod/0.log"
		printf '2026-01-01T00:00:00.000000000Z stderr F %s\n' \
			'Exception in thread "main" java.lang.IllegalStateException: no' '	at com.example.Main.main(Main.java:1)' >>"$pod/0.log"
	done
	seq --format 'level=info n=%.0f' "$1" "$2" >>"$folder/log/app.log"
}

shipped() { grep -q "\"n\":$1,\|n=$1\b" "$folder/shipped.jsonl" "$folder"/shipped.jsonl.*; }
undone() { ! grep -q 'by hand' "$folder"/enforced/*.conf; }
found() { get "/v1/findings?limit=1000" | grep "rule.*own.r$1\b" >/dev/null; }
settled() { "$folder/plain" enforcement check enforcer --state "$folder/state"; }
declared() { ls "$folder/manifests" | wc -l; }
rested() { grep -q '"at rest: ' "$folder/daemon.log"; }

# What asks for the status: probes of the kubelet, Prometheus, people, and clients that say little.
ask() {
	local path
	for path in /healthz /readyz; do
		get "$path" --output /dev/null --user-agent kube-probe/1.33 --header "Connection: close"
		get "$path" --output /dev/null --http1.0 --header "User-Agent:" --header "Accept:"
	done
	scrape /metrics
	for path in /metrics /v1/plugins /; do
		get "$path" --output /dev/null
		get "$path" --output /dev/null --header "Accept-Encoding: identity" --header "Connection: close"
	done
}

# scrape PATH: as Prometheus does, in the formats that it takes.
scrape() {
	local accept
	for accept in 'application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,text/plain;version=0.0.4;q=0.5,*/*;q=0.1' \
		'application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited' text/plain; do
		get "$1" --header "Accept: $accept" --compressed --output /dev/null \
			--user-agent Prometheus/3.0.0 --header "X-Prometheus-Scrape-Timeout-Seconds: 10"
		get "$1" --header "Accept: $accept" --output /dev/null
	done
}

# A daemon with little to do, until it has given back what it needed to start.
idle() {
	until_true 240 "the daemon to rest" idles
	for _ in {1..20}; do
		ask
		sleep 0.5
	done
}
idles() {
	ask
	sleep 0.5
	rested
}

logs_round() {
	logs $(($1 * 300)) $(($1 * 300 + 299))
	get /v1/plugins/local/log-shipper --output /dev/null
	case "$1" in
	5) mv "$folder/log/app.log" "$folder/log/app.log.1" ;;
	10) shipper "$(printf '%s\n' 'filters: [{drop: {field: level, equals: debug}}]' \
		'redact: [{pattern: "[a-z]+@example[.]org", replace: "<address>"}]')" ;;
	esac
}
logs_done() { until_true 120 "the last lines to be shipped" shipped 6299; }

metrics_round() {
	scrape /metrics/plugins
	scrape /metrics/plugins/local/node-metrics
}
metrics_done() { :; }

enforcement_round() {
	echo "edited by hand" >"$folder/enforced/$1.conf"
	touch "$folder/enforced/$1.old"
	get /v1/plugins/local/enforcer/changes --output /dev/null
	settled >/dev/null || true
}
enforcement_done() {
	until_true 120 "edits to be undone" undone
	until_true 60 "the tree to be as declared" settled
}

# pass [--full]: to its end; it has findings.
pass() {
	local code=0
	"$folder/plain" scanning scan scanner "$@" --wait --state "$folder/state" >/dev/null || code=$?
	[ "$code" = 2 ] || fail "a pass ended with $code"
}

scanning_round() {
	echo "virus-$1- worm1-$1-" >"$folder/scanned/written-$1"
	get /v1/findings --output /dev/null
	[ $(($1 % 10)) != 0 ] || pass
}
scanning_done() {
	until_true 120 "a written file to be found" found 20
	pass --full
}

# work KIND...: one with plugins of these kinds.
work() {
	local number kind
	for number in {1..20}; do
		ask
		for kind in "$@"; do
			"${kind}_round" "$number"
		done
		sleep 0.5
	done
	for kind in "$@"; do
		"${kind}_done"
	done
	until_true 60 "all plugins to run on" running "$(declared)"
}
