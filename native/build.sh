#!/bin/sh
# Builds the N-API shim. CC and CFLAGS are honoured, so that a sanitizer can be had: CFLAGS=-fsanitize=address,undefined
set -eu
cd "$(dirname "$0")/.."
out=${1:-build/xlb_native.node}
mkdir -p "$(dirname "$out")"
# shellcheck disable=SC2086 # CFLAGS is a list
${CC:-cc} -std=gnu11 -O2 -g -Wall -Wextra -fvisibility=hidden -shared -fPIC ${CFLAGS:-} \
	-I node_modules/node-api-headers/include native/*.c -o "$out.new" -lbpf -lpthread
# A running daemon has the old file mapped: it keeps that one.
mv "$out.new" "$out"
