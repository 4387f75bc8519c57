# make demo     build, then watch the daemon ship this machine's logs and update a plugin meanwhile
# make test     every test
# make sbom     what is compiled into the daemon and the plugins in it, as CycloneDX, into target/sbom
# make book     the book of docs/ as HTML, into target/book
# make bench    what it costs, beside rsyslog if that is installed (release build, half an hour)
# make dist     the image's daemon, one static binary, into target/bulkhead (half an hour)

CARGO ?= cargo
FEATURES := --features bulkhead/test-faults,bulkhead-sdk/log,bulkhead-sdk/tracing

.PHONY: setup toolchain browser rsyslog dbus prometheus enforcement yara clamav aide languages node control-plane deploying bolt build demo test sbom book bench dist

# What a fresh machine with Rust lacks. Idempotent.
setup: toolchain browser rsyslog dbus prometheus enforcement yara clamav aide languages node control-plane deploying

toolchain:
	@command -v cc >/dev/null || { apt-get update -qq && apt-get install -y -qq build-essential; }
	@rustup target list --installed | grep -qx wasm32-wasip2 || rustup target add wasm32-wasip2

# The page is tested in it.
browser:
	@command -v chromium >/dev/null \
	|| { apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends chromium; } \
	|| { echo "the tests open the status page in chromium, and it could not be installed: run 'apt-get install chromium' as root" >&2; exit 1; }

# Lines are shipped to it, over TCP and TLS.
rsyslog:
	@dpkg -s rsyslog rsyslog-gnutls >/dev/null 2>&1 \
	|| { apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends rsyslog rsyslog-gnutls; } \
	|| { echo "the tests ship to rsyslogd, and it could not be installed: run 'apt-get install rsyslog rsyslog-gnutls' as root" >&2; exit 1; }

# Units are changed over it, in the tests of a service in systemd's place.
dbus:
	@command -v dbus-daemon >/dev/null \
	|| { apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends dbus-daemon; } \
	|| { echo "the tests need a D-Bus, and it could not be installed: run 'apt-get install dbus-daemon' as root" >&2; exit 1; }

# What plugins measure is scraped and checked by it, and compared with its node exporter.
prometheus:
	@dpkg -s prometheus prometheus-node-exporter >/dev/null 2>&1 \
	|| { apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends prometheus prometheus-node-exporter; } \
	|| { echo "metrics are tested with Prometheus and its node exporter, and they could not be installed: run 'apt-get install prometheus prometheus-node-exporter' as root" >&2; exit 1; }

# Files are judged by the same rules with it.
yara:
	@command -v yara >/dev/null \
	|| { apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends yara; } \
	|| { echo "the tests compare with Debian's yara, and it could not be installed: run 'apt-get install yara' as root" >&2; exit 1; }

# And by the same signatures. It is given those of the tests. The package brings freshclam, whose service fetches
# databases where services are started; the tests use none of them.
clamav:
	@command -v clamscan >/dev/null \
	|| { apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends clamav; } \
	|| { echo "the tests compare with Debian's clamscan, and it could not be installed: run 'apt-get install clamav' as root" >&2; exit 1; }

# Files are compared with a baseline by it as well.
aide:
	@command -v aide >/dev/null \
	|| { apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends aide; } \
	|| { echo "the tests compare with Debian's aide, and it could not be installed: run 'apt-get install aide' as root" >&2; exit 1; }

# Plugins in Python and JavaScript are built with their toolchains, which are kept in the user's cache.
languages:
	@tests/languages/build.sh tools || echo "the tests of plugins in other languages fail for that unless BULKHEAD_WITHOUT_LANGUAGES=1" >&2

# config-enforcer is compared with the first two, on copies of a Debian tree that debootstrap makes once, in
# the user's cache.
ENFORCEMENT := puppet puppet-module-puppetlabs-stdlib puppet-module-puppetlabs-augeas-core ansible-core debootstrap
enforcement:
	@dpkg -s $(ENFORCEMENT) >/dev/null 2>&1 \
	|| { apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $(ENFORCEMENT); } \
	|| { echo "enforcement is tested beside Puppet and Ansible, and they could not be installed: run 'apt-get install $(ENFORCEMENT)' as root" >&2; exit 1; }
	@tests/support/debian/build.sh >/dev/null

# The DaemonSet is tested on it. Built once, into the user's cache, together with the control plane.
node:
	@command -v ip >/dev/null || { apt-get update -qq && apt-get install -y -qq --no-install-recommends iproute2; } || true
	@if obstacle="$$(tests/support/node/able.sh)"; then tests/support/cluster/build.sh node >/dev/null; \
	else echo "this machine cannot run a node ($$obstacle): the test of the DaemonSet will say so" >&2; fi

# The daemon is tested against it. Built once, into the user's cache.
control-plane:
	@tests/support/cluster/build.sh >/dev/null

# The kustomize base and the Helm chart are rendered with them.
deploying:
	@command -v kubectl >/dev/null \
	|| { apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends kubernetes-client; } \
	|| { echo "the tests run 'kubectl kustomize', and it could not be installed: put a kubectl into the PATH" >&2; exit 1; }
	@tests/support/helm/build.sh >/dev/null

build: toolchain
	$(CARGO) build --locked -p bulkhead

demo: build
	@tests/demo.sh "$$($(CARGO) metadata --format-version 1 --no-deps | sed 's/.*"target_directory":"\([^"]*\)".*/\1/')/debug/bulkhead"

test: setup
	$(CARGO) test --locked --workspace $(FEATURES)

# Installs cargo-cyclonedx into the user's cache first, which takes some minutes.
sbom:
	@deploy/sbom.sh target/sbom

# Installs mdBook into the user's cache first, which takes some minutes.
TOOLS := $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/bulkhead/tools
book:
	@[ -x $(TOOLS)/mdbook-0.5.4/bin/mdbook ] \
	|| $(CARGO) install --quiet --locked --root $(TOOLS)/mdbook-0.5.4 --no-default-features --features search mdbook@0.5.4
	@$(TOOLS)/mdbook-0.5.4/bin/mdbook build docs
	@# What lies beside the book is linked as from its sources, which is two folders nearer.
	@sed -i -E 's#href="\.\./(deploy|sdk|tests)/#href="../../\1/#g; s#(deploy/README)\.html#\1.md#g' target/book/*.html

# The binary's functions that run side by side are moved together with it.
BOLT := /usr/lib/llvm-19/bin/llvm-bolt
bolt:
	@[ -x $(BOLT) ] && dpkg -s libbolt-19-dev curl python3 >/dev/null 2>&1 \
	|| { apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends bolt-19 libbolt-19-dev curl python3; } \
	|| echo "the binary is laid out by llvm-bolt, and it could not be installed: run 'apt-get install bolt-19 libbolt-19-dev curl python3' as root" >&2

BENCHES := sandbox pipeline scrape enforcement scanning cluster author
bench: toolchain bolt
	@set -e; if [ -x $(BOLT) ]; then \
		release="$$($(CARGO) metadata --format-version 1 --no-deps | sed 's/.*"target_directory":"\([^"]*\)".*/\1/')/release"; \
		$(CARGO) rustc --locked --release -p bulkhead --features test-faults --bin bulkhead -- -Clink-arg=-Wl,--emit-relocs; \
		deploy/layout.sh "$$release/bulkhead" "$$release/bulkhead.laid-out"; \
		export BULKHEAD_BINARY="$$release/bulkhead.laid-out"; \
	else echo "the daemon is measured as it was linked, without a layout: it takes some 10 MiB more" >&2; fi; \
	$(CARGO) bench --locked -p bulkhead --features test-faults $(BENCHES:%=--bench %)

dist: toolchain bolt
	@command -v musl-gcc >/dev/null || { apt-get update -qq && apt-get install -y -qq --no-install-recommends musl-tools; }
	@rustup target list --installed | grep -qx x86_64-unknown-linux-musl || rustup target add x86_64-unknown-linux-musl
	@mkdir -p target
	@deploy/build.sh target/bulkhead
