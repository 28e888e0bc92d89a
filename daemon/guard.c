/* SPDX-License-Identifier: MIT */

/*
 * Guarded access to memory that may vanish under the reader.
 *
 * A thread arms its jump buffer, touches the memory, disarms. The handler jumps back only when its own thread is armed
 * and the signal is a fault (not one that somebody sent); everything else goes to the handler that was there before.
 *
 * The handler puts the signal mask back before it jumps, so that arming has none to save and costs no system call. What
 * runs armed is only loads, stores and arithmetic on locals that are dead after a jump. Order comes from fences, not from the
 * accesses: ThreadSanitizer holds a lock around an ordered one, which a jump would leave locked.
 */

#include "guard.h"

#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <string.h>
#include <ucontext.h>

static _Thread_local sigjmp_buf guard_env;
static _Thread_local volatile sig_atomic_t guard_armed;

static struct sigaction guard_previous;
static pthread_mutex_t guard_lock = PTHREAD_MUTEX_INITIALIZER;

static void guard_chain(int number, siginfo_t *info, void *ucontext)
{
        if (guard_previous.sa_flags & SA_SIGINFO) {
                guard_previous.sa_sigaction(number, info, ucontext);
                return;
        }
        if (guard_previous.sa_handler == SIG_IGN && info->si_code <= 0)
                return;
        if (guard_previous.sa_handler != SIG_DFL && guard_previous.sa_handler != SIG_IGN) {
                guard_previous.sa_handler(number);
                return;
        }

        /* The default: die of it. A fault happens again on return; a signal that was sent has to be sent again. */
        (void)signal(number, SIG_DFL);
        if (info->si_code <= 0)
                (void)raise(number);
}

static void guard_handler(int number, siginfo_t *info, void *ucontext)
{
        if (guard_armed && info->si_code > 0) {
                guard_armed = 0;
                /* What came between us and the kernel (a sanitizer's handler) may have blocked signals: the jump leaves them so. */
                (void)pthread_sigmask(SIG_SETMASK, &((const ucontext_t *)ucontext)->uc_sigmask, NULL);
                siglongjmp(guard_env, 1);
        }
        guard_chain(number, info, ucontext);
}

/* Once; and again where somebody else has taken the signal since. */
static int guard_install(void)
{
        struct sigaction action, now;
        int r = 0;

        memset(&action, 0, sizeof(action));
        action.sa_sigaction = guard_handler;
        action.sa_flags = SA_SIGINFO | SA_NODEFER | SA_ONSTACK;
        sigemptyset(&action.sa_mask);

        pthread_mutex_lock(&guard_lock);
        if (sigaction(SIGBUS, NULL, &now) < 0) {
                r = -errno;
        } else if (!(now.sa_flags & SA_SIGINFO) || now.sa_sigaction != guard_handler) {
                guard_previous = now;
                if (sigaction(SIGBUS, &action, NULL) < 0)
                        r = -errno;
        }
        pthread_mutex_unlock(&guard_lock);
        return r;
}

int guard_init(void)
{
        sigset_t set;
        int r = guard_install();

        if (r < 0)
                return r;
        sigemptyset(&set);
        sigaddset(&set, SIGBUS);
        return -pthread_sigmask(SIG_UNBLOCK, &set, NULL);
}

/* The compiler must not move an access over the (volatile) flag: that is what the signal fences are for. */
#define GUARD_ENTER()                                      \
        do {                                               \
                if (sigsetjmp(guard_env, 0) != 0)          \
                        return -EIO;                       \
                guard_armed = 1;                           \
                __atomic_signal_fence(__ATOMIC_SEQ_CST);   \
        } while (0)

static inline void guard_leave(void)
{
        __atomic_signal_fence(__ATOMIC_SEQ_CST);
        guard_armed = 0;
}

static inline void copy_words_in(uint64_t *destination, const uint64_t *source, size_t n)
{
        for (size_t i = 0; i < n; i++)
                destination[i] = __atomic_load_n(&source[i], __ATOMIC_RELAXED);
}

int guard_load(void *destination, const void *source, size_t bytes)
{
        GUARD_ENTER();
        copy_words_in(destination, source, bytes / sizeof(uint64_t));
        guard_leave();
        return 0;
}

int guard_load_bytes(void *destination, const void *source, size_t bytes)
{
        uint8_t *to = destination;
        const uint8_t *from = source;

        GUARD_ENTER();
        for (size_t i = 0; i < bytes; i++)
                to[i] = __atomic_load_n(&from[i], __ATOMIC_RELAXED);
        guard_leave();
        return 0;
}

int guard_load_word(uint64_t *ret_word, const void *source)
{
        GUARD_ENTER();

        uint64_t word = __atomic_load_n((const uint64_t *)source, __ATOMIC_RELAXED);

        guard_leave();
        __atomic_thread_fence(__ATOMIC_ACQUIRE);
        *ret_word = word;
        return 0;
}

int guard_load_counted(void *destination, const void *source, size_t bytes)
{
        const uint64_t *words = source;

        GUARD_ENTER();

        uint64_t before = __atomic_load_n(&words[0], __ATOMIC_RELAXED);

        __atomic_thread_fence(__ATOMIC_ACQUIRE);
        copy_words_in(destination, words, bytes / sizeof(uint64_t));
        __atomic_thread_fence(__ATOMIC_ACQUIRE);

        uint64_t after = __atomic_load_n(&words[0], __ATOMIC_RELAXED);

        guard_leave();
        return before == after && (before & 1) == 0;
}

ssize_t guard_find_word(const void *source, size_t stride, size_t n, uint64_t value)
{
        const uint8_t *at = source;
        size_t i;

        GUARD_ENTER();
        for (i = 0; i < n; i++)
                if (__atomic_load_n((const uint64_t *)(const void *)(at + i * stride), __ATOMIC_RELAXED) == value)
                        break;
        guard_leave();
        return (ssize_t)i;
}

ssize_t guard_find_bit(const void *source, size_t stride, size_t n, uint64_t mask)
{
        const uint8_t *at = source;
        size_t i;

        GUARD_ENTER();
        for (i = 0; i < n; i++) {
                uint32_t bit = (uint32_t)__atomic_load_n((const uint64_t *)(const void *)(at + i * stride), __ATOMIC_RELAXED);

                if (bit < 64 && (mask >> bit & 1) != 0)
                        break;
        }
        guard_leave();
        return (ssize_t)i;
}

ssize_t guard_find_mask(const void *source, size_t stride, size_t n, uint64_t mask)
{
        const uint8_t *at = source;
        size_t i;

        GUARD_ENTER();
        for (i = 0; i < n; i++)
                if ((__atomic_load_n((const uint64_t *)(const void *)(at + i * stride), __ATOMIC_RELAXED) & mask) != 0)
                        break;
        guard_leave();
        return (ssize_t)i;
}

int guard_store(void *destination, const void *source, size_t bytes)
{
        uint64_t *to = destination;
        const uint64_t *from = source;

        GUARD_ENTER();
        for (size_t i = 0; i < bytes / sizeof(uint64_t); i++)
                __atomic_store_n(&to[i], from[i], __ATOMIC_RELAXED);
        guard_leave();
        return 0;
}

int guard_store_word(void *destination, uint64_t word)
{
        __atomic_thread_fence(__ATOMIC_RELEASE);
        GUARD_ENTER();
        __atomic_store_n((uint64_t *)destination, word, __ATOMIC_RELAXED);
        guard_leave();
        return 0;
}
