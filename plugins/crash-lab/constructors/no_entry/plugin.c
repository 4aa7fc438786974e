/* The host refuses the load: hotcell_plugin_v1 is missing. */
#include "hotcell_plugin.h"

HOTCELL_EXPORT(ok)(const uint8_t *input, size_t length) {
    (void)input;
    (void)length;
    return HOTCELL_OK;
}
