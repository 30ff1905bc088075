/*
 * checkpoint.h - what a checkpoint's config.json says: the architecture, its sizes, its variants.
 *
 * Owns: reading the architecture's keys there. Refuses: looking at tensors.
 */
#ifndef FLIN_PACK_CHECKPOINT_H
#define FLIN_PACK_CHECKPOINT_H

#include <stdint.h>

#include "model/arch/arch.h"
#include "util/error.h"

#define FLIN_CHECKPOINT_NAME_BYTES 128u

typedef struct flin_checkpoint {
    flin_shape shape; /* all but its bundle, which packing chooses */
    flin_facts facts;
    int32_t bos_id; /* -1: none */
    int32_t eos_id;
    int32_t pad_id;
    char name[FLIN_CHECKPOINT_NAME_BYTES]; /* last part of _name_or_path, or empty */
} flin_checkpoint;

/* What whoever packs knows better than config.json. */
typedef struct flin_choice {
    uint32_t activation; /* FLASHINFER_ACTIVATION_...; 0: as config.json says */
    float threshold;     /* of fatrelu, at least 0 */
} flin_choice;

/* Another architecture or activation is FLASHINFER_EUNSUPPORTED, a missing or impossible value
   FLASHINFER_ECHECKPOINT. directory: open descriptor of the checkpoint. */
int flin_checkpoint_load(flin_checkpoint *checkpoint, int directory, const flin_choice *choice,
                         flashinfer_error *error);

/* Copy the last part of a path or model name, if it is usable as a name; else name becomes empty.
 */
void flin_checkpoint_set_name(flin_checkpoint *checkpoint, const char *path);

#endif
