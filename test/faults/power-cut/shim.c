/*
 * Logs what a process writes below one directory, in the order in which it happens, so that a test can build the disk
 * image that a power cut may leave. Loaded with LD_PRELOAD; settings come in the environment:
 *   POWER_CUT_DIRECTORY  the directory whose files are watched
 *   POWER_CUT_LOG        where the log goes (outside that directory)
 *   POWER_CUT_FACTS      a file outside it whose writes are logged as facts
 *   POWER_CUT_FAIL_SYNC  the how-manieth sync of a watched file fails with EIO (and all after it)
 *   POWER_CUT_FULL       while a file of this name exists, watched files cannot grow (ENOSPC)
 * A record: u8 kind, u32 path bytes, u64 offset, u32 data bytes, path, data. It is logged after the call succeeded.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

enum { WRITE = 1, TRUNCATE = 2, SYNC = 3, CREATE = 4, UNLINK = 5, RENAME = 6, FACT = 7 };

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static int log_descriptor = -1;
static const char *directory, *facts, *full;
static long fail_sync_at = 0, syncs = 0;

__attribute__((constructor)) static void begin(void) {
  directory = getenv("POWER_CUT_DIRECTORY");
  facts = getenv("POWER_CUT_FACTS");
  full = getenv("POWER_CUT_FULL");
  const char *path = getenv("POWER_CUT_LOG");
  const char *fail = getenv("POWER_CUT_FAIL_SYNC");
  if (fail) fail_sync_at = atol(fail);
  if (path) log_descriptor = (int)syscall(SYS_openat, AT_FDCWD, path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
}

static void record(uint8_t kind, const char *path, uint64_t offset, const void *data, uint32_t bytes) {
  if (log_descriptor < 0) return;
  uint32_t path_bytes = (uint32_t)strlen(path);
  uint8_t header[17];
  header[0] = kind;
  memcpy(header + 1, &path_bytes, 4);
  memcpy(header + 5, &offset, 8);
  memcpy(header + 13, &bytes, 4);
  struct iovec parts[3] = {{header, 17}, {(void *)path, path_bytes}, {(void *)data, bytes}};
  int saved = errno;
  pthread_mutex_lock(&lock);
  syscall(SYS_writev, log_descriptor, parts, 3);
  pthread_mutex_unlock(&lock);
  errno = saved;
}

static int below(const char *path) {
  size_t n = directory ? strlen(directory) : 0;
  return n > 0 && strncmp(path, directory, n) == 0 && (path[n] == '/' || path[n] == 0);
}

/* The path of a descriptor, when it is watched: 1 a file of the directory, 2 the facts. */
static int watched(int descriptor, char *path) {
  char name[64];
  snprintf(name, sizeof name, "/proc/self/fd/%d", descriptor);
  int saved = errno;
  ssize_t n = readlink(name, path, PATH_MAX - 1);
  errno = saved;
  if (n <= 0) return 0;
  path[n] = 0;
  if (facts && strcmp(path, facts) == 0) return 2;
  return below(path);
}

static int is_full(void) { return full && syscall(SYS_faccessat, AT_FDCWD, full, F_OK) == 0; }

static int no_room(int descriptor, uint64_t end) {
  struct stat now;
  int saved = errno;
  int grows = is_full() && fstat(descriptor, &now) == 0 && (uint64_t)now.st_size < end;
  errno = saved;
  return grows;
}


static ssize_t logged_write(int descriptor, const struct iovec *parts, int count, off_t offset, int has_offset) {
  char path[PATH_MAX];
  int kind = watched(descriptor, path);
  size_t wanted = 0;
  for (int i = 0; i < count; i++) wanted += parts[i].iov_len;
  uint64_t at = 0;
  if (kind) at = has_offset ? (uint64_t)offset : (uint64_t)lseek(descriptor, 0, SEEK_CUR);
  if (kind == 1 && no_room(descriptor, at + wanted)) {
    errno = ENOSPC;
    return -1;
  }
  ssize_t written = has_offset ? syscall(SYS_pwritev, descriptor, parts, count, offset, 0)
                               : syscall(SYS_writev, descriptor, parts, count);
  if (!kind || written <= 0) return written;
  char *joined = malloc((size_t)written);
  size_t filled = 0;
  for (int i = 0; i < count && filled < (size_t)written; i++) {
    size_t n = parts[i].iov_len;
    if (n > (size_t)written - filled) n = (size_t)written - filled;
    memcpy(joined + filled, parts[i].iov_base, n);
    filled += n;
  }
  record(kind == 2 ? FACT : WRITE, path, at, joined, (uint32_t)written);
  free(joined);
  return written;
}

ssize_t write(int d, const void *b, size_t n) {
  struct iovec part = {(void *)b, n};
  return logged_write(d, &part, 1, 0, 0);
}
ssize_t pwrite(int d, const void *b, size_t n, off_t o) {
  struct iovec part = {(void *)b, n};
  return logged_write(d, &part, 1, o, 1);
}
ssize_t pwrite64(int d, const void *b, size_t n, off64_t o) { return pwrite(d, b, n, o); }
ssize_t writev(int d, const struct iovec *p, int n) { return logged_write(d, p, n, 0, 0); }
ssize_t pwritev(int d, const struct iovec *p, int n, off_t o) { return logged_write(d, p, n, o, 1); }
ssize_t pwritev64(int d, const struct iovec *p, int n, off64_t o) { return logged_write(d, p, n, o, 1); }

int ftruncate(int d, off_t n) {
  char path[PATH_MAX];
  int kind = watched(d, path);
  int result = (int)syscall(SYS_ftruncate, d, n);
  if (result == 0 && kind == 1) record(TRUNCATE, path, (uint64_t)n, "", 0);
  return result;
}
int ftruncate64(int d, off64_t n) { return ftruncate(d, n); }

static int logged_sync(int d, long number) {
  char path[PATH_MAX];
  int kind = watched(d, path);
  if (kind == 1 && fail_sync_at > 0 && __sync_add_and_fetch(&syncs, 1) >= fail_sync_at) {
    errno = EIO;
    return -1;
  }
  /* The image is built from the log, so the real disk need not be waited for. */
  int result = kind ? 0 : (int)syscall(number, d);
  if (result == 0 && kind == 1) record(SYNC, path, 0, "", 0);
  return result;
}
int fsync(int d) { return logged_sync(d, SYS_fsync); }
int fdatasync(int d) { return logged_sync(d, SYS_fdatasync); }

static int logged_open(int at, const char *path, int flags, mode_t mode) {
  int isNew = (flags & O_CREAT) && syscall(SYS_faccessat, at, path, F_OK) != 0;
  errno = 0;
  int d = (int)syscall(SYS_openat, at, path, flags, mode);
  char name[PATH_MAX];
  if (d >= 0 && isNew && watched(d, name) == 1) record(CREATE, name, 0, "", 0);
  return d;
}
#define MODE(flags) \
  mode_t mode = 0; \
  if ((flags) & (O_CREAT | O_TMPFILE)) { \
    va_list rest; \
    va_start(rest, flags); \
    mode = va_arg(rest, mode_t); \
    va_end(rest); \
  }
int open(const char *path, int flags, ...) { MODE(flags) return logged_open(AT_FDCWD, path, flags, mode); }
int open64(const char *path, int flags, ...) { MODE(flags) return logged_open(AT_FDCWD, path, flags, mode); }
int openat(int at, const char *path, int flags, ...) { MODE(flags) return logged_open(at, path, flags, mode); }
int openat64(int at, const char *path, int flags, ...) { MODE(flags) return logged_open(at, path, flags, mode); }

int unlink(const char *path) {
  int result = (int)syscall(SYS_unlinkat, AT_FDCWD, path, 0);
  if (result == 0 && below(path)) record(UNLINK, path, 0, "", 0);
  return result;
}
int rename(const char *from, const char *to) {
  int result = (int)syscall(SYS_renameat2, AT_FDCWD, from, AT_FDCWD, to, 0);
  if (result == 0 && below(to)) record(RENAME, from, 0, to, (uint32_t)strlen(to));
  return result;
}
