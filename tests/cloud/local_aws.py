"""AWS on this machine: ministack, with IAM enforced.

Functions run as processes of their real bootstraps, each with its own role's credentials: a permission that the
template does not give is an AccessDenied here as it is there.
"""

import os

import boto3
from botocore.config import Config

from processes import HTTP, Process, free_port, until

REGION = "us-east-1"


class LocalAws:
    def __init__(self, executable, folder):
        port = free_port()
        self.url = f"http://127.0.0.1:{port}"
        self.log = folder / "ministack.log"
        (folder / "home").mkdir()
        # The functions inherit all of this, so there is nothing more in it.
        environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(folder / "home"),
            "TMPDIR": str(folder / "home"),
            "BIND_HOST": "127.0.0.1",
            "MINISTACK_HOST": "127.0.0.1",
            "GATEWAY_PORT": str(port),
            # Off, because it would listen on every interface.
            "IOT_MTLS_ENABLED": "0",
            "AWS_ENDPOINT_URL": self.url,
            "AUTH": "true",
        }
        self.process = Process([executable], environment, self.log)
        self.clients = {}

        def ready():
            assert self.process.alive(), self.log.read_text()
            try:
                return HTTP.request("GET", f"{self.url}/_ministack/health").status == 200
            except Exception:
                return False

        until("ministack answers", ready)

    def client(self, service):
        """A client of the account's root user."""
        if service not in self.clients:
            self.clients[service] = boto3.client(
                service,
                endpoint_url=self.url,
                region_name=REGION,
                aws_access_key_id="test",
                aws_secret_access_key="test",
                config=Config(retries={"max_attempts": 0}, s3={"addressing_style": "path"}),
            )
        return self.clients[service]

    def stop(self):
        self.process.stop()
