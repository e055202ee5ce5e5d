# SPDX-License-Identifier: GPL-2.0-only
# shellcheck shell=bash
#
# containerd and daxfs-snapshotter for tests that source ktap.sh first: start and end both, run containers, and compare
# files. containerd is from the image that is mounted at $mnt.
# shellcheck disable=SC2154 # ktap.sh sets them
IMAGE=registry.example/daxfs/test:1
place=$work/containerd
root=$place/daxfs
socket=$place/daxfs.sock
# mount(8) splits options for fsconfig(2), which takes 255 bytes of one; containerd uses mount(2).
export LIBMOUNT_FORCE_MOUNT2=always
export CONTAINERD_ADDRESS=$place/containerd.sock CONTAINERD_SNAPSHOTTER=daxfs PATH=$mnt/usr/bin:$mnt/usr/sbin:$PATH

# snapshotter_needs [IMAGE]: end the script if it cannot run here. Set device to the device with containerd.
# shellcheck disable=SC2120 # the test docker has another image
snapshotter_needs() {
	needs crun
	needs daxfs-snapshotter
	[ -e /sys/fs/cgroup/cgroup.controllers ] || skip_all "needs cgroups (version 2)"
	modprobe -q overlay
	fixture "${1-containerd}"
}

# ---- the daemons ----------------------------------------------------------------------------------

configure() {
	mount -t daxfs "$device" "$mnt" && mkdir -p "$place" && mount -t tmpfs -o mode=700 tmpfs "$place" || return
	mkdir "$place"/{native,shared,made}
	cat >"$place/config.toml" <<-END
	version = 2
	root = "$place/root"
	state = "$place/state"
	disabled_plugins = [ "io.containerd.grpc.v1.cri", "io.containerd.nri.v1.nri" ]
	[grpc]
	  address = "$CONTAINERD_ADDRESS"
	[proxy_plugins.daxfs]
	  type = "snapshot"
	  address = "$socket"
	# containerd 2.x imports through this service.
	[[plugins."io.containerd.transfer.v1.local".unpack_config]]
	  platform = "linux/amd64"
	  snapshotter = "daxfs"
	END
	printf '%s\n' "root = \"$root\"" "socket = \"$socket\"" 'private-mounts = true' >"$place/daxfs.toml"
	daxfs-snapshotter --config "$place/daxfs.toml" --check
}

# wait_for COMMAND...: wait until a command succeeds.
wait_for() {
	local limit=$((SECONDS + 300))
	until "$@" >/dev/null 2>&1; do
		[ $SECONDS -lt $limit ] || { echo "this did not succeed: $*"; "$@"; tail -n 20 "$place"/*.log; return 1; }
		sleep 0.1
	done
}

# Each point runs in a separate process, so files hold the daemons' process IDs.
start_daemon() {
	rm -f "$socket"
	daxfs-snapshotter --config "$place/daxfs.toml" >>"$place/daxfs.log" 2>&1 </dev/null &
	echo $! >"$place/daxfs.pid"
	wait_for test -S "$socket"
}

start_containerd() {
	containerd --config "$place/config.toml" >"$place/containerd.log" 2>&1 </dev/null &
	echo $! >"$place/containerd.pid"
	wait_for test -S "$CONTAINERD_ADDRESS" && wait_for ctr version
}

# ended PID: check that a process has ended, whether or not its parent knows.
ended() {
	! grep -q '^State:[[:space:]]*[^ZX]' "/proc/$1/status" 2>/dev/null
}

# stop NAME SIGNAL: end a daemon.
stop() {
	local process
	process=$(<"$place/$1.pid") && kill "-$2" "$process" && wait_for ended "$process"
}

# ends [NAME]: end the daemons, another one first.
ends() {
	{ [ $# = 0 ] || stop "$1" TERM; } && stop daxfs TERM && stop containerd TERM && [ ! -e "$socket" ]
}

# The machine may run other tests.
trap 'kill $(cat "$place"/*.pid) 2>/dev/null' EXIT

starts() {
	start_daemon && start_containerd && ctr plugins ls | grep -q 'io.containerd.snapshotter.v1 *daxfs .*ok'
}

snapshots() {
	ctr snapshots "$@"
}

# prepare NAME MIB [TEXT [PARENT]]: prepare a snapshot with a file of lines with TEXT or NAME, and set dir to its directory.
# shellcheck disable=SC2034 # for the caller
prepare() {
	snapshots prepare "$1" ${4:+"$4"} >/dev/null && dir=$(snapshots mounts /none "$1" | sed -n "s|.* \($root/snapshots/[0-9]*\)/fs .*|\1|p") &&
		[ -d "$dir/fs" ] && yes "${3-$1}" | dd of="$dir/fs/file" bs=1M count="$2" iflag=fullblock status=none
}

# made NAME: wait until the image of a committed snapshot is made and loaded. Fail if it cannot be. containerd's garbage
# collector removes the view, which it may have begun already.
made() {
	snapshots view "view of $1" "$1" >/dev/null || return
	snapshots rm "view of $1" 2>/dev/null
	collect
}

# commit NAME KEY: commit a snapshot, and wait for its image.
commit() {
	snapshots commit "$1" "$2" && made "$1"
}

# Print the memory that is in memfds, in KiB.
memfds() {
	# Each processor counts some pages before it adds them.
	echo 1 >/proc/sys/vm/stat_refresh
	echo $(($(meminfo Shmem) - $(df -k --output=used "$place" | tail -n 1)))
}

# Print the directories that images of snapshots are mounted on.
layers() {
	awk -v root="$root/snapshots/" '$3 == "overlay" && index($2, root) == 1 { print $2 }' /proc/self/mounts
}

# Print the directories that images and packs are mounted on.
loaded() {
	awk '$3 == "daxfs" && index($2, "/run/daxfs/") == 1 { print $2 }' /proc/self/mounts
}

# number_of SNAPSHOTS [PACKS]: check how many snapshots have their image in memory, and how many packs are there.
number_of() {
	[ "$(layers | wc -l)" = "$1" ] && [ "$(loaded | grep -c /i/)" = "$1" ] && [ "$(loaded | grep -c /p/)" = "${2-$(loaded | grep -c /p/)}" ] ||
		{ echo "not $1 images${2+ and $2 packs}:"; layers; loaded; return 1; }
}

# Check that the store has no unfinished file.
finished() {
	! compgen -G "$root/store/*/.mkdaxfs-*"
}

# Check that there is no snapshot, no image and no pack.
nothing_left() {
	[ -z "$(find "$root/snapshots" "$root"/store/{images,packs} -mindepth 1)" ] || { ls -R "$root"; return 1; }
}

# Unload all images, as a restart of the machine does.
unload() {
	layers | xargs -r umount && loaded | xargs -r umount && number_of 0 0
}

# Run containerd's garbage collector, which makes the snapshotter delete removed snapshots. On its own it waits 50 times
# as long as its last run took.
collect() {
	# It is there if a call was killed.
	ctr leases create --id collect >/dev/null 2>&1
	ctr leases rm --sync collect >/dev/null
}

# ---- images and containers ------------------------------------------------------------------------

# make_archive NAME ARCHIVE LAYER...: make an archive of the image NAME as docker save does, of layers that are tar archives.
# They are moved.
make_archive() {
	local dir=$place/layout layers=("${@:3}") names digests
	digests=$(sha256sum "${layers[@]}" | sed 's/^/"sha256:/; s/ .*/"/' | paste -sd ,)
	mkdir "$dir" && mv "${layers[@]}" "$dir/" || return
	echo '{"architecture":"amd64","os":"linux","config":{},"rootfs":{"type":"layers","diff_ids":['"$digests"']}}' >"$dir/config.json"
	names=$(printf '"%s"\n' "${layers[@]##*/}" | paste -sd ,)
	echo '[{"Config":"config.json","RepoTags":["'"$1"'"],"Layers":['"$names"']}]' >"$dir/manifest.json"
	tar -C "$dir" -cf "$2" . && rm -r "$dir"
}

# list_files DIR: print the attributes and the digests of all files. Inode numbers of overlays of several filesystems are not
# those in directories: errors that do not matter here. The root has the time at which the last layer was unpacked.
list_files() {
	"$tests/lib/manifest" "$1" 2>/dev/null | awk -F '\t' -v OFS='\t' '$2 ~ /^04/ { $5 = $7 = "-" } $1 == "." { $6 = "-" } { print }'
}

# same_files IMAGE: compare its files with those that containerd's own snapshotter shows of IMAGE, the reference.
same_files() {
	local name
	ctr image mount --snapshotter overlayfs "$IMAGE" "$place/native" &&
		ctr image mount --snapshotter daxfs "$1" "$place/shared" || return
	for name in native shared; do list_files "$place/$name" >"$work/$name.manifest"; done
	[ "$(wc -l <"$work/native.manifest")" -gt 30 ] && diff "$work/native.manifest" "$work/shared.manifest" || return
	[ ! -e "$place/shared/srv/removed" ] && [ ! -e "$place/shared/srv/shadow/below" ] && [ -e "$place/shared/srv/shadow/above" ] || return
	ctr image unmount --rm --snapshotter overlayfs "$place/native" && ctr image unmount --rm --snapshotter daxfs "$place/shared"
}

# run NAME COMMAND...: start a container.
run() {
	local name=$1
	shift
	ctr run --detach --null-io --runc-binary crun --mount "type=bind,src=$tests,dst=/tests,options=rbind:ro" \
		"$IMAGE" "$name" "$@"
}

# run_all PREFIX FIRST LAST: start containers that map FILE, as many at a time as there are processors.
run_all() {
	local number started=()
	for ((number = $2; number <= $3; number++)); do
		[ "${#started[@]}" -lt "$(nproc)" ] || end_one || return
		run "$1$number" /tests/mapper "$FILE" &
		started[$!]=1
	done
	while [ ${#started[@]} -gt 0 ]; do end_one || return; done
}

# Print a line for each container: the number of pages that it has of FILE, and where they are.
frames() {
	local process
	for process in $(ctr task ls | awk '$3 == "RUNNING" { print $2 }'); do
		"$tests/mapper" --frames "$process" "$FILE"
	done
}

# end NAME: remove a container.
end() {
	ctr task rm --force "$1" >/dev/null 2>&1
	ctr container rm "$1"
}
