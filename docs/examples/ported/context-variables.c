/* SPDX-License-Identifier: MIT */
/* context-variables.py in C: ContextVar, Token, copy_context, Context.run. Each task has a copy of the context of its
 * creator. */

#include <weft/weft.h>

#include <errno.h>
#include <stdio.h>

static WEFT_CONTEXTVAR_STRING(client_addr_var, "client_addr", "nobody");

static void render_goodbye(void)
{
        printf("Good bye, client @ %s\n", weft_contextvar_get_string(&client_addr_var));
}

static int handle_request(void *arg)
{
        int r = weft_contextvar_set_string(&client_addr_var, arg, NULL);

        if (r == 0)
                r = weft_sleep(0);
        if (r == 0)
                render_goodbye(); /* knows the address without having been passed it */
        return r;
}

static int changes(void *arg)
{
        int r = weft_contextvar_set_string(&client_addr_var, "198.51.100.1", NULL);

        (void)arg;
        printf("inside: %s\n", weft_contextvar_get_string(&client_addr_var));
        return r;
}

static int sets_and_resets(void)
{
        struct weft_token token;
        int r = weft_contextvar_set_string(&client_addr_var, "203.0.113.9", &token);

        if (r < 0)
                return r;
        printf("set: %s\n", weft_contextvar_get_string(&client_addr_var));
        r = weft_contextvar_reset(&client_addr_var, &token);
        if (r < 0)
                return r;
        printf("reset: %s\n", weft_contextvar_get_string(&client_addr_var));
        if (weft_contextvar_reset(&client_addr_var, &token) == -EALREADY)
                puts("a token is good for one reset");
        return 0;
}

static int runs_in_a_copy(void)
{
        struct weft_context *context;
        struct weft_value value;
        int r = weft_context_copy_current(&context);

        if (r < 0)
                return r;
        r = weft_context_run(context, changes, NULL);
        printf("outside: %s\n", weft_contextvar_get_string(&client_addr_var));
        if (r == 0)
                r = weft_context_get(context, &client_addr_var, &value);
        if (r == 0)
                printf("in the context: %s\n", value.string);
        weft_context_unref(context);
        return r;
}

static int main_coro(void *arg)
{
        struct weft_task *tasks[] = {weft_spawn(handle_request, "192.0.2.1"), weft_spawn(handle_request, "192.0.2.2")};
        int r = weft_gather(tasks, 2, 0, NULL);

        (void)arg;
        printf("main: %s\n", weft_contextvar_get_string(&client_addr_var));
        if (r == 0)
                r = sets_and_resets();
        return r < 0 ? r : runs_in_a_copy();
}

int main(void)
{
        return weft_run(main_coro, NULL) != 0;
}
