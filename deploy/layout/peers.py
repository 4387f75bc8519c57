"""What a daemon talks to, in small: a server that takes whatever is posted, and an API server with one manifest.

    peers.py FOLDER MANIFEST   serves until it is killed. FOLDER has a certificate, and gets `port` and `kubeconfig`
"""
import http.server
import json
import os
import ssl
import sys
import textwrap
import threading
import time
from urllib.parse import parse_qs, urlsplit

FOLDER, MANIFEST = sys.argv[1:]
NODE = {
    "apiVersion": "v1",
    "kind": "Node",
    "metadata": {"name": "node", "uid": "1", "resourceVersion": "1", "labels": {"role": "training"}},
}
PLUGIN = {
    "apiVersion": "v1",
    "kind": "ConfigMap",
    "metadata": {
        "name": "plugin",
        "namespace": "bulkhead-system",
        "uid": "2",
        "resourceVersion": "1",
        "labels": {"bulkhead.dev/plugin": "true"},
    },
    "data": {"plugin.yaml": textwrap.dedent(open(MANIFEST).read().split("plugin.yaml: |\n", 1)[1])},
}


class Peer(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def answer(self, code, body=b""):
        self.send_response(code)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def body(self):
        return self.rfile.read(int(self.headers["Content-Length"]))

    def log_message(self, *_):
        pass


class Sink(Peer):
    def do_POST(self):
        self.body()
        self.answer(204)


class Api(Peer):
    def do_GET(self):
        url = urlsplit(self.path)
        query = parse_qs(url.query)
        if url.path.endswith("/nodes"):
            items = [NODE]
        else:
            items = [PLUGIN] if "labelSelector" in query else []
        if query.get("watch") in (["true"], ["1"]):
            return self.watch(items)
        listed = {"apiVersion": "v1", "kind": "List", "metadata": {"resourceVersion": "1"}, "items": items}
        self.answer(200, json.dumps(listed).encode())

    def watch(self, items):
        """The same objects again and again, each time as if something had been noted at them."""
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        for version in range(2, 1000):
            for item in items:
                item["metadata"]["resourceVersion"] = str(version)
                item["metadata"]["annotations"] = {"seen": str(version)}
                event = json.dumps({"type": "MODIFIED", "object": item}).encode() + b"\n"
                self.wfile.write(b"%x\r\n%s\r\n" % (len(event), event))
            time.sleep(1)

    def do_POST(self):
        """Events are taken; whoever asks for the status may."""
        posted, path = json.loads(self.body()), urlsplit(self.path).path
        if path.endswith("/tokenreviews"):
            audiences = posted["spec"]["audiences"]
            posted["status"] = {"authenticated": True, "user": {"username": "prometheus"}, "audiences": audiences}
        elif path.endswith("/subjectaccessreviews"):
            posted["status"] = {"allowed": True}
        self.answer(201, json.dumps(posted).encode())


def serve(handler):
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    server.handle_error = lambda *_: None  # Whoever watches goes away without a word.
    return server


def write(name, text):
    path = os.path.join(FOLDER, name)
    with open(path + ".new", "w") as file:
        file.write(text)
    os.rename(path + ".new", path)


sink, api = serve(Sink), serve(Api)
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain(os.path.join(FOLDER, "tls.crt"), os.path.join(FOLDER, "tls.key"))
api.socket = context.wrap_socket(api.socket, server_side=True)
threading.Thread(target=api.serve_forever, daemon=True).start()
cluster = {"server": f"https://127.0.0.1:{api.server_port}", "certificate-authority": f"{FOLDER}/tls.crt"}
write(
    "kubeconfig",
    json.dumps(
        {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "c",
            "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
            "clusters": [{"name": "c", "cluster": cluster}],
            "users": [{"name": "u", "user": {"token": "token"}}],
        }
    ),
)
write("port", str(sink.server_port))
sink.serve_forever()
