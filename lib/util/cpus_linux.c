/*
 * cpus_linux.c - the calling thread's affinity, and the processor time that control groups
 * (version 2) give. Nothing is allocated.
 */
#define _GNU_SOURCE
#include "util/cpus.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define GROUPS "/sys/fs/cgroup"
#define NAME_BYTES 1024u /* groups of longer names are not looked at */

static uint32_t by_affinity(void)
{
    long online = sysconf(_SC_NPROCESSORS_ONLN);
    cpu_set_t set;

    CPU_ZERO(&set);
    /* refused on machines with more CPUs than the set has room for */
    if (sched_getaffinity(0, sizeof set, &set) == 0 && CPU_COUNT(&set) > 0)
        return (uint32_t)CPU_COUNT(&set);
    return online > 1 ? (uint32_t)online : 1;
}

/* The beginning of a small file, zero-terminated. 0: there is nothing to read. */
static size_t read_text(const char *path, char *text, size_t capacity)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t got;

    if (fd < 0) return 0;
    do got = read(fd, text, capacity - 1);
    while (got < 0 && errno == EINTR);
    (void)close(fd);
    if (got <= 0) return 0;
    text[got] = '\0';
    return (size_t)got;
}

uint32_t flin_cpus_of_quota(const char *text)
{
    char *end;
    unsigned long long quota_us, period_us, cpus;

    if (text[0] < '0' || text[0] > '9') return FLIN_CPUS_NO_LIMIT;
    quota_us = strtoull(text, &end, 10);
    period_us = strtoull(end, NULL, 10);
    if (quota_us == 0 || period_us == 0) return FLIN_CPUS_NO_LIMIT;
    cpus = quota_us / period_us + (quota_us % period_us != 0);
    return cpus < FLIN_CPUS_NO_LIMIT ? (uint32_t)cpus : FLIN_CPUS_NO_LIMIT;
}

static uint32_t by_group(const char *name)
{
    char path[sizeof GROUPS + NAME_BYTES + sizeof "/cpu.max"], text[64];

    (void)snprintf(path, sizeof path, GROUPS "%s/cpu.max", name);
    if (read_text(path, text, sizeof text) == 0) return FLIN_CPUS_NO_LIMIT;
    return flin_cpus_of_quota(text);
}

/* The least of what the group of this process and those around it have. */
static uint32_t by_quota(void)
{
    char text[4096], name[NAME_BYTES + 1];
    const char *own, *line;
    uint32_t least = FLIN_CPUS_NO_LIMIT;
    size_t bytes;
    char *last;

    if (read_text("/proc/self/cgroup", text, sizeof text) == 0) return least;
    line = strncmp(text, "0::/", 4) == 0 ? text : strstr(text, "\n0::/");
    if (line == NULL) return least;
    own = strchr(line, '/');
    bytes = strcspn(own, "\n");
    if (bytes > NAME_BYTES) return least;
    memcpy(name, own, bytes);
    name[bytes == 1 ? 0 : bytes] = '\0'; /* "/" is the outermost, whose files have no folder */
    for (;;) {
        uint32_t cpus = by_group(name);

        if (cpus < least) least = cpus;
        last = strrchr(name, '/');
        if (last == NULL) return least;
        *last = '\0';
    }
}

uint32_t flin_cpus(void)
{
    uint32_t cpus = by_affinity(), paid = by_quota();

    return paid < cpus ? paid : cpus;
}
