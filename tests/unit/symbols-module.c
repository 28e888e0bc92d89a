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
