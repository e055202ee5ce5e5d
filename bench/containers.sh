# SPDX-License-Identifier: GPL-2.0-only
# shellcheck shell=bash disable=SC2034,SC2154
#
# Containers of Debian's servers, for the sections containers and machines. The first part makes images, the second runs
# in the guest.

# ---- images ---------------------------------------------------------------------------------------

# make_servers SERVER...: make the trees $work/SERVER, unless they are there.
make_servers() {
	local server
	for server; do
		once "$work/$server" make_server_root "$server"
	done
}

make_server_root() {
	local root
	root=$("$top/environment/debian-root" "$1" --make) && link_tree "$root" "$2"
}

# make_joint FILE: make the tree FILE, which has those of all servers.
make_joint() {
	local server trees=()
	for server in $servers; do
		trees+=("$work/$server")
	done
	once "$1" join_trees "${trees[@]}"
}

# join_trees TREE... FILE
join_trees() {
	local tree file=${*: -1}
	mkdir "$file" || return
	for tree in "${@:1:$#-1}"; do
		link_tree "$tree" "$file/${tree##*/}" || return
	done
}

# ---- in the guest ---------------------------------------------------------------------------------

# Set `command` to what starts a server, `port`, `request` and `answer` to what shows that it serves.
server_command() {
	port=80 request='GET / HTTP/1.0\r\n\r\n' answer='HTTP/1.1 200'
	case $1 in
	nginx) command=(/usr/sbin/nginx -g 'daemon off;') ;;
	valkey) port=6379 request='PING\r\n' answer=+PONG command=(/usr/bin/valkey-server --save '') ;;
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
	mkdir -p /containers /images
	echo +memory >/sys/fs/cgroup/cgroup.subtree_control
	cp /bench/serve /tmp/
}

# mount_server PEER SERVER: mount the server's image on /images/SERVER, and set `image` to the KiB of memory that it takes
# there.
mount_server() {
	local before
	mkdir -p "/images/$2"
	before=$(used)
	mount_peer "$1" "/images/$2" "$2.$1"
	case $1 in
	daxfs | *-dax) image=$(device_memory "$2.$1") ;;
	tmpfs) image=$(($(used) - before)) ;;
	*) image=0 ;;
	esac
}

# device_memory NAME: KiB of a device, with the kernel's descriptions of its pages, 64 bytes for each 4 KiB.
device_memory() {
	echo $(($(blockdev --getsize64 "$(device "$1")") / 1024 * 65 / 64))
}

# Have the kernel free what it frees later, such as namespaces. Then have the programs that are needed below in the page
# cache.
settle() {
	drop_caches
	sleep 5
	drop_caches
	used >/dev/null
	page_cache >/dev/null
}

# start_containers COUNT SERVER...: run COUNT containers of each server, from /images/SERVER, and set `time` and `faults`
# of each container of the last server. They run until stop_containers.
processes=()
start_containers() {
	local count=$1 server
	shift
	for server; do
		server_command "$server"
		: >/tmp/started
		/tmp/serve "/images/$server" "$count" "$port" "$request" "$answer" "${command[@]}" \
			>/tmp/started 2>/tmp/errors &
		processes+=($!)
		until [[ -s /tmp/started ]]; do
			kill -0 $! || { tail /tmp/errors >&2; return 1; }
			sleep 0.1
		done
		read -r time faults </tmp/started
	done
}

stop_containers() {
	kill "${processes[@]}"
	wait "${processes[@]}"
	processes=()
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
