"""An HTTP endpoint on the loopback interface that receives webhooks."""

import json
import queue
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Receiver:
    def __init__(self):
        received = self.received = queue.Queue()

        class Handler(BaseHTTPRequestHandler):
            def do_HEAD(self):
                self.send_response(200)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def do_POST(self):
                headers = {name.lower(): value for name, value in self.headers.items()}
                received.put((headers, self.rfile.read(int(headers["content-length"]))))
                self.do_HEAD()

            do_PUT = do_POST

            def log_message(self, *_):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/webhooks"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def next(self, wanted, patience=30):
        """The next message whose JSON is wanted: its headers (in lower case), its bytes, and its JSON."""
        while True:
            headers, body = self.received.get(timeout=patience)
            message = json.loads(body)
            if wanted(message):
                return headers, body, message

    def close(self):
        self.server.shutdown()
        self.server.server_close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()
