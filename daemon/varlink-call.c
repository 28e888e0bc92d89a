/* SPDX-License-Identifier: MIT */

/*
 * The server's protocol: a message becomes a call, the call its replies; org.varlink.service.
 *
 * A reply is written into the connection's output without its end (the brace and the NUL): only the next reply, or the
 * end of the call, knows whether it continues. So a stream needs no look-ahead and its last reply is marked as such.
 */

#include "varlink-internal.h"

#include "clock.h"

#include <assert.h>
#include <errno.h>
#include <string.h>

#define SERVICE "org.varlink.service"
#define ASKS_PER_CLOCK 8U

static const char service_description[] =
        "# The Varlink Service Interface is provided by every varlink service. It\n"
        "# describes the service and the interfaces it implements.\n"
        "interface org.varlink.service\n"
        "\n"
        "# Get a list of all the interfaces a service provides and information about the implementation.\n"
        "method GetInfo() -> (\n"
        "  vendor: string,\n"
        "  product: string,\n"
        "  version: string,\n"
        "  url: string,\n"
        "  interfaces: []string\n"
        ")\n"
        "\n"
        "# Get the description of an interface that is implemented by this service.\n"
        "method GetInterfaceDescription(interface: string) -> (description: string)\n"
        "\n"
        "# The requested interface was not found.\n"
        "error InterfaceNotFound (interface: string)\n"
        "\n"
        "# The requested method was not found\n"
        "error MethodNotFound (method: string)\n"
        "\n"
        "# The interface defines the requested method, but the service does not implement it.\n"
        "error MethodNotImplemented (method: string)\n"
        "\n"
        "# One of the passed parameters is invalid.\n"
        "error InvalidParameter (parameter: string)\n"
        "\n"
        "# Client is denied access\n"
        "error PermissionDenied ()\n"
        "\n"
        "# Method is expected to be called with 'more' set to true, but wasn't\n"
        "error ExpectedMore ()\n";

/* ---- replies ---- */

const struct varlink_peer *varlink_call_peer(const struct varlink_call *call)
{
        return &call->connection->peer;
}

bool varlink_call_more(const struct varlink_call *call)
{
        return call->more;
}

static void reply_close(struct varlink_call *call, bool continues)
{
        static const char last[] = "}}", other[] = "},\"continues\":true}";

        assert(call->open);
        if (continues)
                json_raw(&call->json, other, sizeof(other)); /* with its NUL */
        else
                json_raw(&call->json, last, sizeof(last));
        call->open = false;
}

struct json *varlink_reply(struct varlink_call *call)
{
        static const char begin[] = "{\"parameters\":{";

        assert(call->active);
        if (call->open)
                reply_close(call, true);
        json_raw(&call->json, begin, sizeof(begin) - 1);
        call->json.comma = false;
        call->open = true;
        return &call->json;
}

/* Everything is written; the call may go. */
static void call_finish(struct varlink_call *call)
{
        struct varlink_connection *connection = call->connection;

        if (json_flush(&call->json) < 0)
                varlink_complain(connection, "no memory for its reply");
        if (call->oneway)
                (void)evbuffer_drain(connection->nowhere, evbuffer_get_length(connection->nowhere)); /* cannot fail */
        call->active = false;
        if (call->end != NULL)
                call->end(call->state);
        json_decref(call->message);
        *call = (struct varlink_call){.connection = connection, .json.failed = call->json.failed};
}

void varlink_done(struct varlink_call *call)
{
        if (!call->open)
                (void)varlink_reply(call); /* an empty one */
        reply_close(call, false);
        call_finish(call);
}

/* Writes the error up to its parameters; what follows is its value. */
static void error_begin(struct varlink_call *call, const char *error)
{
        assert(call->active);
        if (call->open)
                reply_close(call, true);
        call->json.comma = false;
        json_object_begin(&call->json);
        json_key(&call->json, "error");
        json_text(&call->json, error);
        json_key(&call->json, "parameters");
        json_object_begin(&call->json);
}

static void error_end(struct varlink_call *call)
{
        json_object_end(&call->json);
        json_object_end(&call->json);
        json_raw(&call->json, "", 1);
        call_finish(call);
}

void varlink_error(struct varlink_call *call, const char *error, const char *key, const char *value)
{
        error_begin(call, error);
        if (key != NULL) {
                json_key(&call->json, key);
                json_text(&call->json, value);
        }
        error_end(call);
}

void varlink_error_int(struct varlink_call *call, const char *error, const char *key, int64_t value)
{
        error_begin(call, error);
        json_key(&call->json, key);
        json_int(&call->json, value);
        error_end(call);
}

void varlink_invalid_parameter(struct varlink_call *call, const char *parameter)
{
        varlink_error(call, VARLINK_INVALID_PARAMETER, "parameter", parameter);
}

/* ---- streams ---- */

void varlink_stream(struct varlink_call *call, void (*step)(struct varlink_call *call, void *state),
                    void (*end)(void *state), void *state)
{
        assert(call->active && call->step == NULL);
        call->step = step;
        call->end = end;
        call->state = state;
}

void varlink_wait(struct varlink_call *call)
{
        assert(call->active && call->step != NULL);
        if (call->open)
                reply_close(call, true);
        call->waiting = true;
}

void varlink_wake(struct varlink_call *call)
{
        if (!call->active || !call->waiting)
                return;
        call->waiting = false;
        if (varlink_work_later(call->connection) < 0)
                call->waiting = true; /* the next wake may find memory */
}

bool varlink_pause(struct varlink_call *call)
{
        struct varlink_connection *connection = call->connection;

        if (++call->n_asked % ASKS_PER_CLOCK != 0)
                return false;
        return evbuffer_get_length(connection->output) + call->json.used >
                       connection->server->options.limits.output_bytes ||
               clock_gettime_ns(CLOCK_MONOTONIC) >= call->until_ns;
}

int varlink_call_step(struct varlink_call *call, uint64_t until_ns)
{
        assert(call->active && call->step != NULL);
        call->until_ns = until_ns;
        call->step(call, call->state);
        return json_flush(&call->json); /* also what call_finish met */
}

void varlink_call_drop(struct varlink_call *call)
{
        if (!call->active)
                return;
        (void)json_flush(&call->json); /* the output goes away with the connection */
        call->active = false;
        if (call->end != NULL)
                call->end(call->state);
        json_decref(call->message);
}

/* ---- parameters ---- */

static bool strings_store(struct varlink_strings *strings, const json_t *value)
{
        const json_t *item;
        size_t i;

        strings->n = 0;
        if (!json_is_array(value) || json_array_size(value) > VARLINK_STRINGS_MAX)
                return false;
        json_array_foreach (value, i, item) {
                if (!json_is_string(item))
                        return false;
                strings->items[strings->n++] = json_string_value(item);
        }
        return true;
}

static bool field_store(const struct varlink_field *field, const json_t *value)
{
        switch (field->type) {
        case VARLINK_STRING:
                if (!json_is_string(value))
                        return false;
                *(const char **)field->ret_value = json_string_value(value);
                return true;
        case VARLINK_BOOL:
                if (!json_is_boolean(value))
                        return false;
                *(bool *)field->ret_value = json_is_true(value);
                return true;
        case VARLINK_INT:
                if (!json_is_integer(value))
                        return false;
                *(int64_t *)field->ret_value = json_integer_value(value);
                return true;
        case VARLINK_FLOAT:
                if (!json_is_number(value))
                        return false;
                *(double *)field->ret_value = json_number_value(value);
                return true;
        case VARLINK_STRINGS:
                return strings_store(field->ret_value, value);
        }
        return false;
}

bool varlink_parameters(struct varlink_call *call, const struct varlink_field *fields, size_t n_fields)
{
        const char *key;
        json_t *value;

        json_object_foreach (call->parameters, key, value) {
                size_t i = 0;

                while (i < n_fields && strcmp(fields[i].name, key) != 0)
                        i++;
                if (i == n_fields) {
                        varlink_invalid_parameter(call, key);
                        return false;
                }
        }
        for (size_t i = 0; i < n_fields; i++) {
                value = json_object_get(call->parameters, fields[i].name);
                if (value == NULL || json_is_null(value) ? fields[i].nullable : field_store(&fields[i], value))
                        continue;
                varlink_invalid_parameter(call, fields[i].name);
                return false;
        }
        return true;
}

/* ---- org.varlink.service ---- */

static void service_info(struct varlink_call *call)
{
        const struct varlink_options *options = &call->connection->server->options;
        struct json *json;

        if (!varlink_parameters(call, NULL, 0))
                return;
        json = varlink_reply(call);
        json_key(json, "vendor");
        json_text(json, options->vendor);
        json_key(json, "product");
        json_text(json, options->product);
        json_key(json, "version");
        json_text(json, options->version);
        json_key(json, "url");
        json_text(json, options->url);
        json_key(json, "interfaces");
        json_array_begin(json);
        json_text(json, SERVICE);
        for (size_t i = 0; i < options->n_interfaces; i++)
                json_text(json, options->interfaces[i].name);
        json_array_end(json);
        varlink_done(call);
}

static const struct varlink_interface *find_interface(const struct varlink_options *options, const char *name,
                                                      size_t length)
{
        for (size_t i = 0; i < options->n_interfaces; i++) {
                const char *candidate = options->interfaces[i].name;

                if (strlen(candidate) == length && memcmp(candidate, name, length) == 0)
                        return &options->interfaces[i];
        }
        return NULL;
}

static void service_description_of(struct varlink_call *call)
{
        const struct varlink_interface *interface = NULL;
        const char *name = NULL;
        const struct varlink_field fields[] = {{"interface", VARLINK_STRING, false, &name}};
        bool own;

        if (!varlink_parameters(call, fields, 1))
                return;
        own = strcmp(name, SERVICE) == 0;
        if (!own)
                interface = find_interface(&call->connection->server->options, name, strlen(name));
        if (!own && interface == NULL) {
                varlink_error(call, SERVICE ".InterfaceNotFound", "interface", name);
                return;
        }

        struct json *json = varlink_reply(call);

        json_key(json, "description");
        json_text(json, own ? service_description : interface->description);
        varlink_done(call);
}

void varlink_service(struct varlink_call *call, const char *method)
{
        if (strcmp(method, "GetInfo") == 0)
                service_info(call);
        else if (strcmp(method, "GetInterfaceDescription") == 0)
                service_description_of(call);
        else
                varlink_error(call, SERVICE ".MethodNotFound", "method", method);
}

/* ---- dispatch ---- */

/* Nesting is checked before the parser, which recurses, sees the text. */
static bool depth_is_fine(const char *text, size_t length, unsigned limit)
{
        bool string = false;
        unsigned depth = 0;

        for (size_t i = 0; i < length; i++) {
                if (string) {
                        if (text[i] == '\\')
                                i++;
                        else if (text[i] == '"')
                                string = false;
                } else if (text[i] == '"') {
                        string = true;
                } else if (text[i] == '{' || text[i] == '[') {
                        if (++depth > limit)
                                return false;
                } else if ((text[i] == '}' || text[i] == ']') && depth > 0) {
                        depth--;
                }
        }
        return true;
}

/* "INTERFACE.METHOD" finds its handler, or is answered that there is none. */
static void call_begin(struct varlink_call *call, const char *name)
{
        const struct varlink_options *options = &call->connection->server->options;
        const char *dot = strrchr(name, '.');
        size_t length = dot != NULL ? (size_t)(dot - name) : 0;

        if (dot == NULL) {
                varlink_error(call, SERVICE ".MethodNotFound", "method", name);
                return;
        }
        if (length == strlen(SERVICE) && memcmp(name, SERVICE, length) == 0) {
                varlink_service(call, dot + 1);
                return;
        }
        call->interface = find_interface(options, name, length);
        if (call->interface == NULL) {
                char interface[256];

                (void)snprintf(interface, sizeof(interface), "%.*s", (int)(length < 255 ? length : 255), name);
                varlink_error(call, SERVICE ".InterfaceNotFound", "interface", interface);
                return;
        }
        for (size_t i = 0; i < call->interface->n_methods; i++)
                if (strcmp(call->interface->methods[i].name, dot + 1) == 0)
                        call->method = &call->interface->methods[i];
        if (call->method == NULL)
                varlink_error(call, SERVICE ".MethodNotFound", "method", name);
        else if (call->method->handle == NULL)
                varlink_error(call, SERVICE ".MethodNotImplemented", "method", name);
        else if ((call->method->flags & VARLINK_NEEDS_MORE) != 0 && !call->more)
                varlink_error(call, SERVICE ".ExpectedMore", NULL, NULL);
        else
                call->method->handle(call, call->interface->arg);
}

/* A flag of the message: true, false or missing; -EINVAL: something else. */
static int message_flag(const json_t *message, const char *key)
{
        const json_t *value = json_object_get(message, key);

        if (value == NULL || json_is_null(value))
                return false;
        return json_is_boolean(value) ? json_is_true(value) : -EINVAL;
}

int varlink_dispatch(struct varlink_connection *connection, const char *text, size_t length)
{
        struct varlink_call *call = &connection->call;
        json_error_t error;
        json_t *message;
        const char *name, *wrong = NULL;

        assert(!call->active);
        if (!depth_is_fine(text, length, connection->server->options.limits.depth)) {
                varlink_complain(connection, "a message nested more than %u deep",
                                 connection->server->options.limits.depth);
                return -EBADMSG;
        }
        message = json_loadb(text, length, JSON_REJECT_DUPLICATES, &error);
        name = json_string_value(json_object_get(message, "method"));
        if (name == NULL) {
                varlink_complain(connection, message == NULL ? "not JSON: %s" : "a message that is no call%.0s",
                                 error.text);
                json_decref(message);
                return -EBADMSG;
        }

        int more = message_flag(message, "more"), oneway = message_flag(message, "oneway"),
            upgrade = message_flag(message, "upgrade");
        json_t *parameters = json_object_get(message, "parameters");

        if (json_is_null(parameters))
                parameters = NULL;
        if (more < 0)
                wrong = "more";
        else if (oneway < 0 || (oneway > 0 && more > 0))
                wrong = "oneway";
        else if (upgrade != 0)
                wrong = "upgrade"; /* there is no other protocol here */
        else if (parameters != NULL && !json_is_object(parameters))
                wrong = "parameters";

        *call = (struct varlink_call){.connection = connection,
                                      .active = true,
                                      .more = more > 0,
                                      .oneway = oneway > 0,
                                      .message = message,
                                      .parameters = parameters};
        json_init(&call->json, call->oneway ? connection->nowhere : connection->output);
        if (wrong != NULL)
                varlink_invalid_parameter(call, wrong);
        else
                call_begin(call, name);
        assert(!call->active || call->step != NULL); /* a handler answers, or streams */
        return call->json.failed ? -ENOMEM : 0;
}
