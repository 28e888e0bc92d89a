/* SPDX-License-Identifier: MIT */

/*
 * Where the TSC may be used, how fast it runs, and how it is tied to CLOCK_MONOTONIC.
 *
 * May be used: the processor says that it is invariant, and the kernel's own clock is made of it. The kernel compares
 * the processors' counters and a watchdog, and leaves the TSC for another clock source when it finds fault; we could
 * not do better.
 *
 * Rate: measured over a millisecond, once in a process; what CPUID says is more exact, and taken where it agrees with
 * that. From then on each tie measures over the time since the tie before, which is exact to less than 0.1 ppm and
 * follows NTP.
 *
 * Invariant: a tie never lets the clock show less than what it has shown: the new base is the value shown at that tick.
 */

#include "clock.h"

#include <string.h>

uint64_t clock_now_slow(void)
{
        return clock_gettime_ns(CLOCK_MONOTONIC);
}

#if defined(__x86_64__)

#include <cpuid.h>
#include <fcntl.h>
#include <pthread.h>
#include <unistd.h>

#define MAX_BEND_PPM 500
#define MAX_BEHIND_NS 1000000
#define MAX_AHEAD_NS 100000000
#define MAX_BRACKET_NS 20000  /* a reading that took longer was interrupted */
#define MIN_INTERVAL_NS 200000000
#define MAX_HORIZON_NS UINT64_C(16000000000)
#define MIN_HORIZON_NS UINT64_C(1000000000)
#define CALIBRATION_NS 1000000
#define WAKE_SLACK_NS 100000 /* over any error there was before the TSC started anew */

struct reading {
        uint64_t ticks;
        uint64_t ns;
        uint64_t width_ticks;
};

static struct {
        pthread_once_t once;
        bool usable;
        uint64_t scale;
        struct reading first;
} tsc = {.once = PTHREAD_ONCE_INIT};

/* Both clocks at one moment: the narrowest of some tries. clock_gettime's own fences keep the order. */
static struct reading reading_take(void)
{
        struct reading best = {.width_ticks = UINT64_MAX};

        for (unsigned i = 0; i < 5; i++) {
                uint64_t before = __rdtsc();
                uint64_t ns = clock_gettime_ns(CLOCK_MONOTONIC);

                _mm_lfence();

                uint64_t width = __rdtsc() - before;

                if (width < best.width_ticks)
                        best = (struct reading){.ticks = before + width / 2, .ns = ns, .width_ticks = width};
        }
        return best;
}

static uint64_t ticks_to_ns(uint64_t ticks, uint64_t scale)
{
        return (uint64_t)(((unsigned __int128)ticks * scale) >> 32);
}

static uint64_t scale_between(const struct reading *a, const struct reading *b)
{
        return (uint64_t)(((unsigned __int128)(b->ns - a->ns) << 32) / (b->ticks - a->ticks));
}

static bool scale_is_near(uint64_t a, uint64_t b, uint64_t ppm)
{
        uint64_t difference = a > b ? a - b : b - a;

        return difference <= b / 1000000 * ppm;
}

static bool cpu_is_invariant(void)
{
        unsigned eax, ebx, ecx, edx;

        return __get_cpuid(0x80000007, &eax, &ebx, &ecx, &edx) != 0 && (edx & (1U << 8)) != 0;
}

static bool kernel_trusts_tsc(void)
{
        static const char *const trusted[] = {"tsc\n", "kvm-clock\n", "hyperv_clocksource_tsc_page\n"};
        char name[64] = "";
        int fd = open("/sys/devices/system/clocksource/clocksource0/current_clocksource", O_RDONLY | O_CLOEXEC);

        if (fd < 0)
                return false;

        ssize_t n = read(fd, name, sizeof(name) - 1);

        close(fd);
        if (n <= 0)
                return false;
        for (size_t i = 0; i < sizeof(trusted) / sizeof(trusted[0]); i++) {
                if (strcmp(name, trusted[i]) == 0)
                        return true;
        }
        return false;
}

/* Ticks per second as the processor, or the hypervisor, tells it; 0: it does not. */
static uint64_t cpuid_frequency_hz(void)
{
        unsigned eax, ebx, ecx, edx;

        if (__get_cpuid_max(0, NULL) >= 0x15) {
                __cpuid(0x15, eax, ebx, ecx, edx);
                if (eax != 0 && ebx != 0 && ecx != 0)
                        return (uint64_t)ecx * ebx / eax;
        }

        __cpuid(1, eax, ebx, ecx, edx);
        if ((ecx & (1U << 31)) == 0) /* no hypervisor */
                return 0;
        __cpuid(0x40000000, eax, ebx, ecx, edx);
        if (eax < 0x40000010 || eax > 0x400000ff)
                return 0;
        __cpuid(0x40000010, eax, ebx, ecx, edx);
        return (uint64_t)eax * 1000;
}

static void tsc_probe(void)
{
        if (!cpu_is_invariant() || !kernel_trusts_tsc())
                return;

        struct reading now;

        tsc.first = reading_take();
        do
                now = reading_take();
        while (now.ns - tsc.first.ns < CALIBRATION_NS);
        if (now.ticks <= tsc.first.ticks)
                return;

        tsc.scale = scale_between(&tsc.first, &now);
        if (tsc.scale < (UINT64_C(1) << 32) / 10 || tsc.scale > (UINT64_C(1) << 32) * 2) /* 10 GHz … 0.5 GHz */
                return;

        uint64_t hz = cpuid_frequency_hz();

        if (hz >= 500000000 && hz <= UINT64_C(10000000000)) {
                uint64_t told = (uint64_t)(((unsigned __int128)1000000000U << 32) / hz);

                if (scale_is_near(told, tsc.scale, 1000))
                        tsc.scale = told;
        }
        tsc.usable = true;
}

void clock_init(struct weft_clock *clock)
{
        *clock = (struct weft_clock){0};
        pthread_once(&tsc.once, tsc_probe);
        if (!tsc.usable)
                return;

        struct reading now = reading_take();
        uint64_t scale = tsc.scale;

        if (now.ticks <= tsc.first.ticks)
                return; /* started anew since: the kernel may not trust it any more */
        if (now.ns - tsc.first.ns >= MIN_INTERVAL_NS) {
                uint64_t since = scale_between(&tsc.first, &now);

                if (scale_is_near(since, scale, 1000))
                        scale = since;
        }
        *clock = (struct weft_clock){
                .tsc = true,
                .base_ticks = now.ticks,
                .base_ns = now.ns,
                .scale = scale,
                .true_scale = scale,
                .true_ticks = now.ticks,
                .true_ns = now.ns,
        };
        _mm_lfence(); /* no later rdtsc may come before the base's */
}

/* The true rate, measured since the last tie; a suspend between spoils the measure, and is told by it. */
static void rate_update(struct weft_clock *clock, const struct reading *now)
{
        struct reading last = {.ticks = clock->true_ticks, .ns = clock->true_ns};
        uint64_t measured = scale_between(&last, now);

        if (scale_is_near(measured, clock->true_scale, 1000))
                clock->true_scale = measured;
}

/* The rate for the time to come: true_scale, bent so that error_ns (positive: ahead) is gone after horizon_ns. */
static uint64_t scale_bent(uint64_t true_scale, int64_t error_ns, uint64_t horizon_ns)
{
        int64_t ppb = -(int64_t)((__int128)error_ns * 1000000000 / (int64_t)horizon_ns);

        if (ppb > MAX_BEND_PPM * 1000)
                ppb = MAX_BEND_PPM * 1000;
        if (ppb < -MAX_BEND_PPM * 1000)
                ppb = -MAX_BEND_PPM * 1000;
        return (uint64_t)((int64_t)true_scale + (int64_t)((__int128)(int64_t)true_scale * ppb / 1000000000));
}

void clock_tie(struct weft_clock *clock)
{
        if (!clock->tsc)
                return;

        struct reading now = reading_take();

        if (now.ticks <= clock->base_ticks) { /* it started anew */
                uint64_t target = now.ns + clock->lead_ns + WAKE_SLACK_NS;

                clock->base_ns = target > clock->base_ns ? target : clock->base_ns;
                clock->base_ticks = clock->true_ticks = now.ticks;
                clock->true_ns = now.ns;
                return;
        }
        if (ticks_to_ns(now.width_ticks, clock->true_scale) > MAX_BRACKET_NS)
                return;

        uint64_t shown = clock->base_ns + ticks_to_ns(now.ticks - clock->base_ticks, clock->scale);
        uint64_t interval = now.ns - clock->true_ns;
        int64_t error = (int64_t)(shown - (now.ns + clock->lead_ns));

        if (interval < MIN_INTERVAL_NS && error <= MAX_AHEAD_NS && error >= -MAX_BEHIND_NS)
                return;
        if (interval >= MIN_INTERVAL_NS)
                rate_update(clock, &now);
        if (error > MAX_AHEAD_NS) {
                clock->lead_ns += (uint64_t)error;
                error = 0;
        } else if (error < -MAX_BEHIND_NS) {
                shown = now.ns + clock->lead_ns;
                error = 0;
        }

        uint64_t horizon = interval < MIN_HORIZON_NS ? MIN_HORIZON_NS : interval;

        clock->base_ticks = now.ticks;
        clock->base_ns = shown;
        clock->scale = scale_bent(clock->true_scale, error, horizon > MAX_HORIZON_NS ? MAX_HORIZON_NS : horizon);
        clock->true_ticks = now.ticks;
        clock->true_ns = now.ns;
        _mm_lfence(); /* no later rdtsc may come before the base's */
}

#else

void clock_init(struct weft_clock *clock)
{
        *clock = (struct weft_clock){0};
}

void clock_tie(struct weft_clock *clock)
{
        (void)clock;
}

#endif
