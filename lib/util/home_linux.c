/*
 * home_linux.c - a page that the kernel empties in children (Linux 4.14); before that the number of
 * the process.
 */
#define _GNU_SOURCE
#include "util/home.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "util/arena.h"

#ifndef MADV_WIPEONFORK
#define MADV_WIPEONFORK 18
#endif

/* Emulators that say yes to every advice follow none. */
static int empties_in_children(void *page, size_t bytes)
{
    return madvise(page, bytes, -1) != 0 && madvise(page, bytes, MADV_WIPEONFORK) == 0;
}

int flin_home_open(flin_home *home, flashinfer_error *error)
{
    uint64_t bytes = flin_page_bytes();
    void *page =
        mmap(NULL, (size_t)bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    memset(home, 0, sizeof *home);
    if (page == MAP_FAILED)
        return flin_fail_errno(error, FLASHINFER_ENOMEM, errno,
                               "cannot allocate a page of %llu bytes", (unsigned long long)bytes);
    home->process = getpid();
    if (!empties_in_children(page, (size_t)bytes)) {
        (void)munmap(page, (size_t)bytes);
        return 0;
    }
    home->mark = page;
    home->bytes = bytes;
    *home->mark = 1;
    return 0;
}

int flin_home_left(const flin_home *home)
{
    return home->mark != NULL ? *home->mark == 0 : home->process != getpid();
}

void flin_home_close(flin_home *home)
{
    if (home->mark != NULL) (void)munmap(home->mark, (size_t)home->bytes);
    memset(home, 0, sizeof *home);
}
