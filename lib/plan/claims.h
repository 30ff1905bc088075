/*
 * claims.h - what the parts of the library ask of the budget, as one list, and dividing it.
 *
 * Owns: the arithmetic of a budget. Refuses: allocating; knowing what a claim is for.
 */
#ifndef FLIN_PLAN_CLAIMS_H
#define FLIN_PLAN_CLAIMS_H

#include <stddef.h>
#include <stdint.h>

#include "util/error.h"

#define FLIN_CLAIMS_MAX 16u

struct flashinfer_model;

/* One consumer of memory: `least` units at least, no more than `most` are of use. */
typedef struct flin_claim {
    const char *name;
    size_t field; /* offset in flashinfer_plan of the uint64_t that it is counted under */
    uint64_t unit_bytes;
    uint32_t parts; /* mapped apart, each with as many units: layers */
    uint32_t least, most;
    uint32_t given; /* units of each part, once the budget is divided */
    uint32_t index; /* for the functions */
    /* Have so many units; NULL: a fixed claim, least == most. On failure what was there works
       on. */
    int (*resize)(struct flashinfer_model *model, const struct flin_claim *claim, uint32_t units,
                  flashinfer_error *error);
    /* Bytes of all parts with so many units, where they do not follow from unit_bytes; NULL: they
       do. More units never take less. */
    uint64_t (*bytes)(const struct flashinfer_model *model, const struct flin_claim *claim,
                      uint32_t units);
    const struct flashinfer_model *model; /* for bytes() */
} flin_claim;

/* In the order in which they are served: each has its least before any has more. */
typedef struct flin_claims {
    uint32_t count;
    flin_claim list[FLIN_CLAIMS_MAX];
} flin_claims;

/* A claim of fixed size. */
void flin_claims_add_fixed(flin_claims *claims, const char *name, size_t field, uint64_t bytes);
void flin_claims_add(flin_claims *claims, const flin_claim *claim);

/* Bytes of a claim with so many units, in whole pages where it is mapped by itself. */
uint64_t flin_claim_bytes(const flin_claim *claim, uint32_t units);

/* Bytes of all with what they need least, and with all that is of use; page tables of the system
   included. */
uint64_t flin_claims_least(const flin_claims *claims);
uint64_t flin_claims_most(const flin_claims *claims);

/* Give every claim its least, then in order as much as the budget holds. A budget below the least
   is divided as that. Returns the bytes given, page tables excluded. */
uint64_t flin_claims_divide(flin_claims *claims, uint64_t budget_bytes);

/* Whole pages of so many bytes, and the system's page tables of them. */
uint64_t flin_with_page_tables(uint64_t bytes);

#endif
