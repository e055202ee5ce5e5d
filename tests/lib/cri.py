# SPDX-License-Identifier: GPL-2.0-only
"""The container runtime interface for tests: the calls of a kubelet to containerd with daxfs-snapshotter."""
import os
import re
import socket

from lib import containers
from lib.containers import ADDRESS, CRI, IMAGE, MNT, NRI, ROOT, command, wait_for

DATA, HEADERS, RESET, SETTINGS, GOAWAY = 0, 1, 3, 4, 7
RUNTIME = """\
[proxy_plugins.daxfs.exports]
  root = "{root}"
[plugins."{plugin}".containerd.runtimes.runc]
  runtime_type = "io.containerd.runc.v2"
[plugins."{plugin}".containerd.runtimes.runc.options]
  BinaryName = "crun"
"""


# ---- gRPC without a library -----------------------------------------------------------------------

def number(value):
    """Return a number as protobuf encodes it."""
    return bytes([value]) if value < 128 else bytes([value & 127 | 128]) + number(value >> 7)


def encode(message):
    """Return the bytes of a message: numbers of fields, with numbers, texts, lists or messages as values."""
    out = b""
    for field, values in message.items():
        for value in values if isinstance(values, list) else [values]:
            if isinstance(value, int):
                out += number(field << 3) + number(value)
            else:
                value = value.encode() if isinstance(value, str) else encode(value)
                out += number(field << 3 | 2) + number(len(value)) + value
    return out


def decode(data, path=""):
    """Return the fields of a message: PATH=VALUE. Fields with unprintable bytes are messages."""
    found = []
    while data:
        numbers = []
        while len(numbers) < 2:
            length = next(at for at, byte in enumerate(data) if byte < 128) + 1
            numbers.append(sum((byte & 127) << 7 * at for at, byte in enumerate(data[:length])))
            data = data[length:]
        (tag, value), name = numbers, f"{path}{numbers[0] >> 3}"
        if tag & 7 == 0:
            found.append(f"{name}={value}")
            continue
        part, data = data[:value], data[value:]
        if all(32 <= byte < 127 for byte in part.removesuffix(b"\n")):
            found.append(f"{name}={part.decode().rstrip()}")
        else:
            found += decode(part, name + ".")
    return found


def frame(kind, flags, stream, data):
    """Return a frame of HTTP/2."""
    return len(data).to_bytes(3, "big") + bytes([kind, flags]) + stream.to_bytes(4, "big") + data


def call(method, request=None):
    """Return the fields of the response to a call by their numbers in api.proto of k8s.io/cri-api."""
    fields = [(":method", "POST"), (":scheme", "http"), (":path", f"/runtime.v1.{method}"), (":authority", "localhost"),
              ("content-type", "application/grpc"), ("te", "trailers")]
    block = b"".join(b"\0" + b"".join(bytes([len(text)]) + text.encode() for text in field) for field in fields)
    request, body = encode(request or {}), b""
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(120)
        client.connect(str(ADDRESS))
        client.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + frame(SETTINGS, 0, 0, b"") + frame(HEADERS, 4, 1, block)
                       + frame(DATA, 1, 1, b"\0" + len(request).to_bytes(4, "big") + request))
        stream = client.makefile("rb")
        while head := stream.read(9):
            kind, flags, data = head[3], head[4], stream.read(int.from_bytes(head[:3], "big"))
            if kind == SETTINGS and not flags & 1:
                client.sendall(frame(SETTINGS, 1, 0, b""))
            if kind == DATA:
                body += data
            if kind in (RESET, GOAWAY) or kind == HEADERS and flags & 1:
                break
    # The trailer with the status is compressed. A call that fails has no response.
    assert body, f"{method} failed, see the log of containerd"
    return decode(body[5:])


def value(fields, path):
    """Return the value of a field of a response."""
    found = [field.partition("=")[2] for field in fields if field.startswith(f"{path}=")]
    assert found, f"no {path}: {fields}"
    return found[0]


# ---- the calls of a kubelet -----------------------------------------------------------------------

def version():
    """Return the version of containerd: two numbers."""
    found = re.search(r" v?(\d+)\.(\d+)\.", command(f"{MNT}/usr/bin/containerd", "--version"))
    return int(found[1]), int(found[2])


def start(differs=("daxfs-diff",)):
    """Start containerd with the configuration of containers.rst, and another runtime, no network, no other device."""
    os.environ["CONTAINERD_NAMESPACE"] = "k8s.io"
    containers.mount_engine("containerd")
    if version() < (2, 0):
        form, plugin = 2, CRI
        lines = f'[plugins."{CRI}"]\n  sandbox_image = "{IMAGE}"\n[plugins."{CRI}".containerd]\n  snapshotter = "daxfs"\n'
    else:
        form, plugin, images = 3, "io.containerd.cri.v1.runtime", "io.containerd.cri.v1.images"
        lines = f'[plugins."{images}"]\n  snapshotter = "daxfs"\n[plugins."{images}".pinned_images]\n  sandbox = "{IMAGE}"\n'
    containers.start_both(form, [NRI], lines + RUNTIME.format(root=ROOT, plugin=plugin), differs=differs)
    # It sees images that are imported after its start.
    wait_for(call, "RuntimeService/Status")


def pod_config(name="pod"):
    """Return the configuration of a pod in the network of the host. containerd reads the name when the pod is made."""
    return {1: {1: name, 2: f"uid-{name}", 3: "default"}, 4: {1: ["127.0.0.1"]}, 8: {2: {1: {1: 2, 2: 0, 3: 2}}}}


def run_pod(name="pod"):
    """Run a pod without containers. Its sandbox has the image as well."""
    return value(call("RuntimeService/RunPodSandbox", {1: pod_config(name)}), "1")


def create(pod, name, *words, mounts=()):
    """Create a container in a pod."""
    config = {1: {1: name}, 2: {1: IMAGE}, 3: list(words), 7: list(mounts)}
    return value(call("RuntimeService/CreateContainer", {1: pod, 2: config, 3: pod_config()}), "1")


def start_container(container):
    """Start a container."""
    call("RuntimeService/StartContainer", {1: container})


def execute(container, *words):
    """Run a command in a container; return output (1), errors (2) and exit status (3), unless they are empty."""
    return call("RuntimeService/ExecSync", {1: container, 2: list(words)})


def end_pod(pod):
    """Stop and remove a pod with its containers."""
    for method in "StopPodSandbox", "RemovePodSandbox":
        call(f"RuntimeService/{method}", {1: pod})


def remove_image(name=IMAGE):
    """Remove an image."""
    call("ImageService/RemoveImage", {1: {1: name}})
