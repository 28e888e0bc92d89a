/* SPDX-License-Identifier: MIT */

/*
 * Functions that have ended in a jump to another one: they have no frame any more, but their caller's debug info says
 * whom it called, and theirs says where they may jump to. Where that leaves exactly one way to the function that has
 * the frame, the ones on that way are shown. A coroutine's function is called through a pointer; its black box says
 * which one it is.
 */

#include "unwinder-internal.h"

#include "clock.h"

#include <dwarf.h>
#include <stdlib.h>
#include <string.h>

#define DEPTH_MAX 64U /* of scopes */
#define SITES_MAX 64U /* calls of one function that are looked at */

/* A call that debug info tells of. */
struct site {
        uint64_t address; /* behind it (where one is no call but a jump: behind its first byte) */
        uint64_t target;  /* where the called function is in this file; 0: elsewhere */
        const char *name; /* of that; NULL: called through a pointer */
};

struct sites {
        bool tail;        /* only jumps, else only calls */
        uint64_t address; /* only that which returns there; 0: all */
        unsigned n;
        bool too_many;
        struct site items[SITES_MAX];
};

static bool attribute_address(Dwarf_Die *die, unsigned name, uint64_t *ret_address)
{
        Dwarf_Attribute attribute;
        Dwarf_Addr address;

        if (dwarf_formaddr(dwarf_attr(die, name, &attribute), &address) != 0)
                return false;
        *ret_address = address;
        return true;
}

static bool attribute_flag(Dwarf_Die *die, unsigned name)
{
        Dwarf_Attribute attribute;
        bool set = false;

        return dwarf_formflag(dwarf_attr(die, name, &attribute), &set) == 0 && set;
}

uint64_t function_entry(Dwarf_Die *function)
{
        Dwarf_Addr base, begin, end;

        if (dwarf_entrypc(function, &begin) == 0 || dwarf_ranges(function, 0, &base, &begin, &end) > 0)
                return begin;
        return 0;
}

static void add_site(Dwarf_Die *die, struct sites *sites)
{
        bool tail = attribute_flag(die, DW_AT_call_tail_call) || attribute_flag(die, DW_AT_GNU_tail_call);
        struct site site = {.name = NULL};
        Dwarf_Attribute attribute;
        Dwarf_Die origin;

        if (tail != sites->tail)
                return;
        if (!attribute_address(die, DW_AT_call_return_pc, &site.address) &&
            !attribute_address(die, DW_AT_low_pc, &site.address)) {
                if (!attribute_address(die, DW_AT_call_pc, &site.address))
                        return;
                site.address++;
        }
        if (sites->address != 0 && site.address != sites->address)
                return;
        if (sites->n == SITES_MAX) {
                sites->too_many = true;
                return;
        }
        if ((dwarf_attr(die, DW_AT_call_origin, &attribute) != NULL ||
             dwarf_attr(die, DW_AT_abstract_origin, &attribute) != NULL) &&
            dwarf_formref_die(&attribute, &origin) != NULL) {
                site.name = dwarf_diename(&origin);
                site.target = function_entry(&origin);
        }
        sites->items[sites->n++] = site;
}

/* All calls under parent, in what was inlined there, too. */
static void find_sites(Dwarf_Die *parent, unsigned depth, struct sites *sites)
{
        Dwarf_Die die;

        if (depth > DEPTH_MAX || dwarf_child(parent, &die) != 0)
                return;
        do {
                switch (dwarf_tag(&die)) {
                case DW_TAG_call_site:
                case DW_TAG_GNU_call_site: add_site(&die, sites); break;
                case DW_TAG_lexical_block:
                case DW_TAG_inlined_subroutine: find_sites(&die, depth + 1, sites); break;
                default: break;
                }
        } while (dwarf_siblingof(&die, &die) == 0);
}

static bool sites_of(struct image *image, uint64_t address, struct sites *sites)
{
        Dwarf *dwarf = image_dwarf(image);
        Dwarf_Die unit, function;

        if (dwarf == NULL || !image_unit(dwarf, address, &unit) || !places_function(&unit, address, &function))
                return false;
        find_sites(&function, 0, sites);
        return true;
}

/* ---- ways ---- */

/* Who has the frame. */
struct goal {
        const struct image *image;
        uint64_t entry;
        const char *name;
};

struct way {
        unsigned n, n_ways;
        uint64_t addresses[TAILS_MAX]; /* outermost first */
};

static bool is_goal(const struct goal *goal, const struct image *image, const struct site *site)
{
        if (site->target != 0)
                return goal->image == image && goal->entry == site->target;
        return site->name != NULL && goal->name != NULL && strcmp(site->name, goal->name) == 0;
}

/* Counts the ways from the function at `from` to the goal that are made of jumps; way has one of them. */
static void find_ways(struct image *image, uint64_t from, const struct goal *goal, unsigned depth, uint64_t *path,
                      struct way *way)
{
        struct sites *sites = calloc(1, sizeof(*sites));

        if (sites == NULL || depth == TAILS_MAX) {
                way->n_ways += 2; /* it may be, and cannot be told */
                free(sites);
                return;
        }
        sites->tail = true;
        if (!sites_of(image, from, sites) || sites->too_many)
                sites->n = 0;
        for (unsigned i = 0; i < sites->n && way->n_ways < 2; i++) {
                const struct site *site = &sites->items[i];

                path[depth] = site->address;
                if (site->name == NULL) {
                        way->n_ways += 2;
                } else if (is_goal(goal, image, site)) {
                        way->n_ways++;
                        way->n = depth + 1;
                        memcpy(way->addresses, path, way->n * sizeof(path[0]));
                } else if (site->target != 0 && site->target != from) {
                        find_ways(image, site->target, goal, depth + 1, path, way);
                }
        }
        free(sites);
}

struct tails *tails_make(struct image *image, uint64_t from, const struct raw_frame *to)
{
        const struct places *places = image_places(to->image, to->offset - (to->exact ? 0 : 1));
        struct tails *tails = calloc(1, sizeof(*tails));
        uint64_t path[TAILS_MAX];
        struct way way = {.n = 0};

        if (tails == NULL || places == NULL)
                return tails;

        const struct goal goal = {to->image, places->entry, places->items[places->n - 1].function};

        tails->to = to->image;
        tails->to_entry = places->entry;
        if (goal.entry != 0 && !(goal.image == image && goal.entry == from))
                find_ways(image, from, &goal, 0, path, &way);
        if (way.n_ways == 1) {
                tails->n = way.n;
                memcpy(tails->addresses, way.addresses, way.n * sizeof(way.addresses[0]));
        }
        return tails;
}

uint64_t tails_target(struct image *image, uint64_t address)
{
        struct sites *sites = calloc(1, sizeof(*sites));
        uint64_t target = 0;

        if (sites == NULL)
                return 0;
        sites->address = address;
        if (sites_of(image, address - 1, sites) && sites->n == 1)
                target = sites->items[0].target;
        free(sites);
        return target;
}

/* ---- frames ---- */

/* Adds those between a frame and its caller: a function at `from` (in the file) was called, and has led to the frame.
 */
static size_t add_tails(struct raw_frame *frames, size_t n, size_t n_max, const struct raw_frame *frame,
                        struct image *image, uint64_t from, uint64_t bias)
{
        const struct tails *tails = frame->image != NULL ? image_tails(image, from, frame) : NULL;

        for (unsigned i = tails != NULL ? tails->n : 0; i-- > 0 && n < n_max;)
                frames[n++] = (struct raw_frame){.ip = tails->addresses[i] + bias,
                                                 .offset = tails->addresses[i],
                                                 .image = image,
                                                 .path = image->path};
        return n;
}

size_t tails_insert(const struct trace_source *source, uint64_t deadline_ns, struct raw_frame *frames, size_t n_max)
{
        const struct raw_frame *from = source->frames;
        size_t n = 0, root = source->function.image != NULL && source->incomplete == NULL && source->n_frames >= 3
                                     ? source->n_frames - 3
                                     : SIZE_MAX;

        for (size_t i = 0; i < source->n_frames && n < n_max; i++) {
                const struct raw_frame *caller = i + 1 < source->n_frames ? &from[i + 1] : NULL;
                uint64_t target;

                frames[n++] = from[i];
                if (clock_gettime_ns(CLOCK_MONOTONIC) >= deadline_ns)
                        continue;
                if (i == root) { /* libweft has called it, and below that there is only the stack's start */
                        n = add_tails(frames, n, n_max, &from[i], source->function.image, source->function.offset,
                                      source->function.ip - source->function.offset);
                } else if (caller != NULL && caller->image != NULL && !caller->exact) {
                        target = image_call_target(caller->image, caller->offset);
                        if (target != 0)
                                n = add_tails(frames, n, n_max, &from[i], caller->image, target,
                                              caller->ip - caller->offset);
                }
        }
        return n;
}
