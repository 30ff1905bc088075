/*
 * flashinfer_jni.c - the native side of java/libflashinfer/Model.java. A sketch: what an application adds is samplers and
 * sessions that live longer than a call.
 *
 * Texts cross as bytes, because JNI's own strings are not UTF-8. Nothing is kept between calls but the model.
 */
#include <jni.h>
#include <stdlib.h>
#include <string.h>

#include "flashinfer.h"

#define MODEL(handle) ((flashinfer_model *)(intptr_t)(handle))

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

/* A copy with a zero behind it, or NULL with an exception under way. */
static char *take(JNIEnv *env, jbyteArray array, jsize *bytes)
{
    char *copy;

    *bytes = (*env)->GetArrayLength(env, array);
    copy = malloc((size_t)*bytes + 1);
    if (copy == NULL) {
        jclass type = (*env)->FindClass(env, "java/lang/OutOfMemoryError");
        if (type != NULL) (void)(*env)->ThrowNew(env, type, "text");
        return NULL;
    }
    (*env)->GetByteArrayRegion(env, array, 0, *bytes, (jbyte *)copy);
    copy[*bytes] = '\0';
    return copy;
}

static void prepare(jlong budget, flashinfer_options *options, flashinfer_error *error)
{
    flashinfer_options_init(options, sizeof *options);
    flashinfer_error_init(error, sizeof *error);
    options->memory_budget = (uint64_t)budget;
}

JNIEXPORT jlong JNICALL Java_libflashinfer_Model_openPath(JNIEnv *env, jclass self, jbyteArray path,
                                                          jlong budget)
{
    flashinfer_options options;
    flashinfer_error error;
    flashinfer_model *model = NULL;
    jsize bytes;
    char *text = take(env, path, &bytes);
    int code;

    (void)self;
    if (text == NULL) return 0;
    prepare(budget, &options, &error);
    code = flashinfer_model_open(text, &options, &model, &error);
    free(text);
    if (code != 0) fail(env, code, &error);
    return (jlong)(intptr_t)model;
}

JNIEXPORT jlong JNICALL Java_libflashinfer_Model_openFd(JNIEnv *env, jclass self, jint fd,
                                                        jlong offset, jlong length, jlong budget)
{
    flashinfer_options options;
    flashinfer_error error;
    flashinfer_model *model = NULL;
    int code;

    (void)self;
    prepare(budget, &options, &error);
    code =
        flashinfer_model_open_fd(fd, (uint64_t)offset, (uint64_t)length, &options, &model, &error);
    if (code != 0) fail(env, code, &error);
    return (jlong)(intptr_t)model;
}

/* 1: go on; 0: the listener has had enough, or has thrown. */
static int deliver(JNIEnv *env, jclass self, jobject listener, const char *text, size_t bytes)
{
    jmethodID method =
        (*env)->GetStaticMethodID(env, self, "deliver", "(Llibflashinfer/Model$Listener;[B)Z");
    jbyteArray array = method != NULL ? (*env)->NewByteArray(env, (jsize)bytes) : NULL;
    jboolean more;

    if (array == NULL) return 0;
    (*env)->SetByteArrayRegion(env, array, 0, (jsize)bytes, (const jbyte *)text);
    more = (*env)->CallStaticBooleanMethod(env, self, method, listener, array);
    (*env)->DeleteLocalRef(env, array);
    return more && !(*env)->ExceptionCheck(env);
}

static int32_t likeliest(const flashinfer_session *session)
{
    size_t count, best = 0;
    const float *logits = flashinfer_logits(session, &count);

    for (size_t i = 1; i < count; i++)
        if (logits[i] > logits[best]) best = i;
    return (int32_t)best;
}

static int run(JNIEnv *env, jclass self, flashinfer_model *model, const int32_t *ids, size_t count,
               jint tokens, jobject listener, flashinfer_error *error)
{
    flashinfer_info info = {.size = sizeof info};
    flashinfer_session *session = NULL;
    flashinfer_decoder *decoder = NULL;
    const char *piece;
    size_t bytes;
    int more = 1, code = flashinfer_model_info(model, &info);

    if (code == 0) code = flashinfer_session_create(model, &session, error);
    if (code == 0) code = flashinfer_decoder_create(model, &decoder, error);
    if (code == 0) code = flashinfer_eval(session, ids, count, error);
    for (jint i = 0; i < tokens && code == 0 && more; i++) {
        int32_t token = likeliest(session);
        if (token == info.eos_token) break;
        code = flashinfer_decoder_push(decoder, token, &piece, &bytes, error);
        if (code == 0 && bytes != 0) more = deliver(env, self, listener, piece, bytes);
        if (code == 0 && more && i + 1 < tokens) code = flashinfer_step(session, token, error);
    }
    if (code == 0 && more) code = flashinfer_decoder_push(decoder, -1, &piece, &bytes, error);
    if (code == 0 && more && bytes != 0) (void)deliver(env, self, listener, piece, bytes);
    flashinfer_decoder_destroy(decoder);
    flashinfer_session_destroy(session);
    return code;
}

JNIEXPORT void JNICALL Java_libflashinfer_Model_generate(JNIEnv *env, jclass self, jlong handle,
                                                         jbyteArray prompt, jint tokens,
                                                         jobject listener)
{
    flashinfer_error error;
    size_t count = 0, capacity;
    jsize bytes;
    char *text = take(env, prompt, &bytes);
    int32_t *ids;
    int code = FLASHINFER_ENOMEM;

    if (text == NULL) return;
    flashinfer_error_init(&error, sizeof error);
    capacity = (size_t)bytes + 1; /* a token for each byte and one for the beginning at most */
    ids = malloc(capacity * sizeof *ids);
    if (ids != NULL)
        code = flashinfer_tokenize(MODEL(handle), text, (size_t)bytes, FLASHINFER_TOKENIZE_BOS, ids,
                                   capacity, &count, &error);
    if (code == 0) code = run(env, self, MODEL(handle), ids, count, tokens, listener, &error);
    free(ids);
    free(text);
    if (code != 0 && !(*env)->ExceptionCheck(env)) fail(env, code, &error);
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
