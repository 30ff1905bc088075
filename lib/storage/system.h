/*
 * system.h - what differs between systems about files: file_linux.c, file_android.c, file_darwin.c
 * or file_posix.c, chosen by the build. No other file of lib/storage asks which system it is on.
 */
#ifndef FLIN_STORAGE_SYSTEM_H
#define FLIN_STORAGE_SYSTEM_H

#include <stdint.h>
#include <sys/stat.h>

/* A new description of the file behind fd, by its path if that is not NULL. direct: past the page
   cache. Returns a descriptor or a negative errno value. */
int flin_file_reopen(int fd, const char *path, int direct);

/* Bytes that offsets, lengths and addresses of direct reads are multiples of; 0: no direct I/O on
   this file. */
uint32_t flin_file_direct_alignment(int fd, const struct stat *info);

/* Reads will come in no order: do not read ahead. */
void flin_file_expect_random(int fd);

/* What was written is on the device when this returns. 0 or an errno value. */
int flin_file_sync(int fd);

/* Bytes [offset, offset + bytes) need not stay in the page cache. Only a wish. */
void flin_file_forget(int fd, uint64_t offset, uint64_t bytes);

#endif
