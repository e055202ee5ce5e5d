# SPDX-License-Identifier: GPL-2.0-only
"""The container runtime interface for tests: the calls of a kubelet to containerd with daxfs-snapshotter."""
import os
import re

from lib import containers, grpc
from lib.containers import ADDRESS, CRI, IMAGE, MNT, NRI, command, wait_for
from lib.grpc import value

RUNTIME = """\
[plugins."{plugin}".containerd.runtimes.runc]
  runtime_type = "io.containerd.runc.v2"
[plugins."{plugin}".containerd.runtimes.runc.options]
  BinaryName = "crun"
"""


# ---- the calls of a kubelet -----------------------------------------------------------------------

def call(method, request=None):
    """Return the fields of the response to a call of api.proto of k8s.io/cri-api."""
    return grpc.call(ADDRESS, f"runtime.v1.{method}", request)


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
        lines = f'[plugins."{CRI}"]\n  sandbox_image = "{IMAGE}"\n' + containers.example("With containerd 1.7")
    else:
        form, plugin = 3, "io.containerd.cri.v1.runtime"
        # The rest of the example is for all tests.
        lines = "\n".join(containers.example("\ntransfers").split("\n")[:2]) + f'\n[plugins."io.containerd.cri.v1.images".pinned_images]\n  sandbox = "{IMAGE}"\n'
    containers.start_both(form, [NRI], lines + RUNTIME.format(plugin=plugin), differs=differs)
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
