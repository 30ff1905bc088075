/*
 * names.h - tensors of the flash layout that no architecture has of its own: bundles and
 * predictors. All belong to a layer, "blk.N." stands in front.
 */
#ifndef FLIN_MODEL_NAMES_H
#define FLIN_MODEL_NAMES_H

#include <stdint.h>
#include <stdio.h>

#define FLIN_TENSOR_BUNDLES "ffn_bundle.weight" /* I8 [stride, neurons] */
#define FLIN_TENSOR_SUMS "ffn_bundle.xxh3"      /* I64 [parts, neurons] */
#define FLIN_TENSOR_ROWS "ffn_bundle.rows"      /* I32 [neurons], of ordered files */

#define FLIN_TENSOR_SKETCH "ffn_sketch.weight"
#define FLIN_TENSOR_SKETCH_BIAS "ffn_sketch.bias"
#define FLIN_TENSOR_SKETCH_SCALE "ffn_sketch.scale"

#define FLIN_TENSOR_LOWRANK_DOWN "fc1.weight"
#define FLIN_TENSOR_LOWRANK_UP "fc2.weight"
#define FLIN_TENSOR_LOWRANK_BIAS "fc2.bias"

/* Where attention and FFN stand side by side with a norm each: attention's. A file says so by
   having it. */
#define FLIN_TENSOR_SECOND_NORM "attn_norm_2"

#define FLIN_TENSOR_NAME_BYTES 96 /* of what is looked for; GGUF's own limit is 64 */

/* "blk.N.NAME", or "NAME" if layer is -1; then the suffix. Returns text. */
static inline const char *flin_tensor_name(char text[FLIN_TENSOR_NAME_BYTES], int32_t layer,
                                           const char *name, const char *suffix)
{
    if (layer < 0)
        (void)snprintf(text, FLIN_TENSOR_NAME_BYTES, "%.63s%s", name, suffix);
    else
        (void)snprintf(text, FLIN_TENSOR_NAME_BYTES, "blk.%d.%.63s%s", (int)layer, name, suffix);
    return text;
}

#endif
