// A library that tests preload (LD_PRELOAD) into the real programs to have things happen at exact moments:
//
// * DREAMCACHE_TEST_KILL=before:N or after:N sends the process SIGKILL before or after the N-th checkpoint (counted from
//   1) is renamed into its place, hence at a chosen denoising step.
// * DREAMCACHE_TEST_FILES=PREFIX chooses files by how their paths begin. DREAMCACHE_TEST_TRACE=FILE has the calls on them
//   written down, a line each: open, list, stat, fstat, map or read, and the path. DREAMCACHE_TEST_FAIL=N:ERRNO:FILE has the
//   N-th of them (from 1) fail with that error, and all that follow for as long as FILE is there; no FILE, no others.
// * DREAMCACHE_TEST_HASTE=N lets CLOCK_MONOTONIC run N times as fast, so that pauses are N times as short.
// * A PNG of a magic width spoils its decoder: see the list. libpng has no known fault of these kinds; this stands for one.
#pragma once

enum {
    FAULT_CRASH = 201,   // writes to no memory
    FAULT_HANG = 202,    // never comes to an end
    FAULT_MEMORY = 203,  // takes all memory it can have
    FAULT_FILE = 204,    // opens a file
    FAULT_CODE = 205,    // asks for memory that can be run
    FAULT_ANSWER = 206,  // answers in the decoder's place
    FAULT_ABORT = 207,   // fails an assertion
    FAULT_DRIP = 208,    // sends a large picture a byte at a time, for ever
};
