/*
 * Ways to use and abuse connections that the host makes.
 * The line above each export says what the host should report; Error is a plugin error that names what was refused.
 */
#include "lab.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>

#define ANSWER_MAX 4096

/* "refused", or "failed: why". */
static int32_t no_connection(int status) {
    say_nothing();
    if (status == HOTCELL_REFUSED) {
        say("refused");
        return said_error();
    }
    say("failed: ");
    report_length += hotcell_host_take((uint8_t *)report + report_length, sizeof report - report_length);
    return said_error();
}

/* What the other side says to "ping" until it closes; or Error. The input is the address. */
HOTCELL_EXPORT(net_talk)(const uint8_t *input, size_t length) {
    char answer[ANSWER_MAX];
    ssize_t count;
    int connection = hotcell_connect(input_text(input, length));
    if (connection < 0) {
        return no_connection(connection);
    }
    say_nothing();
    if (write(connection, "ping", 4) != 4) {
        say("write: %s", errno_name(errno));
        return said_error();
    }
    while ((count = read(connection, answer, sizeof answer)) > 0) {
        say("%.*s", (int)count, answer);
    }
    close(connection);
    return said_ok();
}

/* The errno of what a socket can do beside read and write, one name each. The input is the address. */
HOTCELL_EXPORT(net_tricks)(const uint8_t *input, size_t length) {
    struct sockaddr elsewhere = {AF_INET, {0}}, mine;
    socklen_t size = sizeof mine;
    int option = 1;
    int connection = hotcell_connect(input_text(input, length));
    if (connection < 0) {
        return no_connection(connection);
    }
    int another = socket(AF_INET, SOCK_STREAM, 0);
    say_nothing();
    say("connect %s ", connect(connection, &elsewhere, sizeof elsewhere) ? errno_name(errno) : "done");
    say("stderr %s ", connect(2, &elsewhere, sizeof elsewhere) ? errno_name(errno) : "done");
    say("bind %s ", bind(connection, &elsewhere, sizeof elsewhere) ? errno_name(errno) : "done");
    say("listen %s ", listen(connection, 1) ? errno_name(errno) : "done");
    say("accept %s ", accept(connection, NULL, NULL) < 0 ? errno_name(errno) : "done");
    say("sendto %s ", sendto(connection, "x", 1, 0, &elsewhere, sizeof elsewhere) < 0 ? errno_name(errno) : "done");
    say("setsockopt %s ",
        setsockopt(connection, SOL_SOCKET, SO_REUSEADDR, &option, sizeof option) ? errno_name(errno) : "done");
    say("oob %s ", send(connection, "x", 1, MSG_OOB) < 0 ? errno_name(errno) : "done");
    say("getsockname %s ", getsockname(connection, &mine, &size) ? errno_name(errno) : "done");
    say("async %s ", fcntl(connection, F_SETFL, O_ASYNC) ? errno_name(errno) : "done");
    say("udp %s ", socket(AF_INET, SOCK_DGRAM, 0) < 0 ? errno_name(errno) : "done");
    say("unix %s ", socket(AF_UNIX, SOCK_STREAM, 0) < 0 ? errno_name(errno) : "done");
    say("mptcp %s ", socket(AF_INET, SOCK_STREAM, 262) < 0 ? errno_name(errno) : "done");
    say("tcp %s ", another < 0 ? errno_name(errno) : "done");
    say("its bind %s ", bind(another, &elsewhere, sizeof elsewhere) ? errno_name(errno) : "done");
    say("its listen %s ", listen(another, 1) ? errno_name(errno) : "done");
    say("its fastopen %s ",
        sendto(another, "x", 1, MSG_FASTOPEN, &elsewhere, sizeof elsewhere) < 0 ? errno_name(errno) : "done");
    say("its send %s", send(another, "x", 1, MSG_NOSIGNAL) < 0 ? errno_name(errno) : "done");
    return said_ok();
}

/* The number of connections that it got before the first failure. They stay open. The input is the address. */
HOTCELL_EXPORT(net_flood)(const uint8_t *input, size_t length) {
    size_t count = 0;
    while (hotcell_connect(input_text(input, length)) >= 0) {
        count++;
    }
    say_nothing();
    say("%zu", count);
    return said_ok();
}

/* "done": asks for 200 connections and takes none. The input is the address. */
HOTCELL_EXPORT(net_hoard)(const uint8_t *input, size_t length) {
    size_t count;
    for (count = 0; count < 200; count++) {
        if (hotcell_host_call("net.connect", 11, input, length) < 0) {
            return no_connection(HOTCELL_REFUSED);
        }
    }
    return hotcell_ok_text("done");
}

/* Says "ping" as any program does that knows nothing of hotcell, and returns the answer; or Error: the step and its errno. */
static int32_t talk_plainly(const struct sockaddr *address, socklen_t size, int flags) {
    char answer[ANSWER_MAX];
    ssize_t count;
    int problem = 0, option = 1;
    socklen_t length = sizeof problem;
    struct pollfd polled = {.events = POLLIN};
    int connection = socket(address->sa_family, SOCK_STREAM | flags, 0);
    say_nothing();
    if (connection < 0) {
        say("socket %s", errno_name(errno));
        return said_error();
    }
    errno = 77;
    if (connect(connection, address, size)) {
        say("connect %s", errno_name(errno));
        close(connection);
        return said_error();
    }
    if (errno != 77) {
        say("errno");
        return said_error();
    }
    if (getsockopt(connection, SOL_SOCKET, SO_ERROR, &problem, &length) || problem) {
        say("getsockopt %s", errno_name(problem ? problem : errno));
        return said_error();
    }
    if (setsockopt(connection, IPPROTO_TCP, TCP_NODELAY, &option, sizeof option)) {
        say("setsockopt %s", errno_name(errno));
        return said_error();
    }
    if (!!(fcntl(connection, F_GETFL) & O_NONBLOCK) != !!(flags & SOCK_NONBLOCK)) {
        say("not as it was asked for");
        return said_error();
    }
    if (send(connection, "ping", 4, MSG_NOSIGNAL) != 4) {
        say("send %s", errno_name(errno));
        return said_error();
    }
    polled.fd = connection;
    while (poll(&polled, 1, -1) == 1 && (count = recv(connection, answer, sizeof answer, 0)) > 0) {
        say("%.*s", (int)count, answer);
    }
    close(connection);
    return said_ok();
}

/* The same to 127.0.0.1, at the port that is the input; a minus before it asks for a descriptor that does not block. */
HOTCELL_EXPORT(net_plain)(const uint8_t *input, size_t length) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
    int port = atoi(input_text(input, length));
    address.sin_port = htons((uint16_t)abs(port));
    return talk_plainly((struct sockaddr *)&address, sizeof address, port < 0 ? SOCK_NONBLOCK : 0);
}

/* The same to ::1, and to ::ffff:127.0.0.1 with a minus. */
HOTCELL_EXPORT(net_plain6)(const uint8_t *input, size_t length) {
    struct sockaddr_in6 address = {.sin6_family = AF_INET6, .sin6_addr = IN6ADDR_LOOPBACK_INIT};
    int port = atoi(input_text(input, length));
    if (port < 0) {
        inet_pton(AF_INET6, "::ffff:127.0.0.1", &address.sin6_addr);
    }
    address.sin6_port = htons((uint16_t)abs(port));
    return talk_plainly((struct sockaddr *)&address, sizeof address, 0);
}

/* The addresses of a name, or Error. */
HOTCELL_EXPORT(net_resolve)(const uint8_t *input, size_t length) {
    int64_t status = hotcell_resolve(input_text(input, length), report, sizeof report);
    if (status < 0) {
        return no_connection((int)status);
    }
    report_length = (size_t)status;
    return said_ok();
}

/* What a client says until it says no more; it is told "pong". The descriptor is closed. */
static int32_t answer_one(int client) {
    char asked[ANSWER_MAX];
    ssize_t count;
    say_nothing();
    while ((count = read(client, asked, sizeof asked)) > 0) {
        say("%.*s", (int)count, asked);
    }
    if (write(client, "pong", 4) != 4) {
        say("write: %s", errno_name(errno));
        return said_error();
    }
    close(client);
    return said_ok();
}

/* Answers one client. The input is the address to listen at. */
HOTCELL_EXPORT(net_serve)(const uint8_t *input, size_t length) {
    int listener = hotcell_listen(input_text(input, length));
    int client;
    if (listener < 0) {
        return no_connection(listener);
    }
    client = accept(listener, NULL, NULL);
    say_nothing();
    if (client < 0) {
        say("accept %s", errno_name(errno));
        return said_error();
    }
    close(listener);
    return answer_one(client);
}

/* "done": listens, and takes nobody. The input is the address. */
HOTCELL_EXPORT(net_open)(const uint8_t *input, size_t length) {
    int listener = hotcell_listen(input_text(input, length));
    if (listener < 0) {
        return no_connection(listener);
    }
    close(listener);
    return hotcell_ok_text("done");
}

/*
 * Answers one client as any server does that knows nothing of hotcell; or Error: the step and its errno. The input is a port of 127.0.0.1; a
 * minus before it asks for descriptors that do not block.
 */
HOTCELL_EXPORT(net_serve_plain)(const uint8_t *input, size_t length) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}}, peer;
    socklen_t size = sizeof peer;
    int port = atoi(input_text(input, length)), option = 1;
    int flags = port < 0 ? SOCK_NONBLOCK : 0;
    struct pollfd polled = {.events = POLLIN};
    int client, listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | flags, 0);
    address.sin_port = htons((uint16_t)abs(port));
    say_nothing();
    if (setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &option, sizeof option)) {
        say("setsockopt %s", errno_name(errno));
        return said_error();
    }
    if (bind(listener, (struct sockaddr *)&address, sizeof address)) {
        say("bind %s", errno_name(errno));
        close(listener);
        return said_error();
    }
    if (listen(listener, 16)) {
        say("listen %s", errno_name(errno));
        return said_error();
    }
    if (!!(fcntl(listener, F_GETFL) & O_NONBLOCK) != !!flags) {
        say("not as it was asked for");
        return said_error();
    }
    polled.fd = listener;
    if (poll(&polled, 1, -1) != 1) {
        say("poll %s", errno_name(errno));
        return said_error();
    }
    client = accept4(listener, (struct sockaddr *)&peer, &size, SOCK_CLOEXEC);
    if (client < 0) {
        say("accept4 %s", errno_name(errno));
        return said_error();
    }
    if (peer.sin_addr.s_addr != htonl(INADDR_LOOPBACK)) {
        say("another peer");
        return said_error();
    }
    close(listener);
    return answer_one(client);
}

/* The errno of what a listener can do beside accepting, one name each. The input is the address. */
HOTCELL_EXPORT(net_listen_tricks)(const uint8_t *input, size_t length) {
    struct sockaddr_in elsewhere = {.sin_family = AF_INET, .sin_port = htons(1), .sin_addr = {htonl(INADDR_LOOPBACK)}}, mine;
    struct sockaddr *to = (struct sockaddr *)&elsewhere;
    socklen_t size = sizeof mine;
    int option = 1;
    int listener = hotcell_listen(input_text(input, length));
    int another = socket(AF_INET, SOCK_STREAM, 0);
    if (listener < 0) {
        return no_connection(listener);
    }
    say_nothing();
    say("bind %s ", bind(listener, to, sizeof elsewhere) ? errno_name(errno) : "done");
    say("connect %s ", connect(listener, to, sizeof elsewhere) ? errno_name(errno) : "done");
    say("fastopen %s ", sendto(listener, "x", 1, MSG_FASTOPEN, to, sizeof elsewhere) < 0 ? errno_name(errno) : "done");
    say("send %s ", send(listener, "x", 1, MSG_NOSIGNAL) < 0 ? errno_name(errno) : "done");
    say("reuseport %s ", setsockopt(listener, SOL_SOCKET, SO_REUSEPORT, &option, sizeof option) ? errno_name(errno) : "done");
    say("transparent %s ", setsockopt(listener, IPPROTO_IP, IP_TRANSPARENT, &option, sizeof option) ? errno_name(errno) : "done");
    say("getsockname %s ", getsockname(listener, (struct sockaddr *)&mine, &size) ? errno_name(errno) : "done");
    say("listen %s ", listen(listener, 1) ? errno_name(errno) : "done");
    say("unbound listen %s ", listen(another, 1) ? errno_name(errno) : "done");
    say("unbound accept %s ", accept(another, NULL, NULL) < 0 ? errno_name(errno) : "done");
    say("stderr listen %s ", listen(2, 1) ? errno_name(errno) : "done");
    say("shutdown %s ", shutdown(listener, SHUT_RDWR) ? errno_name(errno) : "done");
    say("then listen %s ", listen(listener, 1) ? errno_name(errno) : "done");
    say("then accept %s ", accept(listener, NULL, NULL) < 0 ? errno_name(errno) : "done");
    say("then bind %s", bind(listener, to, sizeof elsewhere) ? errno_name(errno) : "done");
    return said_ok();
}
