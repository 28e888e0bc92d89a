/* SPDX-License-Identifier: MIT */
/*
 * Addresses as text → as the kernel wants them. No look-up of names here: that is the resolver's.
 */

#include "address.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

int address_split(const char *text, char *host, size_t size, uint16_t *ret_port)
{
        const char *colon = strrchr(text, ':');
        const char *start = text;
        size_t length;
        char *end;
        unsigned long port;

        if (colon == NULL || colon[1] < '0' || colon[1] > '9')
                return -EINVAL;
        port = strtoul(colon + 1, &end, 10);
        if (*end != '\0' || port > 65535)
                return -EINVAL;
        length = (size_t)(colon - text);
        if (length >= 2 && text[0] == '[' && colon[-1] == ']') {
                start++;
                length -= 2;
        } else if (memchr(text, ':', length) != NULL) {
                return -EINVAL; /* IPv6 without brackets: where does the port begin? */
        }
        if (length >= size)
                return -EINVAL;
        memcpy(host, start, length);
        host[length] = '\0';
        *ret_port = (uint16_t)port;
        return 0;
}

int address_parse(const char *text, union address *ret_address, socklen_t *ret_size)
{
        union address address = {0};
        char host[64];
        uint16_t port;
        int result = address_split(text, host, sizeof(host), &port);

        if (result < 0)
                return result;
        if (strcmp(host, "localhost") == 0)
                memcpy(host, "127.0.0.1", sizeof("127.0.0.1"));
        if (host[0] == '\0' || inet_pton(AF_INET6, host, &address.v6.sin6_addr) == 1) {
                address.v6.sin6_family = AF_INET6;
                address.v6.sin6_port = htons(port);
                *ret_size = sizeof(address.v6);
        } else if (inet_pton(AF_INET, host, &address.v4.sin_addr) == 1) {
                address.v4.sin_family = AF_INET;
                address.v4.sin_port = htons(port);
                *ret_size = sizeof(address.v4);
        } else {
                return -EINVAL;
        }
        *ret_address = address;
        return 0;
}

int address_parse_local(const char *text, union address *ret_address, socklen_t *ret_size)
{
        union address address = {.local = {.sun_family = AF_UNIX}};
        const char *path = text + 5;
        size_t length;

        if (strncmp(text, "unix:", 5) != 0)
                return -ENOENT;
        length = strlen(path);
        if (length == 0)
                return -EINVAL;
        if (length >= sizeof(address.local.sun_path))
                return -ENAMETOOLONG;
        memcpy(address.local.sun_path, path, length);
        *ret_size = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + length + 1);
        if (path[0] == '@') { /* an abstract name begins with a NUL, and ends where its size says */
                address.local.sun_path[0] = '\0';
                *ret_size -= 1;
        }
        *ret_address = address;
        return 0;
}
