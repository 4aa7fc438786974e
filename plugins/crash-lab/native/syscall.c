/* A probe for any system call, by number. */
#include "lab.h"

#define STEPS 16
#define ARGUMENTS 6
#define ALIGNMENT 16

/* What the arguments of one call of the export point to. */
static uint8_t pool[64 * 1024];
static size_t pool_used;

/* One argument: a number, $1 (what line 1 returned), s:text, x:hex, z:100 (zero bytes), o:16 (zero bytes, shown after). */
static long argument(char *word, const long *results, size_t steps, uint8_t **shown, size_t *shown_length) {
    uint8_t *at;
    size_t size;
    if (*word == '$') {
        size_t index = strtoul(word + 1, NULL, 10);
        return index >= 1 && index <= steps ? results[index - 1] : -1;
    }
    if (!*word || word[1] != ':') {
        return (long)(*word == '-' ? (uint64_t)strtoll(word, NULL, 0) : strtoull(word, NULL, 0));
    }
    at = pool + pool_used;
    size = strlen(word + 2) + 1;
    if (*word == 'z' || *word == 'o') {
        size = strtoul(word + 2, NULL, 0);
    }
    if (size > sizeof pool - pool_used - ALIGNMENT) {
        return 0;
    }
    pool_used += (size + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
    memset(at, 0, size);
    if (*word == 's') {
        memcpy(at, word + 2, size);
    } else if (*word == 'x') {
        from_hex(word + 2, at, size);
    } else if (*word == 'o') {
        *shown = at;
        *shown_length = size;
    }
    return (long)(uintptr_t)at;
}

void try_calls(const uint8_t *input, size_t length) {
    static char text[16 * 1024];
    long results[STEPS];
    size_t steps = 0;
    char *line, *next_line = text;
    snprintf(text, sizeof text, "%s", input_text(input, length));
    pool_used = 0;
    say_nothing();
    while (steps < STEPS && (line = strsep(&next_line, "\n")) && *line) {
        long number, arguments[ARGUMENTS] = {0};
        uint8_t *shown = NULL;
        size_t i, shown_length = 0;
        char *word = strsep(&line, " ");
        long before = syscall(SYS_getpid);
        number = strtol(word, NULL, 0);
        for (i = 0; i < ARGUMENTS && (word = strsep(&line, " ")); i++) {
            arguments[i] = argument(word, results, steps, &shown, &shown_length);
        }
        errno = 0;
        results[steps] = syscall(number, arguments[0], arguments[1], arguments[2], arguments[3], arguments[4], arguments[5]);
        i = (size_t)errno;
        if (syscall(SYS_getpid) != before && before > 0) {
            _exit(0); /* a new process must not go on as a second worker */
        }
        say("%ld %zu", results[steps], i);
        for (i = 0; i < shown_length; i++) {
            say(i ? "%02x" : " %02x", shown[i]);
        }
        say("\n");
        steps++;
    }
}

/*
 * A reply, whatever the kernel says: each line of the input is "nr a b c d e f", one system call; each line of the reply
 * is "result errno", with the bytes of an o: argument in hex. A refusal that kills shows as the worker's exit.
 */
HOTCELL_EXPORT(try_syscall)(const uint8_t *input, size_t length) {
    try_calls(input, length);
    return said_ok();
}

/* Killed by SIGSYS: a system call through the 32-bit entry. Error elsewhere than on x86-64. */
HOTCELL_EXPORT(int80)(const uint8_t *input, size_t length) {
    UNUSED;
#if defined(__x86_64__)
    long result = 20; /* getpid of the 32-bit table */
    __asm__ volatile("int $0x80" : "+a"(result)::"memory");
    say_nothing();
    say("%ld", result);
    return said_ok();
#else
    return hotcell_error("there is no 32-bit entry on this architecture");
#endif
}
