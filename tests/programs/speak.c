/*
 * speak.c - what a program with these options makes of the library's sentences: lines of standard input, in its words.
 *
 * usage: speak NAME --OPTION...
 */
#include <stdio.h>
#include <string.h>

#include "program.h"

#define OPTIONS_MAX 64
#define LINE_BYTES 4096

int main(int argc, char **argv)
{
    static const char *values[OPTIONS_MAX];
    static program_option options[OPTIONS_MAX];
    char line[LINE_BYTES];
    int count = argc - 2;

    if (count < 0 || count > OPTIONS_MAX) return 2;
    for (int i = 0; i < count; i++) options[i] = (program_option){argv[2 + i], &values[i], NULL};
    if (program_parse(1, argv + 1, options, (size_t)count, NULL, 0, "Speaks.\nspeak") != 0)
        return 2;
    while (fgets(line, sizeof line, stdin) != NULL) program_say(stdout, line);
    return 0;
}
