// SPDX-License-Identifier: GPL-2.0-only
/*
 * Another driver reads files in the dma-buf that is mounted, at the place that daxfs locate prints. The driver is vivid: its
 * video output imports the buffer and shows a frame in it, and its input, which is connected to the output, reads that.
 * Not vgem: it hands the exporter's buffer back.
 *
 * Group: memory
 * Machine: cpus=2 nvdimm,virtio-pmem,cxl,reserve,pci=sources.daxfs drm share no-debug
 */
#include <linux/videodev2.h>
#include <sys/ioctl.h>

#include "source.h"

#define WIDTH 1280
#define HEIGHT 720
/* A pixel has a byte. */
#define FRAME (WIDTH * HEIGHT)

/* vivid's own controls, which no header has: the text over each frame, and what the input is connected to. */
#define TEXT 0xf0f001
#define NO_TEXT 2
#define CONNECTED_TO 0xf0f071
#define OUTPUT 2

static const char *mnt;
static struct image image;

/* Open a device of vivid, for frames of FRAME bytes. */
static int open_video(const char *path, u32 type)
{
	struct v4l2_format format = { .type = type };
	int device = open(path, O_RDWR | O_CLOEXEC);

	format.fmt.pix_mp.width = WIDTH;
	format.fmt.pix_mp.height = HEIGHT;
	format.fmt.pix_mp.pixelformat = V4L2_PIX_FMT_GREY;
	REQUIRE(!ioctl(device, VIDIOC_S_FMT, &format));
	REQUIRE(format.fmt.pix_mp.plane_fmt[0].sizeimage == FRAME);
	return device;
}

static void set_control(int device, u32 id, int value)
{
	struct v4l2_control control = { id, value };

	REQUIRE(!ioctl(device, VIDIOC_S_CTRL, &control));
}

/* Have vivid read the frame at @offset of the dma-buf @memory. */
static void import_frame(int memory, u64 offset, char *frame)
{
	u32 type = V4L2_BUF_TYPE_VIDEO_OUTPUT_MPLANE;
	struct v4l2_requestbuffers request = { 1, type, V4L2_MEMORY_DMABUF };
	struct v4l2_plane plane = {
		.m.fd = memory, .length = lseek(memory, 0, SEEK_END),
		.data_offset = offset, .bytesused = offset + FRAME,
	};
	struct v4l2_buffer buffer = {
		.type = type, .memory = V4L2_MEMORY_DMABUF, .m.planes = &plane, .length = 1,
	};
	int output = open_video("/dev/video41", type);
	int input = open_video("/dev/video40", V4L2_BUF_TYPE_VIDEO_CAPTURE_MPLANE);

	set_control(input, TEXT, NO_TEXT);
	set_control(input, CONNECTED_TO, OUTPUT);
	REQUIRE(!ioctl(output, VIDIOC_REQBUFS, &request));
	REQUIRE(!ioctl(output, VIDIOC_QBUF, &buffer));
	REQUIRE(!ioctl(output, VIDIOC_STREAMON, &type));
	REQUIRE(read(input, frame, FRAME) == FRAME);
	close(input);
	close(output);
}

/* Import the bytes of the mounted file @name, and compare them with what read(2) returns. */
static void import_file(int memory, const char *name)
{
	static char content[FRAME], frame[FRAME];
	unsigned long long offset, length;
	char command[PATH_MAX];
	ssize_t size;
	FILE *place;
	int file;

	snprintf(command, sizeof(command), "daxfs locate %s/%s", mnt, name);
	place = popen(command, "r");
	REQUIRE(fscanf(place, "%llu %llu", &offset, &length) == 2);
	REQUIRE(!pclose(place));
	file = open_in(mnt, name, O_RDONLY);
	size = read(file, content, FRAME);
	close(file);
	CHECK_EQ(size, length < FRAME ? length : FRAME);
	import_frame(memory, offset, frame);
	CHECK(!memcmp(frame, content, size));
	/* Another place has other bytes. */
	import_frame(memory, offset + 1, frame);
	CHECK(memcmp(frame, content, size));
}

static void import_source(const char *name)
{
	const struct source *source = source_named(name);
	int memory = source->make(source, &image);

	if (memory < 0)
		SKIP(source_missing);
	REQUIRE(context_mount(source_context(source, memory), mnt));
	import_file(memory, "sizes/16777216");
	import_file(memory, "sizes/65537");
	CHECK(!umount(mnt));
}

POINT(heap, "a buffer of the system heap")
{
	import_source("system heap");
}

POINT(udmabuf, "a buffer of udmabuf")
{
	import_source("udmabuf, shuffled pages");
}

POINT(vgem, "a buffer of vgem")
{
	import_source("vgem");
}

int main(void)
{
	/* One HDMI input, /dev/video40, and one HDMI output, /dev/video41. */
	if (run_command("modprobe vivid n_devs=1 multiplanar=2 node_types=0x101 %s",
			"num_inputs=1 input_types=3 num_outputs=1 output_types=1 vid_cap_nr=40 vid_out_nr=41"))
		ktap_skip_all("needs the driver vivid");
	mnt = private_mount_point();
	image = sources_image();
	return ktap_run();
}
