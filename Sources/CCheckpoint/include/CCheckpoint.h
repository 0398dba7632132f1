// What the reader of checkpoints needs and Swift does not have: file mappings that outlive their file's end, and a search
// through gigabytes of numbers.
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/// Watches over a mapping. A page of it that can no longer be read (the file was cut short, the disk fails) then reads as
/// zeros, from that page to the mapping's end, and the mapping counts as damaged; without this, SIGBUS ends the process.
/// The first call installs the handler of SIGBUS. Returns the watch's number, or -1 when too many mappings are watched.
int mapping_watch(void *start, size_t size);
/// Ends a watch; to be called before munmap(2).
void mapping_unwatch(int watch);
bool mapping_is_damaged(int watch);
/// How many pages were replaced since the process began: as long as it is the same, nothing new is damaged.
uint64_t mapping_faults(void);

typedef enum { NUMBERS_F16, NUMBERS_BF16, NUMBERS_F32, NUMBERS_F64 } numbers_type;

/// The index of the first of `count` little-endian numbers that is NaN or infinite, or -1. They need not be aligned.
int64_t numbers_first_special(const void *numbers, numbers_type type, int64_t count);
