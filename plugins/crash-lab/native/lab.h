/* What the files of the crash lab share. README.md says what the lab is for. */
#ifndef LAB_H
#define LAB_H

#define _GNU_SOURCE
#include "hotcell_plugin.h"

#include <errno.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#define MIB (1024u * 1024u)
#define PAGE 4096u
#define UNUSED                                                                                                         \
    (void)input;                                                                                                       \
    (void)length

/* The text that said_ok() and said_error() reply with; say() adds to it. */
extern char report[64 * 1024];
extern size_t report_length;

void say_nothing(void);
__attribute__((format(printf, 1, 2))) void say(const char *format, ...);
int32_t said_ok(void);
int32_t said_error(void);

/* "EPERM" for EPERM. */
const char *errno_name(int number);

/* The input as a C string, cut to fit. */
const char *input_text(const uint8_t *input, size_t length);

/* The input as a number, decimal or 0x..., or what to use if there is none. */
uint64_t input_number(const uint8_t *input, size_t length, uint64_t otherwise);

/* Reads pairs of hexadecimal digits until something else comes; returns how many bytes that were. */
size_t from_hex(const char *hex, uint8_t *bytes, size_t capacity);

/* Makes the system calls that the lines of the input are, and says what came of each; syscall.c has the language. */
void try_calls(const uint8_t *input, size_t length);

/* Sleeps for ever with what every worker may use, so that the processor is left alone. */
__attribute__((noreturn)) void sleep_for_ever(void);

#endif
