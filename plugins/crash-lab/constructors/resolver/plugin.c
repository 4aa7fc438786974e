/*
 * Runs before its own constructors: the dynamic linker asks the resolver below which function to use. It tries to open
 * /etc/passwd without any library. The export `report` returns the kernel's answer, a negative error number; the host loads it,
 * and the attempt was refused.
 */
#include "hotcell_plugin.h"

HOTCELL_PLUGIN(0)

/* Not in .bss of another object and not relocated: the resolver runs while relocations are under way. */
static long answer = 1;

static long open_file(const char *path) {
#if defined(__x86_64__)
    register long flags __asm__("r10") = 0;
    long result = 257; /* openat */
    __asm__ volatile("syscall" : "+a"(result) : "D"(-100L), "S"(path), "d"(0L), "r"(flags) : "rcx", "r11", "memory");
    return result;
#elif defined(__aarch64__)
    register long number __asm__("x8") = 56; /* openat */
    register long result __asm__("x0") = -100;
    register const char *name __asm__("x1") = path;
    register long flags __asm__("x2") = 0;
    register long mode __asm__("x3") = 0;
    __asm__ volatile("svc #0" : "+r"(result) : "r"(number), "r"(name), "r"(flags), "r"(mode) : "memory");
    return result;
#else
#error "the resolver needs this architecture's system call instruction"
#endif
}

static long get_answer(void) { return answer; }

static long (*resolve(void))(void) {
    answer = open_file("/etc/passwd");
    return get_answer;
}

long resolved(void) __attribute__((ifunc("resolve"), visibility("hidden")));

HOTCELL_EXPORT(report)(const uint8_t *input, size_t length) {
    char digits[24];
    size_t at = sizeof digits;
    long value = resolved();
    unsigned long rest = value < 0 ? 0ul - (unsigned long)value : (unsigned long)value;
    (void)input;
    (void)length;
    do {
        digits[--at] = (char)('0' + rest % 10);
        rest /= 10;
    } while (rest);
    if (value < 0) {
        digits[--at] = '-';
    }
    return hotcell_ok(digits + at, sizeof digits - at);
}
