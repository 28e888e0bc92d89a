/* SPDX-License-Identifier: MIT */
#ifndef WEFT_NOTIFY_H
#define WEFT_NOTIFY_H

/* What systemd is told, and hands over; nothing at all where it is not there. */

#include <stdint.h>

/* From now on nothing is said or taken: what is there is another's. */
void notify_off(void);

void notify_ready(void);
void notify_reloading(void);
void notify_stopping(void);
__attribute__((format(printf, 1, 2))) void notify_status(const char *format, ...);

/* How often the watchdog wants a sign of life (half of its patience); 0: there is none. */
uint64_t notify_watchdog_ns(void);
void notify_alive(void);

/* The control socket that systemd listens on for us: the one named "control", else the first. -ENOENT: none. The caller
 * owns it. */
int notify_listen_fd(void);

#endif
