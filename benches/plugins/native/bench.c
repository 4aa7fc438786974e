/* Replies with its input, or asks the host as often as the input says. */
#include <string.h>

#include "hotcell_plugin.h"

HOTCELL_PLUGIN(0)

HOTCELL_EXPORT(ok)(const uint8_t *input, size_t length) {
    hotcell_reply(input, length);
    return HOTCELL_OK;
}

/* Input: how often, as 32 bits, little-endian. An error unless each answer has 64 bytes. */
HOTCELL_EXPORT(ask)(const uint8_t *input, size_t length) {
    static const char question[] = "what a plugin asks its host sixty-four bytes at a time, as here.";
    uint8_t answer[64];
    uint32_t left;
    if (length != sizeof left) {
        return hotcell_error("expected four bytes");
    }
    memcpy(&left, input, sizeof left);
    for (; left; left--) {
        if (hotcell_host_call("echo", 4, question, sizeof answer) != sizeof answer) {
            return hotcell_error("the host does not echo");
        }
        hotcell_host_take(answer, sizeof answer);
    }
    return HOTCELL_OK;
}
