/* SPDX-License-Identifier: MIT */

/* The log: what is written to stderr, what the level lets through, what a program's own function gets. */

#include "log.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

static int saved_stderr = -1, captured = -1;

static int setup(void **state)
{
        (void)state;
        weft_log_set_function(NULL, NULL);
        weft_log_set_level(WEFT_LOG_WARNING);
        captured = memfd_create("stderr", MFD_CLOEXEC);
        saved_stderr = dup(STDERR_FILENO);
        if (captured < 0 || saved_stderr < 0 || fcntl(captured, F_SETFL, O_APPEND) < 0)
                return -1;
        return dup2(captured, STDERR_FILENO) < 0 ? -1 : 0;
}

static void restore_stderr(void)
{
        if (saved_stderr >= 0) {
                (void)dup2(saved_stderr, STDERR_FILENO);
                close(saved_stderr);
                saved_stderr = -1;
        }
}

static int teardown(void **state)
{
        (void)state;
        restore_stderr();
        close(captured);
        return 0;
}

/* What has been written, for the caller to free. Asserts from here on are seen. */
static char *written(void)
{
        off_t size = lseek(captured, 0, SEEK_END);
        char *text = malloc((size_t)size + 1);

        restore_stderr();
        assert_non_null(text);
        assert_int_equal(pread(captured, text, (size_t)size, 0), size);
        text[size] = '\0';
        return text;
}

static void assert_written(const char *expected)
{
        char *text = written();

        assert_string_equal(text, expected);
        free(text);
}

static void each_level_has_its_name_before_the_message(void **state)
{
        (void)state;
        weft_log_set_level(WEFT_LOG_DEBUG);
        log_debug("Using selector: %s", "epoll");
        log_info("%d", 1);
        log_warning("two");
        log_error("three");
        assert_written("DEBUG:weft:Using selector: epoll\nINFO:weft:1\nWARNING:weft:two\nERROR:weft:three\n");
}

static void messages_below_the_level_are_not_written(void **state)
{
        (void)state;
        weft_log_set_level(WEFT_LOG_ERROR);
        log_debug("a");
        log_info("b");
        log_warning("c");
        log_error("d");
        assert_int_equal(weft_log_level(), WEFT_LOG_ERROR);
        assert_written("ERROR:weft:d\n");
}

static void newlines_within_a_message_stay(void **state)
{
        (void)state;
        log_error("one\ntwo");
        assert_written("ERROR:weft:one\ntwo\n");
}

static void a_message_of_any_length_is_whole(void **state)
{
        static const size_t lengths[] = {0, 1, 1022, 1023, 1024, 1025, 100000, 3000000};
        char *message = malloc(3000001);

        (void)state;
        assert_non_null(message);
        for (size_t i = 0; i < sizeof(lengths) / sizeof(lengths[0]); i++) {
                memset(message, 'x', lengths[i]);
                message[lengths[i]] = '\0';
                log_error("%s", message);
        }

        char *text = written(), *at = text;

        for (size_t i = 0; i < sizeof(lengths) / sizeof(lengths[0]); i++) {
                assert_memory_equal(at, "ERROR:weft:", 11);
                assert_int_equal(strspn(at + 11, "x"), lengths[i]);
                assert_int_equal(at[11 + lengths[i]], '\n');
                at += 11 + lengths[i] + 1;
        }
        assert_int_equal(*at, '\0');
        free(text);
        free(message);
}

static void errno_is_kept(void **state)
{
        (void)state;
        errno = ENOTTY;
        log_error("%5000d", 1);
        log_debug("below the level");
        assert_int_equal(errno, ENOTTY);
        restore_stderr();
}

static void an_error_on_stderr_is_survived(void **state)
{
        int read_only = open("/dev/null", O_RDONLY | O_CLOEXEC);

        (void)state;
        assert_true(read_only >= 0);
        assert_true(dup2(read_only, STDERR_FILENO) >= 0);
        errno = 0;
        log_error("nobody reads this");
        assert_int_equal(errno, 0);
        assert_true(dup2(captured, STDERR_FILENO) >= 0);
        log_error("but this");
        close(read_only);
        assert_written("ERROR:weft:but this\n");
}

/* ---- a function of one's own ---- */

struct seen {
        enum weft_log_level level;
        char message[100];
        unsigned n;
};

static void remember(enum weft_log_level level, const char *message, void *arg)
{
        struct seen *seen = arg;

        seen->level = level;
        (void)snprintf(seen->message, sizeof(seen->message), "%s", message);
        seen->n++;
}

static void a_function_that_was_set_gets_level_message_and_argument(void **state)
{
        struct seen seen = {0};

        (void)state;
        weft_log_set_function(remember, &seen);
        log_info("not at this level");
        assert_int_equal(seen.n, 0);
        log_warning("%s took %.3f seconds", "it", 0.25);
        assert_int_equal(seen.n, 1);
        assert_int_equal(seen.level, WEFT_LOG_WARNING);
        assert_string_equal(seen.message, "it took 0.250 seconds");
        assert_written("");
}

static void null_restores_the_default_function(void **state)
{
        struct seen seen = {0};

        (void)state;
        weft_log_set_function(remember, &seen);
        weft_log_set_function(NULL, NULL);
        log_error("back");
        assert_int_equal(seen.n, 0);
        assert_written("ERROR:weft:back\n");
}

static void log_again(enum weft_log_level level, const char *message, void *arg)
{
        struct seen *seen = arg;

        remember(level, message, arg);
        if (seen->n == 1) {
                log_error("from within");
                weft_log_set_function(NULL, NULL);
        }
}

static void the_function_may_log_and_may_replace_itself(void **state)
{
        struct seen seen = {0};

        (void)state;
        weft_log_set_function(log_again, &seen);
        log_error("first");
        assert_int_equal(seen.n, 2);
        assert_string_equal(seen.message, "from within");
        log_error("to stderr");
        assert_written("ERROR:weft:to stderr\n");
}

/* ---- threads ---- */

#define N_THREADS 4
#define N_MESSAGES 500

static void *log_much(void *arg)
{
        char c = *(const char *)arg;
        char line[80];

        memset(line, c, sizeof(line) - 1);
        line[sizeof(line) - 1] = '\0';
        for (unsigned i = 0; i < N_MESSAGES; i++)
                log_warning("%s", line);
        return NULL;
}

static void messages_of_several_threads_do_not_mix(void **state)
{
        static const char letters[N_THREADS + 1] = "abcd";
        unsigned n[N_THREADS] = {0};
        pthread_t threads[N_THREADS];
        char *rest = NULL;

        (void)state;
        for (unsigned i = 0; i < N_THREADS; i++)
                assert_int_equal(pthread_create(&threads[i], NULL, log_much, (void *)&letters[i]), 0);
        for (unsigned i = 0; i < N_THREADS; i++)
                assert_int_equal(pthread_join(threads[i], NULL), 0);

        char *text = written();

        for (char *line = strtok_r(text, "\n", &rest); line != NULL; line = strtok_r(NULL, "\n", &rest)) {
                const char *letter = strchr(letters, line[strlen("WARNING:weft:")]);
                char expected[100] = "WARNING:weft:";

                assert_non_null(letter);
                memset(expected + strlen(expected), *letter, 79);
                assert_string_equal(line, expected);
                n[letter - letters]++;
        }
        for (unsigned i = 0; i < N_THREADS; i++)
                assert_int_equal(n[i], N_MESSAGES);
        free(text);
}

/* ---- the environment: read once in a process, so each case is a process of its own ---- */

static int level_by_environment(const char *word, int level_set)
{
        int status;
        pid_t pid;

        (void)setenv("WEFT_LOG", word, 1);
        pid = fork();
        if (pid == 0) {
                weft_log_set_level(level_set);
                log_init_from_environment();
                log_init_from_environment();
                _exit((int)weft_log_level());
        }
        (void)unsetenv("WEFT_LOG");
        if (pid < 0 || waitpid(pid, &status, 0) < 0 || !WIFEXITED(status))
                return -1;
        return WEXITSTATUS(status);
}

static void the_level_comes_from_the_environment(void **state)
{
        (void)state;
        assert_int_equal(level_by_environment("debug", 0), WEFT_LOG_DEBUG);
        assert_int_equal(level_by_environment("info", 0), WEFT_LOG_INFO);
        assert_int_equal(level_by_environment("warning", 0), WEFT_LOG_WARNING);
        assert_int_equal(level_by_environment("error", 0), WEFT_LOG_ERROR);
        assert_int_equal(level_by_environment("ERROR", 0), WEFT_LOG_ERROR);
        assert_int_equal(level_by_environment("", 0), WEFT_LOG_WARNING);
        assert_written("");
}

static void a_level_that_was_set_goes_before_the_environment(void **state)
{
        (void)state;
        assert_int_equal(level_by_environment("debug", WEFT_LOG_ERROR), WEFT_LOG_ERROR);
        assert_written("");
}

static void an_unknown_word_is_reported_once_and_leaves_the_default(void **state)
{
        (void)state;
        assert_int_equal(level_by_environment("loud", 0), WEFT_LOG_WARNING);
        assert_written("WARNING:weft:WEFT_LOG=loud is none of debug, info, warning, error: taking warning\n");
}

static void a_program_s_own_message_goes_the_same_way(void **state)
{
        (void)state;
        weft_log(WEFT_LOG_INFO, "too low: %d", 1);
        weft_log(WEFT_LOG_WARNING, "%s has %d", "the shop", 3);
        assert_written("WARNING:weft:the shop has 3\n");
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
        const struct CMUnitTest tests[] = {
                TEST(each_level_has_its_name_before_the_message),
                TEST(messages_below_the_level_are_not_written),
                TEST(newlines_within_a_message_stay),
                TEST(a_message_of_any_length_is_whole),
                TEST(errno_is_kept),
                TEST(an_error_on_stderr_is_survived),
                TEST(a_function_that_was_set_gets_level_message_and_argument),
                TEST(null_restores_the_default_function),
                TEST(the_function_may_log_and_may_replace_itself),
                TEST(messages_of_several_threads_do_not_mix),
                TEST(the_level_comes_from_the_environment),
                TEST(a_level_that_was_set_goes_before_the_environment),
                TEST(an_unknown_word_is_reported_once_and_leaves_the_default),
                TEST(a_program_s_own_message_goes_the_same_way),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
