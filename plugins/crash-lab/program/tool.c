/*
 * A program that a plugin has the host run: it does what its first argument says.
 */
#include "../native/lab.h"

#include <ctype.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/socket.h>

extern char **environ;

static void told(const char *act, long result) {
    printf("%s %s\n", act, result < 0 ? strerrorname_np(errno) : "done");
}

/*
 * What a program must not be able to do, one line each: the act and its errno. Gently, without what would be the end of this process where
 * nothing refuses it.
 */
static void escape(int gently) {
    char *arguments[] = {"/bin/true", NULL}, *nothing[] = {NULL};
    void *page = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    int descriptor, open_ones = 0;
    long child = syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0);
    if (child == 0) {
        _exit(0);
    }
    told("fork", child);
    if (!gently) {
        told("thread", syscall(SYS_clone, CLONE_VM | CLONE_THREAD | CLONE_SIGHAND, page, 0, 0, 0));
        told("execve", execve("/bin/true", arguments, nothing));
        told("execve itself", execve("/proc/self/exe", arguments, nothing));
        told("execveat", syscall(SYS_execveat, 0, "", arguments, nothing, AT_EMPTY_PATH));
        told("ptrace", ptrace(PTRACE_ATTACH, getppid(), 0, 0));
        told("setuid", setuid(0));
        told("seccomp", prctl(PR_SET_SECCOMP, 2, 0));
    }
    told("socket", socket(AF_INET, SOCK_STREAM, 0));
    told("socketpair", socketpair(AF_UNIX, SOCK_STREAM, 0, (int[2]){0}));
    told("open /etc/passwd", open("/etc/passwd", O_RDONLY));
    told("create", open("/tmp", O_TMPFILE | O_WRONLY, 0600));
    told("kill", kill(getppid(), 0));
    told("executable memory", mmap(NULL, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) == MAP_FAILED ? -1 : 0);
    told("memory made executable", mprotect(page, 4096, PROT_READ | PROT_EXEC));
    told("memfd", syscall(SYS_memfd_create, "x", 0));
    told("unshare", unshare(CLONE_NEWUSER));
    for (descriptor = 3; descriptor < 64; descriptor++) {
        open_ones += fcntl(descriptor, F_GETFD) != -1;
    }
    printf("descriptors %d\n", open_ones);
}

int main(int count, char **arguments) {
    const char *act = count > 1 ? arguments[1] : "";
    char piece[4096];
    size_t length, i;
    FILE *file;
    if (!strcmp(act, "tell")) {
        for (i = 0; i < (size_t)count; i++) {
            printf("argument %s\n", arguments[i]);
        }
        for (i = 0; environ[i]; i++) {
            printf("variable %s\n", environ[i]);
        }
    } else if (!strcmp(act, "upper")) {
        while ((length = fread(piece, 1, sizeof piece, stdin)) > 0) {
            for (i = 0; i < length; i++) {
                piece[i] = (char)toupper((unsigned char)piece[i]);
            }
            fwrite(piece, 1, length, stdout);
            fflush(stdout);
        }
    } else if (!strcmp(act, "exit")) {
        return atoi(arguments[2]);
    } else if (!strcmp(act, "abort")) {
        abort();
    } else if (!strcmp(act, "errors")) {
        fputs("said to standard error\n", stderr);
    } else if (!strcmp(act, "flood")) {
        memset(piece, 'x', sizeof piece);
        while (fwrite(piece, 1, sizeof piece, stdout) == sizeof piece) {
        }
    } else if (!strcmp(act, "memory")) {
        for (i = 0; i < 4096; i++) {
            char *block = malloc(1 << 20);
            if (!block) {
                printf("refused after %zu MiB\n", i);
                return 0;
            }
            memset(block, 1, 1 << 20);
        }
    } else if (!strcmp(act, "sleep")) {
        puts("asleep");
        fflush(stdout);
        poll(NULL, 0, -1);
    } else if (!strcmp(act, "read") && (file = fopen(arguments[2], "r"))) {
        while ((length = fread(piece, 1, sizeof piece, file)) > 0) {
            fwrite(piece, 1, length, stdout);
        }
    } else if (!strcmp(act, "write") && (file = fopen(arguments[2], "w"))) {
        fputs(arguments[3], file);
        fclose(file);
        puts("written");
    } else if (!strcmp(act, "try")) {
        length = fread(piece, 1, sizeof piece, stdin);
        try_calls((uint8_t *)piece, length);
        fwrite(report, 1, report_length, stdout);
    } else if (!strcmp(act, "escape")) {
        escape(count > 2);
    } else {
        printf("%s: %s\n", act, strerrorname_np(errno));
        return 1;
    }
    return 0;
}
