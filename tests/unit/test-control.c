/* SPDX-License-Identifier: MIT */

/* The control interface: rights, its socket's file, and that what the description promises is there. */

#include "control.h"
#include "varlink.h"

#include <errno.h>
#include <event2/event.h>
#include <fcntl.h>
#include <jansson.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <cmocka.h>

#define NOBODY ((gid_t)-1)
#define TURNS 100000

static void only_root_weftds_own_user_and_the_control_group_may_change_things(void **state)
{
        gid_t groups[] = {20, 30};
        struct varlink_peer peer = {.uid = 1000, .gid = 10, .groups = groups, .n_groups = 2};

        (void)state;
        assert_false(control_may_change(&peer, 999, NOBODY));
        assert_false(control_may_change(&peer, 999, 40));
        assert_true(control_may_change(&peer, 1000, NOBODY));
        assert_true(control_may_change(&peer, 999, 10));
        assert_true(control_may_change(&peer, 999, 30));
        peer.gid = NOBODY; /* a group that is none lets nobody in */
        assert_false(control_may_change(&peer, 999, NOBODY));
        peer.uid = 0;
        assert_true(control_may_change(&peer, 999, NOBODY));
}

static int connect_to(const char *path)
{
        struct sockaddr_un address = {.sun_family = AF_UNIX};
        int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

        (void)snprintf(address.sun_path, sizeof(address.sun_path), "%s", path);
        assert_int_equal(connect(fd, (struct sockaddr *)&address, sizeof(address)), 0);
        return fd;
}

static void the_socket_takes_the_place_of_a_stale_one_and_is_closed_to_others(void **state)
{
        char directory[] = "/tmp/test-control-XXXXXX", path[64];
        const char *why;
        struct stat st;
        int first, second;

        (void)state;
        assert_non_null(mkdtemp(directory));
        (void)snprintf(path, sizeof(path), "%s/control.sock", directory);
        first = control_socket(path, NOBODY, &why);
        assert_true(first >= 0);
        close(first); /* its file stays, and nobody listens */
        second = control_socket(path, getegid(), &why);
        assert_true(second >= 0);
        close(connect_to(path));
        assert_int_equal(stat(path, &st), 0);
        assert_int_equal(st.st_mode & 0777, 0660);
        assert_int_equal(st.st_gid, getegid());
        close(second);
        (void)unlink(path);
        assert_int_equal(rmdir(directory), 0);
}

static void a_path_too_long_for_a_socket_is_said_to_be(void **state)
{
        char path[200];
        const char *why = NULL;

        (void)state;
        memset(path, 'a', sizeof(path) - 1);
        path[0] = '/';
        path[sizeof(path) - 1] = '\0';
        assert_int_equal(control_socket(path, NOBODY, &why), -ENAMETOOLONG);
        assert_non_null(strstr(why, "107"));
        assert_int_equal(control_socket("/nonexistent/control.sock", NOBODY, &why), -ENOENT);
}

/* ---- the description ---- */

/* Sends one call and returns its reply, which is the caller's. */
static json_t *ask(struct event_base *base, int fd, const char *call)
{
        static char answer[65536];
        size_t n = 0;

        assert_int_equal(write(fd, call, strlen(call) + 1), strlen(call) + 1);
        for (unsigned i = 0; i < TURNS; i++) {
                ssize_t got;

                (void)event_base_loop(base, EVLOOP_NONBLOCK);
                got = recv(fd, answer + n, sizeof(answer) - n, MSG_DONTWAIT);
                if (got > 0)
                        n += (size_t)got;
                if (n > 0 && answer[n - 1] == '\0')
                        return json_loads(answer, 0, NULL);
        }
        fail_msg("no answer to %s", call);
        return NULL;
}

/* Every "method X(" of the description is there: asked with a parameter that none has, it complains of that, not of the
 * method. */
static void every_method_of_the_description_is_served(void **state)
{
        char directory[] = "/tmp/test-control-XXXXXX", path[64], call[256];
        struct event_base *base = event_base_new();
        const struct control_options options = {
                .base = base, .runtime_directory = directory, .database = "", .group = NOBODY};
        struct control *control;
        const char *why, *description;
        unsigned n_methods = 0;
        json_t *reply;
        int fd;

        (void)state;
        (void)signal(SIGPIPE, SIG_IGN);
        assert_non_null(mkdtemp(directory));
        (void)snprintf(path, sizeof(path), "%s/control.sock", directory);
        assert_int_equal(control_new(&options, &control), 0);
        assert_int_equal(control_listen(control, control_socket(path, NOBODY, &why)), 0);
        fd = connect_to(path);
        reply = ask(
                base, fd,
                "{\"method\":\"org.varlink.service.GetInterfaceDescription\",\"parameters\":{\"interface\":\"io.weft.Control\"}}");
        description = json_string_value(json_object_get(json_object_get(reply, "parameters"), "description"));
        assert_non_null(description);
        for (const char *p = strstr(description, "\nmethod "); p != NULL; p = strstr(p + 1, "\nmethod ")) {
                const char *name = p + strlen("\nmethod ");
                json_t *answer;

                (void)snprintf(call, sizeof(call), "{\"method\":\"io.weft.Control.%.*s\",\"parameters\":{\"bogus\":1},\"more\":true}",
                               (int)strcspn(name, "("), name);
                answer = ask(base, fd, call);
                assert_string_equal(json_string_value(json_object_get(answer, "error")), VARLINK_INVALID_PARAMETER);
                assert_string_equal(
                        json_string_value(json_object_get(json_object_get(answer, "parameters"), "parameter")),
                        "bogus");
                json_decref(answer);
                n_methods++;
        }
        assert_true(n_methods >= 10);
        json_decref(reply);
        close(fd);
        control_free(control);
        event_base_free(base);
        (void)unlink(path);
        assert_int_equal(rmdir(directory), 0);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(only_root_weftds_own_user_and_the_control_group_may_change_things),
                cmocka_unit_test(the_socket_takes_the_place_of_a_stale_one_and_is_closed_to_others),
                cmocka_unit_test(a_path_too_long_for_a_socket_is_said_to_be),
                cmocka_unit_test(every_method_of_the_description_is_served),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
