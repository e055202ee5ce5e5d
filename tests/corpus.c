// SPDX-License-Identifier: GPL-2.0-only
/*
 * Images from fuzzing the tools, in memory of two kinds, each used by several processes at once. Whatever the bytes,
 * all calls end, and no byte after the image is visible.
 *
 * Group: modules
 * Machine: cpus=2 share=corpus
 */
#include "device.h"
#include "round.h"

/* Steps of a process on one image. */
#define STEPS 12
/* Memory after each image. */
#define ROOM (256 << 10)
/* Headers of the file and of each image, see tools/development/testing/examples/corpus.rs. */
struct start {
	u64 images;
};

struct record {
	char name[64];
	/* The size of the image, and of what follows here; the rest of the image is zero. */
	u64 size, used;
};

static char path[PATH_MAX];
static struct walk_counts *counts;

/* Load the next image, with memory after it that belongs to no file. */
static void next(FILE *file, struct record *record, struct image *image)
{
	u64 total;

	REQUIRE(fread(record, sizeof(*record), 1, file) == 1);
	/* The sums and the signature may follow an image of 2 MiB. */
	REQUIRE(record->used <= record->size && record->size <= 2 * HUGE_SIZE);
	image->size = record->size + ROOM;
	image->bytes = calloc(1, image->size);
	REQUIRE(image->bytes);
	image->super = (struct superblock *)image->bytes;
	REQUIRE(fread(image->bytes, 1, record->used, file) == record->used);
	/* An image that claims to be larger, and for which there is room, has these bytes. */
	total = image->super->total_size;
	if (total < record->size || total > image->size)
		total = record->size;
	total = (total + MARKER_SIZE - 1) & ~(u64)(MARKER_SIZE - 1);
	marker_fill(image->bytes + total, image->size - total);
}

/* Mount every @step-th image from memory of this kind. */
static void mount_images(const char *source, unsigned int step)
{
	struct round round = { .source = source_named(source), .steps = STEPS, .counts = counts };
	u64 results[] = { [ROUND_FAILED] = 0, [ROUND_REFUSED] = 0, [ROUND_USED] = 0 };
	FILE *file = fopen(path, "re");
	struct record record;
	struct start start;
	struct image image;

	REQUIRE(file && fread(&start, sizeof(start), 1, file) == 1);
	for (u64 input = 0; input < start.images && !results[ROUND_FAILED]; input++) {
		next(file, &record, &image);
		if (input % step == 0) {
			round.number = input;
			round.image = &image;
			/* Few files of a small image end close to its end. */
			round.read_first = image.size;
			results[round_run(&round)]++;
		}
		image_free(&image);
	}
	if (results[ROUND_FAILED])
		printf("# input %s\n", record.name);
	fclose(file);
	printf("# of %llu images, %llu mounted, %llu refused\n", start.images, results[ROUND_USED],
	       results[ROUND_REFUSED]);
	/* Half of the inputs have a superblock that mount takes. Refusals show little. */
	CHECK(results[ROUND_USED] * 5 > results[ROUND_REFUSED]);
}

/* On the debug kernel an image takes half a second. */
static bool slow(void)
{
	return getenv("DAXFS_SLOW");
}

POINT(in_memfd, "a sealed memfd")
{
	mount_images("memfd", slow() ? 12 : 1);
}

POINT(in_udmabuf, "a dma-buf")
{
	mount_images("udmabuf", slow() ? 24 : 4);
}

int main(void)
{
	snprintf(path, sizeof(path), "%s/corpus.images", getenv("DAXFS_IMAGES") ?: "/run/images");
	if (access(path, R_OK))
		ktap_skip_all("needs corpus.images in DAXFS_IMAGES");
	if (page_size() != 4096)
		ktap_skip_all("the images have blocks of 4 KiB");
	/* The first mount would load the module, which may take longer than a mount may. */
	if (system("grep -qw daxfs /proc/filesystems || modprobe -q daxfs"))
		ktap_skip_all("needs the daxfs module (modprobe daxfs)");
	round_init(NULL);
	device_init();
	counts = shared_memory(WALKERS * sizeof(*counts));
	return ktap_run();
}
