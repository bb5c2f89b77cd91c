/*
 * A plugin for qemu's user emulation that counts the instructions of a program and writes the
 * number to the file named by `out=`. Every block adds its length when it is entered.
 *
 * Debian ships no header of the plugin interface. This file declares the parts of version 1 that it
 * uses, as described in docs/devel/tcg-plugins.rst of QEMU 7.2.
 */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

typedef uint64_t qemu_plugin_id_t;
struct qemu_plugin_tb;
enum qemu_plugin_op { QEMU_PLUGIN_INLINE_ADD_U64 };

void qemu_plugin_register_vcpu_tb_trans_cb(
	qemu_plugin_id_t, void (*)(qemu_plugin_id_t, struct qemu_plugin_tb *));
size_t qemu_plugin_tb_n_insns(const struct qemu_plugin_tb *);
void qemu_plugin_register_vcpu_tb_exec_inline(
	struct qemu_plugin_tb *, enum qemu_plugin_op, void *, uint64_t);
void qemu_plugin_register_atexit_cb(
	qemu_plugin_id_t, void (*)(qemu_plugin_id_t, void *), void *);

#define EXPORT __attribute__((visibility("default")))

EXPORT int qemu_plugin_version = 1;

/* Exact for a single-threaded program. */
static uint64_t instructions;
static char path[4096];

static void translated(qemu_plugin_id_t id, struct qemu_plugin_tb *block)
{
	(void)id;
	qemu_plugin_register_vcpu_tb_exec_inline(
		block, QEMU_PLUGIN_INLINE_ADD_U64, &instructions, qemu_plugin_tb_n_insns(block));
}

static void ended(qemu_plugin_id_t id, void *data)
{
	(void)id;
	(void)data;
	FILE *file = fopen(path, "w");
	if (!file)
		return;
	fprintf(file, "%" PRIu64 "\n", instructions);
	fclose(file);
}

EXPORT int qemu_plugin_install(qemu_plugin_id_t id, const void *info, int count, char **arguments)
{
	(void)info;
	for (int index = 0; index < count; index++)
		if (!strncmp(arguments[index], "out=", 4))
			snprintf(path, sizeof path, "%s", arguments[index] + 4);
	if (!*path)
		return -1;
	qemu_plugin_register_vcpu_tb_trans_cb(id, translated);
	qemu_plugin_register_atexit_cb(id, ended, NULL);
	return 0;
}
