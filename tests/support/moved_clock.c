/* Preloaded into an agent: shifts CLOCK_REALTIME and CLOCK_BOOTTIME by the seconds that a small file holds, so that a
 * test can set the clock of one process, or let it believe that the machine slept, while it runs. The file is two
 * native doubles, mapped once. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

static volatile double *offsets;
static int (*real)(clockid_t, struct timespec *);

__attribute__((constructor)) static void start(void)
{
    const char *path = getenv("MOVED_CLOCK_FILE");
    int file = path ? open(path, O_RDONLY | O_CLOEXEC) : -1;
    real = (int (*)(clockid_t, struct timespec *))dlsym(RTLD_NEXT, "clock_gettime");
    if (file < 0)
        return;
    void *mapped = mmap(NULL, 2 * sizeof(double), PROT_READ, MAP_SHARED, file, 0);
    close(file);
    if (mapped != MAP_FAILED)
        offsets = mapped;
}

int clock_gettime(clockid_t clock, struct timespec *now)
{
    int answer = real(clock, now);
    if (answer == 0 && offsets && (clock == CLOCK_REALTIME || clock == CLOCK_BOOTTIME))
        now->tv_sec += (time_t)offsets[clock == CLOCK_BOOTTIME];
    return answer;
}
