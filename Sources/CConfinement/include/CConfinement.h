// A program started anew as a child that may do nothing but turn the bytes of its input into those of its output.
#pragma once
#include <stdint.h>

/// Starts this very program under another name, with one argument; its standard input is `input`, its standard output a
/// pipe whose reading end becomes `*output`, and it has no other descriptor. The process, or -1 with errno. fork(2) alone
/// would not do: threads of libraries do not survive it.
int confinement_spawn(const char *name, const char *argument, int input, int *output);

/// In the child: takes from the process, for good, memory beyond so many bytes of address space, processor time beyond so
/// many seconds, core dumps, files, and all system calls but a few (seccomp(2)); one that it makes all the same ends it by
/// SIGSYS. It is killed when its parent ends. To be called while there is one thread. 0, or -1 with errno.
int confinement_begin(uint64_t memory, unsigned processor_seconds);
