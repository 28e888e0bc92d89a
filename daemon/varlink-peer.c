/* SPDX-License-Identifier: MIT */

/* Who is at the other end of a socket, as the kernel noted it when the peer connected. */

#include "varlink-internal.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/socket.h>

#define GROUPS_MAX 65536

bool varlink_peer_in_group(const struct varlink_peer *peer, gid_t group)
{
        if (peer->gid == group)
                return true;
        for (size_t i = 0; i < peer->n_groups; i++)
                if (peer->groups[i] == group)
                        return true;
        return false;
}

/* Groups are for permissions only: without them a peer may do less. */
static void peer_read_groups(struct varlink_peer *peer, int fd)
{
        gid_t *groups = NULL;
        socklen_t size = 0;

        if (getsockopt(fd, SOL_SOCKET, SO_PEERGROUPS, NULL, &size) == 0 || errno != ERANGE || size == 0 ||
            size > GROUPS_MAX * sizeof(gid_t))
                return;
        groups = malloc(size);
        if (groups == NULL)
                return;
        if (getsockopt(fd, SOL_SOCKET, SO_PEERGROUPS, groups, &size) < 0) {
                free(groups);
                return;
        }
        peer->groups = groups;
        peer->n_groups = size / sizeof(gid_t);
}

int varlink_peer_read(struct varlink_peer *peer, int fd)
{
        struct ucred credentials;
        socklen_t size = sizeof(credentials);

        if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &credentials, &size) < 0)
                return -errno;
        peer->uid = credentials.uid;
        peer->gid = credentials.gid;
        peer->pid = credentials.pid;
        peer_read_groups(peer, fd);
        return 0;
}
