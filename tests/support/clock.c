/* A clock that is wrong: the time of day is CLOCK_OFFSET's seconds off, a file of eight bytes that may be written meanwhile. Loaded with
 * LD_PRELOAD. Time that only passes (CLOCK_MONOTONIC) is right, and so is the time of libraries that wait for moments of it in the kernel,
 * which knows nothing of this: they would wait for an hour. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <time.h>

static long offset(void *caller)
{
    static volatile long *mapped;
    Dl_info info;
    if (!mapped) {
        const char *path = getenv("CLOCK_OFFSET");
        int file = path ? open(path, O_RDONLY | O_CLOEXEC) : -1;
        void *made = file < 0 ? MAP_FAILED : mmap(NULL, sizeof(long), PROT_READ, MAP_SHARED, file, 0);
        if (made == MAP_FAILED)
            return 0;
        mapped = made;
    }
    if (dladdr(caller, &info) && info.dli_fname && strstr(info.dli_fname, "cygrpc"))
        return 0;
    return *mapped;
}

int clock_gettime(clockid_t clock, struct timespec *when)
{
    static int (*real)(clockid_t, struct timespec *);
    if (!real)
        real = (int (*)(clockid_t, struct timespec *))dlsym(RTLD_NEXT, "clock_gettime");
    int result = real(clock, when);
    if (result == 0 && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE))
        when->tv_sec += offset(__builtin_return_address(0));
    return result;
}

int gettimeofday(struct timeval *restrict when, void *restrict zone)
{
    struct timespec now;
    (void)zone;
    clock_gettime(CLOCK_REALTIME, &now);
    when->tv_sec = now.tv_sec;
    when->tv_usec = now.tv_nsec / 1000;
    return 0;
}

time_t time(time_t *when)
{
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    if (when)
        *when = now.tv_sec;
    return now.tv_sec;
}
