/*
 * Ways to use up memory.
 * The line above each export says what the host should report; Error is a plugin error that names what was refused.
 */
#include "lab.h"

#include <sys/mman.h>

struct block {
    struct block *next;
};

/* Takes blocks of 1 MiB with `take` until it is refused, and touches each page. Returns how many it got. */
static size_t take_blocks(struct block **first, void *(*take)(size_t)) {
    size_t count = 0;
    for (;;) {
        struct block *block = take(MIB);
        if (!block) {
            return count;
        }
        memset(block, 0x55, MIB);
        block->next = *first;
        *first = block;
        count++;
    }
}

static void *take_mapping(size_t size) {
    void *mapping = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    return mapping == MAP_FAILED ? NULL : mapping;
}

/* Error: malloc was refused. Or killed by the memory limit. */
HOTCELL_EXPORT(memory_malloc)(const uint8_t *input, size_t length) {
    struct block *blocks = NULL;
    size_t count = take_blocks(&blocks, malloc);
    int why = errno;
    UNUSED;
    while (blocks) {
        struct block *next = blocks->next;
        free(blocks);
        blocks = next;
    }
    say_nothing();
    say("malloc: %s after %zu MiB", errno_name(why), count);
    return said_error();
}

/* Error: mmap was refused. Or killed by the memory limit. */
HOTCELL_EXPORT(memory_mmap)(const uint8_t *input, size_t length) {
    struct block *blocks = NULL;
    size_t count = take_blocks(&blocks, take_mapping);
    int why = errno;
    UNUSED;
    while (blocks) {
        struct block *next = blocks->next;
        munmap(blocks, MIB);
        blocks = next;
    }
    say_nothing();
    say("mmap: %s after %zu MiB", errno_name(why), count);
    return said_error();
}

/* A reply, or a crash while replying: keeps all the memory that it can get, so that the worker has none. */
HOTCELL_EXPORT(memory_hoard)(const uint8_t *input, size_t length) {
    static struct block *kept;
    static void *volatile small;
    UNUSED;
    take_blocks(&kept, malloc);
    do {
        small = malloc(64);
    } while (small);
    return hotcell_ok(input, length);
}

/* Error: the file was refused, or killed by SIGXFSZ or the memory limit. The memory is in no mapping. */
HOTCELL_EXPORT(memory_memfd)(const uint8_t *input, size_t length) {
    static char zeros[MIB];
    size_t count = 0;
    int why, file = (int)syscall(SYS_memfd_create, "lab", 1u);
    UNUSED;
    say_nothing();
    if (file < 0) {
        say("memfd_create: %s", errno_name(errno));
        return said_error();
    }
    while (write(file, zeros, sizeof zeros) > 0) {
        count++;
    }
    why = errno;
    close(file);
    say("write: %s after %zu MiB", errno_name(why), count);
    return said_error();
}

/* Error: shared memory was refused. Or killed by the memory limit, which address-space limits alone do not hold. */
HOTCELL_EXPORT(memory_shared)(const uint8_t *input, size_t length) {
    size_t count = 0;
    UNUSED;
    say_nothing();
    for (;; count++) {
        void *mapping = mmap(NULL, MIB, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
        if (mapping == MAP_FAILED) {
            say("mmap: %s after %zu MiB", errno_name(errno), count);
            return said_error();
        }
        memset(mapping, 0x55, MIB);
    }
}

/* Error: mmap was refused. Or killed by the memory limit: the memory is in page tables. */
HOTCELL_EXPORT(page_table_bomb)(const uint8_t *input, size_t length) {
    const size_t region = (size_t)1 << 36, step = (size_t)2 * MIB;
    size_t touched = 0;
    UNUSED;
    say_nothing();
    for (;;) {
        size_t at;
        char *mapping = mmap(NULL, region, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        if (mapping == MAP_FAILED) {
            say("mmap: %s after %zu page tables", errno_name(errno), touched);
            return said_error();
        }
        madvise(mapping, region, MADV_NOHUGEPAGE);
        for (at = 0; at < region; at += step, touched++) {
            (void)*(volatile char *)(mapping + at);
        }
    }
}

/* Error: mmap was refused, at the latest at the kernel's own limit of mappings. */
HOTCELL_EXPORT(mapping_flood)(const uint8_t *input, size_t length) {
    static void *spare[64]; /* given back at the end, so that the worker can still reply */
    size_t i, count = 0;
    UNUSED;
    say_nothing();
    for (;; count++) {
        int protection = count % 2 ? PROT_READ : PROT_NONE;
        void *mapping = mmap(NULL, PAGE, protection, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (mapping == MAP_FAILED) {
            break;
        }
        if (count < sizeof spare / sizeof *spare) {
            spare[count] = mapping;
        }
    }
    say("mmap: %s after %zu mappings", errno_name(errno), count);
    for (i = 0; i < count && i < sizeof spare / sizeof *spare; i++) {
        munmap(spare[i], PAGE);
    }
    return said_error();
}

/* Error: an executable mapping was refused. */
HOTCELL_EXPORT(executable_memory)(const uint8_t *input, size_t length) {
    void *code;
    UNUSED;
    say_nothing();
    code = mmap(NULL, PAGE, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (code != MAP_FAILED) {
        return hotcell_ok_text("mmap");
    }
    say("mmap: %s\n", errno_name(errno));
    code = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (code != MAP_FAILED && !mprotect(code, PAGE, PROT_READ | PROT_EXEC)) {
        return hotcell_ok_text("mprotect");
    }
    say("mprotect: %s", errno_name(errno));
    return said_error();
}
