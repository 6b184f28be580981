"""The call to CodeDeploy with which the smoke test reports. The emulator has no CodeDeploy."""

import json
import queue
import threading
import uuid
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class CodeDeploy:
    """Takes the reports of the hooks of deployments."""

    def __init__(self):
        self.statuses = queue.Queue()
        report = self.report

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self):
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                assert self.headers["X-Amz-Target"].endswith(".PutLifecycleEventHookExecutionStatus")
                response = json.dumps(report(body)).encode()
                self.send_response(200)
                self.send_header("Content-Type", "application/x-amz-json-1.1")
                self.send_header("Content-Length", str(len(response)))
                self.end_headers()
                self.wfile.write(response)

            def log_message(self, *_):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def deploy(self):
        """Begins a deployment. Returns the event of its hook."""
        deployment_id = f"d-{uuid.uuid4().hex[:9].upper()}"
        return {"DeploymentId": deployment_id, "LifecycleEventHookExecutionId": f"hook-of-{deployment_id}"}

    def report(self, body):
        assert body["lifecycleEventHookExecutionId"] == f"hook-of-{body['deploymentId']}"
        self.statuses.put((body["deploymentId"], body["status"]))
        return {"lifecycleEventHookExecutionId": body["lifecycleEventHookExecutionId"]}

    def stop(self):
        self.server.shutdown()
        self.server.server_close()
