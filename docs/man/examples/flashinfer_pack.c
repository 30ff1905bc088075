/* Packs a checkpoint with bundles of 4 bits, shows how far it is, and prints what the library logs. */
#include <flashinfer.h>
#include <stdio.h>

static int show(const flashinfer_progress *progress, void *user)
{
    (void)user;
    if (progress->total != 0)
        fprintf(stderr, "\r%s: %3.0f %%", progress->stage,
                100.0 * (double)progress->done / (double)progress->total);
    return 0; /* anything else would stop it */
}

static void note(int level, const char *text, void *user)
{
    fprintf(user, "%s%s\n", level == FLASHINFER_LOG_WARNING ? "warning: " : "",
            text);
}

int main(int argc, char **argv)
{
    flashinfer_pack_options options;
    flashinfer_error error;

    if (argc != 3) return 2; /* CHECKPOINT OUT.gguf */
    flashinfer_pack_options_init(&options, sizeof options);
    flashinfer_error_init(&error, sizeof error);
    options.dtype_ffn = FLASHINFER_DTYPE_Q4_0;
    options.progress = show;
    options.log = note;
    options.log_user = stdout;
    if (flashinfer_pack(argv[1], argv[2], &options, &error) != 0) {
        fprintf(stderr, "\n%s\n", error.text);
        return 1;
    }
    printf("packed %s\n", argv[2]);
    return 0;
}
