// Put before a program: its clock is off by the seconds in the file FAKE_CLOCK (eight bytes), from
// one reading to the next; without it, in the file CLOCK. The monotonic clock stays. SLOW_SYNC_US makes each sync take so long.
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static volatile int64_t *offset;

// No memory is asked for here: an allocator may read the clock itself.
static int64_t off(void) {
    if (!offset) {
        const char *name = getenv("FAKE_CLOCK");
#ifdef CLOCK
        if (!name) name = CLOCK;
#endif
        int file = name ? open(name, O_RDONLY | O_CLOEXEC) : -1;
        if (file < 0) return 0;
        void *mapped = mmap(NULL, 8, PROT_READ, MAP_SHARED, file, 0);
        close(file);
        if (mapped == MAP_FAILED) abort();
        offset = mapped;
    }
    return *offset;
}

int clock_gettime(clockid_t clock, struct timespec *at) {
    int done = syscall(SYS_clock_gettime, clock, at);
    if (done == 0 && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE)) at->tv_sec += off();
    return done;
}

int gettimeofday(struct timeval *restrict at, void *restrict zone) {
    struct timespec now;
    (void)zone;
    if (clock_gettime(CLOCK_REALTIME, &now)) return -1;
    at->tv_sec = now.tv_sec;
    at->tv_usec = now.tv_nsec / 1000;
    return 0;
}

time_t time(time_t *at) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    if (at) *at = now.tv_sec;
    return now.tv_sec;
}

int fdatasync(int file) {
    const char *slow = getenv("SLOW_SYNC_US");
    if (slow) usleep(atoi(slow));
    return syscall(SYS_fdatasync, file);
}
