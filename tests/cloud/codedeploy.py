"""The calls to CodeDeploy that the smoke test makes. The emulator has no CodeDeploy."""

import json
import queue
import threading
import uuid
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

APPLICATION = "application"


class CodeDeploy:
    """Responds as CodeDeploy does for a deployment that CloudFormation has started."""

    def __init__(self):
        self.deployments = {}
        self.statuses = queue.Queue()
        calls = {
            "GetDeployment": self.deployment,
            "GetApplicationRevision": self.revision,
            "PutLifecycleEventHookExecutionStatus": self.report,
        }

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self):
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                call = calls[self.headers["X-Amz-Target"].rpartition(".")[2]]
                response = json.dumps(call(body)).encode()
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

    def deploy(self, function, version):
        """Begins a deployment. Returns the event of its hook."""
        deployment_id = f"d-{uuid.uuid4().hex[:9].upper()}"
        properties = {"Name": function, "Alias": "live", "CurrentVersion": "1", "TargetVersion": version}
        resource = {function: {"Type": "AWS::Lambda::Function", "Properties": properties}}
        content = json.dumps({"version": 0.0, "Resources": [resource]})
        self.deployments[deployment_id] = {"content": content, "sha256": deployment_id}
        return {"DeploymentId": deployment_id, "LifecycleEventHookExecutionId": f"hook-of-{deployment_id}"}

    def deployment(self, body):
        # GetDeployment does not return the content.
        sha256 = self.deployments[body["deploymentId"]]["sha256"]
        revision = {"revisionType": "String", "string": {"sha256": sha256}}
        return {"deploymentInfo": {"applicationName": APPLICATION, "revision": revision}}

    def revision(self, body):
        assert body["applicationName"] == APPLICATION
        [found] = [one for one in self.deployments.values() if one["sha256"] == body["revision"]["string"]["sha256"]]
        return {"revision": {"revisionType": "String", "string": found}}

    def report(self, body):
        assert body["lifecycleEventHookExecutionId"] == f"hook-of-{body['deploymentId']}"
        self.statuses.put((body["deploymentId"], body["status"]))
        return {"lifecycleEventHookExecutionId": body["lifecycleEventHookExecutionId"]}

    def stop(self):
        self.server.shutdown()
        self.server.server_close()
