/*
 * Ways to abuse the channel to the host: replies, host calls, descriptors.
 * The line above each export says what the host should report; Error is a plugin error that names what was refused.
 */
#include "lab.h"

#include <fcntl.h>
#include <sys/mman.h>

#define FIRST_BELL 3 /* wakes the host's runtime */
#define SECOND_BELL 4 /* wakes a blocking caller */
#define FD_LIMIT 1024

/* The answer of a host call given as "name\ninput"; Error "refused", "failed" or "failed: why". */
HOTCELL_EXPORT(host_call)(const uint8_t *input, size_t length) {
    const uint8_t *newline = length ? memchr(input, '\n', length) : NULL;
    size_t name_length = newline ? (size_t)(newline - input) : length;
    const uint8_t *rest = newline ? newline + 1 : input + length;
    int64_t status = hotcell_host_call((const char *)input, name_length, rest, (size_t)(input + length - rest));
    say_nothing();
    if (status == HOTCELL_REFUSED) {
        say("refused");
        return said_error();
    }
    if (status >= 0) {
        uint8_t *answer = malloc((size_t)status + 1);
        size_t taken = answer ? hotcell_host_take(answer, (size_t)status) : 0;
        hotcell_reply(answer, taken);
        free(answer);
        return HOTCELL_OK;
    }
    say("failed");
    if (status <= HOTCELL_FAILED_TEXT) {
        say(": ");
        report_length += hotcell_host_take((uint8_t *)report + report_length, sizeof report - report_length);
    }
    return said_error();
}

/*
 * What a program answers to a text until it ends, and how it ended, on a line of its own; or Error: the step. The input is the text, a
 * newline, and the request of `process.spawn`.
 */
HOTCELL_EXPORT(program_talk)(const uint8_t *input, size_t length) {
    const uint8_t *newline = length ? memchr(input, '\n', length) : NULL;
    const uint8_t *rest = newline ? newline + 1 : input + length;
    size_t text = newline ? (size_t)(newline - input) : length, taken;
    char id[16];
    ssize_t count;
    int to_it, from_it;
    say_nothing();
    if (hotcell_host_call("process.spawn", 13, rest, (size_t)(input + length - rest)) < 0) {
        say("not started");
        return said_error();
    }
    taken = hotcell_host_take((uint8_t *)id, sizeof id);
    to_it = socket(AF_UNSPEC, 0, 0);
    from_it = socket(AF_UNSPEC, 0, 0);
    if (from_it < 0 || write(to_it, input, text) != (ssize_t)text) {
        say("its streams: %s", errno_name(errno));
        return said_error();
    }
    close(to_it);
    while ((count = read(from_it, report + report_length, sizeof report - report_length)) > 0) {
        report_length += (size_t)count;
    }
    close(from_it);
    say("\n");
    if (hotcell_host_call("process.wait", 12, id, taken) < 0) {
        say("not waited for");
        return said_error();
    }
    report_length += hotcell_host_take((uint8_t *)report + report_length, sizeof report - report_length);
    return said_ok();
}

/* A reply; the log has the input, escaped, as one record. Error if it may not log. */
HOTCELL_EXPORT(log)(const uint8_t *input, size_t length) {
    int64_t status = hotcell_log("info", input_text(input, length));
    say_nothing();
    say("%lld", (long long)status);
    return status < 0 ? said_error() : said_ok();
}

/* A reply after as many messages as the input says, or timed out without a number: the log keeps a bounded part. */
HOTCELL_EXPORT(log_flood)(const uint8_t *input, size_t length) {
    uint64_t count, wanted = input_number(input, length, UINT64_MAX);
    say_nothing();
    for (count = 0; count < wanted; count++) {
        int64_t status = hotcell_log("error", "a flood of messages, each of which wants to be kept");
        if (status < 0) {
            say("log: %lld after %llu messages", (long long)status, (unsigned long long)count);
            return said_error();
        }
    }
    say("%llu messages", (unsigned long long)count);
    return said_ok();
}

/* Timed out, calling a host call (by default one that nobody declared) without end; no other plugin is slowed. */
HOTCELL_EXPORT(host_call_bomb)(const uint8_t *input, size_t length) {
    static const char undeclared[] = "hotcell.lab.undeclared";
    const char *name = length ? (const char *)input : undeclared;
    size_t name_length = length ? length : sizeof undeclared - 1;
    for (;;) {
        hotcell_host_call(name, name_length, report, sizeof report);
    }
}

/* Error or crash of the worker, never of the host: name and input of a host call as long as the input says. */
HOTCELL_EXPORT(giant_host_call)(const uint8_t *input, size_t length) {
    size_t size = (size_t)input_number(input, length, (uint64_t)1024 * MIB);
    void *zeros = mmap(NULL, size, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    int64_t long_input, long_name;
    say_nothing();
    if (zeros == MAP_FAILED) {
        say("mmap: %s", errno_name(errno));
        return said_error();
    }
    long_input = hotcell_host_call("log", 3, zeros, size);
    long_name = hotcell_host_call(zeros, size, "", 0);
    munmap(zeros, size);
    say("input %lld, name %lld", (long long)long_input, (long long)long_name);
    return said_error();
}

/* Refused as too large: a reply of as many zero bytes as the input says, by default 1 GiB. Error if not mappable. */
HOTCELL_EXPORT(giant_reply)(const uint8_t *input, size_t length) {
    size_t size = (size_t)input_number(input, length, (uint64_t)1024 * MIB);
    void *zeros = mmap(NULL, size, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    say_nothing();
    if (zeros == MAP_FAILED) {
        say("mmap: %s for %zu bytes", errno_name(errno), size);
        return said_error();
    }
    hotcell_reply(zeros, size);
    munmap(zeros, size);
    return HOTCELL_OK;
}

/* Refused as too large, or the worker crashed: 16 bytes that claim to be as many as the input says. */
HOTCELL_EXPORT(lying_reply)(const uint8_t *input, size_t length) {
    static const uint8_t few[16];
    return hotcell_ok(few, (size_t)input_number(input, length, (uint64_t)1 << 46));
}

/* Crashed: the worker read where the plugin told it to. */
HOTCELL_EXPORT(null_reply)(const uint8_t *input, size_t length) {
    UNUSED;
    return hotcell_ok((const void *)8, 64);
}

/* The worker's end of the rings, as protocol/src/ring/layout.rs has it. */
#define UP_HEAD 1024u              /* bytes that the worker has published, in the control page */
#define UP_TAIL (1024u + 64)       /* bytes that the host has consumed */
#define UP_MESSAGES (PAGE + 32768u) /* the ring of messages to the host */
#define MESSAGES_LENGTH 32768u
#define SEARCHED (256u * MIB) /* on both sides of where the search starts */

/* Whether a page can be read: the kernel copies the set from there before it looks at what to do with it. */
static int is_readable(const uint8_t *page) {
    return syscall(SYS_rt_sigprocmask, -1, page, NULL, sizeof(uint64_t)) == 0 || errno != EFAULT;
}

static uint64_t word_at(const uint8_t *page, size_t offset) {
    return *(const volatile uint64_t *)(page + offset);
}

/* The two cursors of a direction, and nothing but zeros around them. */
static int looks_like_cursors(const uint8_t *block) {
    uint64_t head = word_at(block, 0), tail = word_at(block, 64);
    return head != 0 && head % 16 == 0 && tail % 16 == 0 && tail <= head && head - tail <= MESSAGES_LENGTH &&
           word_at(block, 16) == 0 && word_at(block, 24) == 0 && word_at(block, 80) == 0 && word_at(block, 256) == 0;
}

/* The memory that is shared with the host, or NULL. Mapped near to everything else, so a search finds it. */
static uint8_t *find_ring(void) {
    uint8_t *start = mmap(NULL, PAGE, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    size_t distance;
    for (distance = PAGE; start != MAP_FAILED && distance < SEARCHED; distance += PAGE) {
        uint8_t *sides[] = {start + distance, start - distance};
        for (size_t side = 0; side < 2; side++) {
            uint8_t *page = sides[side];
            if (is_readable(page) && looks_like_cursors(page) && looks_like_cursors(page + UP_HEAD)) {
                return page;
            }
        }
    }
    return NULL;
}

/* Publishes bytes as if they were frames, and wakes the host in both ways. */
static void publish(uint8_t *ring, const uint8_t *bytes, size_t size) {
    static const uint64_t one = 1;
    uint64_t head = word_at(ring, UP_HEAD);
    for (size_t at = 0; at < size; at++) {
        ((volatile uint8_t *)ring)[UP_MESSAGES + (head + at) % MESSAGES_LENGTH] = bytes[at];
    }
    __atomic_store_n((uint64_t *)(ring + UP_HEAD), head + size, __ATOMIC_RELEASE);
    say("bells %zd %zd", write(FIRST_BELL, &one, sizeof one), write(SECOND_BELL, &one, sizeof one));
}

/* A reply: the memory that is shared with the host can be found. */
HOTCELL_EXPORT(ring_search)(const uint8_t *input, size_t length) {
    UNUSED;
    say_nothing();
    say(find_ring() ? "found" : "not found");
    return said_ok();
}

/* Protocol violation, the worker is killed: a frame of 0xff bytes before the reply. */
HOTCELL_EXPORT(wrong_reply)(const uint8_t *input, size_t length) {
    static uint8_t garbage[64];
    uint8_t *ring = find_ring();
    UNUSED;
    memset(garbage, 0xff, sizeof garbage);
    say_nothing();
    if (ring) {
        publish(ring, garbage, sizeof garbage);
        sleep_for_ever();
    }
    say("not found");
    return said_error();
}

/* Protocol violation, the worker is killed: a cursor far out of the ring. */
HOTCELL_EXPORT(wrong_cursor)(const uint8_t *input, size_t length) {
    uint8_t *ring = find_ring();
    say_nothing();
    if (ring) {
        uint64_t head = word_at(ring, UP_HEAD) + input_number(input, length, (uint64_t)1 << 46);
        __atomic_store_n((uint64_t *)(ring + UP_HEAD), head, __ATOMIC_RELEASE);
        publish(ring, NULL, 0);
        sleep_for_ever();
    }
    say("not found");
    return said_error();
}

/* Whatever the bytes mean: "hex" publishes exactly these, header and all, then replies. */
HOTCELL_EXPORT(raw_message)(const uint8_t *input, size_t length) {
    static uint8_t bytes[4096];
    uint8_t *ring = find_ring();
    size_t size = from_hex(input_text(input, length), bytes, sizeof bytes);
    say_nothing();
    if (ring) {
        publish(ring, bytes, size);
        return said_ok();
    }
    say("not found");
    return said_error();
}

/* Timed out: rings both bells as fast as it can. */
HOTCELL_EXPORT(bell_storm)(const uint8_t *input, size_t length) {
    static const uint64_t one = 1;
    ssize_t rung = 0;
    UNUSED;
    for (;;) {
        rung += write(FIRST_BELL, &one, sizeof one) + write(SECOND_BELL, &one, sizeof one);
    }
    return rung > 0 ? HOTCELL_OK : said_error();
}

/* The worker is gone, or the call timed out: closes every descriptor that it can, then replies. */
HOTCELL_EXPORT(close_all)(const uint8_t *input, size_t length) {
    int descriptor;
    UNUSED;
    for (descriptor = 0; descriptor < FD_LIMIT; descriptor++) {
        syscall(SYS_close, descriptor);
    }
    return hotcell_ok_text("closed");
}

/* Error with a line for each attempt that was refused; the host goes on whichever succeeded. */
HOTCELL_EXPORT(abuse_descriptors)(const uint8_t *input, size_t length) {
    int descriptor;
    UNUSED;
    say_nothing();
    for (descriptor = 0; descriptor < 64; descriptor++) {
        say("%d:", descriptor);
        say(" truncate %s", syscall(SYS_ftruncate, descriptor, 0) ? errno_name(errno) : "done");
        say(" punch %s", syscall(SYS_fallocate, descriptor, 3, 0, 4096) ? errno_name(errno) : "done");
        say(" seal %s", fcntl(descriptor, F_ADD_SEALS, F_SEAL_SEAL) ? errno_name(errno) : "done");
        say(" block %s", fcntl(descriptor, F_SETFL, 0) ? errno_name(errno) : "done");
        say(" own %s", fcntl(descriptor, F_SETOWN, 1) ? errno_name(errno) : "done");
        say(" lock %s", syscall(SYS_flock, descriptor, 2 | 4) ? errno_name(errno) : "done");
        say(" tty %s\n", syscall(SYS_ioctl, descriptor, 0xdead00005412ull, "x") ? errno_name(errno) : "done");
    }
    return said_error();
}
