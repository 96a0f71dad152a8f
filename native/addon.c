// SPDX-License-Identifier: Apache-2.0
/* Registers the functions of bpf.c, sock.c and reactor.c; what they share to speak with JavaScript. */
#include "common.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

/* The kernel's own, which reaches user space from bpf(2) but has no name in libc. */
#define ENOTSUPP 524

static bool absent(napi_env env, napi_value value)
{
	napi_valuetype type;

	return napi_typeof(env, value, &type) != napi_ok || type == napi_undefined || type == napi_null;
}

static bool read_u64(napi_env env, napi_value value, uint64_t *out)
{
	bool lossless;
	double number;

	if (napi_get_value_bigint_uint64(env, value, out, &lossless) == napi_ok)
		return lossless;
	if (napi_get_value_double(env, value, &number) != napi_ok || !(number >= 0 && number <= 9007199254740991.0))
		return false;
	*out = (uint64_t)number;
	return true;
}

static bool read_text(napi_env env, napi_value value, struct text *out)
{
	size_t length;

	if (napi_get_value_string_utf8(env, value, NULL, 0, &length) != napi_ok || length >= MAX_TEXT)
		return false;
	return napi_get_value_string_utf8(env, value, out->chars, MAX_TEXT, &length) == napi_ok;
}

static bool read_bytes(napi_env env, napi_value value, struct bytes *out)
{
	static uint8_t nothing; /* so that no bytes are not taken for no argument */
	void *data;
	bool is_view;

	if (napi_is_buffer(env, value, &is_view) != napi_ok || !is_view)
		return false;
	if (napi_get_buffer_info(env, value, &data, &out->length) != napi_ok)
		return false;
	out->data = out->length ? data : &nothing;
	return true;
}

static bool read_arraybuffer(napi_env env, napi_value value, struct bytes *out)
{
	bool is_arraybuffer;
	void *data;

	if (napi_is_arraybuffer(env, value, &is_arraybuffer) != napi_ok || !is_arraybuffer)
		return false;
	if (napi_get_arraybuffer_info(env, value, &data, &out->length) != napi_ok)
		return false;
	out->data = data;
	return true;
}

static bool read_one(napi_env env, char letter, napi_value value, void *out)
{
	switch (letter) {
	case 'i':
		return napi_get_value_int32(env, value, out) == napi_ok;
	case 'u':
		return napi_get_value_uint32(env, value, out) == napi_ok;
	case 'q':
		return read_u64(env, value, out);
	case 'f':
		return napi_get_value_bool(env, value, out) == napi_ok;
	case 's':
		return read_text(env, value, out);
	case 'b':
		return read_bytes(env, value, out);
	case 'B':
		((struct bytes *)out)->data = NULL;
		((struct bytes *)out)->length = 0;
		return absent(env, value) || read_bytes(env, value, out);
	case 'a':
		return read_arraybuffer(env, value, out);
	case 'v':
		*(napi_value *)out = value;
		return true;
	default:
		return false;
	}
}

bool take(napi_env env, napi_callback_info info, const char *format, ...)
{
	napi_value given[MAX_ARGUMENTS];
	size_t count = MAX_ARGUMENTS;
	bool optional = false;
	char message[80];
	unsigned int i = 0;
	va_list outs;

	/* Those that are not given are filled up with undefined. */
	if (napi_get_cb_info(env, info, &count, given, NULL, NULL) != napi_ok)
		return false;
	va_start(outs, format);
	for (const char *letter = format; *letter; letter++) {
		if (*letter == '|') {
			optional = true;
			continue;
		}
		void *out = va_arg(outs, void *);
		napi_value value = given[i++];

		if (optional && absent(env, value))
			continue;
		if (!read_one(env, *letter, value, out)) {
			snprintf(message, sizeof(message), "argument %u has the wrong type or is out of range", i);
			throw_type(env, message);
			va_end(outs);
			return false;
		}
	}
	va_end(outs);
	return true;
}

static bool option(napi_env env, napi_value object, const char *name, char letter, void *out)
{
	char message[120];
	napi_value value;

	if (napi_get_named_property(env, object, name, &value) != napi_ok)
		goto wrong;
	if (absent(env, value) || read_one(env, letter, value, out))
		return true;
wrong:
	snprintf(message, sizeof(message), "option %s has the wrong type or is out of range", name);
	throw_type(env, message);
	return false;
}

bool option_u32(napi_env env, napi_value object, const char *name, uint32_t *value)
{
	return option(env, object, name, 'u', value);
}

bool option_i32(napi_env env, napi_value object, const char *name, int32_t *value)
{
	return option(env, object, name, 'i', value);
}

bool option_u64(napi_env env, napi_value object, const char *name, uint64_t *value)
{
	return option(env, object, name, 'q', value);
}

bool option_bool(napi_env env, napi_value object, const char *name, bool *value)
{
	return option(env, object, name, 'f', value);
}

bool option_text(napi_env env, napi_value object, const char *name, struct text *value)
{
	return option(env, object, name, 's', value);
}

bool option_bytes(napi_env env, napi_value object, const char *name, struct bytes *value)
{
	return option(env, object, name, 'b', value);
}

/* The makers fail only when the environment is being torn down; a value of NULL is then ignored by all. */

napi_value make_object(napi_env env)
{
	napi_value value = NULL;

	napi_create_object(env, &value);
	return value;
}

napi_value make_number(napi_env env, double number)
{
	napi_value value = NULL;

	napi_create_double(env, number, &value);
	return value;
}

napi_value make_u64(napi_env env, uint64_t number)
{
	napi_value value = NULL;

	napi_create_bigint_uint64(env, number, &value);
	return value;
}

napi_value make_bool(napi_env env, bool truth)
{
	napi_value value = NULL;

	napi_get_boolean(env, truth, &value);
	return value;
}

napi_value make_text(napi_env env, const char *text)
{
	napi_value value = NULL;

	napi_create_string_utf8(env, text, NAPI_AUTO_LENGTH, &value);
	return value;
}

napi_value make_buffer(napi_env env, const void *data, size_t length)
{
	napi_value value = NULL;

	napi_create_buffer_copy(env, length, data, NULL, &value);
	return value;
}

napi_value make_null(napi_env env)
{
	napi_value value = NULL;

	napi_get_null(env, &value);
	return value;
}

napi_value make_undefined(napi_env env)
{
	napi_value value = NULL;

	napi_get_undefined(env, &value);
	return value;
}

void set(napi_env env, napi_value object, const char *name, napi_value value)
{
	napi_set_named_property(env, object, name, value);
}

static const char *error_name(int error, char *fallback, size_t size)
{
	const char *name = error == ENOTSUPP ? "ENOTSUPP" : strerrorname_np(error);

	if (name)
		return name;
	snprintf(fallback, size, "E%d", error);
	return fallback;
}

napi_value throw_with_log(napi_env env, const char *call, int error, const char *log)
{
	const char *meaning = error == ENOTSUPP ? "Operation not supported" : strerrordesc_np(error);
	char fallback[16], message[512];
	const char *name = error_name(error, fallback, sizeof(fallback));
	napi_value exception = NULL;

	snprintf(message, sizeof(message), "%s: %s (%s)", call, meaning ? meaning : "unknown error", name);
	if (napi_create_error(env, make_text(env, name), make_text(env, message), &exception) != napi_ok)
		return NULL;
	set(env, exception, "errno", make_number(env, error));
	set(env, exception, "call", make_text(env, call));
	if (log)
		set(env, exception, "log", make_text(env, log));
	napi_throw(env, exception);
	return NULL;
}

napi_value throw_errno(napi_env env, const char *call, int error)
{
	return throw_with_log(env, call, error, NULL);
}

napi_value throw_type(napi_env env, const char *message)
{
	napi_throw_type_error(env, "ERR_INVALID_ARG_TYPE", message);
	return NULL;
}

napi_value throw_range(napi_env env, const char *message)
{
	napi_throw_range_error(env, "ERR_OUT_OF_RANGE", message);
	return NULL;
}

static void register_all(napi_env env, napi_value exports, const struct entry *entries)
{
	for (; entries->name; entries++) {
		napi_value function = NULL;

		napi_create_function(env, entries->name, NAPI_AUTO_LENGTH, entries->function, NULL, &function);
		set(env, exports, entries->name, function);
	}
}

NAPI_MODULE_INIT()
{
	register_all(env, exports, bpf_functions);
	register_all(env, exports, sock_functions);
	register_all(env, exports, reactor_functions);
	return exports;
}
