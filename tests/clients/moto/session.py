"""IAM users and their keys, the key of a login mount, and the login of an instance, against a second fake AWS, which others wrote: what the server says it made is really there, and really gone.

The fake is moto (MOTO names it); what is there is asked of it with boto3, past the server.
"""

import base64
import datetime
import json
import os
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import boto3
from botocore.exceptions import ClientError
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.serialization import Encoding, pkcs7

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from proof import SERVER, TOKEN, Proof  # noqa: E402

prove = Proof()
MOTO = os.environ["MOTO"]
POLICY = {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "s3:GetObject", "Resource": "*"}]}
# The regular work looks once a minute; a machine that is busy may take longer.
ROTATION_LIMIT = 170


def client(service, key="AKIAIOSFODNN7EXAMPLE", secret="example", token=None):
    return boto3.client(service, region_name="us-east-1", endpoint_url=MOTO, aws_access_key_id=key, aws_secret_access_key=secret,
                        aws_session_token=token)


iam = client("iam")
# moto knows AWS's own policies only when told to: these do as well.
BOUNDARY, READ_ONLY = (
    iam.create_policy(PolicyName=name, PolicyDocument=json.dumps(POLICY))["Policy"]["Arn"] for name in ("boundary", "read-only")
)


def ask(method, path, body=None):
    """Status and answer of the server."""
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(f"{SERVER}/v1/{path}", data=data, method=method, headers={"X-Vault-Token": TOKEN})
    try:
        with urllib.request.urlopen(request, timeout=90) as answer:
            text = answer.read()
            return answer.status, json.loads(text) if text else {}
    except urllib.error.HTTPError as refusal:
        text = refusal.read()
        return refusal.code, json.loads(text) if text else {}


def there(name):
    try:
        return iam.get_user(UserName=name)["User"]
    except ClientError as refusal:
        if refusal.response["Error"]["Code"] == "NoSuchEntity":
            return None
        raise


def keys(name):
    return [key["AccessKeyId"] for key in iam.list_access_keys(UserName=name)["AccessKeyMetadata"]]


def users():
    return {user["UserName"] for user in iam.list_users()["Users"]}


def owner(key, secret):
    """The user that a key belongs to, as AWS tells who signs."""
    return client("sts", key, secret).get_caller_identity()["Arn"].rsplit("/", 1)[-1]


def set_up():
    iam.create_user(UserName="daypass-root")
    root = iam.create_access_key(UserName="daypass-root")["AccessKey"]
    prove.secret(root["SecretAccessKey"])
    iam.create_group(GroupName="builders")
    iam.create_user(UserName="legacy")
    iam.create_user(UserName="crowded")
    status, answer = ask("POST", "sys/mounts/aws", {"type": "aws"})
    prove("an aws mount", status == 204, answer)
    config = {"access_key": root["AccessKeyId"], "secret_key": root["SecretAccessKey"], "region": "us-east-1", "iam_endpoint": MOTO,
              "sts_endpoint": MOTO}
    status, answer = ask("POST", "aws/config/root", config)
    prove("it is told where moto is", status == 204, answer)
    ask("POST", "aws/config/lease", {"lease": "30m", "lease_max": "1h"})
    return root["AccessKeyId"]


def mint(role):
    status, answer = ask("GET", f"aws/creds/{role}")
    data = answer.get("data") or {}
    prove.secret(data.get("secret_key"))
    return status, answer, data


def full_user():
    role = {"credential_type": "iam_user", "policy_arns": [READ_ONLY], "policy_document": json.dumps(POLICY), "iam_groups": ["builders"],
            "iam_tags": {"team": "build", "owner": "ci"}, "permissions_boundary_arn": BOUNDARY, "user_path": "/daypass/"}
    status, answer = ask("POST", "aws/roles/full", role)
    prove("a role with all that an IAM user can have", status == 204, answer)
    status, answer, data = mint("full")
    if not prove("it makes a user", status == 200 and data.get("access_key", "").startswith("AKIA"), answer):
        return
    name = owner(data["access_key"], data["secret_key"])
    user = there(name) or {}
    prove("moto knows the user, and the key as its own", user.get("UserName") == name and keys(name) == [data["access_key"]], user)
    prove("at the path of the role", user.get("Path") == "/daypass/", user)
    # moto takes a boundary with the creation of a role alone; for users it forgets it, so there is nothing to see.
    tags = {tag["Key"]: tag["Value"] for tag in iam.list_user_tags(UserName=name)["Tags"]}
    prove("with the tags", tags == role["iam_tags"], tags)
    groups = [group["GroupName"] for group in iam.list_groups_for_user(UserName=name)["Groups"]]
    prove("in the group", groups == ["builders"], groups)
    attached = [policy["PolicyArn"] for policy in iam.list_attached_user_policies(UserName=name)["AttachedPolicies"]]
    prove("with the managed policy", attached == [READ_ONLY], attached)
    inline = iam.get_user_policy(UserName=name, PolicyName="full")["PolicyDocument"]
    prove("with the inline policy", inline == POLICY, inline)
    # What people hang on a user must not keep it.
    iam.create_login_profile(UserName=name, Password="not-a-secret-1")
    iam.create_access_key(UserName=name)
    status, answer = ask("PUT", "sys/leases/revoke", {"lease_id": answer["lease_id"]})
    prove("its lease is revoked", status == 204, answer)
    prove("and the user is gone, with all that hung on it", there(name) is None)
    members = [user["UserName"] for user in iam.get_group(GroupName="builders")["Users"]]
    prove("the group is empty again", members == [], members)


def many_users():
    ask("POST", "aws/roles/plain", {"credential_type": "iam_user", "policy_arns": [READ_ONLY]})
    before = users()
    made = [mint("plain") for _ in range(5)]
    prove("five users of one role", all(status == 200 for status, _, _ in made) and len(users() - before) == 5, users() - before)
    status, answer = ask("PUT", "sys/leases/revoke-prefix/aws/creds/plain", {})
    prove("are revoked together", status == 204 and users() == before, (answer, users() - before))


def refused_user():
    before = users()
    ask("POST", "aws/roles/broken", {"credential_type": "iam_user", "policy_arns": [READ_ONLY], "iam_groups": ["nobody-made-this-group"]})
    status, answer, _ = mint("broken")
    prove("a group that does not exist is named", status == 400 and "Error adding user to group" in answer["errors"][0], answer)
    prove("and no half-made user stays", users() == before, users() - before)
    parked, answer = ask("LIST", "aws/config/parked-users")
    prove("nor is one parked", parked == 404, answer)


def static_role():
    status, answer = ask("POST", "aws/static-roles/legacy", {"username": "legacy", "rotation_period": 60})
    prove("a static role for a user that exists", status == 200 and answer["data"]["id"] == there("legacy")["UserId"], answer)
    status, answer = ask("GET", "aws/static-creds/legacy")
    data = answer.get("data") or {}
    prove.secret(data.get("secret_key"))
    prove("its key is the user's only one", keys("legacy") == [data.get("access_key")], keys("legacy"))
    prove("and signs as that user", owner(data["access_key"], data["secret_key"]) == "legacy")
    return data["access_key"]


def crowded_static_role():
    first = iam.create_access_key(UserName="crowded")["AccessKey"]["AccessKeyId"]
    second = iam.create_access_key(UserName="crowded")["AccessKey"]["AccessKeyId"]
    status, answer = ask("POST", "aws/static-roles/crowded", {"username": "crowded", "rotation_schedule": "0 3 * * *", "rotation_window": "1h"})
    prove("a static role with a cron line for a user with two keys", status == 200 and answer["data"]["rotation_schedule"] == "0 3 * * *", answer)
    found = keys("crowded")
    prove("one of the two made room", len(found) == 2 and (first in found) != (second in found), found)
    status, answer = ask("DELETE", "aws/static-roles/crowded")
    left = keys("crowded")
    prove("deleting the role deletes its key alone", status == 204 and len(left) == 1 and left[0] in (first, second), (answer, left))
    status, answer = ask("POST", "aws/static-roles/nobody", {"username": "nobody", "rotation_period": 60})
    prove("a user that does not exist is named", status == 500 and "unable to validate username \\\"nobody\\\"" in json.dumps(answer), answer)


def rotate_root(old):
    status, answer = ask("POST", "aws/config/rotate-root")
    new = (answer.get("data") or {}).get("access_key")
    prove("the root key is replaced", status == 200 and new not in (None, old), answer)
    prove("moto has the new one alone", keys("daypass-root") == [new], keys("daypass-root"))
    status, answer = ask("GET", "aws/config/root")
    prove("the configuration names it", answer["data"]["access_key"] == new, answer)
    status, answer, _ = mint("plain")
    prove("and it works", status == 200, answer)
    status, answer = ask("PUT", "sys/leases/revoke", {"lease_id": answer["lease_id"]})
    prove("for taking back too", status == 204, answer)
    iam.create_access_key(UserName="daypass-root")
    status, answer = ask("POST", "aws/config/rotate-root")
    prove("with two keys there is no room for a third, and the error says so", status == 500 and "LimitExceeded" in json.dumps(answer), answer)
    prove("the root key stays in force", new in keys("daypass-root"), keys("daypass-root"))


def rotated_static_role(first):
    began = time.monotonic()
    second = first
    while second == first and time.monotonic() - began < ROTATION_LIMIT:
        time.sleep(1)
        second = ask("GET", "aws/static-creds/legacy")[1]["data"]["access_key"]
    prove(f"within {ROTATION_LIMIT} s the static key is another one", second != first, second)
    prove("and the one before goes on", sorted(keys("legacy")) == sorted([first, second]), keys("legacy"))
    status, answer = ask("DELETE", "aws/static-roles/legacy")
    prove("the role is deleted, and its key with it", status == 204 and keys("legacy") == [first], (answer, keys("legacy")))
    status, answer = ask("GET", "aws/static-creds/legacy")
    prove("nobody is given it any more", status == 404, answer)


def unmounted():
    before = users()
    mint("plain")
    prove("one more user", len(users() - before) == 1, users() - before)
    status, answer = ask("DELETE", "sys/mounts/aws")
    prove("goes with the mount", status == 204 and users() == before, (answer, users() - before))


class DocumentSigner:
    """Signs documents of instances, as AWS does; the library that it signs with is not ours."""

    def __init__(self):
        self.key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        name = x509.Name([x509.NameAttribute(x509.NameOID.ORGANIZATION_NAME, "a fake of AWS")])
        now = datetime.datetime.now(datetime.timezone.utc)
        builder = x509.CertificateBuilder(name, name, self.key.public_key(), 7, now, now + datetime.timedelta(days=2))
        self.certificate = builder.sign(self.key, hashes.SHA256())

    def pem(self):
        return self.certificate.public_bytes(Encoding.PEM).decode()

    def message(self, document):
        builder = pkcs7.PKCS7SignatureBuilder().set_data(document).add_signer(self.certificate, self.key, hashes.SHA256())
        return base64.b64encode(builder.sign(Encoding.DER, [pkcs7.PKCS7Options.Binary])).decode()

    def signature(self, document):
        return base64.b64encode(self.key.sign(document, padding.PKCS1v15(), hashes.SHA256())).decode()


def instance():
    """An instance that boto3 makes at moto logs in with its document, as long as moto says that it runs."""
    ec2 = client("ec2")
    image = ec2.describe_images()["Images"][0]["ImageId"]
    made = ec2.run_instances(ImageId=image, MinCount=1, MaxCount=1, InstanceType="t3.micro")["Instances"][0]
    identity = client("sts").get_caller_identity()["Account"]
    signer = DocumentSigner()
    document = json.dumps({"accountId": identity, "imageId": image, "instanceId": made["InstanceId"], "pendingTime": "2026-01-01T00:00:00Z",
                           "region": "us-east-1", "version": "2017-09-30"}).encode()
    status, answer = ask("POST", "sys/auth/aws", {"type": "aws"})
    prove("an aws auth mount", status == 204, answer)
    config = {"access_key": "AKIAIOSFODNN7EXAMPLE", "secret_key": "example", "endpoint": MOTO, "iam_endpoint": MOTO, "sts_endpoint": MOTO}
    ask("POST", "auth/aws/config/client", config)
    for kind in ("pkcs7", "identity"):
        status, answer = ask("POST", f"auth/aws/config/certificate/{kind}", {"aws_public_cert": signer.pem(), "type": kind})
        prove(f"a certificate for {kind}", status == 204, answer)
    role = {"auth_type": "ec2", "bound_account_id": identity, "bound_ami_id": image, "bound_vpc_id": made["VpcId"], "bound_subnet_id": made["SubnetId"]}
    ask("POST", "auth/aws/role/instance", role)
    status, answer = ask("POST", "auth/aws/login", {"role": "instance", "pkcs7": signer.message(document)})
    nonce = ((answer.get("auth") or {}).get("metadata") or {}).get("nonce")
    if not prove("the instance logs in with its PKCS#7 document", status == 200 and nonce, answer):
        return
    prove.secret(answer["auth"]["client_token"])
    again = {"role": "instance", "identity": base64.b64encode(document).decode(), "signature": signer.signature(document), "nonce": nonce}
    status, answer = ask("POST", "auth/aws/login", again)
    prove("and again with document, signature and nonce", status == 200, answer)
    ec2.terminate_instances(InstanceIds=[made["InstanceId"]])
    status, answer = ask("POST", "auth/aws/login", again)
    prove("and no more once it is terminated", status == 400 and "not in 'running' state" in json.dumps(answer), answer)
    ask("DELETE", "sys/auth/aws")


def rotate_login_root():
    """The key of a login mount is replaced, and works: an ARN is looked up with it."""
    iam.create_user(UserName="daypass-logins")
    old = iam.create_access_key(UserName="daypass-logins")["AccessKey"]
    prove.secret(old["SecretAccessKey"])
    trust = {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Principal": {"AWS": "*"}, "Action": "sts:AssumeRole"}]}
    bound = iam.create_role(RoleName="deploys", AssumeRolePolicyDocument=json.dumps(trust))["Role"]["Arn"]
    status, answer = ask("POST", "sys/auth/aws", {"type": "aws"})
    prove("an aws auth mount for a key of its own", status == 204, answer)
    status, answer = ask("POST", "auth/aws/config/rotate-root")
    unset = "can't update client config because it's unset"
    prove("without a configuration there is nothing to rotate", status == 400 and answer["errors"] == [unset], answer)
    config = {"access_key": old["AccessKeyId"], "secret_key": old["SecretAccessKey"], "iam_endpoint": MOTO, "sts_endpoint": MOTO, "sts_region": "us-east-1"}
    ask("POST", "auth/aws/config/client", config)
    status, answer = ask("POST", "auth/aws/config/rotate-root")
    new = (answer.get("data") or {}).get("access_key")
    prove("the key of the login mount is replaced", status == 200 and new not in (None, old["AccessKeyId"]), answer)
    prove("the answer has the id alone", answer.get("data") == {"access_key": new}, answer)
    prove("moto has the new one alone", keys("daypass-logins") == [new], keys("daypass-logins"))
    status, answer = ask("GET", "auth/aws/config/client")
    prove("the configuration names it and no secret", answer["data"]["access_key"] == new and "secret_key" not in answer["data"], answer)
    status, answer = ask("POST", "auth/aws/role/deploys", {"auth_type": "iam", "bound_iam_principal_arn": bound})
    prove("a principal is looked up with it", status in (200, 204), answer)
    status, answer = ask("POST", "auth/aws/config/rotate-root")
    again = (answer.get("data") or {}).get("access_key")
    prove("and it can replace itself", status == 200 and keys("daypass-logins") == [again], (answer, keys("daypass-logins")))
    ask("DELETE", "sys/auth/aws")


old = set_up()
key = static_role()
full_user()
many_users()
refused_user()
crowded_static_role()
rotate_root(old)
rotated_static_role(key)
unmounted()
rotate_login_root()
instance()
print(f"{prove.passed} passed, {prove.failed} failed")
sys.exit(1 if prove.failed else 0)
