// Stands between the program and the C library (LD_PRELOAD), and lets one of its calls that change files go wrong.
//   FAULT_UNDER  only calls on paths that begin with this count
//   FAULT_AT     the number of the call, from 1; none fails at 0
//   FAULT_HOW    ENOSPC, EIO, EROFS, EDQUOT: the call fails;  SHORT: half is written;
//                KILL: the process is killed before the call;  TORN: after half of it
//   FAULT_COUNT  a file that gets the number of calls when the process leaves
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

enum { NONE, FAIL, SHORT, KILL, TORN };
static _Atomic int calls;
static int at, how, code;
static const char *under;

__attribute__((constructor)) static void begin(void) {
    const char *text = getenv("FAULT_AT");
    at = text ? atoi(text) : 0;
    under = getenv("FAULT_UNDER");
    text = getenv("FAULT_HOW");
    if (!text) return;
    how = !strcmp(text, "SHORT") ? SHORT : !strcmp(text, "KILL") ? KILL : !strcmp(text, "TORN") ? TORN : FAIL;
    code = !strcmp(text, "ENOSPC") ? ENOSPC : !strcmp(text, "EROFS") ? EROFS : !strcmp(text, "EDQUOT") ? EDQUOT : EIO;
}

__attribute__((destructor)) static void end(void) {
    const char *path = getenv("FAULT_COUNT");
    FILE *file = path ? fopen(path, "w") : NULL;
    if (file) fprintf(file, "%d\n", calls), fclose(file);
}

static void leave(void) { kill(getpid(), SIGKILL); for (;;) pause(); }

// What is to become of a call on this path.
static int fate(const char *path) {
    if (!under || !path || strncmp(path, under, strlen(under))) return NONE;
    if (++calls != at) return NONE;
    if (how == KILL) leave();
    return how;
}

static int fate_of(int fd) {
    char link[64], path[4096];
    if (!under || fd < 3) return NONE;
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, path, sizeof path - 1);
    if (length < 0) return NONE;
    path[length] = 0;
    return fate(path);
}

#define REAL(name) static __typeof__(name) *real; if (!real) real = dlsym(RTLD_NEXT, #name)
#define FAILS(is) if ((is) == FAIL) return errno = code, -1
#define AFTER(is, type, call) type answer = call; if ((is) == TORN) leave(); return answer

ssize_t write(int fd, const void *bytes, size_t length) {
    REAL(write);
    int is = fate_of(fd);
    FAILS(is);
    if ((is == SHORT || is == TORN) && length > 1) length /= 2;
    AFTER(is, ssize_t, real(fd, bytes, length));
}
ssize_t pwrite64(int fd, const void *bytes, size_t length, off64_t offset) {
    REAL(pwrite64);
    int is = fate_of(fd);
    FAILS(is);
    if ((is == SHORT || is == TORN) && length > 1) length /= 2;
    AFTER(is, ssize_t, real(fd, bytes, length, offset));
}
ssize_t writev(int fd, const struct iovec *parts, int count) {
    REAL(writev);
    int is = fate_of(fd);
    FAILS(is);
    if ((is == SHORT || is == TORN) && count > 1) count = 1;
    AFTER(is, ssize_t, real(fd, parts, count));
}
#define OF_FD(name) int name(int fd) { REAL(name); int is = fate_of(fd); FAILS(is); AFTER(is, int, real(fd)); }
OF_FD(fsync)
OF_FD(fdatasync)
#define CUT(name, kind) int name(int fd, kind length) { REAL(name); int is = fate_of(fd); FAILS(is); AFTER(is, int, real(fd, length)); }
CUT(ftruncate, off_t)
CUT(ftruncate64, off64_t)
int rename(const char *from, const char *to) {
    REAL(rename);
    int is = fate(to);
    FAILS(is);
    AFTER(is, int, real(from, to));
}
int mkdir(const char *path, mode_t mode) {
    REAL(mkdir);
    int is = fate(path);
    FAILS(is);
    AFTER(is, int, real(path, mode));
}
int unlink(const char *path) {
    REAL(unlink);
    int is = fate(path);
    FAILS(is);
    AFTER(is, int, real(path));
}
int open64(const char *path, int flags, ...) {
    REAL(open64);
    va_list rest;
    va_start(rest, flags);
    mode_t mode = va_arg(rest, mode_t);
    va_end(rest);
    int is = flags & (O_CREAT | O_WRONLY | O_RDWR | O_TRUNC) ? fate(path) : NONE;
    FAILS(is);
    AFTER(is, int, real(path, flags, mode));
}
