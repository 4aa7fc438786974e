/*
 * Tries to escape from its constructor, which runs inside dlopen, before the worker could look up a single symbol. The
 * export `report` returns what happened to each attempt, as a JSON object: "done" or the name of the error. The host loads it,
 * and every attempt was refused; the environment is empty.
 */
#define _GNU_SOURCE
#include "hotcell_plugin.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <sched.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

HOTCELL_PLUGIN(0)

static char report[4096] = "{";
static size_t report_length = 1;

__attribute__((format(printf, 1, 2))) static void say(const char *format, ...) {
    va_list arguments;
    int written;
    va_start(arguments, format);
    written = vsnprintf(report + report_length, sizeof report - report_length, format, arguments);
    va_end(arguments);
    report_length += written > 0 ? (size_t)written : 0;
}

static void tell(const char *what, int failed) {
    const char *name = failed ? strerrorname_np(errno) : "done";
    say("%s\"%s\":\"%s\"", report_length > 1 ? "," : "", what, name ? name : "other");
}

static void try_files(void) {
    int file = open("/etc/passwd", O_RDONLY | O_CLOEXEC);
    tell("open", file < 0);
    if (file >= 0) {
        close(file);
    }
    file = open("/tmp/hotcell-lab", O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
    tell("create", file < 0);
    if (file >= 0) {
        unlink("/tmp/hotcell-lab");
        close(file);
    }
    file = (int)syscall(SYS_memfd_create, "lab", 1u);
    tell("memfd_create", file < 0);
    if (file >= 0) {
        close(file);
    }
}

static void try_network(void) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = 0x0100};
    int link = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    tell("socket", link < 0);
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    /* Reaching a closed port is an escape as well. */
    tell("connect", connect(link, (struct sockaddr *)&address, sizeof address) && errno != ECONNREFUSED);
    if (link >= 0) {
        close(link);
    }
}

/* Executes in a child if there may be one; else in place, where success would be the end of this process. */
static void try_processes(void) {
    static char *const arguments[] = {"true", NULL}, *const none[] = {NULL};
    int status = 0;
    pid_t child = fork();
    tell("fork", child < 0);
    if (child <= 0) {
        execve("/bin/true", arguments, none);
        if (!child) {
            _exit(errno);
        }
    } else {
        waitpid(child, &status, 0);
        errno = WEXITSTATUS(status);
    }
    tell("execve", child < 0 || status);
}

static void try_kernel(void) {
    tell("unshare", (int)syscall(SYS_unshare, CLONE_NEWUSER));
    tell("seccomp", (int)syscall(SYS_seccomp, 2u /* SECCOMP_GET_ACTION_AVAIL */, 0u, &(uint32_t){0x7fff0000u}));
    tell("kill", (int)syscall(SYS_kill, syscall(SYS_getppid), 0));
    tell("ptrace", ptrace(PTRACE_TRACEME, 0, NULL, NULL) < 0);
}

__attribute__((constructor)) static void construct(void) {
    size_t variables = 0;
    try_files();
    try_network();
    try_processes();
    try_kernel();
    while (environ && environ[variables]) {
        variables++;
    }
    say(",\"environment\":%zu}", variables);
}

HOTCELL_EXPORT(report)(const uint8_t *input, size_t length) {
    (void)input;
    (void)length;
    return hotcell_ok(report, report_length);
}
