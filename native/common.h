/* SPDX-License-Identifier: Apache-2.0 */
/* What the parts of the shim share: reading arguments, building answers, throwing errors. */
#ifndef XLB_NATIVE_COMMON_H
#define XLB_NATIVE_COMMON_H

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#define NAPI_VERSION 8

#include <node_api.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct bytes {
	uint8_t *data;
	size_t length;
};

#define MAX_TEXT 4096

struct text {
	char chars[MAX_TEXT];
};

#define MAX_ARGUMENTS 6

/*
 * Reads the arguments of a call, one letter of `format` for each:
 *   i int32_t   u uint32_t   q uint64_t (BigInt or number)   f bool   s struct text
 *   b struct bytes (any Uint8Array)   B the same, or null/undefined (data == NULL)   v napi_value
 *   a struct bytes, of an ArrayBuffer
 * After a '|' they may be absent: the variable is left as it is. False: a TypeError was thrown.
 */
bool take(napi_env env, napi_callback_info info, const char *format, ...);

/* Members of an options object; an absent one leaves *value as it is. False: a TypeError was thrown. */
bool option_u32(napi_env env, napi_value object, const char *name, uint32_t *value);
bool option_i32(napi_env env, napi_value object, const char *name, int32_t *value);
bool option_u64(napi_env env, napi_value object, const char *name, uint64_t *value);
bool option_bool(napi_env env, napi_value object, const char *name, bool *value);
bool option_text(napi_env env, napi_value object, const char *name, struct text *value);
bool option_bytes(napi_env env, napi_value object, const char *name, struct bytes *value);

napi_value make_object(napi_env env);
napi_value make_number(napi_env env, double value);
napi_value make_u64(napi_env env, uint64_t value); /* a BigInt */
napi_value make_bool(napi_env env, bool value);
napi_value make_text(napi_env env, const char *text);
napi_value make_buffer(napi_env env, const void *data, size_t length); /* a copy */
napi_value make_null(napi_env env);
napi_value make_undefined(napi_env env);
void set(napi_env env, napi_value object, const char *name, napi_value value);

/* Throws an Error with .code, .errno and .call; returns NULL, for `return throw_errno(...)`. */
napi_value throw_errno(napi_env env, const char *call, int error);
/* The same, with .log. */
napi_value throw_with_log(napi_env env, const char *call, int error, const char *log);
napi_value throw_type(napi_env env, const char *message);
napi_value throw_range(napi_env env, const char *message);

struct entry {
	const char *name;
	napi_callback function;
};

/* Each part's functions; the last entry has no name. */
extern const struct entry bpf_functions[];
extern const struct entry sock_functions[];
extern const struct entry reactor_functions[];

#endif
