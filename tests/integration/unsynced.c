/* Loaded before libc (LD_PRELOAD): keeps, in the folder $UNSYNCED, what a disk holds of each database file that drops
   whatever was not synced. A write waits in memory until its file is synced and is then done there too. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct change { char name[NAME_MAX]; off_t at; size_t size; char *bytes; struct change *next; };

static struct change *first, **last = &first;
static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;

/* The name of a database's file or write-ahead log; 0 for anything else. */
static int base_name(const char *path, char *name) {
    const char *base = strrchr(path, '/'), *dot = strrchr(path, '.');
    if (!base || !dot || (strcmp(dot, ".db") && strcmp(dot, ".db-wal"))) return 0;
    snprintf(name, NAME_MAX, "%s", base + 1);
    return 1;
}

static int named(int file, char *name) {
    char link[64], path[PATH_MAX];
    snprintf(link, sizeof link, "/proc/self/fd/%d", file);
    ssize_t size = readlink(link, path, sizeof path - 1);
    if (size <= 0) return 0;
    path[size] = 0;
    return base_name(path, name);
}

/* `bytes` null: the file is cut to `at`. */
static void remember(int file, const void *bytes, size_t size, off_t at) {
    struct change *found = calloc(1, sizeof *found);
    if (!named(file, found->name)) { free(found); return; }
    found->at = at;
    found->size = size;
    if (bytes) found->bytes = memcpy(malloc(size), bytes, size);
    pthread_mutex_lock(&mutex);
    *last = found;
    last = &found->next;
    pthread_mutex_unlock(&mutex);
}

static void kept_path(const char *name, char *path) { snprintf(path, PATH_MAX, "%s/%s", getenv("UNSYNCED"), name); }

static void keep(int file) {
    char name[NAME_MAX], path[PATH_MAX];
    if (!named(file, name)) return;
    kept_path(name, path);
    pthread_mutex_lock(&mutex);
    ssize_t (*write_at)(int, const void *, size_t, off_t) = dlsym(RTLD_NEXT, "pwrite64");
    int (*cut)(int, off_t) = dlsym(RTLD_NEXT, "ftruncate64");
    int kept = open(path, O_WRONLY | O_CREAT, 0600);
    for (struct change **one = &first; *one;) {
        struct change *found = *one;
        if (strcmp(found->name, name)) { one = &found->next; continue; }
        if (!found->bytes) cut(kept, found->at);
        else if (write_at(kept, found->bytes, found->size, found->at) != (ssize_t)found->size) abort();
        *one = found->next;
        if (last == &found->next) last = one;
        free(found->bytes);
        free(found);
    }
    close(kept);
    pthread_mutex_unlock(&mutex);
}

#define REAL(name) __typeof__(name) *real = (__typeof__(name) *)dlsym(RTLD_NEXT, #name)

ssize_t pwrite64(int file, const void *bytes, size_t size, off64_t at) {
    REAL(pwrite64);
    ssize_t written = real(file, bytes, size, at);
    if (written > 0) remember(file, bytes, (size_t)written, at);
    return written;
}

ssize_t pwrite(int file, const void *bytes, size_t size, off_t at) { return pwrite64(file, bytes, size, at); }

int ftruncate64(int file, off64_t size) {
    REAL(ftruncate64);
    int done = real(file, size);
    if (!done) remember(file, NULL, 0, size);
    return done;
}

int ftruncate(int file, off_t size) { return ftruncate64(file, size); }

int fsync(int file) {
    REAL(fsync);
    int done = real(file);
    if (!done) keep(file);
    return done;
}

int fdatasync(int file) {
    REAL(fdatasync);
    int done = real(file);
    if (!done) keep(file);
    return done;
}

/* What is made again under this name begins empty. */
int unlink(const char *path) {
    REAL(unlink);
    char name[NAME_MAX], kept[PATH_MAX];
    if (base_name(path, name)) {
        kept_path(name, kept);
        real(kept);
    }
    return real(path);
}
