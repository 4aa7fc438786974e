/*
 * What {{name}} does. `hotcell plugin test` runs it in a confined worker, as `hotcell.toml` says.
 * include/hotcell_plugin.h has the whole ABI.
 */
#include "hotcell_plugin.h"

#define NAME_MAX_BYTES 100
#define BEFORE "Hello, "

HOTCELL_PLUGIN(4096)

/* The input is a name; the reply greets it. */
HOTCELL_EXPORT(greet)(const uint8_t *input, size_t length) {
    static uint8_t reply[sizeof BEFORE + NAME_MAX_BYTES];
    size_t size = 0;
    if (length == 0 || length > NAME_MAX_BYTES) {
        return hotcell_error("a name has 1 to 100 bytes");
    }
    for (const char *text = BEFORE; *text; text++) {
        reply[size++] = (uint8_t)*text;
    }
    for (size_t at = 0; at < length; at++) {
        reply[size++] = input[at];
    }
    reply[size++] = '!';
    return hotcell_ok(reply, size);
}
