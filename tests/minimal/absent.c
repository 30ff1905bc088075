/*
 * absent.c - in a build without the optional pieces their functions are there, refuse, and name the build option.
 *
 * usage: absent MODEL.gguf
 */
#include <flashinfer.h>
#include <stdio.h>
#include <string.h>

static int failures;

static void refused(const char *name, int code, flashinfer_error *error, const char *option)
{
    if (code != FLASHINFER_EUNSUPPORTED || strstr(error->text, option) == NULL) {
        (void)printf("%s: %s \"%s\", without \"%s\"\n", name, flashinfer_error_name(code),
                     error->text, option);
        failures++;
    }
    flashinfer_error_init(error, sizeof *error);
}

#define REFUSED(option, function, ...)                                                             \
    refused(#function, function(__VA_ARGS__, &error), &error, option)

static void text(const flashinfer_model *model)
{
    flashinfer_decoder *decoder;
    flashinfer_error error;
    int32_t token = 5;
    size_t count;
    char bytes[16];

    flashinfer_error_init(&error, sizeof error);
    REFUSED("-Dtokenizer=enabled", flashinfer_tokenize, model, "a", 1, 0, &token, 1, &count);
    REFUSED("-Dtokenizer=enabled", flashinfer_detokenize, model, &token, 1, bytes, 16, &count);
    REFUSED("-Dtokenizer=enabled", flashinfer_decoder_create, model, &decoder);
    flashinfer_decoder_destroy(NULL);
}

static void sampling(void)
{
    const float logits[4] = {0, 1, 2, 3};
    flashinfer_logprob top[1];
    flashinfer_sampler *sampler;
    flashinfer_error error;

    flashinfer_error_init(&error, sizeof error);
    REFUSED("-Dsampling=enabled", flashinfer_sampler_create, NULL, 4, &sampler);
    REFUSED("-Dsampling=enabled", flashinfer_logprobs, logits, 4, NULL, 0, top, 1);
    flashinfer_sampler_destroy(NULL);
}

static void making(flashinfer_model *model)
{
    flashinfer_predictor *predictor;
    flashinfer_order *order;
    flashinfer_error error;

    flashinfer_error_init(&error, sizeof error);
    REFUSED("-Dpack=enabled", flashinfer_pack, "here", "there", NULL);
    REFUSED("-Dpack=enabled", flashinfer_order_create, 1, 4, &order);
    REFUSED("-Dpredictor_making=enabled", flashinfer_predictor_create, model, &predictor);
    REFUSED("-Dpredictor_making=enabled", flashinfer_predictor_copy, model, &predictor);
    flashinfer_order_destroy(NULL);
    flashinfer_predictor_destroy(NULL);
}

static void probe(const char *path)
{
    flashinfer_probe_result result;
    flashinfer_error error;

    memset(&result, 0, sizeof result);
    result.size = sizeof result;
    flashinfer_error_init(&error, sizeof error);
    REFUSED("-Dprobe=enabled", flashinfer_probe, path, NULL, &result);
    REFUSED("-Dprobe=enabled", flashinfer_probe_save, &result, "/nowhere");
    REFUSED("-Dprobe=enabled", flashinfer_probe_load, path, &result);
}

/* Storage that was left out is refused by name; the default finds what there is. */
static void storage(const char *path)
{
    static const uint32_t kinds[] = {FLASHINFER_STORAGE_LIBAIO, FLASHINFER_STORAGE_URING};
    flashinfer_options options;
    flashinfer_model *model;
    flashinfer_error error;

    flashinfer_error_init(&error, sizeof error);
    flashinfer_options_init(&options, sizeof options);
    for (int i = 0; i < 2; i++) {
        options.storage = kinds[i];
        REFUSED("build", flashinfer_model_open, path, &options, &model);
    }
}

int main(int argc, char **argv)
{
    flashinfer_model *model;
    flashinfer_error error;

    flashinfer_error_init(&error, sizeof error);
    if (argc != 2 || flashinfer_model_open(argv[1], NULL, &model, &error) != 0) {
        (void)printf("%s\n", error.text);
        return 2;
    }
    text(model);
    sampling();
    making(model);
    probe(argv[1]);
    storage(argv[1]);
    (void)flashinfer_model_close(model);
    return failures != 0;
}
