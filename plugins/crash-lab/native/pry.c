/*
 * Ways to look around: files, environment, descriptors, network, memory.
 * The line above each export says what the host should report; Error is a plugin error that names what was refused.
 */
#include "lab.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <link.h>
#include <netinet/in.h>
#include <sys/auxv.h>
#include <sys/socket.h>

#define FD_LIMIT 1024


/* The first bytes of the file named by the input; Error if it cannot be read. */
HOTCELL_EXPORT(read_file)(const uint8_t *input, size_t length) {
    int file = open(input_text(input, length), O_RDONLY | O_CLOEXEC);
    ssize_t count;
    say_nothing();
    if (file < 0) {
        say("open: %s", errno_name(errno));
        return said_error();
    }
    count = read(file, report, PAGE);
    if (count < 0) {
        say("read: %s", errno_name(errno));
        close(file);
        return said_error();
    }
    close(file);
    return hotcell_ok(report, (size_t)count);
}

/* A reply with nothing of the host in it: environment, the same from /proc, and the path of the program. */
HOTCELL_EXPORT(env)(const uint8_t *input, size_t length) {
    const char *program = (const char *)getauxval(AT_EXECFN);
    char **variable;
    int file;
    UNUSED;
    say_nothing();
    for (variable = environ; variable && *variable; variable++) {
        say("environ %s\n", *variable);
    }
    say("program %s\n", program ? program : "unknown");
    file = open("/proc/self/environ", O_RDONLY | O_CLOEXEC);
    if (file < 0) {
        say("/proc/self/environ: %s\n", errno_name(errno));
    } else {
        ssize_t i, count = read(file, report + report_length, PAGE);
        for (i = 0; i < count; i++, report_length++) {
            if (!report[report_length]) {
                report[report_length] = '\n';
            }
        }
        close(file);
    }
    return said_ok();
}

/* A reply with the numbers of the open descriptors, on one line each; only those that a worker needs. */
HOTCELL_EXPORT(fds)(const uint8_t *input, size_t length) {
    int descriptor;
    UNUSED;
    say_nothing();
    for (descriptor = 0; descriptor < FD_LIMIT; descriptor++) {
        if (fcntl(descriptor, F_GETFD) >= 0) {
            say("%d\n", descriptor);
        } else if (errno != EBADF) {
            say("%d %s\n", descriptor, errno_name(errno));
        }
    }
    return said_ok();
}

/* Error: no socket. "connected" is an escape. The input is a port of 127.0.0.1. */
HOTCELL_EXPORT(connect)(const uint8_t *input, size_t length) {
    struct sockaddr_in address;
    int link = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    say_nothing();
    if (link < 0) {
        say("socket: %s", errno_name(errno));
        return said_error();
    }
    memset(&address, 0, sizeof address);
    address.sin_family = AF_INET;
    address.sin_port = htons((uint16_t)input_number(input, length, 80));
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if (connect(link, (struct sockaddr *)&address, sizeof address)) {
        say("connect: %s", errno_name(errno));
        close(link);
        return said_error();
    }
    close(link);
    return hotcell_ok_text("connected");
}

/* 16 bytes of the worker's memory in hex, at the address given as input; crashed if there is nothing. */
HOTCELL_EXPORT(peek)(const uint8_t *input, size_t length) {
    const volatile uint8_t *at = (const volatile uint8_t *)(uintptr_t)input_number(input, length, 0);
    int i;
    say_nothing();
    for (i = 0; i < 16; i++) {
        say("%02x", at[i]);
    }
    return said_ok();
}

/* "address byte" writes to the worker's memory; crashed if nothing writable is there. */
HOTCELL_EXPORT(poke)(const uint8_t *input, size_t length) {
    char *rest;
    volatile uint8_t *at = (volatile uint8_t *)(uintptr_t)strtoull(input_text(input, length), &rest, 0);
    *at = (uint8_t)strtoul(rest, NULL, 0);
    return hotcell_ok_text("written");
}

/* A reply with addresses of this library, of a C library function, of the stack and of the heap: where things lie. */
HOTCELL_EXPORT(addresses)(const uint8_t *input, size_t length) {
    void *heap = malloc(1);
    UNUSED;
    say_nothing();
    say("library %p\nlibc %p\nstack %p\nheap %p\ntable %p\n", (void *)report, dlsym(NULL, "getpid"), (void *)&heap, heap,
        (const void *)hotcell_table);
    free(heap);
    return said_ok();
}

struct search {
    const uint8_t *wanted;
    size_t length, found;
};

/* Counts places that hold the bytes wanted, which are given with each byte inverted so as not to find themselves. */
static void search_range(struct search *search, const uint8_t *at, const uint8_t *end) {
    for (; at + search->length <= end; at++) {
        size_t i = 0;
        while (i < search->length && (at[i] ^ search->wanted[i]) == 0xff) {
            i++;
        }
        search->found += i == search->length;
    }
}

static int search_object(struct dl_phdr_info *object, size_t size, void *data) {
    int i;
    (void)size;
    for (i = 0; i < object->dlpi_phnum; i++) {
        const ElfW(Phdr) *part = &object->dlpi_phdr[i];
        if (part->p_type == PT_LOAD && part->p_flags & PF_R) {
            const uint8_t *start = (const uint8_t *)(object->dlpi_addr + part->p_vaddr);
            search_range(data, start, start + part->p_memsz);
        }
    }
    return 0;
}

/* A reply, "0": how often the input, given with inverted bytes, is in the stack, the heap and all loaded objects. */
HOTCELL_EXPORT(search_memory)(const uint8_t *input, size_t length) {
    extern void *__libc_stack_end;
    struct search search = {input, length, 0};
    uint8_t here;
    uint8_t *heap_end = sbrk(0);
    uint8_t *in_heap = malloc(1);
    say_nothing();
    if (!length) {
        return hotcell_error("nothing to search for");
    }
    search_range(&search, &here, (const uint8_t *)__libc_stack_end);
    if (in_heap && in_heap < heap_end) {
        search_range(&search, in_heap, heap_end);
    }
    free(in_heap);
    dl_iterate_phdr(search_object, &search);
    say("%zu", search.found);
    return said_ok();
}

/* Whether a page can be read: rt_sigprocmask(2) reads a set before it finds that there is nothing called -1. */
static int is_readable(uintptr_t page) {
    return syscall(SYS_rt_sigprocmask, -1, page, NULL, 8) == -1 && errno == EINVAL;
}

/* How often the bytes whose complement this is stand in the mappings around an address, up to a gap of 256 MiB. */
static size_t find_around(uintptr_t anchor, const uint8_t *complement, size_t length) {
    size_t found = 0, gap, at, i;
    int upwards;
    for (upwards = 0; upwards < 2; upwards++) {
        uintptr_t page = anchor & ~(uintptr_t)(PAGE - 1);
        for (gap = 0; gap < 65536 && page >= PAGE && page < (uintptr_t)1 << 47; page += upwards ? PAGE : -(uintptr_t)PAGE) {
            const volatile uint8_t *bytes = (const volatile uint8_t *)page;
            if (!is_readable(page)) {
                gap++;
                continue;
            }
            gap = 0;
            for (at = 0; at + length <= PAGE; at++) {
                for (i = 0; i < length && (uint8_t)~bytes[at + i] == complement[i]; i++) {
                }
                found += i == length;
            }
        }
    }
    return found;
}

/* "0": how often some bytes stand anywhere in this process's memory. The input is their complement, in hexadecimal, so that the
 * question does not hold what it asks for. */
HOTCELL_EXPORT(search)(const uint8_t *input, size_t length) {
    uint8_t complement[64];
    int here;
    size_t found, count = from_hex(input_text(input, length), complement, sizeof complement);
    if (count < 8) {
        say_nothing();
        say("too short");
        return said_error();
    }
    /* The stack, the heap, this library, libc, and the program that the launcher is. */
    found = find_around((uintptr_t)&here, complement, count) + find_around((uintptr_t)sbrk(0) - 1, complement, count) +
            find_around((uintptr_t)find_around, complement, count) + find_around((uintptr_t)&strtoull, complement, count) +
            find_around((uintptr_t)getauxval(AT_PHDR), complement, count);
    say_nothing();
    say("%zu", found);
    return said_ok();
}
