/*
 * Ways to use and abuse connections that the host makes.
 * The line above each export says what the host should report; Error is a plugin error that names what was refused.
 */
#include "lab.h"

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
    struct sockaddr elsewhere = {AF_INET, {0}};
    int option = 1;
    int connection = hotcell_connect(input_text(input, length));
    if (connection < 0) {
        return no_connection(connection);
    }
    say_nothing();
    say("connect %s ", connect(connection, &elsewhere, sizeof elsewhere) ? errno_name(errno) : "done");
    say("bind %s ", bind(connection, &elsewhere, sizeof elsewhere) ? errno_name(errno) : "done");
    say("listen %s ", listen(connection, 1) ? errno_name(errno) : "done");
    say("accept %s ", accept(connection, NULL, NULL) < 0 ? errno_name(errno) : "done");
    say("sendto %s ", sendto(connection, "x", 1, 0, &elsewhere, sizeof elsewhere) < 0 ? errno_name(errno) : "done");
    say("setsockopt %s ",
        setsockopt(connection, SOL_SOCKET, SO_REUSEADDR, &option, sizeof option) ? errno_name(errno) : "done");
    say("socket %s", socket(AF_INET, SOCK_STREAM, 0) < 0 ? errno_name(errno) : "done");
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
