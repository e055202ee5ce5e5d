# SPDX-License-Identifier: GPL-2.0-only
# shellcheck shell=bash disable=SC2034,SC2154
#
# Containers of Debian's servers, for the sections containers, versions and machines. The first part makes images, the
# second runs in the guest.

# ---- images ---------------------------------------------------------------------------------------

# make_servers SERVER...: make the trees $work/SERVER, unless they exist.
make_servers() {
	local server
	for server; do
		once "$work/$server" make_server_root "$server"
	done
}

make_server_root() {
	local root
	root=$("$top/scripts/debian-root" "$1" --make) && link_tree "$root" "$2"
}

# make_joint FILE SERVER...: make the tree FILE of the servers' trees.
make_joint() {
	local file=$1
	shift
	once "$file" join_trees "${@/#/$work/}"
}

# join_trees TREE... FILE
join_trees() {
	local tree file=${*: -1}
	mkdir "$file" || return
	for tree in "${@:1:$#-1}"; do
		link_tree "$tree" "$file/${tree##*/}" || return
	done
}

# add_servers PEER SERVER...: make the servers' images for a peer, and add them to the machine. Images that are not used
# as memory are on disks. tmpfs is filled from the images of daxfs.
add_servers() {
	local peer=$1 server add=add_disk
	shift
	case $peer in
	daxfs | tmpfs) peer=daxfs add=add_image ;;
	*-dax | erofs-aligned) add=add_image ;;
	esac
	for server; do
		[[ " $devices $disks " != *" $server.$peer "* ]] || continue
		make_image "$peer" "$server"
		$add "$server.$peer" "$work/$server.$peer"
	done
}

# add_store NAME SERVER...: make a store of the servers' trees, and add it to the machine, on a disk, once. It has the images
# that are measured together: a pack is in memory as a whole, also if an image needs half of it.
add_store() {
	local server tree=$work/$1
	[[ " $disks " != *" $1 "* ]] || return 0
	rm -rf "$tree" "$tree.ext4"
	for server in "${@:2}"; do
		"$top/build/bin/daxfs" store add "$tree" "$server" "$work/$server"
	done
	make_ext4-dax "$tree" "$tree.ext4"
	add_disk "$1" "$tree.ext4"
}

# ---- in the guest ---------------------------------------------------------------------------------

loader=/sys/fs/cgroup/loader	# has the program that loads packs on demand

# Set `command`, which starts a server, and `port`, `request` and `answer`, which check that it serves.
server_command() {
	port=80 request=$'GET / HTTP/1.0\r\n\r\n' answer='HTTP/1.1 200'
	case ${1%-security} in
	nginx) command=(/usr/sbin/nginx -g 'daemon off;') ;;
	valkey) port=6379 request=$'PING\r\n' answer=+PONG command=(/usr/bin/valkey-server --save '') ;;
	tomcat)
		# Java's own web server: under emulation tomcat takes ten times as long to start.
		port=8080
		command=(/usr/bin/java -Xmx64m -m jdk.httpserver -b 127.0.0.1 -p 8080 -d /var/lib/tomcat10/webapps/ROOT)
		;;
	esac
}

# Memory of the machine that is in use, and how much of it is page cache, in KiB. Pages in the lists of a processor are
# free, but not counted so.
used() {
	echo $(($(meminfo MemTotal) - $(meminfo MemFree) - $(awk '/^ +count:/ { n += 4 * $2 } END { print n }' /proc/zoneinfo)))
}

page_cache() {
	echo $(($(meminfo Cached) + $(meminfo Buffers) - $(meminfo Shmem)))
}

prepare_containers() {
	[[ ! -e /containers ]] || return 0
	# The host may be busy with other machines, or its disk slow, for longer than ten seconds of this clock.
	echo 120 >/proc/sys/kernel/hung_task_timeout_secs
	mkdir -p /containers /images $loader
	echo +memory >/sys/fs/cgroup/cgroup.subtree_control
	# Files of a tmpfs are in no page cache that is measured.
	cp "$(type -P busybox)" /tmp/
}

# mount_server PEER SERVER [STORE]: mount the server's image on /images/SERVER, and set `image` to the KiB of memory that it
# takes. daxfs-store and daxfs-demand have it in STORE.
mount_server() {
	local before options=image=$2
	mkdir -p "/images/$2"
	if [[ $1 = daxfs-@(store|demand) ]]; then
		[[ $1 != daxfs-demand ]] || options+=,load=demand
		mountpoint -q /held || mount -o ro "$(device "$3")" /held
		settle
		before=$(used)
		# While a slow disk works, this clock runs, and the second time the first one's server answers.
		mount -t daxfs -o "$options" /held "/images/$2" >&2 || mount -t daxfs -o "$options" /held "/images/$2" >&2
		[[ $1 != daxfs-demand ]] || pgrep -f '^daxfs store serve' >$loader/cgroup.procs
		settle
		image=$(($(used) - before))
		return
	fi
	before=$(used)
	mount_peer "$1" "/images/$2" "$2.$1"
	case $1 in
	daxfs | *-dax) image=$(device_memory "$2.$1") ;;
	tmpfs) image=$(($(used) - before)) ;;
	*) image=0 ;;
	esac
}

# unmount_servers PEER SERVER...
unmount_servers() {
	local server
	for server in "${@:2}"; do umount "/images/$server" >&2; done
	! mountpoint -q /held || umount /held
}

# remount_server PEER SERVER STORE: mount a server's image again: no pack is verified, and on demand none is loaded.
remount_server() {
	umount "/images/$2"
	while pgrep -f '^daxfs store serve' >/dev/null; do sleep 1; done
	mount_server "$@"
}

# mount_joint NAME SERVER...: mount daxfs's image NAME, which has the trees of all servers, as mount_server does.
mount_joint() {
	local name=$1 server
	shift
	mount_peer daxfs /mnt "$name.daxfs"
	for server; do
		mkdir -p "/images/$server"
		mount --bind "/mnt/$server" "/images/$server"
	done
	image=$(device_memory "$name.daxfs")
}

# device_memory NAME: KiB of a device, with the kernel's descriptions of its pages, 64 bytes for each 4 KiB.
device_memory() {
	echo $(($(blockdev --getsize64 "$(device "$1")") / 1024 * 65 / 64))
}

# Make the kernel free namespaces and other deferred objects. Then read the programs needed below into the page cache.
settle() {
	drop_caches
	sleep 5
	drop_caches
	used >/dev/null
	page_cache >/dev/null
	port=1 request='' answer='' answers $$ || :
}

# start_containers COUNT SERVER...: run COUNT containers of each server, from /images/SERVER, in one control group a server,
# and set `time`, in microseconds of the processor, with the loading of packs, and `faults` of each container of the last
# server. The next container starts after this one has answered. They run until stop_containers.
processes=() groups=()
start_containers() {
	local count=$1 server number loaded
	shift
	for server; do
		loaded=$(field $loader cpu.stat usage_usec)
		server_command "$server"
		groups+=("/sys/fs/cgroup/$server")
		/tmp/busybox mkdir "${groups[-1]}"
		for ((number = 0; number < count; number++)); do
			# Only the server counts, from its exec on.
			# shellcheck disable=SC2016 # for the container
			/tmp/busybox unshare -m -u -i -n -p -f /tmp/busybox sh -ec '
				mount -t tmpfs -o mode=755 tmpfs /containers
				cd /containers
				mkdir upper work root
				mount -t overlay -o "lowerdir=$1,upperdir=/containers/upper,workdir=/containers/work" overlay root
				mount -o bind /dev root/dev
				mount -t proc proc root/proc
				ip link set lo up
				shift
				echo 0 >"$0/cgroup.procs"
				exec chroot root "$@" </dev/null >/dev/null' "${groups[-1]}" "/images/$server" "${command[@]}" &
			processes+=($!)
			until answers $!; do
				kill -0 $! || return
				sleep 0.02
			done
		done
		# Also count the servers' work after their first answer.
		sleep 2
		time=$((($(field "${groups[-1]}" cpu.stat usage_usec) + $(field $loader cpu.stat usage_usec) - loaded) / count))
		faults=$(($(field "${groups[-1]}" memory.stat pgfault) / count))
	done
}

# answers PID: check that the server in the network namespace of a process answers.
answers() {
	# shellcheck disable=SC2016 # for the other shell
	/tmp/busybox nsenter -t "$1" -n bash -c 'exec 3<>"/dev/tcp/127.0.0.1/$0" && printf %s "$1" >&3 &&
		read -r -t 60 -N ${#2} text <&3 && [[ $text = "$2" ]]' "$port" "$request" "$answer" 2>/dev/null
}

# field GROUP FILE KEY: the number of a key in a file of a control group.
field() {
	local key value
	while read -r key value; do
		[[ $key != "$3" ]] || echo "$value"
	done <"$1/$2"
}

stop_containers() {
	local group
	for group in "${groups[@]}"; do echo 1 >"$group/cgroup.kill"; done
	wait "${processes[@]}" || :
	rmdir "${groups[@]}"
	processes=() groups=()
}

# run_containers COUNT SERVER...: start and stop containers, and set `time`, `faults`, and `taken` and `cached`, the memory
# and the page cache of all.
run_containers() {
	local before
	settle
	before=$(used) cached=$(page_cache)
	start_containers "$@"
	taken=$(($(used) - before)) cached=$(($(page_cache) - cached))
	stop_containers
}

# measure_together PREFIX IMAGES SERVER...: print the rows of all servers together; their images take IMAGES KiB of memory.
measure_together() {
	local prefix=$1 images=$2
	shift 2
	run_containers 1 "$@"
	printf '%s\t%s\n' "${prefix}one of each: page cache, KiB" "$cached" "${prefix}one of each: memory, KiB" "$taken" \
		"${prefix}one of each: memory and images, KiB" $((taken + images))
	[[ $peer != daxfs-demand ]] || return 0	# what is loaded by now would be missing
	settle
	find /dev/null -exec cat {} + >/dev/null
	taken=$(used) cached=$(page_cache)
	find "${@/#//images/}" -type f -exec cat {} + >/dev/null
	taken=$(($(used) - taken)) cached=$(($(page_cache) - cached))
	printf '%s\t%s\n' "${prefix}all files read: page cache, KiB" "$cached" "${prefix}all files read: memory, KiB" "$taken" \
		"${prefix}all files read: memory and images, KiB" $((taken + images))
}
