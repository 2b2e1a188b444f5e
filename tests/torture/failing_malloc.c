/* Preloaded: counts the allocations made by the shared objects whose path holds a word, of some size or more, makes one
 * of them fail, and knows how many of them have not been freed. Everybody else's, and its own none, pass untouched. */
#define _GNU_SOURCE
#include <errno.h>
#include <link.h>
#include <pthread.h>
#include <stdint.h>
#include <string.h>

void *__libc_malloc(size_t size);
void *__libc_calloc(size_t count, size_t size);
void *__libc_realloc(void *at, size_t size);
void *__libc_memalign(size_t boundary, size_t size);
void __libc_free(void *at);

enum { MOST = 1 << 18, WATCHED = 256 };

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct {
    uintptr_t from, to;
} watched[WATCHED];
static int objects;
static const char *wanted;
static size_t least_size;
static long failing = -1, counted;
static void *held[MOST]; /* by hash, with open addressing */
static long used, unfreed;

static void **place_of(void *at)
{
    size_t i = ((uintptr_t)at >> 4) * 0x9e3779b97f4a7c15u >> 46;
    while (held[i % MOST] && held[i % MOST] != at)
        ++i;
    return &held[i % MOST];
}

/* A freed place keeps this, or later ones would not be found behind it. */
static char gone;

static void note(void *at)
{
    if (!at || used > MOST / 2)
        return;
    pthread_mutex_lock(&lock);
    void **place = place_of(at);
    used += *place == NULL;
    *place = at;
    ++unfreed;
    pthread_mutex_unlock(&lock);
}

static void forget(void *at)
{
    if (!at || unfreed == 0)
        return;
    pthread_mutex_lock(&lock);
    void **place = place_of(at);
    if (*place) {
        *place = &gone;
        --unfreed;
    }
    pthread_mutex_unlock(&lock);
}

static int watches(void *caller)
{
    for (int i = 0; i < objects; ++i)
        if ((uintptr_t)caller >= watched[i].from && (uintptr_t)caller < watched[i].to)
            return 1;
    return 0;
}

static int is_to_fail(void)
{
    return __atomic_add_fetch(&counted, 1, __ATOMIC_RELAXED) == __atomic_load_n(&failing, __ATOMIC_RELAXED);
}

static int take(struct dl_phdr_info *object, size_t size, void *data)
{
    (void)size, (void)data;
    if (!strstr(object->dlpi_name, wanted))
        return 0;
    for (int i = 0; i < object->dlpi_phnum; ++i)
        if (object->dlpi_phdr[i].p_type == PT_LOAD && (object->dlpi_phdr[i].p_flags & PF_X) && objects < WATCHED) {
            watched[objects].from = object->dlpi_addr + object->dlpi_phdr[i].p_vaddr;
            watched[objects].to = watched[objects].from + object->dlpi_phdr[i].p_memsz;
            ++objects;
        }
    return 0;
}

/* Watch the objects loaded by now whose path holds `word`; returns how many segments they have. */
int watch(const char *word, size_t least)
{
    objects = 0;
    wanted = word;
    least_size = least;
    dl_iterate_phdr(take, NULL);
    return objects;
}

/* Count anew, and let the n-th from now on fail, once; none if n is 0. */
void arm(long n)
{
    __atomic_store_n(&counted, 0, __ATOMIC_RELAXED);
    __atomic_store_n(&failing, n > 0 ? n : -1, __ATOMIC_RELAXED);
}

long count(void)
{
    return counted;
}

long outstanding(void)
{
    return unfreed;
}

#define WATCHED_CALL(size) (objects && (size) >= least_size && watches(__builtin_return_address(0)))

void *malloc(size_t size)
{
    if (!WATCHED_CALL(size))
        return __libc_malloc(size);
    if (is_to_fail()) {
        errno = ENOMEM;
        return NULL;
    }
    void *at = __libc_malloc(size);
    note(at);
    return at;
}

void *calloc(size_t many, size_t size)
{
    if (!WATCHED_CALL(many * size))
        return __libc_calloc(many, size);
    if (is_to_fail()) {
        errno = ENOMEM;
        return NULL;
    }
    void *at = __libc_calloc(many, size);
    note(at);
    return at;
}

void *realloc(void *old, size_t size)
{
    int ours = WATCHED_CALL(size);
    if (ours && is_to_fail()) {
        errno = ENOMEM;
        return NULL;
    }
    forget(old);
    void *at = __libc_realloc(old, size);
    if (ours)
        note(at);
    return at;
}

void *aligned_alloc(size_t boundary, size_t size)
{
    if (WATCHED_CALL(size) && is_to_fail()) {
        errno = ENOMEM;
        return NULL;
    }
    return __libc_memalign(boundary, size);
}

int posix_memalign(void **out, size_t boundary, size_t size)
{
    if (WATCHED_CALL(size) && is_to_fail())
        return ENOMEM;
    void *at = __libc_memalign(boundary, size);
    if (!at)
        return ENOMEM;
    *out = at;
    return 0;
}

void free(void *at)
{
    forget(at);
    __libc_free(at);
}
