// SPDX-License-Identifier: Apache-2.0
/* bpf(2) and libbpf: objects, programs, maps, and atomics on the memory of mapped maps. */
#include "common.h"

#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

/* ---- what libbpf says while it loads ---- */

#define LOG_BYTES 65536 /* the end of the log is what names the error */

static struct {
	pthread_mutex_t lock;
	size_t length;
	char chars[LOG_BYTES + 1];
} log_ = {.lock = PTHREAD_MUTEX_INITIALIZER};

static void log_clear(void)
{
	pthread_mutex_lock(&log_.lock);
	log_.length = 0;
	log_.chars[0] = 0;
	pthread_mutex_unlock(&log_.lock);
}

static void log_append(const char *chars, size_t length)
{
	if (length > LOG_BYTES) {
		chars += length - LOG_BYTES;
		length = LOG_BYTES;
	}
	pthread_mutex_lock(&log_.lock);
	if (log_.length + length > LOG_BYTES) {
		size_t surplus = log_.length + length - LOG_BYTES;

		memmove(log_.chars, log_.chars + surplus, log_.length - surplus);
		log_.length -= surplus;
	}
	memcpy(log_.chars + log_.length, chars, length);
	log_.length += length;
	log_.chars[log_.length] = 0;
	pthread_mutex_unlock(&log_.lock);
}

static int log_print(enum libbpf_print_level level, const char *format, va_list args)
{
	char *message;
	int length;

	if (level == LIBBPF_DEBUG)
		return 0;
	length = vasprintf(&message, format, args);
	if (length < 0)
		return 0;
	log_append(message, length);
	free(message);
	return length;
}

/* ---- objects ---- */

struct object {
	struct bpf_object *bpf; /* NULL once closed */
};

static void object_finalize(napi_env env, void *data, void *hint)
{
	struct object *object = data;

	(void)env;
	(void)hint;
	bpf_object__close(object->bpf);
	free(object);
}

/* The object behind a handle. NULL: an exception was thrown. */
static struct bpf_object *object_of(napi_env env, napi_value handle)
{
	struct object *object;

	if (napi_get_value_external(env, handle, (void **)&object) != napi_ok) {
		throw_type(env, "not a handle of objOpen");
		return NULL;
	}
	if (!object->bpf)
		throw_errno(env, "object", EBADF);
	return object->bpf;
}

/* options.maps: the sizes that the maps named there are to have. */
static bool resize_maps(napi_env env, struct bpf_object *bpf, napi_value options)
{
	napi_value maps, names, name;
	napi_valuetype type;
	uint32_t count;

	if (napi_get_named_property(env, options, "maps", &maps) != napi_ok)
		return true;
	if (napi_typeof(env, maps, &type) != napi_ok || type == napi_undefined)
		return true;
	if (napi_get_property_names(env, maps, &names) != napi_ok || napi_get_array_length(env, names, &count) != napi_ok)
		return throw_type(env, "maps is no object"), false;
	for (uint32_t i = 0; i < count; i++) {
		char text[128], call[160];
		struct bpf_map *map;
		uint32_t entries = 0;
		size_t length;
		int error;

		napi_get_element(env, names, i, &name);
		if (napi_get_value_string_utf8(env, name, text, sizeof(text), &length) != napi_ok)
			return throw_type(env, "not a map's name"), false;
		if (!option_u32(env, maps, text, &entries))
			return false;
		snprintf(call, sizeof(call), "set_max_entries %s", text);
		map = bpf_object__find_map_by_name(bpf, text);
		error = map ? -bpf_map__set_max_entries(map, entries) : ENOENT;
		if (error)
			return throw_errno(env, call, error), false;
	}
	return true;
}

static napi_value obj_open(napi_env env, napi_callback_info info)
{
	napi_value options = NULL, handle;
	struct object *object;
	struct text path;

	if (!take(env, info, "s|v", &path, &options))
		return NULL;
	log_clear();
	libbpf_set_print(log_print);
	object = calloc(1, sizeof(*object));
	if (!object)
		return throw_errno(env, "objOpen", ENOMEM);
	object->bpf = bpf_object__open(path.chars);
	if (!object->bpf) {
		int error = errno;

		free(object);
		return throw_with_log(env, "bpf_object__open", error, log_.chars);
	}
	/* From here on the handle closes it. */
	if (napi_create_external(env, object, object_finalize, NULL, &handle) != napi_ok) {
		object_finalize(env, object, NULL);
		return throw_errno(env, "objOpen", ENOMEM);
	}
	if (options && !resize_maps(env, object->bpf, options)) {
		bpf_object__close(object->bpf);
		object->bpf = NULL;
		return NULL;
	}
	return handle;
}

static napi_value obj_load(napi_env env, napi_callback_info info)
{
	struct bpf_object *bpf;
	sigset_t every, before;
	napi_value handle;
	int error;

	if (!take(env, info, "v", &handle) || !(bpf = object_of(env, handle)))
		return NULL;
	log_clear();
	/* The verifier gives up with EAGAIN where a signal waits, and a profiler's come faster than it is done. */
	sigfillset(&every);
	pthread_sigmask(SIG_SETMASK, &every, &before);
	error = -bpf_object__load(bpf);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	return error ? throw_with_log(env, "bpf_object__load", error, log_.chars) : make_undefined(env);
}

static napi_value obj_maps(napi_env env, napi_callback_info info)
{
	napi_value handle, list;
	struct bpf_object *bpf;
	struct bpf_map *map;
	uint32_t count = 0;

	if (!take(env, info, "v", &handle) || !(bpf = object_of(env, handle)))
		return NULL;
	if (napi_create_array(env, &list) != napi_ok)
		return NULL;
	bpf_object__for_each_map(map, bpf) {
		napi_value row = make_object(env);

		set(env, row, "name", make_text(env, bpf_map__name(map)));
		set(env, row, "fd", make_number(env, bpf_map__fd(map)));
		set(env, row, "type", make_number(env, bpf_map__type(map)));
		set(env, row, "keySize", make_number(env, bpf_map__key_size(map)));
		set(env, row, "valueSize", make_number(env, bpf_map__value_size(map)));
		set(env, row, "maxEntries", make_number(env, bpf_map__max_entries(map)));
		napi_set_element(env, list, count++, row);
	}
	return list;
}

static napi_value obj_progs(napi_env env, napi_callback_info info)
{
	napi_value handle, list;
	struct bpf_program *prog;
	struct bpf_object *bpf;
	uint32_t count = 0;

	if (!take(env, info, "v", &handle) || !(bpf = object_of(env, handle)))
		return NULL;
	if (napi_create_array(env, &list) != napi_ok)
		return NULL;
	bpf_object__for_each_program(prog, bpf) {
		struct bpf_prog_info prog_info = {0};
		uint32_t length = sizeof(prog_info);
		napi_value row = make_object(env);
		int fd = bpf_program__fd(prog);

		if (fd >= 0 && bpf_obj_get_info_by_fd(fd, &prog_info, &length))
			return throw_errno(env, "bpf_obj_get_info_by_fd", errno);
		set(env, row, "name", make_text(env, bpf_program__name(prog)));
		set(env, row, "fd", make_number(env, fd));
		set(env, row, "type", make_number(env, bpf_program__type(prog)));
		set(env, row, "verifiedInsns", make_number(env, prog_info.verified_insns));
		set(env, row, "xlatedLen", make_number(env, prog_info.xlated_prog_len));
		set(env, row, "jitedLen", make_number(env, prog_info.jited_prog_len));
		napi_set_element(env, list, count++, row);
	}
	return list;
}

static napi_value obj_close(napi_env env, napi_callback_info info)
{
	struct object *object;
	napi_value handle;

	if (!take(env, info, "v", &handle))
		return NULL;
	if (napi_get_value_external(env, handle, (void **)&object) != napi_ok)
		return throw_type(env, "not a handle of objOpen");
	bpf_object__close(object->bpf);
	object->bpf = NULL;
	return make_undefined(env);
}

/* ---- attaching ---- */

static napi_value attach_cgroup(napi_env env, napi_callback_info info)
{
	int32_t prog, cgroup;
	uint32_t type;
	int fd;

	if (!take(env, info, "iiu", &prog, &cgroup, &type))
		return NULL;
	fd = bpf_link_create(prog, cgroup, type, NULL);
	return fd < 0 ? throw_errno(env, "bpf_link_create", -fd) : make_number(env, fd);
}

static napi_value prog_attach(napi_env env, napi_callback_info info)
{
	int32_t prog, target;
	uint32_t type;
	int error;

	if (!take(env, info, "iiu", &prog, &target, &type))
		return NULL;
	error = -bpf_prog_attach(prog, target, type, 0);
	return error ? throw_errno(env, "bpf_prog_attach", error) : make_undefined(env);
}

static napi_value prog_test_run(napi_env env, napi_callback_info info)
{
	LIBBPF_OPTS(bpf_test_run_opts, run);
	struct bytes ctx_in = {0}, data_in = {0};
	uint8_t *ctx_out = NULL, *data_out = NULL;
	struct bpf_prog_info prog_info = {0};
	uint32_t length = sizeof(prog_info), data_size;
	napi_value options = NULL, result = NULL;
	bool in_place;
	int32_t prog;
	int error;

	if (!take(env, info, "i|v", &prog, &options))
		return NULL;
	if (options && (!option_bytes(env, options, "ctxIn", &ctx_in) || !option_bytes(env, options, "dataIn", &data_in)))
		return NULL;
	data_size = data_in.length;
	if (options && !option_u32(env, options, "dataSizeOut", &data_size))
		return NULL;
	if (bpf_obj_get_info_by_fd(prog, &prog_info, &length))
		return throw_errno(env, "bpf_obj_get_info_by_fd", errno);
	/* Such a program's context goes back to where it came from; an output of its own is refused. */
	in_place = prog_info.type == BPF_PROG_TYPE_SYSCALL;
	if (ctx_in.length) {
		ctx_out = malloc(ctx_in.length);
		if (!ctx_out)
			return throw_errno(env, "progTestRun", ENOMEM);
		memcpy(ctx_out, ctx_in.data, ctx_in.length);
		run.ctx_in = in_place ? ctx_out : ctx_in.data;
		run.ctx_size_in = ctx_in.length;
		run.ctx_out = in_place ? NULL : ctx_out;
		run.ctx_size_out = in_place ? 0 : ctx_in.length;
	}
	if (data_in.length) {
		run.data_in = data_in.data;
		run.data_size_in = data_in.length;
	}
	if (data_size && !in_place) {
		data_out = malloc(data_size);
		if (!data_out) {
			free(ctx_out);
			return throw_errno(env, "progTestRun", ENOMEM);
		}
		run.data_out = data_out;
		run.data_size_out = data_size;
	}
	error = -bpf_prog_test_run_opts(prog, &run);
	if (error) {
		throw_errno(env, "bpf_prog_test_run", error);
		goto out;
	}
	result = make_object(env);
	set(env, result, "retval", make_number(env, run.retval));
	if (ctx_out)
		set(env, result, "ctxOut", make_buffer(env, ctx_out, in_place ? ctx_in.length : run.ctx_size_out));
	if (data_out)
		set(env, result, "dataOut", make_buffer(env, data_out, run.data_size_out));
out:
	free(ctx_out);
	free(data_out);
	return result;
}

static napi_value count_programs(napi_env env, napi_callback_info info)
{
	int fd = bpf_enable_stats(BPF_STATS_RUN_TIME);

	(void)info;
	return fd < 0 ? throw_errno(env, "bpf_enable_stats", errno) : make_number(env, fd);
}

static napi_value close_fd(napi_env env, napi_callback_info info)
{
	int32_t fd;

	if (!take(env, info, "i", &fd))
		return NULL;
	return close(fd) ? throw_errno(env, "close", errno) : make_undefined(env);
}

static napi_value open_path(napi_env env, napi_callback_info info)
{
	struct text path;
	int fd;

	if (!take(env, info, "s", &path))
		return NULL;
	fd = open(path.chars, O_RDONLY | O_CLOEXEC | O_DIRECTORY);
	return fd < 0 ? throw_errno(env, "open", errno) : make_number(env, fd);
}

static napi_value cgroup_id(napi_env env, napi_callback_info info)
{
	union {
		struct file_handle handle;
		char room[sizeof(struct file_handle) + sizeof(uint64_t)];
	} file = {.handle.handle_bytes = sizeof(uint64_t)};
	struct text path;
	uint64_t id;
	int mount;

	if (!take(env, info, "s", &path))
		return NULL;
	if (name_to_handle_at(AT_FDCWD, path.chars, &file.handle, &mount, 0))
		return throw_errno(env, "name_to_handle_at", errno);
	memcpy(&id, file.handle.f_handle, sizeof(id));
	return make_u64(env, id);
}

/* ---- maps ---- */

static napi_value map_create(napi_env env, napi_callback_info info)
{
	LIBBPF_OPTS(bpf_map_create_opts, options);
	uint32_t type = 0, key_size = 0, value_size = 0, max_entries = 0;
	struct text name = {""};
	int32_t inner = 0;
	napi_value spec;
	int fd;

	if (!take(env, info, "v", &spec) || !option_u32(env, spec, "type", &type) ||
	    !option_u32(env, spec, "keySize", &key_size) || !option_u32(env, spec, "valueSize", &value_size) ||
	    !option_u32(env, spec, "maxEntries", &max_entries) || !option_u32(env, spec, "flags", &options.map_flags) ||
	    !option_i32(env, spec, "innerMapFd", &inner) || !option_text(env, spec, "name", &name))
		return NULL;
	options.inner_map_fd = inner;
	fd = bpf_map_create(type, name.chars[0] ? name.chars : NULL, key_size, value_size, max_entries, &options);
	return fd < 0 ? throw_errno(env, "bpf_map_create", -fd) : make_number(env, fd);
}

static napi_value map_update(napi_env env, napi_callback_info info)
{
	struct bytes key, value;
	uint64_t flags = 0;
	int32_t fd;
	int error;

	if (!take(env, info, "iBb|q", &fd, &key, &value, &flags))
		return NULL;
	error = -bpf_map_update_elem(fd, key.data, value.data, flags);
	return error ? throw_errno(env, "bpf_map_update_elem", error) : make_undefined(env);
}

static napi_value map_update_fd(napi_env env, napi_callback_info info)
{
	uint64_t flags = 0, wide;
	uint32_t value_size;
	struct bytes key;
	int32_t fd, sock;
	int error;

	if (!take(env, info, "ibiu|q", &fd, &key, &sock, &value_size, &flags))
		return NULL;
	if (value_size != sizeof(uint32_t) && value_size != sizeof(uint64_t))
		return throw_range(env, "a socket map's values have 4 or 8 bytes");
	wide = (uint32_t)sock; /* little-endian: its first four bytes are the narrow one */
	error = -bpf_map_update_elem(fd, key.data, &wide, flags);
	return error ? throw_errno(env, "bpf_map_update_elem", error) : make_undefined(env);
}

static napi_value map_update_batch(napi_env env, napi_callback_info info)
{
	struct bytes keys, values;
	uint32_t count;
	int32_t fd;
	int error;

	if (!take(env, info, "ibbu", &fd, &keys, &values, &count))
		return NULL;
	if (!count)
		return make_undefined(env);
	error = -bpf_map_update_batch(fd, keys.data, values.data, &count, NULL);
	return error ? throw_errno(env, "bpf_map_update_batch", error) : make_undefined(env);
}

typedef int (*lookup_function)(int fd, const void *key, void *value, __u64 flags);

static napi_value lookup_with(napi_env env, napi_callback_info info, const char *call, lookup_function lookup)
{
	uint32_t value_size;
	uint64_t flags = 0;
	struct bytes key;
	napi_value result;
	int32_t fd;
	void *value;
	int error;

	if (!take(env, info, "iBu|q", &fd, &key, &value_size, &flags))
		return NULL;
	if (napi_create_buffer(env, value_size, &value, &result) != napi_ok)
		return throw_errno(env, call, ENOMEM);
	error = -lookup(fd, key.data, value, flags);
	if (error == ENOENT)
		return make_null(env);
	return error ? throw_errno(env, call, error) : result;
}

static napi_value map_lookup(napi_env env, napi_callback_info info)
{
	return lookup_with(env, info, "bpf_map_lookup_elem", bpf_map_lookup_elem_flags);
}

static napi_value map_lookup_and_delete(napi_env env, napi_callback_info info)
{
	return lookup_with(env, info, "bpf_map_lookup_and_delete_elem", bpf_map_lookup_and_delete_elem_flags);
}

static napi_value map_lookup_into(napi_env env, napi_callback_info info)
{
	struct bytes key, value;
	int32_t fd;
	int error;

	if (!take(env, info, "ibb", &fd, &key, &value))
		return NULL;
	error = -bpf_map_lookup_elem(fd, key.data, value.data);
	if (error && error != ENOENT)
		return throw_errno(env, "bpf_map_lookup_elem", error);
	return make_bool(env, !error);
}

static napi_value map_delete(napi_env env, napi_callback_info info)
{
	struct bytes key;
	int32_t fd;
	int error;

	if (!take(env, info, "ib", &fd, &key))
		return NULL;
	error = -bpf_map_delete_elem(fd, key.data);
	if (error && error != ENOENT)
		return throw_errno(env, "bpf_map_delete_elem", error);
	return make_bool(env, !error);
}

static napi_value map_next_key(napi_env env, napi_callback_info info)
{
	uint32_t key_size;
	napi_value result;
	struct bytes key;
	int32_t fd;
	void *next;
	int error;

	if (!take(env, info, "iBu", &fd, &key, &key_size))
		return NULL;
	if (napi_create_buffer(env, key_size, &next, &result) != napi_ok)
		return throw_errno(env, "bpf_map_get_next_key", ENOMEM);
	error = -bpf_map_get_next_key(fd, key.data, next);
	if (error == ENOENT)
		return make_null(env);
	return error ? throw_errno(env, "bpf_map_get_next_key", error) : result;
}

static void unmap(napi_env env, void *data, void *length)
{
	(void)env;
	munmap(data, (size_t)length);
}

static napi_value map_mmap(napi_env env, napi_callback_info info)
{
	uint64_t length, offset = 0;
	napi_value result;
	void *memory;
	int32_t fd;

	if (!take(env, info, "iq|q", &fd, &length, &offset))
		return NULL;
	memory = mmap(NULL, length, PROT_READ | PROT_WRITE, MAP_SHARED, fd, offset);
	if (memory == MAP_FAILED)
		return throw_errno(env, "mmap", errno);
	if (napi_create_external_arraybuffer(env, memory, length, unmap, (void *)length, &result) != napi_ok) {
		munmap(memory, length);
		return throw_errno(env, "mapMmap", ENOMEM);
	}
	return result;
}

static napi_value possible_cpus(napi_env env, napi_callback_info info)
{
	int count = libbpf_num_possible_cpus();

	(void)info;
	return count < 0 ? throw_errno(env, "libbpf_num_possible_cpus", -count) : make_number(env, count);
}

/* Loads the least program, or makes the least map, of a type: with the privilege, false means that there is none. */
static napi_value probe_type(napi_env env, napi_callback_info info, const char *call, bool of_programs)
{
	uint32_t type;
	int answer;

	if (!take(env, info, "u", &type))
		return NULL;
	answer = of_programs ? libbpf_probe_bpf_prog_type(type, NULL) : libbpf_probe_bpf_map_type(type, NULL);
	return answer < 0 ? throw_errno(env, call, -answer) : make_bool(env, answer);
}

static napi_value probe_prog_type(napi_env env, napi_callback_info info)
{
	return probe_type(env, info, "libbpf_probe_bpf_prog_type", true);
}

static napi_value probe_map_type(napi_env env, napi_callback_info info)
{
	return probe_type(env, info, "libbpf_probe_bpf_map_type", false);
}

/*
 * ---- atomics ----
 * JavaScript's own are for views on an ArrayBuffer too, but promise nothing about memory that others write.
 */

/* The word at that offset. NULL: an exception was thrown. */
static void *word_at(napi_env env, struct bytes memory, uint64_t offset, size_t size)
{
	if (offset % size || offset > memory.length || memory.length - offset < size) {
		throw_range(env, "offset is unaligned or out of the buffer");
		return NULL;
	}
	return memory.data + offset;
}

#define ATOMIC64(name, builtin)                                                                                        \
	static napi_value name(napi_env env, napi_callback_info info)                                                  \
	{                                                                                                              \
		struct bytes memory;                                                                                   \
		uint64_t offset, operand, *word;                                                                       \
                                                                                                                       \
		if (!take(env, info, "aqq", &memory, &offset, &operand))                                               \
			return NULL;                                                                                   \
		word = word_at(env, memory, offset, sizeof(*word));                                                    \
		return word ? make_u64(env, builtin(word, operand, __ATOMIC_SEQ_CST)) : NULL;                          \
	}

#define ATOMIC32(name, builtin)                                                                                        \
	static napi_value name(napi_env env, napi_callback_info info)                                                  \
	{                                                                                                              \
		struct bytes memory;                                                                                   \
		uint32_t operand, *word;                                                                               \
		uint64_t offset;                                                                                       \
                                                                                                                       \
		if (!take(env, info, "aqu", &memory, &offset, &operand))                                               \
			return NULL;                                                                                   \
		word = word_at(env, memory, offset, sizeof(*word));                                                    \
		return word ? make_number(env, builtin(word, operand, __ATOMIC_SEQ_CST)) : NULL;                       \
	}

ATOMIC64(atomic_and64, __atomic_fetch_and)
ATOMIC64(atomic_or64, __atomic_fetch_or)
ATOMIC64(atomic_add64, __atomic_fetch_add)
ATOMIC32(atomic_and32, __atomic_fetch_and)
ATOMIC32(atomic_or32, __atomic_fetch_or)

static napi_value load64(napi_env env, napi_callback_info info)
{
	struct bytes memory;
	uint64_t offset, *word;

	if (!take(env, info, "aq", &memory, &offset) || !(word = word_at(env, memory, offset, sizeof(*word))))
		return NULL;
	return make_u64(env, __atomic_load_n(word, __ATOMIC_ACQUIRE));
}

static napi_value load32(napi_env env, napi_callback_info info)
{
	struct bytes memory;
	uint64_t offset;
	uint32_t *word;

	if (!take(env, info, "aq", &memory, &offset) || !(word = word_at(env, memory, offset, sizeof(*word))))
		return NULL;
	return make_number(env, __atomic_load_n(word, __ATOMIC_ACQUIRE));
}

static napi_value store32(napi_env env, napi_callback_info info)
{
	uint32_t value, *word;
	struct bytes memory;
	uint64_t offset;

	if (!take(env, info, "aqu", &memory, &offset, &value) || !(word = word_at(env, memory, offset, sizeof(*word))))
		return NULL;
	__atomic_store_n(word, value, __ATOMIC_RELEASE);
	return make_undefined(env);
}

static napi_value cas_u32(napi_env env, napi_callback_info info)
{
	uint32_t expected, desired, *word;
	struct bytes memory;
	uint64_t offset;

	if (!take(env, info, "aquu", &memory, &offset, &expected, &desired) ||
	    !(word = word_at(env, memory, offset, sizeof(*word))))
		return NULL;
	return make_bool(env, __atomic_compare_exchange_n(word, &expected, desired, false, __ATOMIC_SEQ_CST,
							  __ATOMIC_ACQUIRE));
}

static napi_value cas_u64(napi_env env, napi_callback_info info)
{
	uint64_t offset, expected, desired, *word;
	struct bytes memory;

	if (!take(env, info, "aqqq", &memory, &offset, &expected, &desired) ||
	    !(word = word_at(env, memory, offset, sizeof(*word))))
		return NULL;
	return make_bool(env, __atomic_compare_exchange_n(word, &expected, desired, false, __ATOMIC_SEQ_CST,
							  __ATOMIC_ACQUIRE));
}

const struct entry bpf_functions[] = {
	{"objOpen", obj_open},
	{"objLoad", obj_load},
	{"objMaps", obj_maps},
	{"objProgs", obj_progs},
	{"objClose", obj_close},
	{"attachCgroup", attach_cgroup},
	{"progAttach", prog_attach},
	{"progTestRun", prog_test_run},
	{"countPrograms", count_programs},
	{"close", close_fd},
	{"openPath", open_path},
	{"cgroupId", cgroup_id},
	{"mapCreate", map_create},
	{"mapUpdate", map_update},
	{"mapUpdateFd", map_update_fd},
	{"mapUpdateBatch", map_update_batch},
	{"mapLookup", map_lookup},
	{"mapLookupInto", map_lookup_into},
	{"mapLookupAndDelete", map_lookup_and_delete},
	{"mapDelete", map_delete},
	{"mapNextKey", map_next_key},
	{"mapMmap", map_mmap},
	{"possibleCpus", possible_cpus},
	{"probeProgType", probe_prog_type},
	{"probeMapType", probe_map_type},
	{"atomicAnd64", atomic_and64},
	{"atomicOr64", atomic_or64},
	{"atomicAdd64", atomic_add64},
	{"atomicAnd32", atomic_and32},
	{"atomicOr32", atomic_or32},
	{"load64", load64},
	{"load32", load32},
	{"store32", store32},
	{"casU32", cas_u32},
	{"casU64", cas_u64},
	{NULL, NULL},
};
