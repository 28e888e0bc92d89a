/* SPDX-License-Identifier: MIT */
/*
 * The history database, read only. The only file of ctl/ that knows SQLite.
 *
 * That nothing is written is made sure of four times: the file is opened read-only, an authorizer permits reading and nothing else,
 * nothing can be attached, and a statement that is not read-only is not run. The database is somebody else's file: its schema is not
 * trusted, and its errors are one line with its path.
 *
 * The writer works in WAL mode, so reading waits for nobody; the busy timeout covers the moments of its recovery. A reader without the
 * right to make the files beside the database cannot open it once weftd has closed it in order; then, and only then (there is no log to
 * read), it is opened as a file that nobody changes.
 */

#include "history.h"
#include "client.h"
#include "ctl.h"

#include <errno.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define APPLICATION_ID 0x77656674 /* "weft" */
#define BUSY_MS 5000

struct history {
        char *path;
        sqlite3 *db;
        sqlite3_stmt *statement; /* of the query in progress */
        bool users_own;
        int64_t version;
        bool refused;            /* by the authorizer, since the last prepare */
};

/* ---- where it is ---- */

static char *default_path(void)
{
        const char *state = getenv("XDG_STATE_HOME"), *home = getenv("HOME");
        char *path;
        int n;

        if (geteuid() == 0)
                return strdup("/var/lib/weft/history.db");
        if (state && *state)
                n = asprintf(&path, "%s/weft/history.db", state);
        else
                n = asprintf(&path, "%s/.local/state/weft/history.db", home ? home : "");
        return n < 0 ? NULL : path;
}

int history_path(const struct ctl_args *args, char **ret_path)
{
        struct client *client = NULL;
        json_t *status = NULL;
        char *path = NULL;
        bool asked = false;

        if (args->database) {
                path = strdup(args->database);
        } else {
                int r = client_open_maybe(args, &client);

                if (r == CTL_DONE && client) {
                        r = client_call(client, "Status", json_object(), &status);
                        client_free(client);
                }
                if (r != CTL_DONE)
                        return r;
                asked = status;
                path = status ? strdup(client_string(json_object_get(status, "recorder"), "database")) : default_path();
                json_decref(status);
        }

        if (!path)
                return ctl_error(CTL_FAILED, "out of memory");
        if (!*path) {
                free(path);
                return asked ? ctl_error(CTL_FAILED, "weftd does not say where its history is (name it with --db)") :
                               ctl_error(CTL_USAGE, "--db: the name is empty");
        }
        *ret_path = path;
        return CTL_DONE;
}

/* ---- opening ---- */

struct history *history_free(struct history *history)
{
        if (!history)
                return NULL;
        history_end(history);
        (void)sqlite3_close(history->db);
        free(history->path);
        free(history);
        return NULL;
}

/* PRAGMAs that tell something and change nothing; with_value: their argument is a name or a number of rows, not a new value. */
static bool pragma_permitted(const char *name, const char *value)
{
        static const struct {
                const char *name;
                bool with_value;
        } pragmas[] = {
                {"application_id", false}, {"compile_options", false}, {"database_list", false}, {"encoding", false},
                {"freelist_count", false}, {"function_list", false},   {"index_info", true},     {"index_list", true},
                {"index_xinfo", true},     {"integrity_check", true},  {"journal_mode", false},  {"page_count", false},
                {"page_size", false},      {"quick_check", true},      {"schema_version", false}, {"table_info", true},
                {"table_list", true},      {"table_xinfo", true},      {"user_version", false},
        };

        for (size_t i = 0; name && i < sizeof pragmas / sizeof pragmas[0]; i++)
                if (sqlite3_stricmp(pragmas[i].name, name) == 0)
                        return !value || pragmas[i].with_value;
        return false;
}

static int authorize_cb(void *arg, int action, const char *first, const char *second, const char *database, const char *trigger)
{
        struct history *history = arg;

        (void)database;
        (void)trigger;
        if (action == SQLITE_SELECT || action == SQLITE_READ || action == SQLITE_RECURSIVE)
                return SQLITE_OK;
        if (action == SQLITE_FUNCTION && second && sqlite3_stricmp(second, "load_extension") != 0)
                return SQLITE_OK;
        /* The first use of a table-valued function asks for this. To a real UPDATE the schema is closed, as to any writing. */
        if (action == SQLITE_UPDATE && first && strcmp(first, "sqlite_master") == 0)
                return SQLITE_OK;
        if (action == SQLITE_PRAGMA && pragma_permitted(first, second))
                return SQLITE_OK;
        history->refused = true;
        return SQLITE_DENY;
}

/* A path as a URI that says nobody changes the file. */
static char *immutable_uri(const char *path)
{
        static const char tail[] = "?immutable=1";
        char *uri = malloc(strlen("file:") + 3 * strlen(path) + sizeof tail), *to = uri;

        if (!uri)
                return NULL;
        to = stpcpy(to, "file:");
        for (; *path; path++) {
                if (strchr("?#%", *path))
                        to += sprintf(to, "%%%02X", (unsigned char)*path);
                else
                        *to++ = *path;
        }
        memcpy(to, tail, sizeof tail);
        return uri;
}

static int set_limits(struct history *history)
{
        sqlite3 *db = history->db;

        (void)sqlite3_busy_timeout(db, BUSY_MS);
        (void)sqlite3_limit(db, SQLITE_LIMIT_ATTACHED, 0);
        (void)sqlite3_db_config(db, SQLITE_DBCONFIG_TRUSTED_SCHEMA, 0, (int *)NULL);
        (void)sqlite3_db_config(db, SQLITE_DBCONFIG_DEFENSIVE, 1, (int *)NULL);
        return sqlite3_set_authorizer(db, authorize_cb, history);
}

/* A number that a PRAGMA answers, read without reporting. */
static int read_number(sqlite3 *db, const char *sql, int64_t *ret_value)
{
        sqlite3_stmt *statement = NULL;
        int r = sqlite3_prepare_v2(db, sql, -1, &statement, NULL);

        if (r == SQLITE_OK) {
                r = sqlite3_step(statement);
                if (r == SQLITE_ROW)
                        *ret_value = sqlite3_column_int64(statement, 0);
        }
        (void)sqlite3_finalize(statement);
        return r == SQLITE_ROW ? SQLITE_OK : r == SQLITE_DONE ? SQLITE_CORRUPT : r;
}

/* Opens and looks whether it can be read at all. An SQLite code, and what the database is. */
static int try_open(struct history *history, const char *name, int flags, int64_t *ret_application, int64_t *ret_version)
{
        int64_t tables;
        int r = sqlite3_open_v2(name, &history->db, SQLITE_OPEN_READONLY | SQLITE_OPEN_NOMUTEX | flags, NULL);

        if (r == SQLITE_OK)
                r = set_limits(history);
        if (r == SQLITE_OK)
                r = read_number(history->db, "SELECT count(*) FROM sqlite_schema", &tables); /* the first that reads the file */
        if (r == SQLITE_OK)
                r = read_number(history->db, "PRAGMA application_id", ret_application);
        if (r == SQLITE_OK)
                r = read_number(history->db, "PRAGMA user_version", ret_version);
        if (r != SQLITE_OK && history->db)
                r = sqlite3_extended_errcode(history->db) & 0xff ? sqlite3_extended_errcode(history->db) : r;
        return r;
}

static bool has_log(const char *path)
{
        char *log;
        struct stat st;
        bool has = asprintf(&log, "%s-wal", path) < 0;

        if (has)
                return true;
        has = stat(log, &st) == 0 && st.st_size > 0;
        free(log);
        return has;
}

static int open_error(const struct history *history, int code)
{
        switch (code & 0xff) {
        case SQLITE_NOTADB:
                return ctl_error(CTL_FAILED, "%s is not a history: it is not an SQLite database (restore it from a copy, or name another with --db)", history->path);
        case SQLITE_BUSY:
        case SQLITE_LOCKED:
                return ctl_error(CTL_FAILED, "%s is locked by another process: try again", history->path);
        case SQLITE_CORRUPT:
                return ctl_error(CTL_FAILED, "%s is damaged (sqlite3 FILE .recover saves what can be read)", history->path);
        case SQLITE_READONLY:
        case SQLITE_CANTOPEN:
                return ctl_error(CTL_FAILED, "cannot open %s: it was left with an unwritten log, which only its owner can read: start weftd, or ask as its user",
                                 history->path);
        default:
                return ctl_error(CTL_FAILED, "cannot read %s: %s", history->path, history->db ? sqlite3_errmsg(history->db) : sqlite3_errstr(code));
        }
}

static int check_file(const char *path)
{
        struct stat st;

        if (stat(path, &st) < 0 && (errno == ENOENT || errno == ENOTDIR))
                return ctl_error(CTL_NO_SUCH, "no history at %s (weftd has recorded none there; name another with --db)", path);
        if (access(path, R_OK) < 0) {
                char who[256];

                if (errno != EACCES)
                        return ctl_error(CTL_FAILED, "cannot read %s: %s", path, strerror(errno));
                client_who_may(path, who, sizeof who);
                return ctl_error(CTL_NOT_PERMITTED, "not permitted to read %s: %s", path, who);
        }
        if (!S_ISREG(st.st_mode))
                return ctl_error(CTL_FAILED, "%s is not a history: it is not a file", path);
        return CTL_DONE;
}

static int open_checked(struct history *history)
{
        int64_t application = 0, version = 0;
        int r = check_file(history->path);

        if (r != CTL_DONE)
                return r;

        int code = try_open(history, history->path, 0, &application, &version);

        if (((code & 0xff) == SQLITE_CANTOPEN || (code & 0xff) == SQLITE_READONLY) && !has_log(history->path)) {
                char *uri = immutable_uri(history->path);

                if (!uri)
                        return ctl_error(CTL_FAILED, "out of memory");
                (void)sqlite3_close(history->db);
                history->db = NULL;
                code = try_open(history, uri, SQLITE_OPEN_URI, &application, &version);
                free(uri);
        }

        if (code != SQLITE_OK)
                return open_error(history, code);
        if (application != APPLICATION_ID)
                return ctl_error(CTL_FAILED, "%s is not a history of weft, but another database", history->path);
        if (version > HISTORY_VERSION)
                return ctl_error(CTL_FAILED, "%s was made by a newer weft (user_version %lld, this weftctl knows %d)", history->path, (long long)version,
                                 HISTORY_VERSION);
        history->version = version;
        return CTL_DONE;
}

int history_open(const char *path, struct history **ret_history)
{
        struct history *history = calloc(1, sizeof *history);

        if (!history || !(history->path = strdup(path))) {
                free(history);
                return ctl_error(CTL_FAILED, "out of memory");
        }

        int r = open_checked(history);

        if (r != CTL_DONE) {
                history_free(history);
                return r;
        }
        *ret_history = history;
        return CTL_DONE;
}

int64_t history_version(const struct history *history)
{
        return history->version;
}

/* ---- queries ---- */

static int read_only_error(void)
{
        return ctl_error(CTL_FAILED, "only reading is permitted: SELECT, EXPLAIN, and PRAGMAs that change nothing");
}

static int query_error(const struct history *history, int code)
{
        if (history->refused || (code & 0xff) == SQLITE_AUTH)
                return read_only_error();
        if (history->users_own && (code & 0xff) == SQLITE_ERROR)
                return ctl_error(CTL_FAILED, "%s", sqlite3_errmsg(history->db));
        return open_error(history, code);
}

/* Whether anything but white space, semicolons and comments follows the statement. */
static bool more_follows(struct history *history, const char *tail)
{
        while (tail && *tail) {
                sqlite3_stmt *another = NULL;
                const char *rest = NULL;
                int r = sqlite3_prepare_v2(history->db, tail, -1, &another, &rest);
                bool found = r != SQLITE_OK || another;

                (void)sqlite3_finalize(another);
                if (found)
                        return true;
                tail = rest;
        }
        return false;
}

static int bind(sqlite3_stmt *statement, int i, const struct history_value *value)
{
        switch (value->type) {
        case HISTORY_INTEGER:
                return sqlite3_bind_int64(statement, i, value->integer);
        case HISTORY_REAL:
                return sqlite3_bind_double(statement, i, value->real);
        case HISTORY_TEXT:
                return sqlite3_bind_text(statement, i, value->text, (int)value->size, SQLITE_TRANSIENT);
        case HISTORY_BLOB:
                return sqlite3_bind_blob(statement, i, value->text, (int)value->size, SQLITE_TRANSIENT);
        case HISTORY_NULL:
                break;
        }
        return sqlite3_bind_null(statement, i);
}

int history_query(struct history *history, const char *sql, const struct history_value *binds, size_t n_binds, bool users_own)
{
        const char *tail = NULL;

        history_end(history);
        history->users_own = users_own;
        history->refused = false;

        int r = sqlite3_prepare_v2(history->db, sql, -1, &history->statement, &tail);

        if (r != SQLITE_OK)
                return query_error(history, r);
        if (!history->statement)
                return ctl_error(CTL_FAILED, "there is no statement");
        if (more_follows(history, tail)) {
                history_end(history);
                return ctl_error(CTL_FAILED, "one statement at a time");
        }
        if (!sqlite3_stmt_readonly(history->statement) || sqlite3_column_count(history->statement) == 0) {
                history_end(history);
                return read_only_error();
        }
        for (size_t i = 0; i < n_binds && r == SQLITE_OK; i++)
                r = bind(history->statement, (int)i + 1, &binds[i]);
        return r == SQLITE_OK ? CTL_DONE : query_error(history, r);
}

int history_next(struct history *history, bool *ret_row)
{
        int r = sqlite3_step(history->statement);

        if (r != SQLITE_ROW && r != SQLITE_DONE)
                return query_error(history, r);
        *ret_row = r == SQLITE_ROW;
        return CTL_DONE;
}

size_t history_n_columns(const struct history *history)
{
        return (size_t)sqlite3_column_count(history->statement);
}

const char *history_column(const struct history *history, size_t i)
{
        const char *name = sqlite3_column_name(history->statement, (int)i);

        return name ? name : "?";
}

struct history_value history_value(const struct history *history, size_t i)
{
        sqlite3_stmt *statement = history->statement;
        struct history_value value = {0};

        switch (sqlite3_column_type(statement, (int)i)) {
        case SQLITE_INTEGER:
                value.type = HISTORY_INTEGER;
                value.integer = sqlite3_column_int64(statement, (int)i);
                break;
        case SQLITE_FLOAT:
                value.type = HISTORY_REAL;
                value.real = sqlite3_column_double(statement, (int)i);
                break;
        case SQLITE_TEXT:
                value.text = (const char *)sqlite3_column_text(statement, (int)i);
                value.type = HISTORY_TEXT;
                value.size = (size_t)sqlite3_column_bytes(statement, (int)i);
                break;
        case SQLITE_BLOB:
                value.text = sqlite3_column_blob(statement, (int)i);
                value.type = HISTORY_BLOB;
                value.size = (size_t)sqlite3_column_bytes(statement, (int)i);
                break;
        default:
                break;
        }
        if (value.type == HISTORY_TEXT && !value.text)
                value.text = "";
        return value;
}

void history_end(struct history *history)
{
        (void)sqlite3_finalize(history->statement);
        history->statement = NULL;
}
