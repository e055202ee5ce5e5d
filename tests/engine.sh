# SPDX-License-Identifier: GPL-2.0-only
# shellcheck shell=bash
#
# Podman from an image at $engine, for tests that source ktap.sh first. Without network and systemd.
# shellcheck disable=SC2154 # ktap.sh sets them
engine=$mnt

# Configure podman with the paths of its parts, and without the rest.
podman_configure() {
	mkdir -p "$mnt" "$work/etc" /etc/containers /var
	mount -t tmpfs tmpfs /var && mkdir /var/tmp
	cat >"$work/containers.conf" <<-END
	[engine]
	conmon_path = [ "$engine/usr/bin/conmon" ]
	helper_binaries_dir = [ "$engine/usr/lib/podman" ]
	runtime = "crun"
	cgroup_manager = "cgroupfs"
	events_logger = "none"
	[containers]
	netns = "none"
	log_driver = "none"
	END
	cat >/etc/containers/policy.json <<-END
	{
	  "default": [ { "type": "reject" } ],
	  "transports": {
	    "containers-storage": { "": [ { "type": "insecureAcceptAnything" } ] },
	    "oci-archive": { "": [ { "type": "insecureAcceptAnything" } ] }
	  }
	}
	END
}

# podman_program NAME ARGUMENT...: run a program of the image.
podman_program() {
	local name=$1
	shift
	CONTAINERS_CONF=$work/containers.conf LD_LIBRARY_PATH=$engine/usr/lib/x86_64-linux-gnu "$engine/usr/bin/$name" "$@"
}

# Print the process of a container. The test defines podman.
process() {
	podman inspect --format '{{.State.Pid}}' "$1"
}

# Print a line for each of the containers in names: the number of pages that it has of FILE, and where they are.
frames() {
	local name
	for name in "${names[@]}"; do
		"$tests/mapper" --frames "$(process "$name")" "$FILE"
	done
}

# Print the page cache in KiB, without tmpfs.
page_cache() {
	awk '/^(Cached|Buffers):/ { n += $2 } /^Shmem:/ { n -= $2 } END { print n }' /proc/meminfo
}
