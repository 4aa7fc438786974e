/*
 * Ways to use up everything but memory.
 * The line above each export says what the host should report; Error is a plugin error that names what was refused.
 */
#include "lab.h"

#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>

static int open_dup(void) { return dup(0); }
static int open_file(void) { return open("/dev/null", O_RDONLY); }
static int open_memfd(void) { return (int)syscall(SYS_memfd_create, "lab", 1u); }
static int open_eventfd(void) { return (int)syscall(SYS_eventfd2, 0, 0); }
static int open_epoll(void) { return (int)syscall(SYS_epoll_create1, 0); }
static int open_socket(void) { return socket(AF_UNIX, SOCK_STREAM, 0); }

/* A pipe whose buffer is as large as allowed, and full. */
static int open_pipe(void) {
    static char zeros[PAGE];
    int ends[2];
    if (syscall(SYS_pipe2, ends, O_NONBLOCK)) {
        return -1;
    }
    fcntl(ends[1], F_SETPIPE_SZ, MIB);
    while (write(ends[1], zeros, sizeof zeros) > 0) {
    }
    return ends[0];
}

/* A socket pair whose buffer is as large as allowed, and full. */
static int open_socket_pair(void) {
    static char zeros[PAGE];
    int ends[2], size = 64 * (int)MIB;
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, ends)) {
        return -1;
    }
    setsockopt(ends[0], SOL_SOCKET, SO_SNDBUF, &size, sizeof size);
    while (write(ends[0], zeros, sizeof zeros) > 0) {
    }
    return ends[0];
}

static int open_timer(void) {
    timer_t timer;
    struct sigevent event;
    memset(&event, 0, sizeof event);
    event.sigev_notify = SIGEV_NONE;
    return timer_create(CLOCK_MONOTONIC, &event, &timer) ? -1 : 0;
}

/* Error: one line per kind of descriptor, with how many it got before the refusal. The descriptors stay open. */
HOTCELL_EXPORT(fd_flood)(const uint8_t *input, size_t length) {
    static const struct {
        const char *name;
        int (*open)(void);
    } kinds[] = {
        {"dup", open_dup},       {"open", open_file},     {"memfd_create", open_memfd},    {"eventfd2", open_eventfd},
        {"epoll", open_epoll},   {"socket", open_socket}, {"socketpair", open_socket_pair}, {"pipe2", open_pipe},
        {"timer", open_timer},
    };
    size_t kind;
    UNUSED;
    say_nothing();
    for (kind = 0; kind < sizeof kinds / sizeof *kinds; kind++) {
        size_t count = 0;
        while (kinds[kind].open() >= 0) {
            count++;
        }
        say("%s: %s after %zu\n", kinds[kind].name, errno_name(errno), count);
    }
    return said_error();
}

static void *thread_sleep(void *nothing) {
    (void)nothing;
    sleep_for_ever();
}

/* Error: a thread was refused. */
HOTCELL_EXPORT(thread_bomb)(const uint8_t *input, size_t length) {
    pthread_attr_t small;
    pthread_t thread;
    size_t count = 0;
    int why;
    UNUSED;
    pthread_attr_init(&small);
    pthread_attr_setstacksize(&small, 64 * 1024);
    while (!(why = pthread_create(&thread, &small, thread_sleep, NULL))) {
        count++;
    }
    say_nothing();
    say("pthread_create: %s after %zu threads", errno_name(why), count);
    return said_error();
}

/* Error: a process was refused. What had been started before that keeps sleeping until the worker is killed. */
HOTCELL_EXPORT(fork_bomb)(const uint8_t *input, size_t length) {
    size_t count = 0;
    UNUSED;
    say_nothing();
    for (;; count++) {
        pid_t child = fork();
        if (child < 0) {
            say("fork: %s after %zu processes", errno_name(errno), count);
            return said_error();
        }
        if (!child) {
            while (fork() >= 0) {
            }
            sleep_for_ever();
        }
    }
}

/* Error: a process of its own session was refused; else "alive", and a process that outlives its parent sleeps on. */
HOTCELL_EXPORT(daemonise)(const uint8_t *input, size_t length) {
    pid_t child = fork();
    UNUSED;
    say_nothing();
    if (child < 0) {
        say("fork: %s", errno_name(errno));
        return said_error();
    }
    if (!child) {
        setsid();
        if (fork() != 0) {
            _exit(0);
        }
        sleep_for_ever();
    }
    waitpid(child, NULL, 0);
    return hotcell_ok_text("alive");
}

static int32_t flood(int descriptor) {
    static char line[PAGE];
    size_t count = 0;
    memset(line, 'x', sizeof line);
    line[sizeof line - 1] = '\n';
    say_nothing();
    for (;; count++) {
        if (write(descriptor, line, sizeof line) < 0 && errno != EAGAIN && errno != EINTR) {
            say("write: %s after %zu pages", errno_name(errno), count);
            return said_error();
        }
    }
}

/* Timed out, with bounded output kept; or Error if writing is refused. */
HOTCELL_EXPORT(stdout_flood)(const uint8_t *input, size_t length) {
    UNUSED;
    return flood(1);
}

/* Timed out, with bounded output kept; or Error if writing is refused. */
HOTCELL_EXPORT(stderr_flood)(const uint8_t *input, size_t length) {
    UNUSED;
    return flood(2);
}

/* A reply, the number of bytes: writes the input to standard output and error. */
HOTCELL_EXPORT(print)(const uint8_t *input, size_t length) {
    ssize_t out = write(1, input, length), error = write(2, input, length);
    say_nothing();
    say("%zd %zd", out, error);
    return said_ok();
}
