// SPDX-License-Identifier: GPL-2.0-only
/*
 * A plugin of QEMU for bench/profile: count the instructions that a guest executes, by the address of the
 * translated block that they are in, between the marks of bench.c.
 *
 * At the end it writes "PHASE ADDRESS COUNT" a line to the file that the option out= names. PHASE is the number of
 * marks so far, so odd phases are what bench.c measures. Debian does not package qemu-plugin.h; the declarations here
 * follow version 7 of that interface, which QEMU 11 has.
 */
#include <inttypes.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define EXPORT	__attribute__((visibility("default")))
#define PHASES	64
#define BUCKETS	65536

struct qemu_plugin_tb;
struct qemu_plugin_insn;

void qemu_plugin_register_vcpu_tb_trans_cb(uint64_t id, void (*call)(struct qemu_plugin_tb *tb, void *data),
					   void *data);
void qemu_plugin_register_vcpu_tb_exec_cb(struct qemu_plugin_tb *tb, void (*call)(unsigned int cpu, void *data),
					  int flags, void *data);
void qemu_plugin_register_vcpu_insn_exec_cb(struct qemu_plugin_insn *insn,
					    void (*call)(unsigned int cpu, void *data), int flags, void *data);
void qemu_plugin_register_atexit_cb(uint64_t id, void (*call)(void *data), void *data);
size_t qemu_plugin_tb_n_insns(const struct qemu_plugin_tb *tb);
uint64_t qemu_plugin_tb_vaddr(const struct qemu_plugin_tb *tb);
struct qemu_plugin_insn *qemu_plugin_tb_get_insn(const struct qemu_plugin_tb *tb, size_t index);
size_t qemu_plugin_insn_data(const struct qemu_plugin_insn *insn, void *bytes, size_t length);

EXPORT int qemu_plugin_version = 7;

/* A translated block, with the number of times that each phase has executed it. */
struct block {
	struct block *next;
	uint64_t address, length, times[PHASES];
};

static struct block *blocks[BUCKETS];
static unsigned int phase;
static const char *out;

static void executed(unsigned int cpu, void *block)
{
	(void)cpu;
	if (phase < PHASES)
		((struct block *)block)->times[phase]++;
}

static void marked(unsigned int cpu, void *data)
{
	(void)cpu, (void)data;
	phase++;
}

static struct block *find_block(uint64_t address, uint64_t length)
{
	struct block **bucket = &blocks[(address ^ address >> 16 ^ length << 3) % BUCKETS], *block;

	for (block = *bucket; block; block = block->next) {
		if (block->address == address && block->length == length)
			return block;
	}
	block = calloc(1, sizeof(*block));
	if (!block)
		abort();
	*block = (struct block){ .next = *bucket, .address = address, .length = length };
	*bucket = block;
	return block;
}

static void translated(struct qemu_plugin_tb *tb, void *data)
{
	/* test $0xda5f0001,%eax, as in bench.c */
	static const unsigned char mark[] = { 0xa9, 0x01, 0x00, 0x5f, 0xda };
	size_t length = qemu_plugin_tb_n_insns(tb);

	(void)data;
	qemu_plugin_register_vcpu_tb_exec_cb(tb, executed, 0, find_block(qemu_plugin_tb_vaddr(tb), length));
	for (size_t i = 0; i < length; i++) {
		struct qemu_plugin_insn *insn = qemu_plugin_tb_get_insn(tb, i);
		unsigned char bytes[sizeof(mark)];

		if (qemu_plugin_insn_data(insn, bytes, sizeof(bytes)) == sizeof(mark) &&
		    !memcmp(bytes, mark, sizeof(mark)))
			qemu_plugin_register_vcpu_insn_exec_cb(insn, marked, 0, NULL);
	}
}

static void ended(void *data)
{
	FILE *file = fopen(out, "w");

	(void)data;
	for (size_t i = 0; file && i < BUCKETS; i++) {
		for (struct block *block = blocks[i]; block; block = block->next) {
			for (unsigned int at = 1; at < PHASES; at += 2) {
				if (block->times[at])
					fprintf(file, "%u %" PRIx64 " %" PRIu64 "\n", at, block->address,
						block->times[at] * block->length);
			}
		}
	}
	if (!file || fclose(file))
		perror(out);
}

EXPORT int qemu_plugin_install(uint64_t id, const void *info, int argc, char **argv)
{
	(void)info;
	if (argc != 1 || strncmp(argv[0], "out=", 4))
		return -1;
	out = strdup(argv[0] + 4);
	qemu_plugin_register_vcpu_tb_trans_cb(id, translated, NULL);
	qemu_plugin_register_atexit_cb(id, ended, NULL);
	return 0;
}
