/* What the files of the crash lab share: texts, numbers, and a way to do nothing. */
#include "lab.h"

#include <stdarg.h>

HOTCELL_PLUGIN(0)

char report[64 * 1024];
size_t report_length;

void say(const char *format, ...) {
    va_list arguments;
    int written;
    va_start(arguments, format);
    written = vsnprintf(report + report_length, sizeof report - report_length, format, arguments);
    va_end(arguments);
    if (written > 0) {
        report_length += (size_t)written;
    }
    if (report_length >= sizeof report) {
        report_length = sizeof report - 1;
    }
}

void say_nothing(void) { report_length = 0; }

int32_t said_ok(void) { return hotcell_ok(report, report_length); }

int32_t said_error(void) {
    hotcell_reply(report, report_length);
    return HOTCELL_ERROR;
}

const char *errno_name(int number) {
    static char other[32];
    const char *name = strerrorname_np(number);
    if (name) {
        return name;
    }
    snprintf(other, sizeof other, "errno %d", number);
    return other;
}

const char *input_text(const uint8_t *input, size_t length) {
    static char text[16 * 1024];
    size_t kept = length < sizeof text - 1 ? length : sizeof text - 1;
    memcpy(text, input, kept);
    text[kept] = 0;
    return text;
}

uint64_t input_number(const uint8_t *input, size_t length, uint64_t otherwise) {
    const char *text = input_text(input, length);
    return *text ? strtoull(text, NULL, 0) : otherwise;
}

void sleep_for_ever(void) {
    static uint32_t word;
    for (;;) {
        syscall(SYS_futex, &word, 128 /* FUTEX_WAIT_PRIVATE */, 0, NULL);
    }
}

size_t from_hex(const char *hex, uint8_t *bytes, size_t capacity) {
    size_t count = 0;
    unsigned value;
    for (; count < capacity && sscanf(hex, "%2x", &value) == 1; hex += hex[1] ? 2 : 1) {
        bytes[count++] = (uint8_t)value;
    }
    return count;
}
