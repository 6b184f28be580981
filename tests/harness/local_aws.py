"""AWS on this machine: ministack, with IAM enforced.

Functions run as processes of their real bootstraps, each with the credentials of its own role. Without a permission in
the template they get AccessDenied, as on AWS.
"""

import os

import boto3
from botocore.config import Config

from processes import HTTP, Process, free_port, until

REGION = "us-east-1"


class LocalAws:
    def __init__(self, folder):
        port = free_port()
        self.url = f"http://127.0.0.1:{port}"
        self.log = folder / "ministack.log"
        (folder / "home").mkdir()
        # The functions inherit these variables, so there are no others.
        environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(folder / "home"),
            "TMPDIR": str(folder / "home"),
            "BIND_HOST": "127.0.0.1",
            "MINISTACK_HOST": "127.0.0.1",
            "GATEWAY_PORT": str(port),
            # It would listen on every interface.
            "IOT_MTLS_ENABLED": "0",
            "AWS_ENDPOINT_URL": self.url,
            "AUTH": "true",
            # As on AWS, nobody signs in if the function that changes the token fails.
            "MINISTACK_COGNITO_PRETOKEN_STRICT": "1",
        }
        self.process = Process(["ministack"], self.log, environment)
        self.clients = {}

        def ready():
            assert self.process.alive(), self.log.read_text()
            try:
                return HTTP.request("GET", f"{self.url}/_ministack/health").status == 200
            except Exception:
                return False

        until("ministack responds", ready)

    def client(self, service):
        """A client with the permissions of the account's root user."""
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
