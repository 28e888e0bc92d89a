/* SPDX-License-Identifier: MIT */

/* A module for test-symbols: a static function at a known line, and the way to it. */

int (*symbols_module_function(int *ret_line))(int);

static int module_line;

__attribute__((noinline)) static int hidden_in_the_module(int n)
{
        return n * 3 + module_line;
}

int (*symbols_module_function(int *ret_line))(int)
{
        *ret_line = 9; /* of hidden_in_the_module */
        return hidden_in_the_module;
}

/* For test-running: a coroutine. Its argument says how to suspend, since a module of a test sees nothing of the program. */
struct symbols_module_wait {
        int (*sleep)(unsigned long ns);
        int line;
};

int symbols_module_coroutine(void *arg);

int symbols_module_coroutine(void *arg)
{
        struct symbols_module_wait *wait = arg;
        int r;

        wait->line = __LINE__ + 1;
        r = wait->sleep(3600000000000UL);
        module_line += r;
        return r;
}
