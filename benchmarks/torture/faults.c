/* Preloaded: lets one chosen call that touches a file under one folder fail, or ends the process there.

   torture_arm(folder, at, error, stays, kinds): the at-th counted call (from 1) returns `error`; with `stays` so do all
   after it; error 0 kills the process before the call. Calls of other files, and kinds not asked for, pass uncounted. */
#define _GNU_SOURCE
#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

enum { OPEN = 1, CREATE = 2, READ = 4, WRITE = 8, NAME = 16, SYNC = 32, CLOSE = 64, STAT = 128, REMOVE = 256 };
#define MAX_FD 4096
static char folder[PATH_MAX], watched[MAX_FD];
static size_t folder_length;
static long count, at;
static int error_code, stays, kinds;

void torture_arm(const char *path, long nth, int error, int on_and_on, int asked) {
    snprintf(folder, sizeof folder, "%s", path);
    folder_length = strlen(folder);
    count = 0, at = nth, error_code = error, stays = on_and_on, kinds = asked;
}
long torture_count(void) { return count; }

static int fails(int kind) {
    if (!(kinds & kind)) return 0;
    long number = __atomic_add_fetch(&count, 1, __ATOMIC_SEQ_CST);
    if (number != at && !(stays && at > 0 && number > at)) return 0;
    if (!error_code) kill(getpid(), SIGKILL);
    errno = error_code;
    return 1;
}
static int is_in(const char *path, int at_fd) {
    if (!folder_length || !path) return 0;
    if (path[0] == '/') return !strncmp(path, folder, folder_length);
    if (at_fd >= 0) return at_fd < MAX_FD && watched[at_fd];
    char here[PATH_MAX];
    return getcwd(here, sizeof here) && !strncmp(here, folder, folder_length);
}
static int is_watched(int fd) { return fd >= 0 && fd < MAX_FD && watched[fd]; }
static int opened(int fd, int ours) {
    if (fd >= 0 && fd < MAX_FD) watched[fd] = ours;
    return fd;
}
#define REAL(type, name, ...) \
    static type (*real)(__VA_ARGS__); \
    if (!real) real = dlsym(RTLD_NEXT, #name)

#define MODE(flags) \
    int mode = 0; \
    if ((flags) & (O_CREAT | O_TMPFILE)) { va_list rest; va_start(rest, flags); mode = va_arg(rest, int); va_end(rest); }
#define OPENS(name) \
    int name(const char *path, int flags, ...) { \
        MODE(flags) REAL(int, name, const char *, int, ...); \
        int ours = is_in(path, -1); \
        return ours && fails(flags & O_CREAT ? CREATE : OPEN) ? -1 : opened(real(path, flags, mode), ours); \
    }
#define OPENS_AT(name) \
    int name(int where, const char *path, int flags, ...) { \
        MODE(flags) REAL(int, name, int, const char *, int, ...); \
        int ours = is_in(path, where); \
        return ours && fails(flags & O_CREAT ? CREATE : OPEN) ? -1 : opened(real(where, path, flags, mode), ours); \
    }
#define OPENS_STREAM(name) \
    FILE *name(const char *path, const char *mode) { \
        REAL(FILE *, name, const char *, const char *); \
        int ours = is_in(path, -1); \
        if (ours && fails(mode[0] == 'r' ? OPEN : CREATE)) return NULL; \
        FILE *stream = real(path, mode); \
        if (stream) opened(fileno(stream), ours); \
        return stream; \
    }
OPENS(open) OPENS(open64) OPENS_AT(openat) OPENS_AT(openat64) OPENS_STREAM(fopen) OPENS_STREAM(fopen64)

DIR *opendir(const char *path) {
    REAL(DIR *, opendir, const char *);
    return is_in(path, -1) && fails(OPEN) ? NULL : real(path);
}

#define ON_HANDLE(type, name, kind, parameters, arguments) \
    type name parameters { \
        static type (*real) parameters; \
        if (!real) real = dlsym(RTLD_NEXT, #name); \
        return is_watched(fd) && fails(kind) ? -1 : real arguments; \
    }
ON_HANDLE(ssize_t, read, READ, (int fd, void *data, size_t size), (fd, data, size))
ON_HANDLE(ssize_t, pread, READ, (int fd, void *data, size_t size, off_t from), (fd, data, size, from))
ON_HANDLE(ssize_t, pread64, READ, (int fd, void *data, size_t size, off64_t from), (fd, data, size, from))
ON_HANDLE(ssize_t, readv, READ, (int fd, const struct iovec *parts, int n), (fd, parts, n))
ON_HANDLE(ssize_t, write, WRITE, (int fd, const void *data, size_t size), (fd, data, size))
ON_HANDLE(ssize_t, pwrite, WRITE, (int fd, const void *data, size_t size, off_t from), (fd, data, size, from))
ON_HANDLE(ssize_t, pwrite64, WRITE, (int fd, const void *data, size_t size, off64_t from), (fd, data, size, from))
ON_HANDLE(ssize_t, writev, WRITE, (int fd, const struct iovec *parts, int n), (fd, parts, n))
ON_HANDLE(int, ftruncate, WRITE, (int fd, off_t size), (fd, size))
ON_HANDLE(int, ftruncate64, WRITE, (int fd, off64_t size), (fd, size))
ON_HANDLE(int, fsync, SYNC, (int fd), (fd))
ON_HANDLE(int, fdatasync, SYNC, (int fd), (fd))

int close(int fd) {  /* the handle is gone, whatever it returns */
    REAL(int, close, int);
    int failed = is_watched(fd) && fails(CLOSE);
    opened(fd, 0);
    int result = real(fd);
    if (failed) errno = error_code;
    return failed ? -1 : result;
}

#define ON_PATH(name, kind, parameters, arguments, where, path) \
    int name parameters { \
        static int (*real) parameters; \
        if (!real) real = dlsym(RTLD_NEXT, #name); \
        return is_in(path, where) && fails(kind) ? -1 : real arguments; \
    }
ON_PATH(mkdir, NAME, (const char *path, mode_t mode), (path, mode), -1, path)
ON_PATH(rmdir, REMOVE, (const char *path), (path), -1, path)
ON_PATH(unlink, REMOVE, (const char *path), (path), -1, path)
ON_PATH(unlinkat, REMOVE, (int where, const char *path, int flags), (where, path, flags), where, path)
ON_PATH(rename, NAME, (const char *path, const char *to), (path, to), -1, path)
ON_PATH(chmod, REMOVE, (const char *path, mode_t mode), (path, mode), -1, path)
ON_PATH(symlink, NAME, (const char *to, const char *path), (to, path), -1, path)
ON_PATH(stat, STAT, (const char *path, struct stat *found), (path, found), -1, path)
ON_PATH(stat64, STAT, (const char *path, struct stat64 *found), (path, found), -1, path)
ON_PATH(lstat, STAT, (const char *path, struct stat *found), (path, found), -1, path)
ON_PATH(lstat64, STAT, (const char *path, struct stat64 *found), (path, found), -1, path)
ON_PATH(fstatat, STAT, (int where, const char *path, struct stat *found, int flags), (where, path, found, flags), where, path)
ON_PATH(fstatat64, STAT, (int where, const char *path, struct stat64 *found, int flags), (where, path, found, flags), where, path)
