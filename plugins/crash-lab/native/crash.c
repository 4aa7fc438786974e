/*
 * Ways to reply, to die, and never to come back.
 * The line above each export says what the host should report; Error is a plugin error that names what was refused.
 */
#include "lab.h"

#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <time.h>
#include <unwind.h>

/* A reply: the input. */
HOTCELL_EXPORT(ok)(const uint8_t *input, size_t length) { return hotcell_ok(input, length); }

/* Error: the input, whatever its bytes are. */
HOTCELL_EXPORT(error)(const uint8_t *input, size_t length) {
    hotcell_reply(input, length);
    return HOTCELL_ERROR;
}

/* An empty reply. */
HOTCELL_EXPORT(no_reply)(const uint8_t *input, size_t length) {
    UNUSED;
    return HOTCELL_OK;
}

/* One reply: "second". */
HOTCELL_EXPORT(double_reply)(const uint8_t *input, size_t length) {
    UNUSED;
    hotcell_ok_text("first");
    return hotcell_ok_text("second");
}

/* Volatile, so that no compiler removes what it knows to be undefined. */
static int *volatile nowhere;

/* Crashed: SIGSEGV at address 0. */
HOTCELL_EXPORT(null_write)(const uint8_t *input, size_t length) {
    UNUSED;
    *nowhere = 1;
    return HOTCELL_OK;
}

static int descend(volatile char *above);

/* Read at run time, so that no compiler sees where the recursion leads. */
static int (*volatile deeper)(volatile char *above) = descend;

static int descend(volatile char *above) {
    volatile char frame[PAGE];
    frame[0] = *above;
    return deeper(frame) + frame[0];
}

/* Crashed: SIGSEGV beside the stack. */
HOTCELL_EXPORT(stack_overflow)(const uint8_t *input, size_t length) {
    volatile char start = 0;
    UNUSED;
    return descend(&start);
}

/* Crashed: SIGABRT. (Where tgkill and sigaction are refused with an error, abort() would spin: filters must kill.) */
HOTCELL_EXPORT(abort)(const uint8_t *input, size_t length) {
    UNUSED;
    abort();
}

/* Crashed: SIGILL. */
HOTCELL_EXPORT(illegal_instruction)(const uint8_t *input, size_t length) {
    UNUSED;
#if defined(__x86_64__)
    __asm__ volatile("ud2");
#elif defined(__aarch64__)
    __asm__ volatile("udf #0");
#endif
    return hotcell_error("no illegal instruction is known for this architecture");
}

/* Crashed: SIGBUS, without any mapping. x86-64: a stack-segment fault; aarch64: an exclusive load off its alignment. */
HOTCELL_EXPORT(bus_error)(const uint8_t *input, size_t length) {
    UNUSED;
#if defined(__x86_64__)
    __asm__ volatile("pushq %%rbp\n\tmovabsq $0x4242424242424242, %%rbp\n\tmovb $0, (%%rbp)\n\tpopq %%rbp" ::: "memory");
#elif defined(__aarch64__)
    static uint64_t words[2];
    uint64_t value;
    __asm__ volatile("ldxr %0, [%1]" : "=r"(value) : "r"((char *)words + 1) : "memory");
#endif
    return hotcell_error("no bus error is known for this architecture");
}

/* Crashed: SIGFPE on x86-64. Error elsewhere, since the division does not trap. */
HOTCELL_EXPORT(division_trap)(const uint8_t *input, size_t length) {
    volatile int dividend = 7, zero = 0;
    UNUSED;
#if defined(__x86_64__)
    return dividend / zero;
#else
    (void)dividend;
    (void)zero;
    return hotcell_error("a division by zero does not trap on this architecture");
#endif
}

/* Crashed: SIGABRT, from the C library's heap checks. */
HOTCELL_EXPORT(double_free)(const uint8_t *input, size_t length) {
    void *volatile first = malloc(100);
    void *volatile again = first;
    UNUSED;
    free(first);
    free(again);
    return hotcell_ok_text("the heap did not mind");
}

/* A reply, or a crash during this call or a later one: the heap is damaged. */
HOTCELL_EXPORT(heap_corruption)(const uint8_t *input, size_t length) {
    char *volatile block = malloc(64);
    UNUSED;
    memset(block - 16, 0x41, 256);
    return hotcell_ok_text("the heap is damaged");
}

/* Exited with code 0 while a call was running. */
HOTCELL_EXPORT(exit_zero)(const uint8_t *input, size_t length) {
    UNUSED;
    _exit(0);
}

/* Exited with the code given as input, after the process's exit handlers ran. */
HOTCELL_EXPORT(exit_with)(const uint8_t *input, size_t length) { exit((int)input_number(input, length, 3)); }

/* Killed by SIGKILL, or Error if it may not signal itself. */
HOTCELL_EXPORT(kill_self)(const uint8_t *input, size_t length) {
    UNUSED;
    say_nothing();
    if (syscall(SYS_kill, syscall(SYS_getpid), SIGKILL)) {
        say("kill: %s\n", errno_name(errno));
    }
    if (syscall(SYS_tkill, syscall(SYS_gettid), SIGKILL)) {
        say("tkill: %s\n", errno_name(errno));
    }
    if (raise(SIGKILL)) {
        say("raise: %s\n", errno_name(errno));
    }
    return said_error();
}

/* Timed out (the process stands still), or Error if it may not signal itself. */
HOTCELL_EXPORT(stop_self)(const uint8_t *input, size_t length) {
    UNUSED;
    say_nothing();
    if (syscall(SYS_kill, syscall(SYS_getpid), SIGSTOP)) {
        say("kill: %s\n", errno_name(errno));
    }
    if (syscall(SYS_tkill, syscall(SYS_gettid), SIGSTOP)) {
        say("tkill: %s\n", errno_name(errno));
    }
    if (raise(SIGSTOP)) {
        say("raise: %s\n", errno_name(errno));
    }
    return said_error();
}

/* Crashed: a foreign exception met the worker's frame (SIGABRT), or Error if nothing on the stack would catch it. */
HOTCELL_EXPORT(unwind)(const uint8_t *input, size_t length) {
    static struct _Unwind_Exception exception;
    UNUSED;
    memset(&exception, 0, sizeof exception);
    memcpy(&exception.exception_class, "HOTCELL\0", sizeof exception.exception_class);
    say_nothing();
    say("the unwinder came back with %d", (int)_Unwind_RaiseException(&exception));
    return said_error();
}

/* Crashed: SIGSEGV, since the jump leads nowhere. */
HOTCELL_EXPORT(long_jump)(const uint8_t *input, size_t length) {
    static jmp_buf garbage;
    UNUSED;
    memset(&garbage, 0x41, sizeof garbage);
    longjmp(garbage, 1);
}

static void on_fault(int number) {
    (void)number;
    sleep_for_ever();
}

/* Error if it may not handle its own faults; else timed out, asleep in its fault handler. */
HOTCELL_EXPORT(catch_fault)(const uint8_t *input, size_t length) {
    struct sigaction action;
    UNUSED;
    memset(&action, 0, sizeof action);
    action.sa_handler = on_fault;
    say_nothing();
    if (sigaction(SIGSEGV, &action, NULL)) {
        say("sigaction: %s", errno_name(errno));
        return said_error();
    }
    *nowhere = 1;
    return HOTCELL_OK;
}


/* Timed out, using its processor time. */
HOTCELL_EXPORT(spin)(const uint8_t *input, size_t length) {
    UNUSED;
    for (;;) {
        __asm__ volatile("");
    }
}

/* Timed out, asleep. */
HOTCELL_EXPORT(sleep_forever)(const uint8_t *input, size_t length) {
    UNUSED;
    sleep_for_ever();
}

/* Timed out: locks the same lock twice. */
HOTCELL_EXPORT(deadlock)(const uint8_t *input, size_t length) {
    static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
    UNUSED;
    pthread_mutex_lock(&lock);
    pthread_mutex_lock(&lock);
    return HOTCELL_OK;
}

/* A reply after the milliseconds given as input. */
HOTCELL_EXPORT(busy)(const uint8_t *input, size_t length) {
    uint64_t wanted = input_number(input, length, 100);
    struct timespec start, now;
    clock_gettime(CLOCK_MONOTONIC, &start);
    do {
        clock_gettime(CLOCK_MONOTONIC, &now);
    } while ((uint64_t)((now.tv_sec - start.tv_sec) * 1000 + (now.tv_nsec - start.tv_nsec) / 1000000) < wanted);
    return hotcell_ok_text("done");
}
