"""The world that the story happens in: names, certificates, two registries behind TLS, a container engine, a daypass server.

All of it lives below one directory and inside the namespaces that `run` made. Nothing here knows what the story proves.
"""

import json
import os
import shutil
import socket
import subprocess
import time
import urllib.error
import urllib.request
from pathlib import Path

REGION = "us-east-1"
ACCOUNTS = {"staging": "111111111111", "production": "222222222222"}
SERVER = "http://127.0.0.1:8200"
SANDBOX = "http://127.0.0.1:4566"
ROOT_TOKEN = "root"


def registry_of(environment):
    return f"{ACCOUNTS[environment]}.dkr.ecr.{REGION}.amazonaws.com"


# The names of AWS that real clients look up by themselves. SDK v1 (in Packer) knows no endpoint variable, so the names must lead here.
AWS_NAMES = [f"api.ecr.{REGION}.amazonaws.com", f"sts.{REGION}.amazonaws.com", "sts.amazonaws.com"]


class World:
    def __init__(self, root, daypass):
        self.root = Path(root)
        self.daypass = daypass
        self.children = []
        self.env = {
            "PATH": f"{self.root}/bin:{os.environ['PATH']}:/usr/sbin:/sbin",
            "HOME": f"{self.root}/home",
            "LANG": "C.UTF-8",
            "TMPDIR": f"{self.root}/tmp",
            "AWS_REGION": REGION,
            "AWS_DEFAULT_REGION": REGION,
            "AWS_EC2_METADATA_DISABLED": "true",
            "SSL_CERT_FILE": f"{self.root}/tls/trusted.pem",
            "CHECKPOINT_DISABLE": "1",
            "CONTAINERS_CONF": f"{self.root}/containers.conf",
            "CONTAINERS_STORAGE_CONF": f"{self.root}/storage.conf",
            "REGISTRY_AUTH_FILE": f"{self.root}/home/auth.json",
            "PACKER_CONFIG": f"{self.root}/home/packerconfig",
            "PACKER_CACHE_DIR": f"{self.root}/tmp/packer_cache",
            "TF_CLI_CONFIG_FILE": f"{self.root}/home/terraform.rc",
            "TF_IN_AUTOMATION": "1",
            "VAULT_ADDR": SERVER,
            "BAO_ADDR": SERVER,
        }

    def build(self):
        for name in ("bin", "home", "tmp", "tls", "logs", "run", "layers", "nginx", "rootfs/bin", "rootfs/etc", "rootfs/tmp"):
            (self.root / name).mkdir(parents=True, exist_ok=True)
        self._network()
        self._certificates()
        self._container_engine()
        self._registries()

    def _network(self):
        self.check(["ip", "link", "set", "lo", "up"])
        names = AWS_NAMES + [registry_of(e) for e in ACCOUNTS]
        self.write("hosts", "127.0.0.1 localhost\n" + "".join(f"127.0.0.1 {n}\n" for n in names))
        # Private to this mount namespace: the machine's own file is not touched.
        self.check(["mount", "--bind", str(self.root / "hosts"), "/etc/hosts"])

    def _certificates(self):
        tls = self.root / "tls"
        self.check(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2",
                    "-subj", "/CN=story CA", "-keyout", f"{tls}/ca.key", "-out", f"{tls}/trusted.pem",
                    "-addext", "basicConstraints=critical,CA:TRUE"])
        names = ",".join(f"DNS:{n}" for n in AWS_NAMES + [registry_of(e) for e in ACCOUNTS])
        self.check(["openssl", "req", "-new", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
                    "-subj", "/CN=story front", "-keyout", f"{tls}/front.key", "-out", f"{tls}/front.csr"])
        self.write("tls/front.ext", f"subjectAltName={names}\nextendedKeyUsage=serverAuth\n")
        self.check(["openssl", "x509", "-req", "-in", f"{tls}/front.csr", "-CA", f"{tls}/trusted.pem", "-CAkey", f"{tls}/ca.key",
                    "-CAcreateserial", "-days", "2", "-extfile", f"{tls}/front.ext", "-out", f"{tls}/front.pem"])

    def _container_engine(self):
        unified = "/sys/fs/cgroup/unified"
        # crun refuses a tree that mixes both versions of cgroups; with cgroups disabled it needs neither.
        if os.path.ismount(unified):
            self.check(["umount", unified])
        self.write("containers.conf", f"""
[containers]
netns = "host"
cgroups = "disabled"
cgroupns = "host"
# The default raises a limit, which is not permitted everywhere.
default_ulimits = ["nofile=1024:1024", "nproc=1000:1000"]
log_driver = "k8s-file"
[engine]
runtime = "crun"
cgroup_manager = "cgroupfs"
events_logger = "file"
tmp_dir = "{self.root}/run/libpod"
""")
        self.write("storage.conf", f"""
[storage]
driver = "vfs"
runroot = "{self.root}/run/containers"
graphroot = "{self.root}/layers"
""")
        # Packer calls `docker`. A client without an engine may stand first on PATH, so ours stands before it.
        self.write("bin/docker", '#!/bin/sh\nexec podman "$@"\n')
        (self.root / "bin/docker").chmod(0o755)
        # Podman refuses to run without the file that it was told to keep logins in.
        self.write("home/auth.json", "{}")
        busybox = shutil.which("busybox")
        rootfs = self.root / "rootfs"
        shutil.copy(busybox, rootfs / "bin/busybox")
        for applet in ("sh", "cat", "chmod", "cp", "echo", "ls", "mkdir", "rm", "sleep", "tar"):
            (rootfs / "bin" / applet).symlink_to("busybox")
        # Without root in /etc/passwd Packer's upload retries for five minutes.
        self.write("rootfs/etc/passwd", "root:x:0:0:root:/root:/bin/sh\n")
        self.check(["tar", "-C", str(rootfs), "-cf", str(self.root / "tmp/base.tar"), "."])
        self.check(["podman", "import", "--quiet", str(self.root / "tmp/base.tar"), "localhost/base:1"])

    def _registries(self):
        upstreams, accounts = "", ""
        for port, environment in enumerate(ACCOUNTS, start=5001):
            upstreams += f"    {registry_of(environment)} 127.0.0.1:{port};\n"
            accounts += f"    {registry_of(environment)} {ACCOUNTS[environment]};\n"
            (self.root / f"images-{environment}").mkdir()
            self.write(f"registry-{environment}.yml", json.dumps({
                "version": "0.1",
                "log": {"level": "warn"},
                "storage": {"filesystem": {"rootdirectory": f"{self.root}/images-{environment}"}},
                "http": {"addr": f"127.0.0.1:{port}", "relativeurls": True},
            }))
            self.spawn(f"registry-{environment}", ["docker-registry", "serve", f"{self.root}/registry-{environment}.yml"])
        directory = self.root / "nginx"
        self.write("nginx.conf", f"""
daemon off;
user root;
worker_processes 1;
pid {directory}/pid;
error_log {self.root}/logs/front-errors.log;
events {{}}
http {{
  access_log {self.root}/logs/front-access.log;
  client_max_body_size 0;
  client_body_temp_path {directory}/body; proxy_temp_path {directory}/proxy; fastcgi_temp_path {directory}/fastcgi;
  uwsgi_temp_path {directory}/uwsgi; scgi_temp_path {directory}/scgi;
  ssl_certificate {self.root}/tls/front.pem;
  ssl_certificate_key {self.root}/tls/front.key;
  map_hash_bucket_size 128;
  server_names_hash_bucket_size 128;
  map $host $registry {{
{upstreams}  }}
  map $host $account {{
{accounts}  }}
  map $request_method $action {{
    default ecr:PutImage;
    GET ecr:BatchGetImage;
    HEAD ecr:BatchGetImage;
  }}
  # The registries, open to whoever shows a password that the fake ECR gave out for that account to somebody who may do this there.
  server {{
    listen 127.0.0.1:443 ssl;
    server_name *.dkr.ecr.{REGION}.amazonaws.com;
    location / {{
      auth_request /verify;
      proxy_set_header Host $host;
      proxy_set_header X-Forwarded-Proto https;
      proxy_pass http://$registry;
    }}
    location = /verify {{
      internal;
      proxy_pass {SANDBOX}/_sandbox/ecr/verify?account=$account&region={REGION}&action=$action&repository=app;
      proxy_pass_request_body off;
      proxy_set_header Content-Length "";
      proxy_set_header Host $host;
    }}
  }}
  # The names of AWS's own services.
  server {{
    listen 127.0.0.1:443 ssl;
    server_name {' '.join(AWS_NAMES)};
    location / {{
      proxy_set_header Host $host;
      proxy_pass {SANDBOX};
    }}
  }}
}}
""")
        self.spawn("front", ["nginx", "-e", f"{self.root}/logs/front-errors.log", "-c", f"{self.root}/nginx.conf"])
        for port in (443, *range(5001, 5001 + len(ACCOUNTS))):
            self.await_port(port)

    def await_port(self, port):
        """Until something listens there."""
        for _ in range(200):
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    return
            time.sleep(0.05)
        raise SystemExit(f"nothing listens on port {port}; see the logs below {self.root}/logs")

    def start_daypass(self):
        """The server with the fake AWS inside. It takes its own identity from the fake's container-credentials endpoint."""
        log = self.spawn("daypass", [self.daypass, "server", "-dev", f"-dev-root-token-id={ROOT_TOKEN}", "-dev-listen-address=127.0.0.1:8200",
                                     "-dev-no-store-token", "-dev-aws-sandbox", "-dev-aws-sandbox-address=127.0.0.1:4566"])
        for _ in range(300):
            try:
                with urllib.request.urlopen(f"{SERVER}/v1/sys/health", timeout=2):
                    return
            except (urllib.error.URLError, OSError):
                if self.children[-1].poll() is not None:
                    break
                time.sleep(0.1)
        raise SystemExit(f"daypass did not answer {SERVER}/v1/sys/health; its last words:\n{tail(log)}")

    def stop_daypass(self):
        """Ends the server: the last that was started. Its addresses are free then."""
        server = self.children.pop()
        server.terminate()
        server.wait(20)

    def spawn(self, name, command):
        log = self.root / "logs" / f"{name}.log"
        # docker-registry reads every REGISTRY_* variable as configuration of its own, so servers get none of the clients' variables.
        env = {k: self.env[k] for k in ("PATH", "HOME", "LANG", "TMPDIR", "AWS_REGION")}
        with open(log, "wb") as out:
            self.children.append(subprocess.Popen(command, env=env, cwd=self.root, stdin=subprocess.DEVNULL, stdout=out, stderr=out))
        return log

    def run(self, command, stdin=None, timeout=120, cwd=None, **env):
        """Runs a client; returns (exit code, stdout, stderr) as text."""
        done = subprocess.run(command, env={**self.env, **env}, cwd=cwd or self.root, input=stdin if stdin is not None else "",
                              capture_output=True, text=True, timeout=timeout, check=False)
        return done.returncode, done.stdout, done.stderr

    def check(self, command):
        code, out, err = self.run(command)
        if code != 0:
            raise SystemExit(f"{command[0]} ended with {code} while the world was built:\n{(err or out)[-2000:]}")

    def write(self, name, text):
        (self.root / name).write_text(text)

    def close(self):
        for child in reversed(self.children):
            child.terminate()
        for child in self.children:
            try:
                child.wait(10)
            except subprocess.TimeoutExpired:
                child.kill()


def tail(path, lines=20):
    return "\n".join(Path(path).read_text(errors="replace").splitlines()[-lines:])
