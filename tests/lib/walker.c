// SPDX-License-Identifier: GPL-2.0-only
/* Use of a directory tree about which nothing is known. */
#include <dirent.h>
#include <grp.h>
#include <setjmp.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/time.h>
#include <sys/xattr.h>

#include "device.h"
#include "walker.h"

#define STEPS 60
#define PATHS 128
#define BUFFER 20000
/* The bytes of a mapping that are looked at together. */
#define MAPPED 256
/* Bytes of a marker at the end of a buffer that rule out a coincidence. */
#define MARKER_PART 4

static char *paths[PATHS];
static unsigned int path_count;
static u64 seed;
static u64 step;
static sigjmp_buf at_fault;
static sig_atomic_t loading;
void marker_fill(char *address, size_t length)
{
	for (size_t i = 0; i < length; i++)
		address[i] = MARKER[i % MARKER_SIZE];
}

/* Return number @index of this step, less than @limit. */
static u64 chance(unsigned int index, u64 limit)
{
	u64 number;

	pattern_fill(&number, sizeof(number), seed, (step * 16 + index) * sizeof(number));
	return limit ? number % limit : 0;
}

/* Return an offset in a file of @size bytes, often near its end. */
static u64 offset_in(u64 size)
{
	u64 before = chance(9, 10000);

	return chance(10, 2) && size > before ? size - before : chance(2, size + 1);
}

/*
 * Check that @bytes show nothing after the image, where the first MARKER starts: neither one, nor the start of one at
 * the end.
 */
static void belongs_to_image(const char *what, const char *bytes, ssize_t length)
{
	const char *found = length > 0 ? memmem(bytes, length, MARKER, MARKER_SIZE) : NULL;

	for (ssize_t part = MARKER_PART; !found && part < MARKER_SIZE && part <= length; part++) {
		if (!memcmp(bytes + length - part, MARKER, part))
			found = bytes + length - part;
	}
	if (!CHECK(!found))
		printf("# %s shows memory after the image, at %zd of %zd bytes\n", what, found - bytes, length);
}

static void add_path(const char *dir, const char *name)
{
	char *path;

	if (asprintf(&path, "%s/%s", dir, name) < 0)
		return;
	if (strlen(path) >= PATH_MAX || (path_count == PATHS && chance(7, 2))) {
		free(path);
		return;
	}
	if (path_count < PATHS) {
		paths[path_count++] = path;
		return;
	}
	/* The first is the root, which must stay. */
	char **old = &paths[1 + chance(8, PATHS - 1)];

	free(*old);
	*old = path;
}

static void list(int fd, const char *path, const struct stat *stat)
{
	DIR *dir = fdopendir(dup(fd));
	unsigned int budget = 1000;
	struct dirent *entry;

	if (!dir)
		return;
	if (!chance(2, 4))
		lseek(fd, chance(3, 1 << 20), SEEK_SET);
	while (budget-- && (entry = readdir(dir))) {
		size_t length = strlen(entry->d_name);

		CHECK(length && length <= NAME_MAX && !strchr(entry->d_name, '/'));
		belongs_to_image("a name", entry->d_name, length);
		if (strcmp(entry->d_name, ".") && strcmp(entry->d_name, ".."))
			add_path(path, entry->d_name);
	}
	closedir(dir);
}

static void read_some(int fd, const char *path, const struct stat *stat)
{
	char buffer[BUFFER];
	u64 offset = offset_in(stat->st_size), size = stat->st_size;
	ssize_t length = pread(fd, buffer, 1 + chance(3, BUFFER), offset);

	if (length > 0 && !CHECK(offset <= size && (u64)length <= size - offset))
		printf("# pread reads %zd bytes at %llu of %llu\n", length, offset, size);
	belongs_to_image("pread", buffer, length);
}

/* The kernel may also signal processes that map failed memory before they load from it. */
static void fault(int number)
{
	if (loading)
		siglongjmp(at_fault, 1);
}

/* Load bytes from a mapping, and store one if it is a private one. */
static void use_bytes(char *address, int private)
{
	char copy[MAPPED];

	if (sigsetjmp(at_fault, 1)) {
		__atomic_store_n(&loading, false, __ATOMIC_SEQ_CST);
		return;
	}
	__atomic_store_n(&loading, true, __ATOMIC_SEQ_CST);
	memcpy(copy, address, sizeof(copy));
	if (private)
		*address ^= 1;
	__atomic_store_n(&loading, false, __ATOMIC_SEQ_CST);
	belongs_to_image("a mapping", copy, sizeof(copy));
}

static void map_some(int fd, const char *path, const struct stat *stat)
{
	size_t page = page_size(), length = page * (2 + chance(3, 16));
	u64 offset = offset_in(stat->st_size) / page * page;
	int private = chance(4, 2);
	char *address = mmap(NULL, length, PROT_READ | (private ? PROT_WRITE : 0),
			     private ? MAP_PRIVATE : MAP_SHARED, fd, offset);

	if (address == MAP_FAILED)
		return;
	for (unsigned int i = 0; i < 8; i++) {
		/* Half of them in the first pages, where a file may end. */
		u64 room = i % 2 ? length - MAPPED : 3 * page / 2;

		use_bytes(address + chance(i, room), private);
	}
	munmap(address, length);
}

/* Give the program little time: it may be damaged like the rest. */
static void execute(int fd, const char *path, const struct stat *stat)
{
	char *const arguments[] = { (char *)path, NULL };
	/* Copying the page tables of this process would take most of the time. */
	pid_t pid = vfork();

	if (!pid) {
		struct itimerval time = { .it_value.tv_usec = 100000 };
		struct rlimit none = {};

		setrlimit(RLIMIT_CORE, &none);
		/* It may neither write files nor start processes. */
		setrlimit(RLIMIT_FSIZE, &none);
		/* A process that has dropped these rights already cannot do so again. */
		if (!geteuid() && (setgroups(0, NULL) || setgid(1002) || setuid(1002)))
			_exit(1);
		setrlimit(RLIMIT_NPROC, &none);
		setitimer(ITIMER_REAL, &time, NULL);
		for (int i = 0; i < 3; i++)
			close(i);
		signal(SIGBUS, SIG_DFL);
		fexecve(fd, arguments, (char *[]){ NULL });
		_exit(1);
	}
	while (pid > 0 && waitpid(pid, NULL, 0) < 0 && errno == EINTR)
		;
}

static void look_at_xattrs(int fd, const char *path, const struct stat *stat)
{
	static char names[XATTR_LIST_MAX], value[XATTR_SIZE_MAX];
	ssize_t length = llistxattr(path, names, sizeof(names));

	for (char *name = names; length > 0 && name < names + length; name += strlen(name) + 1) {
		if (!CHECK(*name && memchr(name, 0, names + length - name)))
			return;
		belongs_to_image("an xattr", value, lgetxattr(path, name, value, sizeof(value)));
	}
}

static void use_handle(int fd, const char *path, const struct stat *stat)
{
	char room[sizeof(struct file_handle) + MAX_HANDLE_SZ];
	struct file_handle *handle = (void *)room;
	int mount, root, found;

	handle->handle_bytes = MAX_HANDLE_SZ;
	if (name_to_handle_at(AT_FDCWD, path, handle, &mount, 0))
		return;
	/* Half of the handles are of inodes that may not exist. */
	if (chance(2, 2))
		handle->f_handle[chance(3, handle->handle_bytes)] ^= 1 << chance(4, 8);
	root = open(paths[0], O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	found = open_by_handle_at(root, handle, O_PATH | O_CLOEXEC);
	if (found >= 0)
		close(found);
	close(root);
}

static void look_up(int fd, const char *path, const struct stat *stat)
{
	char name[NAME_MAX + 1] = {};
	struct stat found;

	for (u64 i = 0; i < 1 + chance(2, 40); i++)
		name[i] = 'a' + pattern_byte(seed, step * 300 + i) % 26;
	fstatat(fd, name, &found, AT_SYMLINK_NOFOLLOW);
	fstatat(fd, "../.", &found, 0);
}

static void do_step(void)
{
	static void (*const works[])(int fd, const char *path, const struct stat *stat) = {
		read_some, map_some, look_at_xattrs, use_handle, execute,
	};
	const char *path = paths[chance(0, path_count)];
	int place = open(path, O_PATH | O_NOFOLLOW | O_CLOEXEC), fd;
	char name[40], target[PATH_MAX];
	struct stat stat;

	if (place < 0)
		return;
	if (fstat(place, &stat)) {
		close(place);
		return;
	}
	if (S_ISLNK(stat.st_mode))
		belongs_to_image("a link", target, readlinkat(place, "", target, sizeof(target)));
	/* Do not open devices that damage has made. */
	if (!S_ISREG(stat.st_mode) && !S_ISDIR(stat.st_mode)) {
		look_at_xattrs(place, path, &stat);
		close(place);
		return;
	}
	snprintf(name, sizeof(name), "/proc/self/fd/%d", place);
	fd = open(name, O_RDONLY | O_CLOEXEC);
	if (fd >= 0) {
		if (S_ISREG(stat.st_mode))
			works[chance(1, ARRAY_SIZE(works))](fd, path, &stat);
		else if (chance(1, 3))
			list(fd, path, &stat);
		else
			look_up(fd, path, &stat);
		close(fd);
	}
	close(place);
}

bool starve(bool on)
{
	/* It could not be opened to stop this. It belongs to the process that opens it. */
	static int file = -1;
	bool done;

	if (on)
		file = open("/proc/self/make-it-fail", O_WRONLY | O_CLOEXEC);
	done = file >= 0 && pwrite(file, on ? "1" : "0", 1, 0) == 1;
	if (!on)
		close(file);
	return done;
}

/* Become an ordinary user. Allocations of this process may fail. */
static void drop_rights(uid_t user)
{
	while (setgroups(0, NULL) || setresgid(user, user, user) || setresuid(user, user, user))
		REQUIRE(errno == ENOMEM || errno == EAGAIN);
}

/* Use @walk->dir, in a separate process. */
static void use(const struct walk *walk, int number)
{
	struct sigaction action = { .sa_handler = fault };

	REQUIRE(!sigaction(SIGBUS, &action, NULL) && !chdir("/"));
	seed = walk->seed;
	paths[path_count++] = strdup(walk->dir);
	if (walk->starving)
		starve(true);
	/* The first is root, for handles of files; a user gets no rights from damaged programs. */
	if (number)
		drop_rights(1000 + number);
	REQUIRE(!prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0));
	for (step = 0; step < STEPS; step++) {
		do_step();
		walk->steps[number]++;
	}
}

pid_t walker_start(const struct walk *walk, int number)
{
	pid_t pid = fork();

	REQUIRE(pid >= 0);
	if (pid)
		return pid;
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	use(walk, number);
	fflush(stdout);
	_exit(ktap_point->failed);
}

int walker_end(const struct walk *walk, int number, pid_t pid)
{
	double since = 0, longest = limit() * 5 / 4.0;
	u64 steps = ~0ULL;
	int status;

	while ((status = ends_within(pid, 0.2)) == -1) {
		u64 now_done = walk->steps[number];

		if (now_done != steps) {
			steps = now_done;
			since = now();
		} else if (now() - since > longest) {
			printf("# walker %d hangs in step %llu\n", number, steps);
			ktap_point->failed = true;
			print_stack(pid);
			kill(pid, SIGKILL);
			break;
		}
	}
	return status;
}
