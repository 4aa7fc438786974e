/* The host refuses the load and says that the plugin returned 7. */
#include "hotcell_plugin.h"

HOTCELL_SYMBOL(hotcell_plugin_v1) uint32_t hotcell_plugin_v1(const hotcell_host *host) {
    (void)host;
    return 7;
}

HOTCELL_EXPORT(ok)(const uint8_t *input, size_t length) {
    (void)input;
    (void)length;
    return HOTCELL_OK;
}
