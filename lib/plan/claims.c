/*
 * claims.c - see claims.h.
 */
#include "plan/claims.h"

#include <assert.h>

#include "util/arena.h"

#define TABLE_ENTRY_BYTES 8u /* of the system's page tables, for a page each */
#define TABLE_PAGES_SPARE 4u /* the tables above those, and mappings that begin within one */

void flin_claims_add(flin_claims *claims, const flin_claim *claim)
{
    assert(claims->count < FLIN_CLAIMS_MAX);
    claims->list[claims->count++] = *claim;
}

void flin_claims_add_fixed(flin_claims *claims, const char *name, size_t field, uint64_t bytes)
{
    const flin_claim claim = {
        .name = name, .field = field, .unit_bytes = bytes, .parts = 1, .least = 1, .most = 1};

    flin_claims_add(claims, &claim);
}

uint64_t flin_claim_bytes(const flin_claim *claim, uint32_t units)
{
    uint64_t bytes = units * claim->unit_bytes;

    if (claim->bytes != NULL) return claim->bytes(claim->model, claim, units);
    return claim->resize == NULL ? bytes : claim->parts * flin_round_up(bytes, flin_page_bytes());
}

static uint64_t sum_least(const flin_claims *claims, uint32_t from)
{
    uint64_t bytes = 0;

    for (uint32_t i = from; i < claims->count; i++)
        bytes += flin_claim_bytes(&claims->list[i], claims->list[i].least);
    return bytes;
}

/* A control group charges page tables too, and large pages keep them in reserve. */
uint64_t flin_with_page_tables(uint64_t bytes)
{
    uint64_t page_bytes = flin_page_bytes(), entries = page_bytes / TABLE_ENTRY_BYTES;
    uint64_t pages = flin_round_up(bytes, page_bytes) / page_bytes;
    uint64_t tables = (pages + entries - 1) / entries;

    return (pages + tables + TABLE_PAGES_SPARE) * page_bytes;
}

/* The most whose flin_with_page_tables() is within `bytes`, which is no less than that of
   nothing. */
static uint64_t without_page_tables(uint64_t bytes)
{
    uint64_t page_bytes = flin_page_bytes(), entries = page_bytes / TABLE_ENTRY_BYTES;
    uint64_t pages = bytes / page_bytes - TABLE_PAGES_SPARE;

    return (pages - (pages + entries) / (entries + 1)) * page_bytes;
}

uint64_t flin_claims_least(const flin_claims *claims)
{
    return flin_with_page_tables(sum_least(claims, 0));
}

uint64_t flin_claims_most(const flin_claims *claims)
{
    uint64_t bytes = 0;

    for (uint32_t i = 0; i < claims->count; i++)
        bytes += flin_claim_bytes(&claims->list[i], claims->list[i].most);
    return flin_with_page_tables(bytes);
}

/* The same of a claim that reckons for itself. */
static uint32_t search(const flin_claim *claim, uint64_t bytes)
{
    uint32_t fits = claim->least, beyond = claim->most + 1;

    while (beyond - fits > 1) {
        const uint32_t middle = fits + (beyond - fits) / 2;
        if (claim->bytes(claim->model, claim, middle) <= bytes)
            fits = middle;
        else
            beyond = middle;
    }
    return fits;
}

/* As many units as fit into `bytes`, all parts together. */
static uint32_t fit(const flin_claim *claim, uint64_t bytes)
{
    uint64_t units;

    if (FLIN_PLAIN && claim->bytes != NULL) return search(claim, bytes);
    units = flin_round_down(bytes / claim->parts, flin_page_bytes()) / claim->unit_bytes;
    if (units < claim->least) return claim->least;
    return units < claim->most ? (uint32_t)units : claim->most;
}

uint64_t flin_claims_divide(flin_claims *claims, uint64_t budget_bytes)
{
    const int enough = budget_bytes >= flin_claims_least(claims);
    uint64_t left = enough ? without_page_tables(budget_bytes) : 0, given = 0;

    for (uint32_t i = 0; i < claims->count; i++) {
        flin_claim *claim = &claims->list[i];
        uint64_t bytes;
        claim->given = claim->least;
        if (enough && claim->least != claim->most)
            claim->given = fit(claim, left - sum_least(claims, i + 1));
        bytes = flin_claim_bytes(claim, claim->given);
        left -= enough ? bytes : 0;
        given += bytes;
    }
    return given;
}
