/* SPDX-License-Identifier: MIT */

/*
 * The history database as a file: opening it, its schema, transactions, statements, errors.
 *
 * Nothing here is ever repaired by deleting: a file that is not ours, is newer, or is damaged is refused with a
 * line that says what to do. auto_vacuum has to be chosen before the first table, so a new file gets it first.
 */

#include "store-internal.h"
#include "store-schema.h"

#include "message.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#define STORE_BUSY_MS 2000
#define STORE_ERROR_MAX 160 /* the largest errno that has a name */

/* ---- errors and statements ---- */

int store_fail(struct store *store)
{
        int code = sqlite3_errcode(store->db) & 0xff;
        const char *what = code == SQLITE_NOTADB    ? "is not a database; move it away, or choose another history.path"
                           : code == SQLITE_CORRUPT ? "the database is damaged; move it away, or restore it from a copy"
                                                    : sqlite3_errmsg(store->db);

        snprintf(store->error, sizeof(store->error), "%s: %s", store->path, what);
        return code == SQLITE_NOMEM ? -ENOMEM : -EIO;
}

const char *store_error(const struct store *store)
{
        return store->error;
}

sqlite3_stmt *store_statement(struct store *store, enum store_statement which)
{
        static const char *const sql[STORE_N_STATEMENTS] = {
                [STORE_S_BEGIN] = "BEGIN IMMEDIATE",
                [STORE_S_COMMIT] = "COMMIT",
                [STORE_S_BOX_FIND] = "SELECT box_id, run_id, last_record, last_task, dropped, last_ns, died_ns, next_slot, closed FROM t_boxes"
                                     " WHERE created_real_ns = ?1 AND created_ns = ?2 AND pid = ?3 AND workload = ?4 AND instance = ?5 AND loop = ?6",
                [STORE_S_BOX_ADD] = "INSERT INTO t_boxes VALUES (NULL, ?7, ?4, ?5, ?6, ?8, ?3, ?2, ?1, 0, 0, 0, ?1, 0, 0, 0)",
                [STORE_S_BOX_PROGRESS] = "UPDATE t_boxes SET last_record = ?2, last_task = ?3, dropped = ?4, last_ns = ?5, died_ns = ?6,"
                                         " next_slot = ?7, closed = ?8 WHERE box_id = ?1",
                [STORE_S_RUN_ADD] = "INSERT INTO t_runs VALUES (NULL, ?2, ?3, ?1, ?4, ?5, ?6, NULL, 0, NULL, NULL)",
                [STORE_S_RUN_CLOSE] = "UPDATE t_runs SET ended_ns = ?2, how = ?3, exit_code = ?4, signal = ?5 WHERE run_id = ?1",
                [STORE_S_RUN_LOST] = "UPDATE t_runs SET (how, ended_ns) = (SELECT CASE WHEN min(b.closed) = 2 THEN 1 ELSE 2 END, max(b.last_ns)"
                                     " FROM t_boxes AS b WHERE b.run_id = ?1) WHERE run_id = ?1",
                [STORE_S_TASK] = "INSERT INTO t_tasks VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18,"
                                 " ?19, ?20, ?21, ?22)",
                [STORE_S_SLOW_STEP] = "INSERT INTO t_slow_steps VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12)",
                [STORE_S_SLOW_STEP_DETAIL] = "UPDATE t_slow_steps SET stack = ?2, detail = ?3 WHERE key = ?1",
                [STORE_S_EVENT] = "INSERT INTO t_events VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)",
                [STORE_S_STACK] = "INSERT INTO t_stacks VALUES (NULL, ?1, ?2, ?3)",
                [STORE_S_CRASH] = "INSERT INTO t_crashes VALUES (NULL, ?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)",
                [STORE_S_CRASHED] = "INSERT INTO t_crashed VALUES (?1, ?2, ?3, ?4, ?5)",
                [STORE_S_GAP] = "INSERT INTO t_gaps VALUES (NULL, ?1, ?2, ?3, ?4)",
                [STORE_S_AUDIT] = "INSERT INTO t_audit VALUES (NULL, ?1, ?2, ?3, ?4, ?5, ?6)",
                [STORE_S_CORO_FIND] = "SELECT coro_id FROM t_coros WHERE name = ?1 AND created_where IS ?2 AND defined_where IS ?3",
                [STORE_S_CORO_ADD] = "INSERT INTO t_coros VALUES (NULL, ?1, ?2, ?3)",
                [STORE_S_EPOCH_ADD] = "INSERT INTO t_epochs VALUES (?1, ?2, ?3)",
                [STORE_S_SHAPE_ADD] = "INSERT INTO t_shapes VALUES (?1, ?2, ?3, ?4, ?5)",
                [STORE_S_CONTEXT_ADD] = "INSERT INTO t_contexts VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)",
                [STORE_S_VALUE_ADD] = "INSERT INTO t_values VALUES (?1, ?2, ?3)",
                [STORE_S_MINUTE] = "INSERT INTO t_minutes VALUES (NULL, ?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16,"
                                   " ?17, ?18, ?19, ?20, ?21, ?22, ?23, ?24, ?25, ?26, ?27, ?28, ?29, ?30, ?31, ?32)",
                [STORE_S_TOTALS_PUT] = "INSERT OR REPLACE INTO t_totals VALUES (?1, ?2, ?3)",
                [STORE_S_TOTALS_GET] = "SELECT coro, totals FROM t_totals WHERE box_id = ?1",
                [STORE_S_TOTALS_DROP] = "DELETE FROM t_totals WHERE box_id = ?1",
        };
        sqlite3_stmt **statement = &store->statements[which];

        if (*statement) {
                (void)sqlite3_clear_bindings(*statement); /* cannot fail */
                return *statement;
        }
        if (sqlite3_prepare_v3(store->db, sql[which], -1, SQLITE_PREPARE_PERSISTENT, statement, NULL) != SQLITE_OK) {
                (void)store_fail(store);
                return NULL;
        }
        return *statement;
}

int store_step(struct store *store, sqlite3_stmt *statement)
{
        int r = 0;

        if (!statement)
                return -EIO;
        while ((r = sqlite3_step(statement)) == SQLITE_ROW)
                ;
        r = r == SQLITE_DONE ? 0 : store_fail(store);
        (void)sqlite3_reset(statement); /* says again what step said */
        return r;
}

int store_step_int(struct store *store, sqlite3_stmt *statement, int64_t *ret_value)
{
        int r;

        if (!statement)
                return -EIO;
        r = sqlite3_step(statement);
        if (r == SQLITE_ROW) {
                *ret_value = sqlite3_column_type(statement, 0) == SQLITE_NULL ? STORE_NULL : sqlite3_column_int64(statement, 0);
                r = 1;
        } else {
                r = r == SQLITE_DONE ? 0 : store_fail(store);
        }
        (void)sqlite3_reset(statement);
        return r;
}

int store_exec(struct store *store, const char *sql)
{
        return sqlite3_exec(store->db, sql, NULL, NULL, NULL) == SQLITE_OK ? 0 : store_fail(store);
}

int store_query_int(struct store *store, const char *sql, int64_t *ret_value)
{
        sqlite3_stmt *statement;
        int r;

        if (sqlite3_prepare_v2(store->db, sql, -1, &statement, NULL) != SQLITE_OK)
                return store_fail(store);
        r = store_step_int(store, statement, ret_value);
        (void)sqlite3_finalize(statement);
        return r;
}

int store_begin(struct store *store, int64_t now_ns)
{
        int r = store_step(store, store_statement(store, STORE_S_BEGIN));

        return r < 0 ? r : store_context_begin(store, now_ns);
}

int store_commit(struct store *store)
{
        return store_step(store, store_statement(store, STORE_S_COMMIT));
}

bool store_is_current(const struct store *store)
{
        struct stat st;

        return stat(store->path, &st) == 0 && st.st_dev == store->device && st.st_ino == store->inode;
}

/* ---- opening ---- */

__attribute__((format(printf, 2, 3))) static void why_set(char **why, const char *format, ...)
{
        va_list args;

        free(*why);
        va_start(args, format);
        if (vasprintf(why, format, args) < 0)
                *why = NULL;
        va_end(args);
}

/* Makes the file if need be, with our mode and group: SQLite gives its -wal and -shm the same. */
static int file_prepare(struct store *store, gid_t group, char **why)
{
        struct stat st;
        int fd, r = 0;
        char *slash;

        fd = open(store->path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOCTTY | O_NONBLOCK, 0640);
        if (fd < 0) {
                r = -errno;
                why_set(why, "%s: %s; make the file and its directory writable for weftd's user, or choose another history.path",
                        store->path, strerror(-r));
                return r;
        }
        if (fstat(fd, &st) < 0 || !S_ISREG(st.st_mode)) {
                why_set(why, "%s: not a regular file; choose another history.path", store->path);
                close(fd);
                return -EINVAL;
        }
        store->device = st.st_dev;
        store->inode = st.st_ino;

        if ((group != (gid_t)-1 && st.st_gid != group && fchown(fd, (uid_t)-1, group) < 0) ||
            ((st.st_mode & 07777) != 0640 && fchmod(fd, 0640) < 0)) {
                r = -errno;
                why_set(why, "%s: cannot be given mode 0640 and its group: %s; chown it to weftd's user", store->path, strerror(-r));
        }
        close(fd);
        if (r < 0)
                return r;

        slash = strrchr(store->path, '/');
        if (slash)
                *slash = '\0';
        if (access(slash ? (slash == store->path ? "/" : store->path) : ".", W_OK | X_OK) < 0)
                r = -errno;
        if (slash)
                *slash = '/';
        if (r < 0)
                why_set(why, "%s: its directory cannot be written: %s; SQLite keeps its log beside the file", store->path, strerror(-r));
        return r;
}

static int schema_create(struct store *store)
{
        uint64_t key[2];
        char sql[160];
        int r;

        r = store_exec(store, "PRAGMA auto_vacuum = INCREMENTAL");
        if (r >= 0)
                r = store_exec(store, "PRAGMA journal_mode = WAL");
        if (r >= 0)
                r = store_exec(store, "BEGIN IMMEDIATE");
        if (r >= 0)
                r = store_exec(store, SCHEMA_SQL);
        for (int i = 1; r >= 0 && i <= STORE_ERROR_MAX; i++) {
                const char *name = strerrorname_np(i);

                snprintf(sql, sizeof(sql), "INSERT INTO t_errors VALUES (%d, '%s')", i, name ? name : "");
                if (name)
                        r = store_exec(store, sql);
        }
        if (r < 0)
                return r;

        if (getrandom(key, sizeof(key), 0) != (ssize_t)sizeof(key))
                return -EIO;
        snprintf(sql, sizeof(sql), "INSERT INTO t_meta VALUES ('hash_key_0', %lld), ('hash_key_1', %lld)", (long long)key[0], (long long)key[1]);
        r = store_exec(store, sql);
        snprintf(sql, sizeof(sql), "PRAGMA application_id = %d; PRAGMA user_version = %d; COMMIT", SCHEMA_APPLICATION_ID, SCHEMA_VERSION);
        return r < 0 ? r : store_exec(store, sql);
}

/* Views hold no data: they are made anew, so that a step need only say what becomes of the tables. */
static int views_drop(struct store *store)
{
        sqlite3_stmt *select;
        char *sql = NULL;
        int r = 0;

        if (sqlite3_prepare_v2(store->db, "SELECT group_concat('DROP VIEW \"' || name || '\";', ' ') FROM sqlite_master WHERE type = 'view'", -1,
                               &select, NULL) != SQLITE_OK)
                return store_fail(store);
        if (sqlite3_step(select) == SQLITE_ROW && sqlite3_column_text(select, 0))
                sql = strdup((const char *)sqlite3_column_text(select, 0));
        (void)sqlite3_finalize(select); /* says again what step said; without the views' names the making of them fails */
        if (sql)
                r = store_exec(store, sql);
        free(sql);
        return r;
}

/* In one transaction: a database is of one version or of the other. */
static int schema_migrate(struct store *store, int64_t version)
{
        static const char *const steps[SCHEMA_VERSION] = SCHEMA_MIGRATIONS;
        char sql[64];
        int r = store_exec(store, "BEGIN IMMEDIATE");

        message_notice("%s: of version %lld: it is brought up to version %d first, which takes a while where it is large", store->path,
                       (long long)version, SCHEMA_VERSION);
        if (r >= 0)
                r = views_drop(store);
        for (int64_t v = version; r >= 0 && v < SCHEMA_VERSION; v++)
                if (steps[v])
                        r = store_exec(store, steps[v]);
        if (r >= 0)
                r = store_exec(store, SCHEMA_VIEWS);
        snprintf(sql, sizeof(sql), "PRAGMA user_version = %d; COMMIT", SCHEMA_VERSION);
        return r < 0 ? r : store_exec(store, sql);
}

/* Whose database is it, and of which version? 1: a new file. *ret_version is what it is. */
static int schema_check(struct store *store, int64_t *ret_version, char **why)
{
        int64_t application = 0, version = 0, n_tables = 0;
        int r;

        r = store_query_int(store, "SELECT count(*) FROM sqlite_master", &n_tables);
        if (r >= 0)
                r = store_query_int(store, "PRAGMA application_id", &application);
        if (r >= 0)
                r = store_query_int(store, "PRAGMA user_version", &version);
        if (r < 0) {
                why_set(why, "%s", store->error);
                return r;
        }

        if (n_tables == 0 && application == 0 && version == 0)
                return 1;
        if (application != SCHEMA_APPLICATION_ID) {
                why_set(why, "%s: a database, but not weft's history; choose another history.path", store->path);
                return -EINVAL;
        }
        if (version < 1) {
                why_set(why, "%s: its user_version is %lld, which no weft has made; choose another history.path", store->path, (long long)version);
                return -EINVAL;
        }
        if (version > SCHEMA_VERSION) {
                why_set(why, "%s: made by a newer weft (user_version %lld, this one knows %d); install that, or choose another history.path",
                        store->path, (long long)version, SCHEMA_VERSION);
                return -EPROTO;
        }
        *ret_version = version;
        return 0;
}

/* Reads something of each table that the recorder goes on with: damage there shows at once. */
static int state_load(struct store *store)
{
        int64_t value, key0 = 0, key1 = 0;
        int r;

        store->max_key = 0;
        r = store_query_int(store, "SELECT max(key) FROM t_tasks", &value);
        if (r > 0 && value != STORE_NULL)
                store->max_key = value;
        if (r >= 0)
                r = store_query_int(store, "SELECT max(key) FROM t_slow_steps", &value);
        if (r > 0 && value != STORE_NULL && value > store->max_key)
                store->max_key = value;
        if (r >= 0)
                r = store_query_int(store, "SELECT max(key) FROM t_events", &value);
        if (r > 0 && value != STORE_NULL && value > store->max_key)
                store->max_key = value;
        if (r >= 0)
                r = store_query_int(store, "SELECT max(run_id) FROM t_runs", &value);
        if (r >= 0)
                r = store_query_int(store, "SELECT value FROM t_meta WHERE key = 'hash_key_0'", &key0);
        if (r >= 0)
                r = store_query_int(store, "SELECT value FROM t_meta WHERE key = 'hash_key_1'", &key1);
        store->hash_key[0] = (uint64_t)key0;
        store->hash_key[1] = (uint64_t)key1;
        return r < 0 ? r : store_context_load(store);
}

static int store_setup(struct store *store, gid_t group, char **why)
{
        int64_t version = SCHEMA_VERSION;
        int r;

        r = file_prepare(store, group, why);
        if (r < 0)
                return r;
        r = sqlite3_open_v2(store->path, &store->db, SQLITE_OPEN_READWRITE | SQLITE_OPEN_NOMUTEX | SQLITE_OPEN_EXRESCODE, NULL);
        if (r != SQLITE_OK) {
                why_set(why, "%s: %s", store->path, store->db ? sqlite3_errmsg(store->db) : "out of memory");
                return -EIO;
        }
        (void)sqlite3_busy_timeout(store->db, STORE_BUSY_MS);

        r = schema_check(store, &version, why);
        if (r < 0)
                return r;
        if (r > 0)
                r = schema_create(store);
        else if (version < SCHEMA_VERSION)
                r = schema_migrate(store, version);
        if (r >= 0)
                r = store_exec(store, "PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL; PRAGMA wal_autocheckpoint = 4000;"
                                      "PRAGMA journal_size_limit = 67108864; PRAGMA cache_size = -16384; PRAGMA temp_store = MEMORY;"
                                      "PRAGMA foreign_keys = OFF");
        if (r >= 0)
                r = state_load(store);
        if (r < 0)
                why_set(why, "%s", store->error[0] ? store->error : strerror(-r));
        return r;
}

void store_use_one_thread(void)
{
        /* Both only before SQLite's first use; if that was already, it is as safe, and slower. */
        (void)sqlite3_config(SQLITE_CONFIG_SINGLETHREAD);
        (void)sqlite3_config(SQLITE_CONFIG_MEMSTATUS, 0);
}

int store_open(const char *path, gid_t group, struct store **ret_store, char **ret_why)
{
        struct store *store = calloc(1, sizeof(*store));
        char *why = NULL;
        int r = -ENOMEM;

        if (store) {
                store->path = strdup(path);
                store->known = calloc(STORE_N_KNOWN, sizeof(*store->known));
                store->shapes = calloc(STORE_N_SHAPES, sizeof(*store->shapes));
                if (store->path && store->known && store->shapes)
                        r = store_setup(store, group, &why);
        }
        if (r < 0) {
                if (!why)
                        why_set(&why, "%s: %s", path, strerror(-r));
                store_close(store);
                *ret_why = why;
                return r;
        }
        *ret_store = store;
        return 0;
}

struct store *store_close(struct store *store)
{
        if (!store)
                return NULL;
        for (int i = 0; i < STORE_N_STATEMENTS; i++)
                (void)sqlite3_finalize(store->statements[i]); /* says again what its last step said */
        (void)sqlite3_close(store->db);                       /* rolls back; no statement is left that could keep it open */
        free(store->known);
        free(store->shapes);
        free(store->path);
        free(store);
        return NULL;
}
