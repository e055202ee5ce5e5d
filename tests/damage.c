// SPDX-License-Identifier: GPL-2.0-only
/*
 * Damaged images in memory of several kinds, each used by several processes at once, some with concurrent writes to the
 * memory. Whatever the bytes, all calls end, and no byte after the image is visible.
 *
 * Group: modules
 * Order: 5
 * Machine: cpus=2 virtio-pmem=scratch
 */
#include "device.h"
#include "mutator.h"
#include "round.h"

/* Steps of a process on one image. */
#define STEPS 40

static const char *device;
static struct walk_counts *counts;

/* Use a quarter of DAXFS_ROUNDS images or of 300, and at least one. Their numbers start at @first. */
static void rounds(struct round round, u64 first)
{
	const char *wanted = getenv("DAXFS_ROUNDS");
	u64 all = wanted ? strtoull(wanted, NULL, 0) : (u64)repeats(300);
	u64 count = all < 4 ? 1 : all / 4, refused = 0;

	round.steps = STEPS;
	round.counts = counts;
	for (round.number = first; round.number < first + count; round.number++) {
		/* Some images are good before the writes. */
		round.damaged = !round.written || draw(round.number, 2, 4);
		switch (round_run(&round)) {
		case ROUND_FAILED:
			return;
		case ROUND_REFUSED:
			refused++;
			break;
		case ROUND_USED:
			break;
		}
	}
	printf("# %llu images, %llu of them refused\n", count, refused);
	/* For a few images, the share means nothing. */
	CHECK(count < 4 || refused < count * 3 / 4);
}

POINT(in_memfd, "a sealed memfd")
{
	rounds((struct round){ .source = source_named("memfd") }, 0);
}

POINT(in_udmabuf, "a dma-buf")
{
	rounds((struct round){ .source = source_named("udmabuf") }, 1000000);
}

POINT(in_pmem, "persistent memory")
{
	round_fill(device);
	rounds((struct round){ .door = device }, 2000000);
}

POINT(written_meanwhile, "a dma-buf with concurrent writes")
{
	rounds((struct round){ .source = source_named("udmabuf"), .written = true }, 1500000);
}

int main(void)
{
	struct image image;

	device = fixture_device("scratch");
	image = image_load_small();
	round_init(&image);
	device_init();
	counts = shared_memory(WALKERS * sizeof(*counts));
	return ktap_run();
}
