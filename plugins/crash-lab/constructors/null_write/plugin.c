/* The host reports: crashed while loading, SIGSEGV. */
#include "hotcell_plugin.h"

HOTCELL_PLUGIN(0)

HOTCELL_EXPORT(ok)(const uint8_t *input, size_t length) { return hotcell_ok(input, length); }

/* Volatile, so that no compiler removes what it knows to be undefined. */
static int *volatile nowhere;

__attribute__((constructor)) static void construct(void) { *nowhere = 1; }
