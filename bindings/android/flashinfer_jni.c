/*
 * flashinfer_jni.c - the native side of java/libflashinfer. A sketch: an application takes what it needs of it.
 *
 * Owns what a session is for Java: keys and values, sampler, decoder, and the token that was told but has not been run.
 * Texts cross as bytes, because JNI's own strings are not UTF-8. Refuses nothing itself: what the library refuses becomes
 * Model.Failure. That a handle is not closed while it is used is Java's part.
 */
#include <jni.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "flashinfer.h"

#define MODEL(handle) ((flashinfer_model *)(intptr_t)(handle))
#define CHAT(handle) ((chat *)(intptr_t)(handle))
#define NONE (-1)

enum { END_LIMIT, END_TEXT, END_STOPPED }; /* Session.End */

typedef struct chat {
    flashinfer_model *model;
    flashinfer_session *session;
    flashinfer_sampler *sampler;
    flashinfer_decoder *decoder;
    int32_t eos;
    int32_t told;       /* was delivered and must be run before the next one; NONE */
    atomic_int stopped; /* pressed since say() or generate() began */
} chat;

/* Throw Model.Failure. */
static void fail(JNIEnv *env, int code, const flashinfer_error *error)
{
    const char *text = error->code != 0 ? error->text : flashinfer_error_describe(code);
    jclass type = (*env)->FindClass(env, "libflashinfer/Model$Failure");
    jmethodID make =
        type != NULL ? (*env)->GetMethodID(env, type, "<init>", "(ILjava/lang/String;)V") : NULL;
    jstring message = make != NULL ? (*env)->NewStringUTF(env, text) : NULL;
    jobject failure =
        message != NULL ? (*env)->NewObject(env, type, make, (jint)code, message) : NULL;

    if (failure != NULL) (void)(*env)->Throw(env, (jthrowable)failure);
}

static void fail_memory(JNIEnv *env)
{
    jclass type = (*env)->FindClass(env, "java/lang/OutOfMemoryError");

    if (type != NULL) (void)(*env)->ThrowNew(env, type, "native memory");
}

/* A copy with a zero behind it, or NULL with an exception under way. */
static char *take(JNIEnv *env, jbyteArray array, jsize *bytes)
{
    char *copy;

    *bytes = (*env)->GetArrayLength(env, array);
    copy = malloc((size_t)*bytes + 1);
    if (copy == NULL) {
        fail_memory(env);
        return NULL;
    }
    (*env)->GetByteArrayRegion(env, array, 0, *bytes, (jbyte *)copy);
    copy[*bytes] = '\0';
    return copy;
}

/* model ------------------------------------------------------------------------------------------ */

static void prepare(jint context, jlong budget, flashinfer_options *options,
                    flashinfer_error *error)
{
    flashinfer_options_init(options, sizeof *options);
    flashinfer_error_init(error, sizeof *error);
    options->context_tokens = (uint32_t)context;
    options->memory_budget = (uint64_t)budget;
}

/* The figures of Model.Plan. */
static void give_plan(JNIEnv *env, const flashinfer_plan *plan, jlongArray figures)
{
    const jlong values[] = {(jlong)plan->minimum_bytes, (jlong)plan->maximum_bytes,
                            (jlong)plan->planned_bytes};

    (*env)->SetLongArrayRegion(env, figures, 0, 3, values);
}

JNIEXPORT void JNICALL Java_libflashinfer_Model_planPath(JNIEnv *env, jclass self, jbyteArray path,
                                                         jint context, jlongArray figures)
{
    flashinfer_plan plan = {.size = sizeof plan};
    flashinfer_options options;
    flashinfer_error error;
    jsize bytes;
    char *text = take(env, path, &bytes);
    int code;

    (void)self;
    if (text == NULL) return;
    prepare(context, 0, &options, &error);
    code = flashinfer_plan_file(text, &options, &plan, &error);
    free(text);
    if (code != 0)
        fail(env, code, &error);
    else
        give_plan(env, &plan, figures);
}

JNIEXPORT jlong JNICALL Java_libflashinfer_Model_openPath(JNIEnv *env, jclass self, jbyteArray path,
                                                          jint context, jlong budget)
{
    flashinfer_options options;
    flashinfer_error error;
    flashinfer_model *model = NULL;
    jsize bytes;
    char *text = take(env, path, &bytes);
    int code;

    (void)self;
    if (text == NULL) return 0;
    prepare(context, budget, &options, &error);
    code = flashinfer_model_open(text, &options, &model, &error);
    free(text);
    if (code != 0) fail(env, code, &error);
    return (jlong)(intptr_t)model;
}

JNIEXPORT jlong JNICALL Java_libflashinfer_Model_openFd(JNIEnv *env, jclass self, jint fd,
                                                        jlong offset, jlong length, jint context,
                                                        jlong budget)
{
    flashinfer_options options;
    flashinfer_error error;
    flashinfer_model *model = NULL;
    int code;

    (void)self;
    prepare(context, budget, &options, &error);
    code =
        flashinfer_model_open_fd(fd, (uint64_t)offset, (uint64_t)length, &options, &model, &error);
    if (code != 0) fail(env, code, &error);
    return (jlong)(intptr_t)model;
}

JNIEXPORT void JNICALL Java_libflashinfer_Model_plan(JNIEnv *env, jclass self, jlong handle,
                                                     jlongArray figures)
{
    flashinfer_plan plan = {.size = sizeof plan};

    (void)self;
    (void)flashinfer_model_plan(MODEL(handle), &plan);
    give_plan(env, &plan, figures);
}

JNIEXPORT void JNICALL Java_libflashinfer_Model_setBudget(JNIEnv *env, jclass self, jlong handle,
                                                          jlong budget)
{
    flashinfer_error error;
    int code;

    (void)self;
    flashinfer_error_init(&error, sizeof error);
    code = flashinfer_model_set_budget(MODEL(handle), (uint64_t)budget, &error);
    if (code != 0) fail(env, code, &error);
}

JNIEXPORT void JNICALL Java_libflashinfer_Model_close(JNIEnv *env, jclass self, jlong handle)
{
    (void)env, (void)self;
    (void)flashinfer_model_close(MODEL(handle));
}

/* session ---------------------------------------------------------------------------------------- */

/* In this order: sampler and decoder, then the session; the model is Java's to close after it. */
static void end(chat *at)
{
    if (at == NULL) return;
    flashinfer_sampler_destroy(at->sampler);
    flashinfer_decoder_destroy(at->decoder);
    flashinfer_session_destroy(at->session);
    free(at);
}

static int begin(chat *at, const flashinfer_sampler_options *sampling, flashinfer_error *error)
{
    flashinfer_info info = {.size = sizeof info};
    int code = flashinfer_model_info(at->model, &info);

    at->eos = info.eos_token;
    at->told = NONE;
    if (code == 0) code = flashinfer_session_create(at->model, &at->session, error);
    if (code == 0) code = flashinfer_decoder_create(at->model, &at->decoder, error);
    if (code == 0)
        code = flashinfer_sampler_create(sampling, info.vocab_count, &at->sampler, error);
    return code;
}

JNIEXPORT jlong JNICALL Java_libflashinfer_Session_open(JNIEnv *env, jclass self, jlong model,
                                                        jfloat temperature, jint top_k,
                                                        jfloat top_p, jfloat min_p, jfloat penalty,
                                                        jlong seed)
{
    flashinfer_sampler_options sampling;
    flashinfer_error error;
    chat *at = calloc(1, sizeof *at);
    int code;

    (void)self;
    if (at == NULL) {
        fail_memory(env);
        return 0;
    }
    flashinfer_sampler_options_init(&sampling, sizeof sampling);
    flashinfer_error_init(&error, sizeof error);
    sampling.temperature = temperature;
    sampling.top_k = (uint32_t)top_k;
    sampling.top_p = top_p;
    sampling.min_p = min_p;
    sampling.repetition_penalty = penalty;
    sampling.seed = (uint64_t)seed;
    at->model = MODEL(model);
    code = begin(at, &sampling, &error);
    if (code == 0) return (jlong)(intptr_t)at;
    end(at);
    fail(env, code, &error);
    return 0;
}

/* ids[0]: what was told last, if count says so. All of it is run, or nothing. */
static int hear(chat *at, const int32_t *ids, size_t count, flashinfer_error *error)
{
    const uint32_t before = flashinfer_session_position(at->session);
    int code = flashinfer_eval(at->session, ids, count, error);

    if (code != 0) {
        (void)flashinfer_session_rewind(at->session, before, NULL);
        return code;
    }
    for (size_t i = at->told != NONE; i < count && code == 0; i++)
        code = flashinfer_sampler_accept(at->sampler, ids[i], error);
    at->told = NONE;
    return code;
}

/* A text begins with the model's bos token only where the sequence begins. */
static int hear_text(chat *at, const char *text, size_t bytes, int32_t *ids, size_t capacity,
                     flashinfer_error *error)
{
    const size_t first = at->told != NONE;
    const int begins = first == 0 && flashinfer_session_position(at->session) == 0;
    const char *rest;
    size_t count = 0;
    int code = flashinfer_tokenize(at->model, text, bytes, begins ? FLASHINFER_TOKENIZE_BOS : 0,
                                   ids + first, capacity - first, &count, error);

    if (first != 0) ids[0] = at->told;
    if (code == 0 && first + count != 0) code = hear(at, ids, first + count, error);
    /* what is left of a character that never ended belongs to no text that follows */
    return code != 0 ? code : flashinfer_decoder_push(at->decoder, -1, &rest, NULL, error);
}

JNIEXPORT jboolean JNICALL Java_libflashinfer_Session_say(JNIEnv *env, jclass self, jlong handle,
                                                          jbyteArray words)
{
    flashinfer_error error;
    size_t capacity;
    jsize bytes;
    char *text = take(env, words, &bytes);
    int32_t *ids;
    int code = FLASHINFER_ENOMEM;

    (void)self;
    if (text == NULL) return 0;
    flashinfer_error_init(&error, sizeof error);
    atomic_store(&CHAT(handle)->stopped, 0);
    capacity = (size_t)bytes + 2; /* a token for each byte, one that begins, one told before */
    ids = malloc(capacity * sizeof *ids);
    if (ids != NULL) code = hear_text(CHAT(handle), text, (size_t)bytes, ids, capacity, &error);
    free(ids);
    free(text);
    if (code != 0 && code != FLASHINFER_ECANCELED) fail(env, code, &error);
    return code == 0;
}

/* 1: go on; 0: the listener has had enough, or has thrown. */
static int deliver(JNIEnv *env, jclass self, jobject listener, const char *text, size_t bytes)
{
    jmethodID method =
        (*env)->GetStaticMethodID(env, self, "deliver", "(Llibflashinfer/Session$Listener;[B)Z");
    jbyteArray array = method != NULL ? (*env)->NewByteArray(env, (jsize)bytes) : NULL;
    jboolean more;

    if (array == NULL) return 0;
    (*env)->SetByteArrayRegion(env, array, 0, (jsize)bytes, (const jbyte *)text);
    more = (*env)->CallStaticBooleanMethod(env, self, method, listener, array);
    (*env)->DeleteLocalRef(env, array);
    return more && !(*env)->ExceptionCheck(env);
}

/* The next token, sampled after the one told last was run. NONE: the text has ended. */
static int next(chat *at, int32_t *token, flashinfer_error *error)
{
    const float *logits;
    size_t vocab = 0;
    int code = at->told != NONE ? flashinfer_step(at->session, at->told, error) : 0;

    if (code != 0) return code;
    at->told = NONE;
    logits = flashinfer_logits(at->session, &vocab);
    code = flashinfer_sampler_sample(at->sampler, logits, vocab, token, error);
    if (code == 0 && *token == at->eos) *token = NONE;
    return code;
}

/* Returns END_..., or an error's code. */
static int tell(JNIEnv *env, jclass self, chat *at, jint tokens, jobject listener,
                flashinfer_error *error)
{
    const char *piece;
    size_t bytes;
    int32_t token;
    int code = 0, more = 1;

    for (jint i = 0; i < tokens; i++) {
        if (atomic_load(&at->stopped) || !more) return END_STOPPED;
        if ((code = next(at, &token, error)) != 0) return code;
        code = flashinfer_decoder_push(at->decoder, token, &piece, &bytes, error);
        if (code != 0) return code;
        at->told = token;
        if (bytes != 0) more = deliver(env, self, listener, piece, bytes);
        if (token == NONE) return END_TEXT;
    }
    return more ? END_LIMIT : END_STOPPED;
}

JNIEXPORT jint JNICALL Java_libflashinfer_Session_generate(JNIEnv *env, jclass self, jlong handle,
                                                           jint tokens, jobject listener)
{
    flashinfer_error error;
    int code;

    flashinfer_error_init(&error, sizeof error);
    atomic_store(&CHAT(handle)->stopped, 0);
    code = tell(env, self, CHAT(handle), tokens, listener, &error);
    if (code == FLASHINFER_ECANCELED) return END_STOPPED;
    if (code < 0 && !(*env)->ExceptionCheck(env)) fail(env, code, &error);
    return code < 0 ? END_STOPPED : code;
}

JNIEXPORT jint JNICALL Java_libflashinfer_Session_position(JNIEnv *env, jclass self, jlong handle)
{
    (void)env, (void)self;
    return (jint)flashinfer_session_position(CHAT(handle)->session) + (CHAT(handle)->told != NONE);
}

/* The flag is for a press between two calls of the library, the cancel for one during a call. */
JNIEXPORT void JNICALL Java_libflashinfer_Session_stop(JNIEnv *env, jclass self, jlong handle)
{
    (void)env, (void)self;
    atomic_store(&CHAT(handle)->stopped, 1);
    flashinfer_session_cancel(CHAT(handle)->session);
}

JNIEXPORT void JNICALL Java_libflashinfer_Session_close(JNIEnv *env, jclass self, jlong handle)
{
    (void)env, (void)self;
    end(CHAT(handle));
}
