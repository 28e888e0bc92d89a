/* SPDX-License-Identifier: MIT */
/* A loop that spins; a query inside libsqlite3; a name server that never answers. */

#include "patient.h"

#include <arpa/inet.h>
#include <netdb.h>
#include <netinet/in.h>
#include <resolv.h>
#include <sqlite3.h>
#include <stdlib.h>
#include <sys/socket.h>

static volatile unsigned long spun;

static long call_spin(void)
{
        double end = patient_now() + patient_seconds;

        while (patient_now() < end)
                for (int i = 0; i < 10000; i++)
                        spun++;
        return 0;
}

static sqlite3 *database;

static void make_sqlite(void)
{
        if (sqlite3_open(":memory:", &database) != SQLITE_OK)
                abort();
}

static int too_late_cb(void *arg)
{
        return patient_now() >= *(double *)arg;
}

/* A query without an end, interrupted in time. */
static long call_sqlite(void)
{
        double end = patient_now() + patient_seconds;

        sqlite3_progress_handler(database, 10000, too_late_cb, &end);
        return sqlite3_exec(database, "WITH RECURSIVE n(i) AS (VALUES (1) UNION ALL SELECT i + 1 FROM n) SELECT count(*) FROM n", NULL, NULL, NULL);
}

/* A name server that never answers. */
static void make_resolver(void)
{
        struct sockaddr_in server = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
        socklen_t size = sizeof(server);
        int fd = socket(AF_INET, SOCK_DGRAM, 0);

        if (bind(fd, (struct sockaddr *)&server, sizeof(server)) < 0 || getsockname(fd, (struct sockaddr *)&server, &size) < 0)
                abort();
        (void)res_init();
        _res.nsaddr_list[0] = server;
        _res.nscount = 1;
        _res.retrans = 1;
        _res.retry = 1;
        _res.options |= RES_NOALIASES;
}

static long call_getaddrinfo(void)
{
        const struct addrinfo hints = {.ai_family = AF_INET, .ai_socktype = SOCK_STREAM};
        struct addrinfo *found = NULL;
        int r = getaddrinfo("patient.weft.test", "80", &hints, &found);

        if (r == 0)
                freeaddrinfo(found);
        return r;
}

const struct patient_call patient_busy[] = {
        {"getaddrinfo", make_resolver, call_getaddrinfo, NULL},
        {"spin", NULL, call_spin, NULL},
        {"sqlite", make_sqlite, call_sqlite, NULL},
        {NULL, NULL, NULL, NULL},
};
