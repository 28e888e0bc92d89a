/* SPDX-License-Identifier: MIT */
#ifndef WEFT_ADDRESS_H
#define WEFT_ADDRESS_H

/*
 * Addresses as text: "HOST:PORT", "[V6]:PORT", ":PORT", "unix:PATH", "unix:@NAME" (abstract).
 */

#include <netinet/in.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>
#include <sys/un.h>

union address {
        struct sockaddr any;
        struct sockaddr_in v4;
        struct sockaddr_in6 v6;
        struct sockaddr_un local;
        struct sockaddr_storage storage;
};

/* "HOST:PORT" → host (without brackets) and port. 0 or -EINVAL, also where host does not fit. */
int address_split(const char *text, char *host, size_t size, uint16_t *ret_port);

/* HOST is numeric, "localhost" or nothing (all addresses). 0 or -EINVAL. */
int address_parse(const char *text, union address *ret_address, socklen_t *ret_size);

/* "unix:…": 0; -ENAMETOOLONG; -EINVAL: nothing after the colon; -ENOENT: not such a text. */
int address_parse_local(const char *text, union address *ret_address, socklen_t *ret_size);

#endif
