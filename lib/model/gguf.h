/*
 * gguf.h - reading a GGUF v3 file: header, metadata, tensor table, and the checksums the flash
 * layout adds; and, to take tensors from them, GGUF files of others.
 *
 * Owns: the header bytes and the tables made from them, in one arena. Refuses: knowing
 * architectures, but for asking arch.h what to say of a file that is none of ours. Hostile counts
 * and lengths are bounded by the file's own length before anything is allocated for them.
 */
#ifndef FLIN_MODEL_GGUF_H
#define FLIN_MODEL_GGUF_H

#include "storage/storage.h"
#include "util/arena.h"
#include "util/string.h"

/* GGUF tensor types this library reads or writes */
enum {
    FLIN_GGUF_F32 = 0,
    FLIN_GGUF_F16 = 1,
    FLIN_GGUF_Q4_0 = 2,
    FLIN_GGUF_Q8_0 = 8,
    FLIN_GGUF_I8 = 24,
    FLIN_GGUF_I16 = 25,
    FLIN_GGUF_I32 = 26,
    FLIN_GGUF_I64 = 27,
    FLIN_GGUF_F64 = 28,
    FLIN_GGUF_BF16 = 30
};

/* GGUF metadata value types */
enum {
    FLIN_GGUF_VALUE_U8 = 0,
    FLIN_GGUF_VALUE_I8 = 1,
    FLIN_GGUF_VALUE_U16 = 2,
    FLIN_GGUF_VALUE_I16 = 3,
    FLIN_GGUF_VALUE_U32 = 4,
    FLIN_GGUF_VALUE_I32 = 5,
    FLIN_GGUF_VALUE_F32 = 6,
    FLIN_GGUF_VALUE_BOOL = 7,
    FLIN_GGUF_VALUE_STRING = 8,
    FLIN_GGUF_VALUE_ARRAY = 9,
    FLIN_GGUF_VALUE_U64 = 10,
    FLIN_GGUF_VALUE_I64 = 11,
    FLIN_GGUF_VALUE_F64 = 12
};

/* "q4_k": of any type there is in ggml, known here or not; else "unknown". */
const char *flin_gguf_type_name(uint64_t type);

/* FLASHINFER_EUNSUPPORTED: `what` has a type not known here. */
int flin_gguf_refuse_type(uint64_t type, const char *what, flashinfer_error *error);

/* Bytes that `elements` elements of a tensor type take together; 0: a type not known here. */
int flin_gguf_type_size(uint32_t type, uint64_t *bytes, uint64_t *elements);

#define FLIN_GGUF_MAGIC 0x46554747u /* "GGUF" little-endian */
#define FLIN_GGUF_VERSION 3u
#define FLIN_GGUF_ALIGNMENT 4096u /* of our files */
#define FLIN_GGUF_HEADER_BYTES_MAX (256u << 20)
#define FLIN_GGUF_ENTRIES_MAX 65536u /* metadata entries, and tensors */

/* What else is read in files of others: PowerInfer's files begin with "PWRI", and little-endian
   version 2 is version 3. */
#define FLIN_GGUF_MAGIC_POWERINFER 0x49525750u
#define FLIN_GGUF_VERSION_FOREIGN 2u

/* Names of the flash layout: docs/format.md */
#define FLIN_SUMS_TENSOR                                                                           \
    "flashinfer.xxh3" /* I64 [1 + tensor_count]: header, then every tensor in file order */

typedef struct flin_gguf_value {
    flin_string key;     /* zero-terminated */
    const uint8_t *data; /* the value; of an array, its first element */
    uint64_t count;      /* elements of an array, else 1 */
    uint64_t bytes;      /* all elements */
    uint32_t type;       /* of the value, or of an array's elements */
    uint32_t is_array;
} flin_gguf_value;

typedef struct flin_gguf_tensor {
    flin_string name; /* zero-terminated */
    uint32_t type;
    uint32_t dimension_count;
    uint64_t dimensions[4]; /* fastest first; unused ones are 1 */
    uint64_t offset;        /* bytes from the start of the model */
    uint64_t bytes;
    uint64_t sum; /* XXH3-64 from the sums tensor */
} flin_gguf_tensor;

typedef struct flin_gguf {
    flin_arena arena;      /* header bytes and the two tables */
    const uint8_t *header; /* (header_bytes) */
    uint64_t header_bytes; /* up to the end of the tensor table */
    uint64_t data_offset;
    uint64_t data_end; /* end of the last tensor */
    uint32_t value_count;
    uint32_t tensor_count;
    flin_gguf_value *values;   /* (value_count) */
    flin_gguf_tensor *tensors; /* (tensor_count) */
    uint32_t *value_index;     /* hash tables over the names; empty entries are UINT32_MAX */
    uint32_t *tensor_index;
    char *names; /* (name_bytes) keys and tensor names, zero-terminated */
    uint64_t name_bytes;
    uint32_t value_index_mask;
    uint32_t tensor_index_mask;
    uint32_t foreign; /* not in flash layout */
    uint32_t reserved;
} flin_gguf;

/* Read and check header and tables; with verify != 0 also the header's checksum. A file that is not
   in flash layout has none, is of an architecture known here, and otherwise as from
   flin_gguf_open_foreign(). A file that has a vocabulary but no tensors is opened too: tensor_count
   is 0. */
int flin_gguf_open(flin_gguf *gguf, flin_storage *storage, int verify, flashinfer_error *error);

/* The same for a file that is not in flash layout: GGUF v2 or v3, PowerInfer's magic too. It has
   no checksums (sums are 0), and tensors of types unknown here are listed with 0 bytes. All
   others lie within the file. */
int flin_gguf_open_foreign(flin_gguf *gguf, flin_storage *storage, flashinfer_error *error);
void flin_gguf_close(flin_gguf *gguf);

const flin_gguf_value *flin_gguf_find(const flin_gguf *gguf, const char *key); /* NULL: absent */
const flin_gguf_tensor *flin_gguf_find_tensor(const flin_gguf *gguf,
                                              const char *name); /* NULL: absent */

/* Typed access. Absent or of another kind is FLASHINFER_EFORMAT naming the key; the _or forms
   take a default when absent. Unsigned values of any width fit u64; negative ones are refused. */
int flin_gguf_u64(const flin_gguf *gguf, const char *key, uint64_t *value, flashinfer_error *error);
int flin_gguf_u64_or(const flin_gguf *gguf, const char *key, uint64_t absent, uint64_t *value,
                     flashinfer_error *error);
int flin_gguf_f64(const flin_gguf *gguf, const char *key, double *value, flashinfer_error *error);
int flin_gguf_string(const flin_gguf *gguf, const char *key, flin_string *value,
                     flashinfer_error *error);
int flin_gguf_string_or(const flin_gguf *gguf, const char *key, const char *absent,
                        flin_string *value, flashinfer_error *error);

/* Array access: element i of an array of fixed-size numbers as u64 (sign-extended) or double. */
uint64_t flin_gguf_element_u64(const flin_gguf_value *value, uint64_t index);
double flin_gguf_element_f64(const flin_gguf_value *value, uint64_t index);

/* Walk an array of strings: *cursor starts at value->data and is moved past the string returned.
   The array was bounds-checked at open. */
flin_string flin_gguf_next_string(const uint8_t **cursor);

/* A value as readable text for listings, cut to fit and zero-terminated; long arrays show their
   first elements. */
void flin_gguf_text(const flin_gguf_value *value, char *text, size_t capacity);

#endif
