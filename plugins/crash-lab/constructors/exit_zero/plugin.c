/* The host reports: exited with code 0 while loading. It is not taken for loaded. */
#include "hotcell_plugin.h"

#include <unistd.h>

HOTCELL_PLUGIN(0)

HOTCELL_EXPORT(ok)(const uint8_t *input, size_t length) { return hotcell_ok(input, length); }

__attribute__((constructor)) static void construct(void) { _exit(0); }
