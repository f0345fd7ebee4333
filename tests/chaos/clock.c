/* To be preloaded: a program sees the time of day shifted by the seconds that file CLOCK_FILE has at that moment, as eight
 * bytes. Clocks that never jump are as they are, so nothing that sleeps notices. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static long shift(void) {
  static const volatile long *shown;
  const char *name = getenv("CLOCK_FILE");
  if (!name) return 0; /* of a process that is given a part of the environment */
  if (!shown) {
    int file = open(name, O_RDONLY);
    shown = mmap(0, sizeof *shown, PROT_READ, MAP_SHARED, file, 0);
    close(file);
  }
  return *shown;
}

int clock_gettime(clockid_t clock, struct timespec *found) {
  int failed = syscall(SYS_clock_gettime, clock, found);
  if (!failed && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE)) found->tv_sec += shift();
  return failed;
}

int gettimeofday(struct timeval *found, void *zone) {
  struct timespec now;
  (void)zone;
  clock_gettime(CLOCK_REALTIME, &now);
  found->tv_sec = now.tv_sec;
  found->tv_usec = now.tv_nsec / 1000;
  return 0;
}

time_t time(time_t *found) {
  struct timespec now;
  clock_gettime(CLOCK_REALTIME, &now);
  if (found) *found = now.tv_sec;
  return now.tv_sec;
}
