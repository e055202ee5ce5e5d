// SPDX-License-Identifier: GPL-2.0-only
/*
 * Run the same server in several containers, for bench/sections/containers.
 *
 *   serve IMAGE COUNT PORT REQUEST ANSWER PROGRAM...
 *
 * Starts PROGRAM in COUNT containers, each with its own namespaces, and in one control group. The
 * root of a container is an overlayfs of the directory IMAGE and a tmpfs, which it mounts on
 * /containers. The next container starts after this one has answered REQUEST at PORT of 127.0.0.1
 * with something that starts with ANSWER. Prints, separated by tabs, the microseconds of processor
 * time and the page faults of the control group for each container. Kills all on SIGTERM.
 *
 * Under a clock that counts instructions (qemu/vm run --icount), 1 us is 1,000 instructions.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <err.h>
#include <errno.h>
#include <fcntl.h>
#include <net/if.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define NAMESPACES	(CLONE_NEWPID | CLONE_NEWNET | CLONE_NEWNS | CLONE_NEWIPC | CLONE_NEWUTS)
/* In microseconds. A Java server takes minutes under emulation. */
#define PAUSE		20000
#define LIMIT		(1800 * 1000000LL)

static char group[64];

static const char *in_group(const char *name)
{
	static char path[128];

	snprintf(path, sizeof(path), "%s/%s", group, name);
	return path;
}

static void write_file(const char *path, const char *text)
{
	int file = open(path, O_WRONLY);

	if (file < 0 || write(file, text, strlen(text)) < 0 || close(file))
		err(1, "%s", path);
}

static long long field(const char *path, const char *key)
{
	FILE *file = fopen(path, "r");
	long long value = -1;
	char line[256];

	if (!file)
		err(1, "%s", path);
	while (value < 0 && fgets(line, sizeof(line), file)) {
		if (!strncmp(line, key, strlen(key)) && line[strlen(key)] == ' ')
			value = atoll(line + strlen(key));
	}
	fclose(file);
	if (value < 0)
		errx(1, "%s has no %s", path, key);
	return value;
}

static void loopback_up(void)
{
	struct ifreq request = { .ifr_name = "lo", .ifr_flags = IFF_UP };
	int file = socket(AF_INET, SOCK_DGRAM, 0);

	if (file < 0 || ioctl(file, SIOCSIFFLAGS, &request) || close(file))
		err(127, "lo");
}

/* Mount the container's root on /containers/root, in its own namespace. */
static void mount_root(const char *image)
{
	char options[1024];

	snprintf(options, sizeof(options),
		 "lowerdir=%s,upperdir=/containers/upper,workdir=/containers/work", image);
	if (mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) ||
	    mount("tmpfs", "/containers", "tmpfs", 0, "mode=755") ||
	    mkdir("/containers/upper", 0755) || mkdir("/containers/work", 0755) ||
	    mkdir("/containers/root", 0755))
		err(127, "/containers");
	if (mount("overlay", "/containers/root", "overlay", 0, options))
		err(127, "overlay with %s", options);
	if (mount("/dev", "/containers/root/dev", NULL, MS_BIND, NULL))
		err(127, "/containers/root/dev");
}

/* Process 1 of the container. */
static void run(char **program)
{
	int null = open("/dev/null", O_RDWR);
	sigset_t none;

	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (chroot("/containers/root") || chdir("/") || mount("proc", "/proc", "proc", 0, NULL))
		err(127, "/containers/root");
	if (dup2(null, 0) < 0 || dup2(null, 1) < 0 || setsid() < 0)
		err(127, "/dev/null");
	execv(program[0], program);
	err(127, "%s", program[0]);
}

/* Start a container. Returns the process that is its parent, which is in its network namespace. */
static pid_t start(const char *image, char **program)
{
	pid_t parent, child;
	int ends[2], status;
	char byte;

	if (pipe2(ends, O_CLOEXEC))
		err(1, "pipe");
	parent = fork();
	if (parent < 0)
		err(1, "fork");
	if (parent) {
		close(ends[1]);
		if (read(ends[0], &byte, 1) != 1)
			errx(1, "%s: no container", image);
		close(ends[0]);
		return parent;
	}
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	write_file(in_group("cgroup.procs"), "0");
	if (unshare(NAMESPACES))
		err(127, "unshare");
	mount_root(image);
	loopback_up();
	child = fork();
	if (!child)
		run(program);
	if (child < 0 || write(ends[1], "", 1) != 1)
		err(127, "fork");
	waitpid(child, &status, 0);
	errx(127, "%s of %s ended with status %#x", program[0], image, status);
}

/* Make a socket in the namespace of a process. */
static int socket_of(pid_t pid)
{
	char path[64];
	int file;

	snprintf(path, sizeof(path), "/proc/%d/ns/net", pid);
	file = open(path, O_RDONLY);
	if (file < 0 || setns(file, CLONE_NEWNET))
		err(1, "%s", path);
	close(file);
	file = socket(AF_INET, SOCK_STREAM, 0);
	if (file < 0)
		err(1, "socket");
	return file;
}

/* Send the request until the right answer comes. */
static void ask(pid_t pid, int port, const char *request, const char *answer)
{
	struct sockaddr_in address = { .sin_family = AF_INET, .sin_port = htons(port) };
	ssize_t length = 0, got;
	char buffer[4096];
	long long waited;
	int file;

	address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	for (waited = 0; waited < LIMIT; waited += PAUSE) {
		if (waitpid(pid, NULL, WNOHANG))
			errx(1, "the container of process %d has ended", pid);
		file = socket_of(pid);
		length = 0;
		if (!connect(file, (struct sockaddr *)&address, sizeof(address)) &&
		    write(file, request, strlen(request)) > 0) {
			while (length < (ssize_t)strlen(answer)) {
				got = read(file, buffer + length, sizeof(buffer) - length - 1);
				if (got <= 0)
					break;
				length += got;
			}
		}
		close(file);
		if (length >= (ssize_t)strlen(answer) && !memcmp(buffer, answer, strlen(answer)))
			return;
		usleep(PAUSE);
	}
	buffer[length] = 0;
	errx(1, "port %d does not answer as expected: %s", port, buffer);
}

int main(int argc, char **argv)
{
	int count = argc > 6 ? atoi(argv[2]) : 0, i;
	long long time, faults;
	pid_t pids[1000];
	sigset_t end;

	if (count < 1 || count > 1000)
		errx(2, "usage: serve IMAGE COUNT PORT REQUEST ANSWER PROGRAM...");
	sigemptyset(&end);
	sigaddset(&end, SIGTERM);
	sigprocmask(SIG_BLOCK, &end, NULL);
	snprintf(group, sizeof(group), "/sys/fs/cgroup/serve-%d", getpid());
	if (mkdir(group, 0755))
		err(1, "%s", group);
	time = field(in_group("cpu.stat"), "usage_usec");
	faults = field(in_group("memory.stat"), "pgfault");
	for (i = 0; i < count; i++) {
		pids[i] = start(argv[1], argv + 6);
		ask(pids[i], atoi(argv[3]), argv[4], argv[5]);
	}
	/* Also count the servers' work after their first answer. */
	sleep(2);
	time = field(in_group("cpu.stat"), "usage_usec") - time;
	faults = field(in_group("memory.stat"), "pgfault") - faults;
	printf("%lld\t%lld\n", time / count, faults / count);
	fflush(stdout);
	sigwait(&end, &i);
	write_file(in_group("cgroup.kill"), "1");
	for (i = 0; i < count; i++)
		waitpid(pids[i], NULL, 0);
	while (field(in_group("cgroup.events"), "populated"))
		usleep(PAUSE);
	if (rmdir(group))
		err(1, "%s", group);
	return 0;
}
