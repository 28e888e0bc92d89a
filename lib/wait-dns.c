/* SPDX-License-Identifier: MIT */
/*
 * Names, by libevent's evdns.
 *
 * evdns calls back exactly once for each request, also for one that was cancelled, but later. So a look-up is on the
 * heap, and is its task's until the answer is there or the task gives up; then it is the answer's, which frees it.
 *
 * evdns runs on the loop's stack only: it reads files and asks libc for services, which wants more than a coroutine's
 * stack.
 */

#include "loop-internal.h"
#include "loop-log.h"
#include "waitlist.h"
#include "waits.h"

#include <weft/net.h>

#include <errno.h>
#include <event2/dns.h>
#include <event2/event.h>
#include <event2/util.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define N_END_ROUNDS_MAX 64

struct resolver {
        struct evdns_base *dns;
        struct event_base *base;
        struct look_up *pending; /* whose answer has not come */
        bool orphan;             /* its loop has ended; it goes with the last answer */
};

struct look_up {
        struct weft_loop *loop;         /* while task is set */
        struct resolver *resolver;      /* once asked */
        struct look_up *next, **link;   /* resolver->pending */
        const char *host, *service; /* the task's */
        const struct addrinfo *hints;
        struct evdns_getaddrinfo_request *request;
        struct weft_task *task; /* NULL: it has given up */
        struct addrinfo *addresses;
        int error; /* EAI_… */
        bool answered;
};

/* ---- the resolver ---- */

static int set_times(struct evdns_base *dns, const struct weft_resolver_options *options)
{
        char text[32];
        int failed = 0;

        if (options->try_timeout_ns != 0) {
                (void)snprintf(text, sizeof(text), "%.6f", (double)options->try_timeout_ns / 1e9);
                failed |= evdns_base_set_option(dns, "timeout:", text);
        }
        if (options->n_tries != 0) {
                (void)snprintf(text, sizeof(text), "%u", options->n_tries);
                failed |= evdns_base_set_option(dns, "attempts:", text);
        }
        return failed ? -EINVAL : 0;
}

/* What resolv.conf and the hosts file say, or what the options say instead. */
static int configure(struct evdns_base *dns, const struct weft_resolver_options *options)
{
        int flags = options->hosts_path == NULL ? DNS_OPTION_HOSTSFILE : 0;

        if (options->n_nameservers == 0)
                flags |= DNS_OPTION_SEARCH | DNS_OPTION_NAMESERVERS | DNS_OPTION_MISC;
        if (flags != 0) /* without such a file, the defaults: a name server on this machine */
                (void)evdns_base_resolv_conf_parse(dns, flags,
                                                   options->n_nameservers == 0 ? "/etc/resolv.conf" : "/dev/null");
        for (size_t i = 0; i < options->n_nameservers; i++)
                if (evdns_base_nameserver_ip_add(dns, options->nameservers[i]) != 0)
                        return -EINVAL;
        if (options->hosts_path != NULL && evdns_base_load_hosts(dns, options->hosts_path) < 0)
                return -ENOENT;
        return set_times(dns, options);
}

static int resolver_new(struct weft_loop *loop, const struct weft_resolver_options *options)
{
        struct resolver *resolver = calloc(1, sizeof(*resolver));
        int result;

        if (resolver == NULL)
                return -ENOMEM;
        resolver->base = loop->base;
        resolver->dns = evdns_base_new(loop->base, EVDNS_BASE_DISABLE_WHEN_INACTIVE);
        result = resolver->dns != NULL ? configure(resolver->dns, options) : -ENOMEM;
        if (result < 0) {
                if (resolver->dns != NULL)
                        evdns_base_free(resolver->dns, 0);
                free(resolver);
                return result;
        }
        loop->resolver = resolver;
        return 0;
}

struct configure_call {
        struct weft_loop *loop;
        const struct weft_resolver_options *options;
        int result;
};

static void configure_on_loop(void *arg)
{
        struct configure_call *call = arg;

        call->result = resolver_new(call->loop, call->options);
}

int weft_resolver_configure(const struct weft_resolver_options *options)
{
        struct configure_call call = {.loop = weft__loop, .options = options};

        if (call.loop == NULL)
                return -EPERM;
        if (call.loop->resolver != NULL)
                return -EBUSY;
        loop_call(call.loop, configure_on_loop, &call);
        return call.result;
}

static void resolver_free(struct resolver *resolver)
{
        evdns_base_free(resolver->dns, 0);
        free(resolver);
}

static void orphan_cb(evutil_socket_t fd, short what, void *arg)
{
        (void)fd;
        (void)what;
        resolver_free(arg);
}

/*
 * Cancelled look-ups are answered in the base's next round; freeing evdns under them would leave their callbacks astray. A base
 * of the program's has its rounds when the program says so: until then the resolver is left to itself.
 */
void resolver_end(struct weft_loop *loop)
{
        struct resolver *resolver = loop->resolver;

        if (resolver == NULL)
                return;
        loop->resolver = NULL;
        for (unsigned i = 0; !loop->attached && resolver->pending != NULL && i < N_END_ROUNDS_MAX; i++)
                (void)event_base_loop(loop->base, EVLOOP_NONBLOCK);
        for (struct look_up *look_up = resolver->pending; look_up != NULL; look_up = look_up->next)
                look_up->task = NULL;
        if (loop->attached && resolver->pending != NULL)
                resolver->orphan = true;
        else
                resolver_free(resolver);
}

/* The answer is there. */
static void no_longer_pending(struct look_up *look_up)
{
        static const struct timeval at_once;
        struct resolver *resolver = look_up->resolver;

        *look_up->link = look_up->next;
        if (look_up->next != NULL)
                look_up->next->link = look_up->link;
        if (resolver->orphan && resolver->pending == NULL) /* not here: evdns is calling us */
                (void)event_base_once(resolver->base, -1, EV_TIMEOUT, orphan_cb, resolver, &at_once);
}

/* ---- a look-up ---- */

static void answered_cb(int error, struct evutil_addrinfo *addresses, void *arg)
{
        struct look_up *look_up = arg;

        no_longer_pending(look_up);
        if (look_up->task == NULL) {
                if (addresses != NULL)
                        evutil_freeaddrinfo(addresses);
                free(look_up);
                return;
        }
        look_up->answered = true;
        look_up->error = error;
        look_up->addresses = addresses;
        task_wake(look_up->task, BB_WAKE_FD, 0,
                  loop_poll_time(look_up->loop)); /* nothing, where the answer is at once */
}

static void ask(void *arg)
{
        static const struct weft_resolver_options defaults;
        struct look_up *look_up = arg;
        struct weft_loop *loop = look_up->loop;

        if (loop->resolver == NULL && resolver_new(loop, &defaults) < 0) {
                look_up->answered = true;
                look_up->error = EVUTIL_EAI_MEMORY;
                return;
        }
        look_up->resolver = loop->resolver;
        look_up->next = loop->resolver->pending;
        look_up->link = &loop->resolver->pending;
        if (look_up->next != NULL)
                look_up->next->link = &look_up->next;
        loop->resolver->pending = look_up;
        look_up->request = evdns_getaddrinfo(loop->resolver->dns, look_up->host, look_up->service, look_up->hints,
                                             answered_cb, look_up);
}

static void give_up(void *arg)
{
        struct look_up *look_up = arg;

        look_up->task = NULL;
        evdns_getaddrinfo_cancel(look_up->request);
}

static int error_of(int error)
{
        switch (error) {
        case 0: return 0;
        case EVUTIL_EAI_NONAME:
        case EVUTIL_EAI_NODATA: return -ENOENT;
        case EVUTIL_EAI_AGAIN: return -EAGAIN;
        case EVUTIL_EAI_MEMORY: return -ENOMEM;
        case EVUTIL_EAI_FAMILY:
        case EVUTIL_EAI_ADDRFAMILY: return -EAFNOSUPPORT;
        case EVUTIL_EAI_BADFLAGS:
        case EVUTIL_EAI_SERVICE:
        case EVUTIL_EAI_SOCKTYPE: return -EINVAL;
        default: return -EIO;
        }
}

/* Takes the look-up. */
static int look_up_until(struct look_up *look_up, uint64_t deadline_ns, struct addrinfo **ret_addresses)
{
        struct addrinfo *addresses;
        int result = 0;

        loop_call(look_up->loop, ask, look_up);
        while (result == 0 && !look_up->answered)
                result = task_suspend(look_up->loop, BB_WAIT_DNS, 0, 0, deadline_ns);
        if (!look_up->answered) {
                loop_call(look_up->loop, give_up, look_up);
                return result;
        }
        addresses = look_up->addresses;
        if (result == 0)
                result = error_of(look_up->error);
        free(look_up);
        if (result == 0)
                *ret_addresses = addresses;
        else if (addresses != NULL) /* cancelled when the answer was there */
                evutil_freeaddrinfo(addresses);
        return result;
}

/* ---- debug mode's lines ---- */

static void question_text(const char *host, const char *service, const struct addrinfo *hints, char *buffer,
                          size_t size)
{
        const struct {
                const char *name;
                int value;
        } parts[] = {
                {"family", hints != NULL ? hints->ai_family : 0},
                {"type", hints != NULL ? hints->ai_socktype : 0},
                {"proto", hints != NULL ? hints->ai_protocol : 0},
                {"flags", hints != NULL ? hints->ai_flags : 0},
        };
        int n = snprintf(buffer, size, "%s:%s", host != NULL ? host : "None", service != NULL ? service : "None");

        for (size_t i = 0; i < sizeof(parts) / sizeof(parts[0]) && n >= 0 && (size_t)n < size; i++)
                if (parts[i].value != 0)
                        n += snprintf(buffer + n, size - (size_t)n, ", %s=%d", parts[i].name, parts[i].value);
}

static void answer_text(int result, const struct addrinfo *addresses, char *buffer, size_t size)
{
        size_t length = 0;

        if (result < 0) {
                const char *name = strerrorname_np(-result);

                (void)snprintf(buffer, size, "%s", name != NULL ? name : "?");
                return;
        }
        for (const struct addrinfo *address = addresses; address != NULL && length < size; address = address->ai_next) {
                char text[80];
                int n;

                weft_address_text(address->ai_addr, address->ai_addrlen, text, sizeof(text));
                n = snprintf(buffer + length, size - length, "%s%s", address == addresses ? "[" : ", ", text);
                length += n > 0 ? (size_t)n : 0;
        }
        if (length + 1 < size)
                (void)snprintf(buffer + length, size - length, "]");
}

static void say_answer(struct weft_loop *loop, const char *question, uint64_t took_ns, int result,
                       const struct addrinfo *addresses)
{
        enum weft_log_level level = took_ns >= loop_slow_ns(loop) ? WEFT_LOG_INFO : WEFT_LOG_DEBUG;
        char answer[512];

        answer_text(result, addresses, answer, sizeof(answer));
        loop_log(loop, level, "Getting address info %s took %.3fms: %s", question, (double)took_ns / 1e6, answer);
}

/* ---- the calls ---- */

int weft_getaddrinfo(const char *host, const char *service, const struct addrinfo *hints, uint64_t timeout_ns,
                     struct addrinfo **ret_addresses)
{
        struct weft_loop *loop = weft__loop;
        struct look_up *look_up;
        struct addrinfo *addresses = NULL;
        char question[320] = "";
        uint64_t since_ns;
        int result;

        if (loop == NULL || loop->current == NULL)
                return task_missing();
        look_up = calloc(1, sizeof(*look_up));
        if (look_up == NULL)
                return -ENOMEM;
        look_up->loop = loop;
        look_up->host = host;
        look_up->service = service;
        look_up->hints = hints;
        look_up->task = loop->current;
        since_ns = loop_now(loop);
        if (loop_debug(loop)) {
                question_text(host, service, hints, question, sizeof(question));
                loop_log(loop, WEFT_LOG_DEBUG, "Get address info %s", question);
        }
        result = look_up_until(look_up, waitlist_deadline(loop, timeout_ns), &addresses);
        if (question[0] != '\0')
                say_answer(loop, question, loop_now(loop) - since_ns, result, addresses);
        if (result == 0)
                *ret_addresses = addresses;
        return result;
}

struct addrinfo *weft_freeaddrinfo(struct addrinfo *addresses)
{
        if (addresses != NULL)
                evutil_freeaddrinfo(addresses);
        return NULL;
}
