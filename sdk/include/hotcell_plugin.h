/*
 * hotcell plugin ABI, version 1.
 *
 * This header alone is enough to write a plugin in C or C++, as a native shared library:
 *
 *     cc -shared -fPIC -O2 -I include plugin.c -o plugin.so
 *
 * or as a core wasm module, without a C library:
 *
 *     clang --target=wasm32-unknown-unknown -nostdlib -O2 -Wl,--no-entry -I include plugin.c -o plugin.wasm
 *
 * or with wasi-libc, as a reactor (clang --target=wasm32-wasi -mexec-model=reactor). The whole plugin:
 *
 *     #include "hotcell_plugin.h"
 *
 *     HOTCELL_PLUGIN(4096)
 *
 *     HOTCELL_EXPORT(echo)(const uint8_t *input, size_t length) {
 *         return hotcell_ok(input, length);
 *     }
 *
 * docs/abi.md says what each side may expect. Nothing in here protects the host: its sandbox does.
 */
#ifndef HOTCELL_PLUGIN_H
#define HOTCELL_PLUGIN_H

#include <stddef.h>
#include <stdint.h>
#ifndef __wasm__
#include <sys/socket.h>
#endif

#ifdef __cplusplus
#define HOTCELL_C extern "C"
extern "C" {
#else
#define HOTCELL_C
#endif

/* The version that this header describes. */
#define HOTCELL_ABI_VERSION 1u

/* What an export returns: the reply is a result, or the reply is an error text (any non-zero value). */
#define HOTCELL_OK 0
#define HOTCELL_ERROR 1

/*
 * What host_call returns. n >= 0: the answer has n bytes. HOTCELL_REFUSED: not declared, not granted or unknown.
 * HOTCELL_FAILED, and the reserved -3 to -15: the handler failed and says nothing. n <= HOTCELL_FAILED_TEXT: it
 * failed, and its text has (HOTCELL_FAILED_TEXT - n) bytes.
 */
#define HOTCELL_REFUSED (-1)
#define HOTCELL_FAILED (-2)
#define HOTCELL_FAILED_TEXT (-16)

/*
 * What the worker offers to a native plugin. Valid for the life of the process. Fields are only ever added at the
 * end. The functions may be called on the thread that runs an export, while it runs.
 */
typedef struct hotcell_host {
    uint32_t abi_version; /* HOTCELL_ABI_VERSION */
    uint32_t size;        /* sizeof(struct hotcell_host), as the worker knows it */

    /* Hands over the reply of the running call. The bytes are copied; the last reply wins. */
    void (*reply)(const uint8_t *data, size_t length);

    /* Calls the host and waits. `name` is UTF-8 and needs no terminator. Lengths are bytes. */
    int64_t (*host_call)(const char *name, size_t name_length, const uint8_t *input, size_t length);

    /* Copies at most `capacity` bytes of the last host call's answer or error text; returns how many. */
    size_t (*host_take)(uint8_t *out, size_t capacity);
} hotcell_host;

#if defined(__wasm__)

/* Host functions are imports of the module `hotcell`. */
__attribute__((import_module("hotcell"), import_name("reply"))) void hotcell_import_reply(const uint8_t *data,
                                                                                          size_t length);
__attribute__((import_module("hotcell"), import_name("host_call"))) int64_t
hotcell_import_host_call(const char *name, size_t name_length, const uint8_t *input, size_t length);
__attribute__((import_module("hotcell"), import_name("host_take"))) size_t hotcell_import_host_take(uint8_t *out,
                                                                                                   size_t capacity);

#define HOTCELL_SYMBOL(symbol) HOTCELL_C __attribute__((export_name(#symbol), used))

/*
 * Once per plugin: the entry symbol and, for wasm, the buffer that inputs are written to. An input larger than
 * `input_capacity` bytes makes the call fail before the plugin sees it. (One call runs at a time.)
 */
#define HOTCELL_PLUGIN(input_capacity)                                                                                 \
    HOTCELL_SYMBOL(hotcell_plugin_v1) uint32_t hotcell_plugin_v1(void) { return 0; }                                   \
    HOTCELL_SYMBOL(hotcell_alloc) uint8_t *hotcell_alloc(size_t length) {                                              \
        static uint8_t buffer[input_capacity];                                                                         \
        return length <= sizeof buffer ? buffer : (uint8_t *)0;                                                        \
    }

static inline void hotcell_reply(const void *data, size_t length) {
    hotcell_import_reply((const uint8_t *)data, length);
}

static inline int64_t hotcell_host_call(const char *name, size_t name_length, const void *input, size_t length) {
    return hotcell_import_host_call(name, name_length, (const uint8_t *)input, length);
}

static inline size_t hotcell_host_take(void *out, size_t capacity) {
    return hotcell_import_host_take((uint8_t *)out, capacity);
}

#else

/* Defined by HOTCELL_PLUGIN; null until the worker called the entry symbol. */
extern __attribute__((visibility("hidden"))) const hotcell_host *hotcell_table;

#define HOTCELL_SYMBOL(symbol) HOTCELL_C __attribute__((visibility("default"), used))

/* Once per plugin: the entry symbol. The capacity matters to wasm modules only. */
#define HOTCELL_PLUGIN(input_capacity)                                                                                 \
    const hotcell_host *hotcell_table;                                                                                 \
    HOTCELL_SYMBOL(hotcell_plugin_v1) uint32_t hotcell_plugin_v1(const hotcell_host *host) {                           \
        if (!host || host->abi_version != HOTCELL_ABI_VERSION || host->size < sizeof *host) {                          \
            return 1;                                                                                                  \
        }                                                                                                              \
        hotcell_table = host;                                                                                          \
        return 0;                                                                                                      \
    }

static inline void hotcell_reply(const void *data, size_t length) {
    hotcell_table->reply((const uint8_t *)data, length);
}

static inline int64_t hotcell_host_call(const char *name, size_t name_length, const void *input, size_t length) {
    return hotcell_table->host_call(name, name_length, (const uint8_t *)input, length);
}

static inline size_t hotcell_host_take(void *out, size_t capacity) {
    return hotcell_table->host_take((uint8_t *)out, capacity);
}

#endif

/* Starts the definition of the export `name`: HOTCELL_EXPORT(greet)(const uint8_t *input, size_t length) { ... } */
#define HOTCELL_EXPORT(name) HOTCELL_SYMBOL(hotcell_export_##name) int32_t hotcell_export_##name

/* Starts the definition of an optional hook with its fixed name and type. */
#define HOTCELL_STATE_SAVE() HOTCELL_SYMBOL(hotcell_state_save) int32_t hotcell_state_save(void)
#define HOTCELL_STATE_LOAD(from_version, state, length)                                                                \
    HOTCELL_SYMBOL(hotcell_state_load)                                                                                 \
    int32_t hotcell_state_load(uint32_t from_version, const uint8_t *state, size_t length)
#define HOTCELL_HEALTH() HOTCELL_SYMBOL(hotcell_health) int32_t hotcell_health(void)
#define HOTCELL_CONFIGURE(json, length)                                                                                \
    HOTCELL_SYMBOL(hotcell_configure) int32_t hotcell_configure(const uint8_t *json, size_t length)

/* Length of a C string, so that no C library is needed. */
static inline size_t hotcell_length(const char *text) {
    size_t length = 0;
    while (text[length]) {
        length++;
    }
    return length;
}

/* Replies with a result. To be returned: return hotcell_ok(data, length); */
static inline int32_t hotcell_ok(const void *data, size_t length) {
    hotcell_reply(data, length);
    return HOTCELL_OK;
}

/* Replies with a C string as the result. */
static inline int32_t hotcell_ok_text(const char *text) {
    return hotcell_ok(text, hotcell_length(text));
}

/* Replies with a C string, UTF-8, as the error text. */
static inline int32_t hotcell_error(const char *text) {
    hotcell_reply(text, hotcell_length(text));
    return HOTCELL_ERROR;
}

/*
 * Writes one message to the host's log at "trace", "debug", "info", "warn" or "error". Needs the host call `log`.
 * Messages over 1000 bytes are cut. Returns what host_call returns.
 */
static inline int64_t hotcell_log(const char *level, const char *message) {
    static const char hex[] = "0123456789abcdef";
    static const char head[] = "{\"level\":\"";
    static const char middle[] = "\",\"message\":\"";
    char json[6 * 1000 + 64];
    size_t at = 0;
    size_t i;
    for (i = 0; head[i]; i++) {
        json[at++] = head[i];
    }
    for (i = 0; level[i] && i < 8; i++) {
        json[at++] = level[i];
    }
    for (i = 0; middle[i]; i++) {
        json[at++] = middle[i];
    }
    for (i = 0; message[i] && i < 1000; i++) {
        unsigned char byte = (unsigned char)message[i];
        if (byte < 0x20) {
            json[at++] = '\\';
            json[at++] = 'u';
            json[at++] = '0';
            json[at++] = '0';
            json[at++] = hex[byte >> 4];
            json[at++] = hex[byte & 15];
        } else {
            if (byte == '"' || byte == '\\') {
                json[at++] = '\\';
            }
            json[at++] = (char)byte;
        }
    }
    /* A cut message must not end inside a UTF-8 character. */
    if (i == 1000 && message[i]) {
        while (at && ((unsigned char)json[at - 1] & 0xc0) == 0x80) {
            at--;
        }
        if (at && (unsigned char)json[at - 1] >= 0xc0) {
            at--;
        }
    }
    json[at++] = '"';
    json[at++] = '}';
    return hotcell_host_call("log", 3, json, at);
}

#ifndef __wasm__
/*
 * Has the host connect to `address`, `host:port` as the manifest's `permissions.network.connect` has it, over TCP. Returns a
 * blocking descriptor for read, write and close, or what host_call returns where it fails (its text is taken with
 * hotcell_host_take), or HOTCELL_FAILED where this process has no descriptor left. A worker can make no socket by itself:
 * socket(2) of no family hands over the connection that the host has made.
 */
static inline int hotcell_connect(const char *address) {
    int64_t status = hotcell_host_call("net.connect", 11, address, hotcell_length(address));
    int connection;
    if (status < 0) {
        return (int)status;
    }
    connection = socket(AF_UNSPEC, 0, 0);
    return connection < 0 ? HOTCELL_FAILED : connection;
}

/*
 * Listens at `address`, as the manifest's `permissions.network.listen` has it. Returns a blocking descriptor for accept and close, or what
 * hotcell_connect returns where it fails. bind(2) and listen(2) do the same. The workers of a plugin share what it listens with.
 */
static inline int hotcell_listen(const char *address) {
    int64_t status = hotcell_host_call("net.listen", 10, address, hotcell_length(address));
    int listener;
    if (status < 0) {
        return (int)status;
    }
    listener = socket(AF_UNSPEC, 0, 0);
    return listener < 0 ? HOTCELL_FAILED : listener;
}

/*
 * Asks for the IP addresses of `name`, the host of an address in the manifest. Copies them to `out`, one a line and without a terminator,
 * and returns the number of bytes; or what host_call returns where it fails. connect(2) and hotcell_connect take them from now on, with
 * the manifest's ports.
 */
static inline int64_t hotcell_resolve(const char *name, char *out, size_t capacity) {
    int64_t status = hotcell_host_call("net.resolve", 11, name, hotcell_length(name));
    return status < 0 ? status : (int64_t)hotcell_host_take((uint8_t *)out, capacity);
}
#endif

#ifdef __cplusplus
}
#endif

#endif
