/* The host notices nothing: unloading and replacing this plugin takes no longer than its grace period. */
#include "hotcell_plugin.h"

HOTCELL_PLUGIN(0)

HOTCELL_EXPORT(ok)(const uint8_t *input, size_t length) { return hotcell_ok(input, length); }

__attribute__((destructor)) static void destruct(void) {
    for (;;) {
        __asm__ volatile("");
    }
}
