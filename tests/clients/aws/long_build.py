"""A build that outlasts its credential of 20 seconds: boto3 finds one by itself, and goes on when it has ended. Prints what it saw, no secret."""

import json
import os
import time

import boto3
import botocore.exceptions

session = boto3.Session(region_name="us-east-1")
sts = session.client("sts")
seen = {"first": sts.get_caller_identity()["Arn"], "method": session.get_credentials().method}
frozen = session.get_credentials().get_frozen_credentials()
kept = boto3.client("sts", region_name="us-east-1", aws_access_key_id=frozen.access_key, aws_secret_access_key=frozen.secret_key,
                    aws_session_token=frozen.token)
time.sleep(21)
try:
    seen["copy"] = kept.get_caller_identity()["Arn"]
except botocore.exceptions.ClientError as refusal:
    seen["copy"] = refusal.response["Error"]["Code"]
seen["again"] = sts.get_caller_identity()["Arn"]
seen["renewed"] = session.get_credentials().get_frozen_credentials().access_key != frozen.access_key
seen["hidden"] = "AWS_ACCESS_KEY_ID" not in os.environ
print(json.dumps(seen))
