// SPDX-License-Identifier: GPL-2.0-only
/*
 * Every memory source of this machine, with all operations on its files and on its memory. With
 * --matrix FILE, write the results as a table for the documentation.
 *
 * Group: sources
 * Order: 1
 * Machine: cpus=2 nvdimm,virtio-pmem,cxl,cxl-pmem,reserve=sources.daxfs drm share
 */
#include "device.h"
#include "source_ops.h"

struct image image;
const struct source *source;
const char *mnt;
bool *limited;
char tree[PATH_MAX];

/* The result of an operation on a source. In memory that all points share. */
#define OPERATION_MAX 40
static struct cell {
	bool tried, limited, failed;
} (*cells)[OPERATION_MAX];

/* All operations, those that mount the source themselves at the end. */
static struct operation operations[OPERATION_MAX];
static size_t operation_count;

static void collect_operations(void)
{
	for (size_t i = 0; i < file_operation_count; i++)
		operations[operation_count++] = file_operations[i];
	for (size_t i = 0; i < mount_operation_count; i++)
		operations[operation_count++] = mount_operations[i];
	/* On a slow kernel these are left to buffers, unbind, pinned and poison. */
	for (size_t i = 0; i < memory_operation_count && !getenv("DAXFS_SLOW"); i++)
		operations[operation_count++] = memory_operations[i];
}

static void mounts(void)
{
	REQUIRE(source_mount(source, &image, mnt));
}

/* On a slow kernel, files are used on one source for each way to map. */
static bool fits(const struct operation *operation)
{
	return operation->unmounted || !getenv("DAXFS_SLOW") || source_stands_for_way(source);
}

/* Why sources are missing. */
static char *lacking[SOURCE_MAX];

static void not_offered(void)
{
	SKIP("%s", lacking[source - sources]);
}

static void make_tree(void)
{
	static const u64 sizes[] = { 0, 1, 4095, 4096, 4097, MIDDLE, HUGE_SIZE + 1, LARGE };
	static const char script[] = "#!/bin/sh\necho script \"$1\"\n";
	char command[5 * PATH_MAX];
	int dir, file;

	umask(022);
	snprintf(command, sizeof(command),
		 "rm -rf '%s' && mkdir -p '%s' && cp '%s/helper' '%s/helper'", tree, tree,
		 program_dir(), tree);
	REQUIRE(!system(command));
	dir = open(tree, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	REQUIRE(!fchmod(dir, 0755) && !fchmodat(dir, "helper", 0755, 0));
	REQUIRE(!mkdirat(dir, "sizes", 0755) && !mkdirat(dir, "deep", 0755));
	REQUIRE(!mkdirat(dir, "deep/er", 0700) && !mkfifoat(dir, "deep/fifo", 0640));
	REQUIRE(!symlinkat("../sizes/1", dir, "deep/link"));
	file = openat(dir, "script", O_WRONLY | O_CREAT | O_CLOEXEC, 0755);
	REQUIRE(write(file, script, strlen(script)) == (ssize_t)strlen(script));
	close(file);
	close(dir);
	for (size_t i = 0; i < ARRAY_SIZE(sizes); i++) {
		char path[PATH_MAX + 64], *content = malloc(sizes[i]);
		int fd;

		pattern_fill(content, sizes[i], sizes[i], 0);
		snprintf(path, sizeof(path), "%s/sizes/%llu", tree, (unsigned long long)sizes[i]);
		fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
		REQUIRE(fd >= 0 && write(fd, content, sizes[i]) == (ssize_t)sizes[i]);
		close(fd);
		free(content);
	}
}

/* Load the image that tests/images has made, or make it now. */
static void load_image(void)
{
	const char *images = getenv("DAXFS_IMAGES");
	char path[PATH_MAX], command[3 * PATH_MAX];

	snprintf(path, sizeof(path), "%s/sources.daxfs", images ? images : "/run/images");
	if (access(path, R_OK)) {
		snprintf(path, sizeof(path), "%s/sources.daxfs", work_dir());
		snprintf(command, sizeof(command), "mkdaxfs --quiet --no-pack --label sources '%s' '%s' >&2",
			 tree, path);
		if (system(command))
			ktap_skip_all("needs mkdaxfs, or sources.daxfs in DAXFS_IMAGES");
	}
	image = image_load(path);
}

/* Find out which sources the machine has. Return the number of points. */
static unsigned int probe(void)
{
	unsigned int points = 0;

	for (size_t i = 0; i < source_count; i++) {
		int fd = sources[i].make(&sources[i], &image);

		if (fd < 0)
			lacking[i] = strdup(source_missing);
		if (fd > 0)
			close(fd);
		source = &sources[i];
		points++;
		for (size_t j = 0; !lacking[i] && j < operation_count; j++)
			points += fits(&operations[j]);
	}
	return points;
}

static unsigned int results[KTAP_SKIP + 1], number;

static int test_point(const char *what, void (*run)(void))
{
	char name[200];
	struct ktap_test test = { name, run };
	int result;

	snprintf(name, sizeof(name), "%s: %s", source->name, what);
	result = ktap_one(++number, &test);
	results[result]++;
	return result;
}

static void test_source(void)
{
	struct cell *row = cells[source - sources];
	bool mounted;

	if (lacking[source - sources]) {
		test_point("mounts", not_offered);
		return;
	}
	count_now();
	mounted = test_point("mounts", mounts) == KTAP_PASS;
	for (size_t i = 0; i < operation_count; i++) {
		const struct operation *now = &operations[i];

		if (!fits(now))
			continue;
		if (now->unmounted && mounted) {
			if (umount(mnt)) {
				printf("# umount: %s\n", strerror(errno));
				umount2(mnt, MNT_DETACH);
			}
			mounted = false;
		}
		limited = &row[i].limited;
		row[i].tried = true;
		row[i].failed = test_point(now->name, now->run) != KTAP_PASS;
	}
}

static const char *answer(const struct cell *cell)
{
	if (cell->failed)
		return "?";
	return cell->limited ? "no" : "yes";
}

/* Return true if operation @j had the same result on the sources @i and @k. */
static bool agree(size_t i, size_t k, size_t j)
{
	return !strcmp(answer(&cells[i][j]), answer(&cells[k][j]));
}

/* Return the first source with the results of @i. */
static size_t first_like(size_t i)
{
	for (size_t k = 0, j; k < i; k++) {
		for (j = 0; j < operation_count && cells[k][0].tried && agree(i, k, j); j++)
			;
		if (j == operation_count)
			return k;
	}
	return i;
}

/* Return true if the sources differ in operation @j, or if it failed. */
static bool decides(size_t j)
{
	for (size_t i = 1; i < source_count; i++)
		if (cells[i][0].tried && !agree(i, 0, j))
			return true;
	return cells[0][j].failed;
}

/* Write why operation @j does not work somewhere, once for all operations with this reason. */
static void write_limit(FILE *table, size_t j)
{
	const char *why = operations[j].limit;

	for (size_t k = 0; k < j; k++)
		if (operations[k].limit && !strcmp(operations[k].limit, why))
			return;
	fprintf(table, "\n* \"no\" for %s", operations[j].name);
	while (++j < operation_count)
		if (operations[j].limit && !strcmp(operations[j].limit, why))
			fprintf(table, "; %s", operations[j].name);
	fprintf(table, ": %s.", why);
}

/*
 * The table for the documentation: a row for each operation in which sources differ, a column for
 * each source, or for several with the same results.
 */
static void write_matrix(const char *path)
{
	FILE *table = fopen(path, "we");
	const char *comma = "";

	REQUIRE(table && cells[0][0].tried);
	fprintf(table, ".. %s: GPL-2.0-only\n", "SPDX-License-Identifier");
	fprintf(table, ".. Written by tests/sources --matrix\n\nEverywhere: ");
	for (size_t j = 0; j < operation_count; j++) {
		if (decides(j) || cells[0][j].limited)
			continue;
		fprintf(table, "%s%s", comma, operations[j].name);
		comma = "; ";
	}
	fprintf(table, ".\n\n.. csv-table::\n   :header-rows: 1\n   :stub-columns: 1\n\n   \"Operation\"");
	for (size_t i = 0; i < source_count; i++) {
		if (!cells[i][0].tried || first_like(i) != i)
			continue;
		fprintf(table, ",\"%s", sources[i].name);
		for (size_t k = i + 1; k < source_count; k++)
			if (cells[k][0].tried && first_like(k) == i)
				fprintf(table, "; %s", sources[k].name);
		fprintf(table, "\"");
	}
	for (size_t j = 0; j < operation_count; j++) {
		if (!decides(j))
			continue;
		fprintf(table, "\n   \"%s\"", operations[j].name);
		for (size_t i = 0; i < source_count; i++)
			if (cells[i][0].tried && first_like(i) == i)
				fprintf(table, ",%s", answer(&cells[i][j]));
	}
	fprintf(table, "\n");
	for (size_t j = 0; j < operation_count; j++)
		if (operations[j].limit)
			write_limit(table, j);
	fprintf(table, "\n");
	fclose(table);
}

int main(int argc, char **argv)
{
	const char *matrix = NULL;
	int context;

	ktap_start();
	cells = mmap(NULL, SOURCE_MAX * sizeof(*cells), PROT_READ | PROT_WRITE,
		     MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	REQUIRE(cells != MAP_FAILED);
	if (argc == 3 && !strcmp(argv[1], "--tree")) {
		/* Make the tree; tests/images makes an image of it. */
		snprintf(tree, sizeof(tree), "%s", argv[2]);
		make_tree();
		return 0;
	}
	if (argc == 3 && !strcmp(argv[1], "--matrix"))
		matrix = argv[2];

	device_init();
	mnt = private_mount_point();
	context = syscall(SYS_fsopen, "daxfs", 0); /* loads the module */
	if (context < 0)
		ktap_skip_all("needs the daxfs module");
	close(context);
	snprintf(tree, sizeof(tree), "%s/sources", work_dir());
	make_tree();
	load_image();
	collect_operations();
	printf("KTAP version 1\n1..%u\n", probe());
	for (source = sources; source < sources + source_count; source++)
		test_source();
	if (matrix)
		write_matrix(matrix);
	return ktap_totals(results);
}
